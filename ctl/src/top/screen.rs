//! The terminal: taken over, and given back as it was whatever happens.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event as Input};
use ratatui::crossterm::queue;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};

use super::Event;

/// Room for all characters of a screen, so that it is written at once.
const SCREEN: usize = 64 << 10;

/// Whether the terminal is ours: it is given back once.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is ours; it is given back with this.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<File>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        // From here on, whatever fails gives it back.
        let mut screen =
            Self { terminal: Terminal::new(CrosstermBackend::new(output()?)).inspect_err(|_| give_back())? };
        let backend = screen.terminal.backend_mut();
        queue!(backend, EnterAlternateScreen, Hide)?;
        screen.terminal.clear()?;
        Ok(screen)
    }

    /// Shows what `draw` draws.
    pub(super) fn show(
        &mut self,
        draw: impl FnOnce(ratatui::layout::Rect, &mut ratatui::buffer::Buffer),
    ) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame.area(), frame.buffer_mut())).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The output, beside the lock that this program holds on it.
fn output() -> io::Result<BufWriter<File>> {
    let output = io::stdout().as_fd().try_clone_to_owned().inspect_err(|_| give_back())?;
    Ok(BufWriter::with_capacity(SCREEN, output.into()))
}

/// Gives the terminal back as it was, if it was taken.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone takes nothing back, and there is nobody to tell.
    let _ = disable_raw_mode();
    if let Ok(mut output) = output() {
        let _ = queue!(output, ResetColor, LeaveAlternateScreen, Show);
        let _ = output.flush();
    }
}

/// Has a panic give the terminal back before it is told; one of another thread is told to the one that draws.
pub(super) fn mind_panics(events: Sender<Event>) {
    let (before, drawing) = (panic::take_hook(), thread::current().id());
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == drawing || events.send(Event::Panicked(info.to_string())).is_err() {
            give_back();
            before(info);
        }
    }));
}

/// Signals that end it, and those of being stopped and going on.
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Takes them. To be called before the first thread starts: threads inherit who takes them.
    pub(super) fn watch() -> io::Result<Self> {
        let signals =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGCONT];
        let signals: SigSet = signals.into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Tells them to `events`, for good.
    pub(super) fn tell(self, events: &Sender<Event>) {
        while let Ok(Some(signal)) = self.0.read_signal() {
            let signal = i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            let Some(signal) = signal else { continue };
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    }
}

/// Tells keys and changes of size to `events`, until the terminal is gone.
pub(super) fn tell_input(events: &Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(Input::Key(key)) => Event::Key(key),
            Ok(Input::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Event::TerminalGone(error),
        };
        let is_last = matches!(event, Event::TerminalGone(_));
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}

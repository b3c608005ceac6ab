//! The terminal: taken over, and given back as it was whatever happens.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event as Input};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;

use super::Event;

/// Whether the terminal is ours: it is given back once.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is ours; it is given back with this.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Output>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take() -> io::Result<Self> {
        let output = Output::open()?;
        enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        let terminal = Terminal::new(CrosstermBackend::new(output)).inspect_err(|_| give_back())?;
        // From here on, whatever fails gives it back.
        let mut screen = Self { terminal };
        execute!(screen.terminal.backend_mut(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        Ok(screen)
    }

    /// Shows what `draw` draws.
    pub(super) fn show(&mut self, draw: impl FnOnce(Rect, &mut Buffer)) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame.area(), frame.buffer_mut())).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// The standard output, beside the lock that this program holds on it: a screen is written at once. What is not flushed goes
/// nowhere, least of all on a terminal that was given back.
struct Output {
    file: File,
    unwritten: Vec<u8>,
}

impl Output {
    fn open() -> io::Result<Self> {
        Ok(Self { file: io::stdout().as_fd().try_clone_to_owned()?.into(), unwritten: Vec::new() })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unwritten.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.unwritten);
        self.unwritten.clear();
        written
    }
}

/// Gives the terminal back as it was, if it was taken.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // A terminal that is gone takes nothing back, and there is nobody to tell.
    let _ = disable_raw_mode();
    if let Ok(mut output) = Output::open() {
        let _ = execute!(output, ResetColor, LeaveAlternateScreen, Show);
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
        loop {
            let signal = match self.0.read_signal() {
                Ok(Some(signal)) => signal,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(_) => return, // no descriptor of signals does that
            };
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

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::Read as _;
    use std::process::{Child, Command};
    use std::sync::mpsc;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::poll::{PollFd, PollFlags, poll};
    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::tcgetattr;

    use super::*;

    /// Says to [`on_a_screen`] what to do.
    const WHAT: &str = "VSCTL_TEST_ON_A_SCREEN";
    const TAKEN: &str = "\x1b[?1049h";
    const GIVEN_BACK: &str = "\x1b[?1049l";

    /// What the other test runs in a terminal of its own.
    #[test]
    #[ignore = "the other half of a_terminal_is_given_back, which runs it"]
    fn on_a_screen() {
        let (events, happens) = mpsc::channel();
        mind_panics(events);
        let mut screen = Screen::take().unwrap();
        screen.show(|area, buffer| buffer.set_string(area.x, area.y, "drawn", ratatui::style::Style::new())).unwrap();
        match env::var(WHAT).unwrap().as_str() {
            "ends" => {}
            "panics" => panic!("a fault here"),
            "panics while it draws" => screen.show(|_, _| panic!("a fault here")).unwrap(),
            "panics in a thread" => {
                let _ = thread::spawn(|| panic!("a fault there")).join();
                let Event::Panicked(why) = happens.recv().unwrap() else { unreachable!() };
                drop(screen);
                println!("told: {why}");
            }
            other => unreachable!("{other}"),
        }
    }

    /// All that `child` writes to the terminal until it ends.
    fn written(mut child: Child, terminal: &mut File) -> String {
        let mut output = Vec::new();
        loop {
            let has_ended = child.try_wait().unwrap().is_some();
            let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, 20u8).unwrap();
            let mut chunk = [0; 4096];
            match terminal.read(&mut chunk) {
                Ok(read) if read > 0 => output.extend_from_slice(&chunk[..read]),
                // Asked before the last look: nothing was written after it.
                _ if has_ended => return String::from_utf8_lossy(&output).into_owned(),
                _ => {}
            }
        }
    }

    #[test]
    fn a_terminal_is_given_back() {
        let table = [
            ("ends", ""),
            ("panics", "a fault here"),
            ("panics while it draws", "a fault here"),
            ("panics in a thread", "a fault there"),
        ];
        for (what, told) in table {
            let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
            let pty = openpty(&size, None).unwrap();
            fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            let before = tcgetattr(&pty.slave).unwrap();
            let side = || pty.slave.try_clone().unwrap();
            let child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "top::screen::tests::on_a_screen", "--ignored", "--nocapture"])
                .env(WHAT, what)
                .env("RUST_BACKTRACE", "0")
                .stdin(side())
                .stdout(side())
                .stderr(side())
                .spawn()
                .unwrap();
            let mut terminal = File::from(pty.master);
            let output = written(child, &mut terminal);
            assert_eq!(tcgetattr(&pty.slave).unwrap(), before, "{what}: {output:?}");
            let (_, from) = output.split_once(TAKEN).unwrap_or_else(|| panic!("{what}: never taken: {output:?}"));
            let (drawn, after) = from.split_once(GIVEN_BACK).unwrap_or_else(|| panic!("{what}: kept: {output:?}"));
            assert!(drawn.contains("drawn") && after.contains("\x1b[?25h"), "{what}: {output:?}");
            assert!(!after.contains(GIVEN_BACK), "{what}: given back twice: {output:?}");
            // What is said of the fault is on the screen that stays.
            assert!(after.contains(told) && (told.is_empty() || !drawn.contains(told)), "{what}: {output:?}");
        }
    }
}

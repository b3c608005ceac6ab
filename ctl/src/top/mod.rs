//! `vsctl top`: what passes now, and what becomes of it, on a screen that is drawn again and again.
//!
//! [`sample`] asks the daemon, [`network`] makes rates of it, [`ui`] knows what the viewer asked for, [`view`] and [`grid`]
//! draw, and [`screen`] alone knows the terminal. Threads tell the one that draws of samples, keys and signals ([`Event`]).

mod columns;
mod grid;
mod look;
mod network;
mod number;
mod rate;
mod report;
mod sample;
mod screen;
mod ui;
mod view;

use std::env;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, raise};
use ratatui::crossterm::event::KeyEvent;
use vswitch_api::{Client, ClientError};

use look::Look;
use network::Network;
use sample::Sample;
use screen::{Screen, Signals};
use ui::{Act, Ui};

/// Between two tries to reach a daemon that is gone, at least.
const RETRY: Duration = Duration::from_secs(1);

const NOTES: &str = "\
Keys: ? tells them all; q quits. Colours are left out where $NO_COLOR is set.
With --json, an object a line each interval, or one with --once.";

/// `vsctl top`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct TopArgs {
    /// How often to look, 0.1 s to an hour, like 2s or 0.5
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one screen as text, with what passes in one interval: for scripts
    #[arg(long)]
    pub(crate) once: bool,
}

/// What `text` says: seconds, or with ms, s, m or h behind.
fn interval(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("", 1.0)];
    let read = units.into_iter().find_map(|(unit, size)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * size));
    read.filter(|seconds| (0.1..=3_600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text} is no time from 0.1 s to an hour: say it like 2s or 500ms"))
}

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopError {
    /// The daemon refuses, or is not there.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// There is no screen to draw on.
    #[error(
        "{0}: run it in a terminal, or say --once for one screen as text, or --json for an object a line each interval"
    )]
    NoTerminal(&'static str),
    /// Nor can the output be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The terminal does not do what it is told.
    #[error("the terminal fails: {0}; --once needs none")]
    Terminal(io::Error),
    /// It is not to be written as JSON.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A thread failed.
    #[error("a fault of vsctl: {0}")]
    Panicked(String),
}

/// How to reach the daemon, and what for.
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
    /// Nothing is to be printed.
    pub(crate) quiet: bool,
    /// What a user is told of a daemon that does not answer.
    pub(crate) explain: fn(&ClientError, &std::path::Path) -> String,
}

/// What happens to a viewer.
enum Event {
    Sample(Box<Sample>),
    /// The daemon is not heard: why.
    Trouble(String),
    Key(KeyEvent),
    Resized,
    Signal(Signal),
    TerminalGone(io::Error),
    /// A thread that told the others ended so.
    Panicked(String),
}

/// Does what `vsctl top` says; `out` is the standard output.
///
/// # Errors
/// See [`TopError`].
pub(crate) fn run(args: &TopArgs, options: Options, out: &mut dyn Write) -> Result<(), TopError> {
    if !args.once && !options.json {
        hindrance().map_or(Ok(()), |why| Err(TopError::NoTerminal(why)))?;
    }
    // Not there at all is an error; what goes later is waited for.
    let client = Client::connect(&options.path, options.timeout)?;
    if args.once || options.json { print(args, &options, client, out) } else { watch(args.interval, options, client) }
}

/// Why there is no screen.
fn hindrance() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return Some("the output is no terminal");
    }
    match env::var("TERM").as_deref() {
        Ok("dumb") => Some("the terminal cannot move its cursor ($TERM is dumb)"),
        Ok("") | Err(_) => Some("the terminal is not known ($TERM is not set)"),
        Ok(_) => None,
    }
}

/// How this terminal is drawn on.
fn look(interval: Duration) -> Look {
    let var = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(var).unwrap_or_default().to_lowercase();
    let is_unicode = locale.contains("utf-8") || locale.contains("utf8");
    Look { is_coloured: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()), is_unicode, interval }
}

/// Prints what passes in each interval, or in one.
fn print(args: &TopArgs, options: &Options, mut client: Client, out: &mut dyn Write) -> Result<(), TopError> {
    let start = Instant::now();
    let mut ui = Ui::new();
    ui.take(&Sample::ask(&mut client, || start.elapsed())?);
    for round in 1.. {
        let due = args.interval.saturating_mul(round);
        thread::sleep(due.saturating_sub(start.elapsed()));
        ui.take(&Sample::ask(&mut client, || start.elapsed())?);
        let text = if options.json {
            serde_json::to_string(&report::Report::of(ui.network()))? + "\n"
        } else {
            view::text(&ui, look(args.interval))
        };
        if !options.quiet {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        if args.once {
            break;
        }
    }
    Ok(())
}

/// Draws until the viewer has seen enough.
fn watch(interval: Duration, options: Options, client: Client) -> Result<(), TopError> {
    // Before the first thread: none of them is to be interrupted.
    let signals = Signals::watch().map_err(TopError::Terminal)?;
    let (events, happens) = mpsc::channel();
    screen::mind_panics(events.clone());
    let mut screen = Screen::take().map_err(TopError::Terminal)?;
    let tellers: [Box<dyn FnOnce(Sender<Event>) + Send>; 3] = [
        Box::new(move |events| ask(client, interval, &options, &events)),
        Box::new(move |events| signals.tell(&events)),
        Box::new(|events| screen::tell_input(&events)),
    ];
    for tell in tellers {
        let events = events.clone();
        thread::spawn(move || tell(events));
    }
    drop(events);
    let (mut ui, look) = (Ui::new(), look(interval));
    loop {
        screen.show(|area, buffer| view::draw(&ui, look, area, buffer)).map_err(TopError::Terminal)?;
        let Ok(first) = happens.recv() else { return Ok(()) };
        // All that has happened is drawn at once: keys that come faster than a terminal draws are not late.
        for event in std::iter::once(first).chain(happens.try_iter()) {
            let act = match event {
                Event::Sample(sample) => {
                    ui.take(&sample);
                    Act::Stay
                }
                Event::Trouble(why) => {
                    ui.trouble = Some(why);
                    Act::Stay
                }
                Event::Key(key) => ui.key(key),
                Event::Resized => Act::Stay,
                Event::Signal(Signal::SIGTSTP) => Act::Suspend,
                Event::Signal(Signal::SIGCONT) => {
                    // Whoever had the terminal meanwhile left it as they liked.
                    drop(screen);
                    screen = Screen::take().map_err(TopError::Terminal)?;
                    Act::Stay
                }
                Event::Signal(_) => Act::Quit,
                Event::TerminalGone(error) => return Err(TopError::Terminal(error)),
                Event::Panicked(why) => return Err(TopError::Panicked(why)),
            };
            match act {
                Act::Stay => {}
                Act::Quit => return Ok(()),
                Act::Suspend => {
                    drop(screen);
                    // All threads stop here, and go on with SIGCONT.
                    raise(Signal::SIGSTOP).map_err(|errno| TopError::Terminal(errno.into()))?;
                    screen = Screen::take().map_err(TopError::Terminal)?;
                }
            }
        }
    }
}

/// Asks the daemon each `interval`, for good; where it is gone, says so and goes on trying.
fn ask(client: Client, interval: Duration, options: &Options, events: &Sender<Event>) {
    let start = Instant::now();
    let mut client = Some(client);
    let mut due = Duration::ZERO;
    loop {
        let sample = match client.take() {
            Some(client) => Ok(client),
            None => Client::connect(&options.path, options.timeout),
        };
        let sample = sample.and_then(|mut connected| {
            let sample = Sample::ask(&mut connected, || start.elapsed())?;
            client = Some(connected);
            Ok(sample)
        });
        let (event, pause) = match sample {
            Ok(sample) => (Event::Sample(Box::new(sample)), interval),
            Err(error) => (Event::Trouble((options.explain)(&error, &options.path)), interval.max(RETRY)),
        };
        if events.send(event).is_err() {
            return;
        }
        // At even times, and not in a hurry after a pause.
        due = (due + pause).max(start.elapsed());
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
}

/// What is wrong with the network, in words.
fn ailments(network: &Network) -> Vec<String> {
    network.ailments().into_iter().map(|(_, text)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [("1", 1_000), ("1s", 1_000), ("0.5", 500), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, ms) in table {
            assert_eq!(interval(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "0", "0.09", "3601", "2h", "-1", "nan", "inf", "1x", "ms"] {
            assert!(interval(text).is_err_and(|error| error.contains("0.1 s to an hour")), "{text}");
        }
    }
}

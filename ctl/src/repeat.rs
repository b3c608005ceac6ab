//! `--watch`: the same question again and again.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use vswitch_sys::terminal;

use crate::style::{self, Screen};

/// Seconds between two rounds if nothing else is said.
const PAUSE: &str = "2";

/// Whether a command does its work once, or until it is told to end: a part of the words of all that list.
#[derive(Debug, Default, Clone, Copy, Args)]
pub(crate) struct Watch {
    /// Show it again every SECS (2 if not said), until Ctrl-C
    #[arg(long = "watch", value_name = "SECS", num_args = 0..=1, default_missing_value = PAUSE, value_parser = pause)]
    pub(crate) pause: Option<Duration>,
}

fn pause(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is not a number of seconds from 0.1 to 3600"))
}

/// Writes what `ask` answers every `pause`, until it fails or nobody reads: one below the other, or over each other where
/// a terminal shows them.
///
/// # Errors
/// Where `ask` has none any more, or the output is gone.
pub(crate) fn repeat<E: From<io::Error>>(
    pause: Duration,
    screen: &Screen,
    out: &mut dyn Write,
    mut ask: impl FnMut() -> Result<String, E>,
) -> Result<(), E> {
    let mut page = Page::default();
    loop {
        let answer = ask()?;
        let answer = screen.shown(&answer);
        if screen.is_terminal {
            let size = terminal::size(io::stdout()).unwrap_or((80, 24));
            page.write(&format!("Every {} s; Ctrl-C ends\n\n{answer}", pause.as_secs_f64()), size, out)?;
        } else {
            out.write_all(answer.as_bytes())?;
        }
        out.flush()?;
        thread::sleep(pause);
    }
}

/// What is on a terminal.
#[derive(Debug, Default)]
struct Page {
    is_clear: bool,
}

impl Page {
    /// Writes `text` over what was there, no more of it than fits.
    fn write(&mut self, text: &str, (columns, rows): (u16, u16), out: &mut dyn Write) -> io::Result<()> {
        const CLEAR: &str = "\x1b[2J";
        const TOP: &str = "\x1b[H";
        const REST_OF_LINE: &str = "\x1b[K";
        const REST_OF_SCREEN: &str = "\x1b[J";
        // Clearing each time would flicker.
        let begin = if std::mem::replace(&mut self.is_clear, true) { "" } else { CLEAR };
        let mut frame = format!("{begin}{TOP}");
        let (columns, room) = (usize::from(columns), usize::from(rows).saturating_sub(1).max(1));
        let lines: Vec<_> = text.lines().collect();
        let shown = if lines.len() > room { room - 1 } else { lines.len() };
        for line in &lines[..shown] {
            frame.push_str(&style::cut(line, columns));
            frame.extend([REST_OF_LINE, "\n"]);
        }
        if shown < lines.len() {
            frame.push_str(&style::cut(&format!("... and {} lines more", lines.len() - shown), columns));
            frame.extend([REST_OF_LINE, "\n"]);
        }
        frame.push_str(REST_OF_SCREEN);
        out.write_all(frame.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_below_each_other_until_there_is_no_answer() {
        let mut out = Vec::new();
        let mut left = 3;
        let error = repeat(Duration::from_millis(1), &Screen::PLAIN, &mut out, || {
            left -= 1;
            if left == 0 { Err(io::Error::other("gone")) } else { Ok(format!("{left}\n")) }
        });
        assert_eq!(error.unwrap_err().to_string(), "gone");
        assert_eq!(out, b"2\n1\n");
    }

    #[test]
    fn pages_fit_their_terminal() {
        let mut page = Page::default();
        let mut out = Vec::new();
        page.write("one\ntwo and more\n", (5, 9), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[2J\x1b[Hone\x1b[K\ntwo a\x1b[K\n\x1b[J");
        let mut out = Vec::new();
        page.write("1\n2\n3\n4\n", (40, 4), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[H1\x1b[K\n2\x1b[K\n... and 2 lines more\x1b[K\n\x1b[J");
    }

    #[test]
    fn pauses() {
        assert_eq!(pause("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "x", "NaN", "4000"] {
            assert!(pause(text).unwrap_err().contains("0.1 to 3600"), "{text}");
        }
    }
}

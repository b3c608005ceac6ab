//! Colours: answers are made with them, and lose them where nobody could see them or wants to.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};

use anstream::adapter::strip_str;
use clap::builder::styling::{AnsiColor, Style};

/// What a piece of text is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Odd,
    Bad,
    Head,
}

impl Tone {
    /// `text` in this tone.
    pub(crate) fn on(self, text: impl AsRef<str>) -> String {
        let style = match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Odd => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Head => Style::new().bold(),
        };
        let text = text.as_ref();
        if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
    }
}

/// Columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    strip_str(text).map(|piece| piece.chars().count()).sum()
}

/// The beginning of `line` that fits `columns`, with the tones that begin in it.
pub(crate) fn cut(line: &str, columns: usize) -> String {
    let mut left = columns;
    let (mut out, mut rest) = (String::new(), line);
    while !rest.is_empty() {
        let code = rest.starts_with('\x1b').then(|| rest.find('m')).flatten();
        let Some(first) = rest.chars().next() else { break };
        // Tones take no room; those that end behind the cut end all the same.
        let (end, room) = code.map_or((first.len_utf8(), 1), |end| (end + 1, 0));
        if room <= left {
            out.push_str(&rest[..end]);
            left -= room;
        }
        rest = &rest[end..];
    }
    out
}

/// `text` without colours.
pub(crate) fn plain(text: &str) -> String {
    strip_str(text).to_string()
}

/// Where the two outputs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Whether answers may have colours.
    colours: bool,
    /// Whether complaints may.
    complaint_colours: bool,
    /// Whether answers go to a terminal.
    pub(crate) is_terminal: bool,
}

impl Screen {
    /// A file, a pipe.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colours: false, complaint_colours: false, is_terminal: false };

    /// This process's.
    pub(crate) fn of_process() -> Self {
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let wanted = |is_terminal| wants_colours(|name| std::env::var_os(name), is_terminal);
        Self { colours: wanted(out), complaint_colours: wanted(err), is_terminal: out }
    }

    /// An answer as it is shown.
    pub(crate) fn shown<'a>(&self, answer: &'a str) -> Cow<'a, str> {
        if self.colours { answer.into() } else { plain(answer).into() }
    }

    /// A complaint as it is shown.
    pub(crate) fn complaint<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.complaint_colours { text.into() } else { plain(text).into() }
    }
}

/// Whether what is written to a terminal, or not, is to have colours: no-color.org, bixense.com/clicolors.
fn wants_colours(variable: impl Fn(&str) -> Option<OsString>, is_terminal: bool) -> bool {
    let said = |name| variable(name).filter(|value| !value.is_empty());
    if said("NO_COLOR").is_some() {
        return false;
    }
    if said("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    let can = said("TERM").is_some_and(|terminal| terminal != "dumb");
    is_terminal && can && said("CLICOLOR").is_none_or(|value| value != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_colours() {
        let xterm = ("TERM", "xterm");
        type Row<'a> = (&'a [(&'a str, &'a str)], bool, bool);
        let table: [Row<'_>; 11] = [
            (&[xterm], true, true),
            (&[xterm], false, false),
            (&[], true, false),
            (&[("TERM", "dumb")], true, false),
            (&[xterm, ("NO_COLOR", "1")], true, false),
            (&[xterm, ("NO_COLOR", "")], true, true),
            (&[xterm, ("CLICOLOR", "0")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true, false),
        ];
        for (variables, is_terminal, expected) in table {
            let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            assert_eq!(wants_colours(read, is_terminal), expected, "{variables:?}, terminal: {is_terminal}");
        }
    }

    #[test]
    fn tones_take_no_room() {
        let text = Tone::Bad.on("lost");
        assert!(text.starts_with("\x1b[") && text.len() > 4, "{text:?}");
        assert_eq!((width(&text), plain(&text).as_str()), (4, "lost"));
        assert_eq!(Tone::Head.on(""), "");
        assert_eq!(Screen::PLAIN.shown(&text), "lost");
        let coloured = Screen { colours: true, ..Screen::PLAIN };
        assert_eq!((coloured.shown(&text), coloured.complaint(&text)), (text.as_str().into(), "lost".into()));
    }

    #[test]
    fn lines_are_cut_and_tones_end() {
        let line = format!("Büro {} x", Tone::Bad.on("lost"));
        assert_eq!(plain(&cut(&line, 7)), "Büro lo");
        assert!(cut(&line, 7).ends_with("\x1b[0m"), "{:?}", cut(&line, 7));
        assert_eq!(cut(&line, 99), line);
        assert_eq!(plain(&cut(&line, 0)), "");
    }
}

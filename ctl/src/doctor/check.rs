//! What came out of looking at one thing.

use serde::Serialize;

use crate::style::Tone;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// For programs.
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) text: String,
    /// What to do about it.
    pub(crate) mend: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// Worth knowing, or cannot be told.
    Note,
    /// Works worse than it could, or may fail.
    Warning,
    /// Does not work.
    Wrong,
}

impl Check {
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, state: State::Ok, text: text.into(), mend: None }
    }

    pub(super) fn note(check: &'static str, text: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::ok(check, text) }
    }

    pub(super) fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self { state: State::Warning, ..Self::ok(check, text) }
    }

    pub(super) fn wrong(check: &'static str, text: impl Into<String>) -> Self {
        Self { state: State::Wrong, ..Self::ok(check, text) }
    }

    /// The same, with what mends it.
    pub(super) fn mended(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// The checks for people, a line each, and how many went wrong.
pub(crate) fn report(checks: &[Check], out: &mut String) {
    let width = checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
    for Check { check, state, text, mend } in checks {
        let mark = match state {
            State::Ok => Tone::Good.on("ok     "),
            State::Note => "note   ".to_owned(),
            State::Warning => Tone::Odd.on("warning"),
            State::Wrong => Tone::Bad.on("WRONG  "),
        };
        let mend = mend.as_ref().map(|mend| format!("; to mend it: {mend}")).unwrap_or_default();
        let line = format!("{mark}  {check:<width$}  {text}{mend}");
        // What others say in errors may be many lines.
        out.push_str(&line.replace('\n', " "));
        out.push('\n');
    }
    let count = |wanted| checks.iter().filter(|check| check.state == wanted).count();
    let (wrong, warnings) = (count(State::Wrong), count(State::Warning));
    let warned = if warnings == 1 { "1 warning".to_owned() } else { format!("{warnings} warnings") };
    let line = match (wrong, warnings) {
        (0, 0) => Tone::Good.on("nothing is wrong"),
        (0, _) => Tone::Odd.on(format!("nothing is wrong, {warned}")),
        (wrong, _) => Tone::Bad.on(format!("{wrong} wrong, {warned}")),
    };
    out.push_str(&format!("{line}\n"));
}

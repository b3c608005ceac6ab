//! The log, on standard error: in colours on a terminal, and as the journal wants it under systemd.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _};

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Has all that `filter` lets through written.
pub(crate) fn begin(filter: EnvFilter) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if is_journal() {
        lines.with_ansi(false).event_format(Journal::default()).init();
    } else {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
        lines.with_ansi(io::stderr().is_terminal() && !is_plain).with_target(false).init();
    }
}

/// Says why the daemon ends, which may be before the log has begun.
pub(crate) fn last_words(error: &(impl Display + ?Sized)) {
    let mark = if is_journal() { mark(Level::ERROR) } else { "" };
    eprintln!("{mark}vswitchd: {error}");
}

/// Whether standard error is the stream that systemd names so (systemd.exec(5), `$JOURNAL_STREAM`), and not one to which it
/// was led on.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    fstat(io::stderr()).is_ok_and(|file| stream == format!("{}:{}", file.st_dev, file.st_ino))
}

/// What tells the journal how much a line matters (sd-daemon(3)).
fn mark(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// A line for the journal, which notes the time and the level of each.
struct Journal(Format<Full, ()>);

impl Default for Journal {
    fn default() -> Self {
        Self(Format::default().without_time().with_level(false).with_target(false))
    }
}

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        out.write_str(mark(*event.metadata().level()))?;
        self.0.format_event(context, out, event)
    }
}

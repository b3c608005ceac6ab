//! Events from the daemon, as lines for people or for programs.

mod lines;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write};
use std::mem;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use vswitch_api::monitor::{Event, EventKind, Listen, Listening, What};
use vswitch_api::{Client, ClientError, Code, PortName, Query, Request, Vid};
use vswitch_sys::fdpass;

use crate::complete::names;
use crate::stop::Stop;

/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Between two looks whether a daemon serves again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long to wait then for one that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

const NOTES: &str = "\
The first line tells what there is, each further one what happened. Drops are told of once a second at most, for each port
and reason, with how many there were. With --json each line is an object with `at` (nanoseconds since 1970), `event`, and
the fields of the same thing in lists. Who reads too slowly loses events, and is told how many.
When the daemon ends, or another takes over, a line says so; listening goes on with the next one, and a line says that too.";

/// `vsctl monitor`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct MonitorArgs {
    /// Only about this port, which need not be there yet
    #[arg(long, value_name = "NAME", add = names::ports())]
    port: Option<PortName>,
    /// Only in this VLAN; drops and storms of what is in it
    #[arg(long, value_name = "VID", add = names::vlans())]
    vlan: Option<Vid>,
    /// Only of these kinds
    #[arg(long = "kind", value_name = "KIND,...", value_delimiter = ',', value_parser = kinds())]
    kinds: Vec<EventKind>,
    /// End, with exit code 3, when the daemon does
    #[arg(long)]
    no_reconnect: bool,
}

impl MonitorArgs {
    /// What to ask the daemon.
    pub(crate) fn request(&self) -> Request {
        let Self { port, vlan, kinds, no_reconnect: _ } = self;
        Query::Monitor(Listen { port: port.clone(), vlan: *vlan, kinds: kinds.clone() }).into()
    }
}

fn kinds() -> impl clap::builder::TypedValueParser<Value = EventKind> {
    let known = PossibleValuesParser::new(EventKind::ALL.map(EventKind::name));
    known.try_map(|name| EventKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or("no kind of event"))
}

/// Why no more events are told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// The daemon refuses, or is not there.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// It is no longer there.
    #[error("{0}, and --no-reconnect says not to wait for another vswitchd")]
    Gone(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// It cannot be waited for events.
    #[error("cannot wait for events: {0}")]
    Wait(io::Error),
}

/// Where events are shown.
struct Sink<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// What every reason for a drop means.
    reasons: BTreeMap<String, String>,
}

impl Sink<'_> {
    fn event(&mut self, event: &Event) -> Result<(), MonitorError> {
        let line = if self.json {
            serde_json::to_string(event).map_err(|error| ClientError::Garbage(error.to_string()))?
        } else {
            lines::line(event, &self.reasons)
        };
        writeln!(self.out, "{line}").map_err(MonitorError::Output)
    }

    /// Shows a line as it came: one that is not understood too, as of a later version.
    fn line(&mut self, line: &[u8]) -> Result<Option<Event>, MonitorError> {
        let event = serde_json::from_slice::<Event>(line).ok();
        match &event {
            // Told here, where it is known too when there was no time for it.
            Some(Event { what: What::Disconnected { .. }, .. }) => {}
            Some(event) if !self.json => self.event(event)?,
            _ => {
                self.out.write_all(line).map_err(MonitorError::Output)?;
                self.out.write_all(b"\n").map_err(MonitorError::Output)?;
            }
        }
        Ok(event)
    }

    fn tell(&mut self, what: What) -> Result<(), MonitorError> {
        self.event(&Event { at: now(), what })?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), MonitorError> {
        self.out.flush().map_err(MonitorError::Output)
    }
}

/// Why a stream is over.
enum End {
    /// Somebody wants it to end, or nobody reads the output.
    Stopped,
    /// The daemon ended it.
    Gone(String),
}

/// Tells of events, as `vsctl monitor` does, until somebody wants it to end.
///
/// # Errors
/// See [`MonitorError`].
pub(crate) fn run(
    args: &MonitorArgs,
    (path, timeout): (&Path, Duration),
    json: bool,
    out: &mut dyn Write,
) -> Result<(), MonitorError> {
    let stop = Stop::watch().map_err(MonitorError::Wait)?;
    let request = args.request();
    let mut sink = Sink { out, json, reasons: BTreeMap::new() };
    let mut client = Client::connect(path, timeout)?;
    let mut is_again = false;
    loop {
        let listening = listen(&mut client, &request);
        let is_awaited = |error: &ClientError| match error {
            ClientError::Refused(error) => error.code == Code::Busy, // a takeover is under way
            _ => is_again,
        };
        match listening {
            Ok((stream, Listening { snapshot, reasons })) => {
                sink.reasons = reasons;
                if mem::replace(&mut is_again, true) {
                    sink.tell(What::Reconnected {})?;
                }
                sink.event(&snapshot)?;
                match show(stream, &stop, &mut sink)? {
                    End::Stopped => return Ok(()),
                    End::Gone(why) => {
                        sink.tell(What::Disconnected { why: why.clone() })?;
                        if args.no_reconnect {
                            return Err(MonitorError::Gone(why));
                        }
                    }
                }
            }
            Err(error) if is_awaited(&error) => {
                if is_stopped(&stop, RETRY.0)? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
        match reconnected(path, &stop)? {
            Some(next) => client = next,
            None => return Ok(()),
        }
    }
}

/// Begins to listen.
fn listen(client: &mut Client, request: &Request) -> Result<(UnixStream, Listening), ClientError> {
    let (ours, theirs) = UnixStream::pair()?;
    let answer = client.call_sending(request, |stream, bytes| fdpass::send(stream, bytes, &[theirs.as_fd()]))?;
    let listening = serde_json::from_value(answer).map_err(|error| ClientError::Garbage(error.to_string()))?;
    Ok((ours, listening))
}

/// Waits until a daemon listens at `path`; `None` where somebody wants it to end before.
fn reconnected(path: &Path, stop: &Stop) -> Result<Option<Client>, MonitorError> {
    let mut pause = RETRY.0;
    loop {
        if let Ok(client) = Client::connect(path, PATIENCE) {
            return Ok(Some(client));
        }
        if is_stopped(stop, pause)? {
            return Ok(None);
        }
        pause = (pause * 2).min(RETRY.1);
    }
}

/// Waits; whether somebody wants it to end.
fn is_stopped(stop: &Stop, pause: Duration) -> Result<bool, MonitorError> {
    let woken = stop.wait(None, Some(Instant::now() + pause)).map_err(MonitorError::Wait)?;
    Ok(woken.is_stopped || woken.is_unread)
}

/// Shows what comes by `stream` until it ends.
fn show(mut stream: UnixStream, stop: &Stop, sink: &mut Sink<'_>) -> Result<End, MonitorError> {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    let mut last_words = None;
    loop {
        let whole = buffer.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let rest = buffer.split_off(whole);
        for line in mem::replace(&mut buffer, rest).split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            if let Some(Event { what: What::Disconnected { why }, .. }) = sink.line(line)? {
                last_words = Some(why);
            }
        }
        if let Some(why) = last_words {
            return Ok(End::Gone(why));
        }
        if !stop.wait(Some(stream.as_fd()), Some(Instant::now())).map_err(MonitorError::Wait)?.is_readable {
            sink.flush()?; // so that others see it while it lasts
        }
        let woken = stop.wait(Some(stream.as_fd()), None).map_err(MonitorError::Wait)?;
        if woken.is_stopped || woken.is_unread {
            sink.flush()?;
            return Ok(End::Stopped);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(End::Gone("vswitchd has gone".to_owned())),
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Ok(End::Gone("vswitchd has gone".to_owned()));
            }
            Err(error) => return Err(MonitorError::Wait(error)),
        }
    }
}

/// Now, in nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

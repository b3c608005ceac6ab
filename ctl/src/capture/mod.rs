//! Frames from the daemon, to a file, to other programs, or as lines for people.

mod args;
mod decode;
mod pcapng;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use vswitch_api::observe::Watching;
use vswitch_api::record::{BadItem, Item, Record, Verdict};
use vswitch_api::{Client, ClientError, ModeKind, Observe, PeerInfo, PortInfo, Query, reply::TUNNEL};
use vswitch_sys::fdpass;

pub(crate) use args::{CaptureArgs, LiveArgs};
pub(crate) use decode::clock;
use pcapng::Writer;

use crate::render;
use crate::stop::Stop;

/// How long Ctrl-C waits for what is on its way, and for all of it.
const QUIET: Duration = Duration::from_millis(20);
const ENDING: Duration = Duration::from_secs(1);
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Why there is no capture, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// The daemon refuses, or is not there.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// The file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Nor can the output.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// What came is not understood.
    #[error(transparent)]
    Item(#[from] BadItem),
    /// The daemon has ended it.
    #[error("the capture ends: {0}")]
    Ended(String),
    /// It cannot be waited for frames.
    #[error("cannot wait for frames: {0}")]
    Wait(io::Error),
}

/// How frames are shown.
enum Sink<'a> {
    Pcapng(Writer<Box<dyn Write + 'a>>),
    Lines(&'a mut dyn Write),
    Json(&'a mut dyn Write),
}

impl Sink<'_> {
    fn record(&mut self, record: &Record) -> io::Result<()> {
        match self {
            Self::Pcapng(writer) => writer.record(record),
            Self::Lines(out) => writeln!(out, "{}", decode::line(record)),
            Self::Json(out) => {
                let Record { at, port, direction, verdict, vlan, len, head } = record;
                let (to, reason) = match verdict {
                    Verdict::Passed { to } => (Some(to).filter(|to| !to.is_empty()), None),
                    Verdict::Dropped(reason) => (None, Some(reason)),
                };
                let frame = decode::summary(head);
                let object = json!({
                    "at_ns": at, "port": port, "direction": direction, "vlan": vlan, "bytes": len, "frame": frame,
                    "to": to, "dropped": reason,
                });
                writeln!(out, "{object}")
            }
        }
    }

    fn lost(&mut self, port: &str, frames: u64) -> io::Result<()> {
        match self {
            Self::Pcapng(writer) => writer.lost(port, frames),
            Self::Lines(out) => writeln!(out, "{frames} frames at {port} lost: they came faster than they were shown"),
            Self::Json(out) => writeln!(out, "{}", json!({"lost": frames, "port": port})),
        }
    }

    fn skipped(&mut self, frames: u64) -> io::Result<()> {
        match self {
            Self::Pcapng(_) => Ok(()),
            Self::Lines(out) => writeln!(out, "+{frames} frames"),
            Self::Json(out) => writeln!(out, "{}", json!({"skipped": frames})),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Pcapng(writer) => writer.flush(),
            Self::Lines(out) | Self::Json(out) => out.flush(),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Pcapng(writer) => writer.finish(),
            Self::Lines(_) | Self::Json(_) => self.flush(),
        }
    }
}

/// What was seen in all.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    lost: u64,
    skipped: u64,
    dropped: BTreeMap<String, u64>,
}

/// How to run.
pub(crate) struct Options {
    /// One object a line.
    pub(crate) json: bool,
    /// No summary.
    pub(crate) quiet: bool,
}

/// Captures, as `vsctl capture` does; `out` is the standard output.
///
/// # Errors
/// See [`CaptureError`].
pub(crate) fn capture(
    client: Client,
    args: &CaptureArgs,
    options: &Options,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Result<(), CaptureError> {
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let path = args.write.clone();
    let is_shown = path.is_none() && !options.json && io::stdout().is_terminal();
    run(client, &args.request(), options, (args.count, deadline), err, move |descriptions, reasons| match path {
        Some(path) => {
            let fail = |error| CaptureError::File { path: path.clone(), error };
            let file = BufWriter::new(File::create(&path).map_err(fail)?);
            let file: Box<dyn Write> = Box::new(file);
            Ok((Sink::Pcapng(Writer::new(file, descriptions, reasons).map_err(fail)?), Some(path)))
        }
        None if options.json => Ok((Sink::Json(out), None)),
        None if is_shown => Ok((Sink::Lines(out), None)),
        None => {
            let out: Box<dyn Write> = Box::new(BufWriter::new(out));
            Ok((Sink::Pcapng(Writer::new(out, descriptions, reasons).map_err(CaptureError::Output)?), None))
        }
    })
}

/// Shows frames, as `vsctl trace --live` does; `out` is the standard output.
///
/// # Errors
/// See [`CaptureError`].
pub(crate) fn trace(
    client: Client,
    args: &LiveArgs,
    options: &Options,
    (out, err): (&mut dyn Write, &mut dyn Write),
) -> Result<(), CaptureError> {
    run(client, &args.request(), options, (args.count, None), err, |_, _| {
        Ok((if options.json { Sink::Json(out) } else { Sink::Lines(out) }, None))
    })
}

fn run<'a>(
    mut client: Client,
    request: &Observe,
    options: &Options,
    (count, deadline): (Option<u64>, Option<Instant>),
    err: &mut dyn Write,
    open: impl FnOnce(
        BTreeMap<String, String>,
        BTreeMap<String, String>,
    ) -> Result<(Sink<'a>, Option<PathBuf>), CaptureError>,
) -> Result<(), CaptureError> {
    let stop = Stop::watch().map_err(CaptureError::Wait)?;
    let descriptions = descriptions(&mut client)?;
    let (ours, theirs) = UnixStream::pair().map_err(CaptureError::Wait)?;
    let request = request.clone().into();
    let answer = client.call_sending(&request, |stream, bytes| fdpass::send(stream, bytes, &[theirs.as_fd()]))?;
    drop(theirs);
    let Watching { reasons, reaches_back_ms } =
        serde_json::from_value(answer).map_err(|error| ClientError::Garbage(error.to_string()))?;
    let (mut sink, path) = open(descriptions, reasons.clone())?;
    let fail = |error| match &path {
        Some(path) => CaptureError::File { path: path.clone(), error },
        None => CaptureError::Output(error),
    };
    let mut tally = Tally::default();
    let watched = watch(ours, &stop, (count, deadline), &mut sink, &mut tally, fail);
    // Whatever ended it, what was written is to be whole.
    let finished = sink.finish().map_err(fail);
    if !options.quiet {
        let _ = tell(err, &tally, &reasons, reaches_back_ms); // there is nobody to tell
    }
    watched.and(finished)
}

/// Shows frames until one of the many ends.
fn watch(
    mut stream: UnixStream,
    stop: &Stop,
    (count, deadline): (Option<u64>, Option<Instant>),
    sink: &mut Sink<'_>,
    tally: &mut Tally,
    fail: impl Fn(io::Error) -> CaptureError,
) -> Result<(), CaptureError> {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut used = 0;
    let mut ending: Option<Instant> = None;
    loop {
        while let Some((item, len)) = Item::take(&buffer[used..])? {
            used += len;
            match item {
                Item::Record(record) => {
                    sink.record(&record).map_err(&fail)?;
                    tally.frames += 1;
                    if let Verdict::Dropped(reason) = record.verdict {
                        *tally.dropped.entry(reason).or_default() += 1;
                    }
                    if count == Some(tally.frames) {
                        return Ok(());
                    }
                }
                Item::Lost { port, frames } => {
                    sink.lost(&port, frames).map_err(&fail)?;
                    tally.lost += frames;
                }
                Item::Skipped { frames } => {
                    sink.skipped(frames).map_err(&fail)?;
                    tally.skipped += frames;
                }
                Item::End(why) if why.is_empty() => return Ok(()),
                Item::End(why) => return Err(CaptureError::Ended(why)),
            }
        }
        buffer.drain(..used);
        used = 0;
        if !stop.wait(Some(stream.as_fd()), Some(Instant::now())).map_err(CaptureError::Wait)?.is_readable {
            sink.flush().map_err(&fail)?; // so that others see it while it lasts
        }
        let until = match ending {
            Some(until) => Some(until.min(Instant::now() + QUIET)),
            None => deadline,
        };
        let woken = stop.wait(Some(stream.as_fd()), until).map_err(CaptureError::Wait)?;
        if woken.is_unread || !(woken.is_readable || woken.is_stopped) || ending.is_some_and(|at| at <= Instant::now())
        {
            return Ok(());
        }
        if woken.is_stopped {
            // What was seen before is on its way here.
            stop.forget().map_err(CaptureError::Wait)?;
            ending = Some(ending.map_or_else(|| Instant::now() + ENDING, |_| Instant::now()));
        }
        if !woken.is_readable {
            continue;
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err(CaptureError::Ended("vswitchd has gone".to_owned())),
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CaptureError::Wait(error)),
        }
    }
}

/// What ports are, by the names that frames are seen under.
fn descriptions(client: &mut Client) -> Result<BTreeMap<String, String>, ClientError> {
    let ports: Vec<PortInfo> = client.call(&Query::PortList {}.into())?;
    let peers: Vec<PeerInfo> = client.call(&Query::PeerList {}.into())?;
    let port = |port: PortInfo| {
        let is_access = port.mode.mode == ModeKind::Access;
        let mode = format!("{}{}", if is_access { "VLAN " } else { "" }, render::mode(&port.mode));
        let text = format!("{mode}, {} in {}", port.ifname, port.netns);
        (port.name.to_string(), text)
    };
    let peer =
        |peer: PeerInfo| (format!("remote {}", peer.ip), "frames inside of VXLAN, from and to a peer".to_owned());
    let tunnel = (TUNNEL.to_owned(), "datagrams that became no frame, outer headers written anew".to_owned());
    Ok(ports.into_iter().map(port).chain(peers.into_iter().map(peer)).chain([tunnel]).collect())
}

/// The summary.
fn tell(
    err: &mut dyn Write,
    tally: &Tally,
    reasons: &BTreeMap<String, String>,
    reaches_back_ms: Option<u64>,
) -> io::Result<()> {
    let Tally { frames, lost, skipped, dropped } = tally;
    write!(err, "{frames} frames")?;
    if *skipped > 0 {
        write!(err, ", {skipped} more not shown (--rate)")?;
    }
    writeln!(err, ", {lost} lost on the way here")?;
    for (reason, count) in dropped {
        let means = reasons.get(reason).map_or("", String::as_str);
        writeln!(err, "{count} of them dropped: {reason}: {means}")?;
    }
    if let Some(reach) = reaches_back_ms {
        let reach = Duration::from_millis(reach).as_secs_f64();
        writeln!(err, "the flight recorder has all frames of the last {reach:.1} s")?;
    }
    Ok(())
}

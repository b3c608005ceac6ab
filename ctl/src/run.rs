//! One run of the program: words in, texts and an exit code out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vswitch_api::{
    Change, Client, ClientError, HealthState, Outcome, PortInfo, PortPlan, PortSpec, Probe, ProbeAsk, Query, Request,
    Stats, Why, WhyAsk, socket,
};

use crate::attachments;
use crate::capture::{self, CaptureError};
use crate::cli::{Cli, Global};
use crate::complete;
use crate::demo::{self, DemoError};
use crate::explain;
use crate::hand_over::{self, HandOverError};
use crate::health;
use crate::man::{self, ManError};
use crate::monitor::{self, MonitorError};
#[cfg(feature = "top")]
use crate::top::{self, TopError};
use crate::trace::{Trace, TraceError};
use crate::words::{self, Task};
use crate::{reference, render};

/// From one look whether the daemon knows an answer to the next: shorter than anyone notices, longer than it takes to look.
const PAUSE: Duration = Duration::from_millis(20);

/// How a run ended. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Refused,
    Usage,
    Unreachable,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
        })
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Usage(#[from] words::Wrong),
    #[error("{}", explain(error, path))]
    Daemon { error: ClientError, path: PathBuf },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error(transparent)]
    HandOver(HandOverError),
    #[error(transparent)]
    Capture(CaptureError),
    #[cfg(feature = "top")]
    #[error(transparent)]
    Top(TopError),
    #[error(transparent)]
    Monitor(MonitorError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    Man(#[from] ManError),
}

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Trace(_) => Exit::Usage,
            #[cfg(feature = "top")]
            Self::Top(TopError::NoTerminal(_)) => Exit::Usage,
            #[cfg(feature = "top")]
            Self::Top(_) => Exit::Refused,
            Self::Daemon { error: ClientError::Refused(_), .. }
            | Self::Output(_)
            | Self::Json(_)
            | Self::HandOver(_)
            | Self::Capture(_)
            | Self::Man(_)
            | Self::Monitor(MonitorError::Output(_) | MonitorError::Wait(_))
            | Self::Demo(_) => Exit::Refused,
            Self::Daemon { .. } | Self::Monitor(_) => Exit::Unreachable,
        }
    }
}

/// What went wrong and what to do.
fn explain(error: &ClientError, path: &std::path::Path) -> String {
    let listens = "it listens where its --socket option says, and vsctl looks where --socket or $VSWITCH_SOCKET says";
    match error {
        ClientError::Refused(error) => error.to_string(),
        ClientError::Connect { error: cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}: run vsctl as the user that runs vswitchd, as root, or as a member of the socket's group")
        }
        ClientError::Connect { .. } => format!("{error}: is vswitchd running? {listens}"),
        ClientError::Timeout { .. } => {
            format!("{error} at {}: it may be stopped or busy; --timeout SECS waits longer", path.display())
        }
        _ => format!("{error} (socket {}): vswitchd's log may say why", path.display()),
    }
}

/// Does what `args` say; `out` gets the answer and `err` what went wrong.
pub(crate) fn run<I>(args: I, out: &mut dyn Write, err: &mut dyn Write) -> Exit
where
    I: IntoIterator<Item: Into<OsString> + Clone>,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" too, and go where answers go.
            let text = error.render();
            let (written, exit) = if error.use_stderr() {
                (write!(err, "{text}"), Exit::Usage)
            } else {
                (write!(out, "{text}"), Exit::Done)
            };
            // Nobody is left to tell that nobody listens.
            let _ = written;
            return exit;
        }
    };
    match execute(cli, out, err) {
        Ok(exit) => exit,
        // Whoever reads has seen enough (`vsctl fdb list | head`).
        Err(
            Failure::Output(error)
            | Failure::Capture(CaptureError::Output(error))
            | Failure::Monitor(MonitorError::Output(error)),
        ) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(failure) => {
            let _ = writeln!(err, "vsctl: {failure}");
            failure.exit()
        }
    }
}

fn execute(cli: Cli, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    match words::task(cli.command)? {
        Task::Reference => out.write_all(reference::page().as_bytes())?,
        Task::Complete(shell) => complete::script(shell, out)?,
        Task::Propose(index, words) => complete::propose(index, words, out)?,
        Task::Man(dir) => man::write(&dir)?,
        Task::Demo(words) => {
            let Global { socket: _, json, quiet, timeout } = cli.global;
            demo::run(&words, timeout, demo::Style::new(json, quiet), out)?;
        }
        Task::Capture(args) => {
            watch(&cli.global, |client, options| capture::capture(client, &args, options, (out, err)))?;
        }
        Task::Follow(args) => {
            watch(&cli.global, |client, options| capture::trace(client, &args, options, (out, err)))?;
        }
        #[cfg(feature = "top")]
        Task::Top(args) => show_top(&cli.global, &args, out)?,
        Task::Monitor(args) => {
            let Global { socket, json, quiet: _, timeout } = cli.global;
            let path = socket::path(socket);
            monitor::run(&args, (&path, timeout), json, out).map_err(|error| match error {
                MonitorError::Daemon(error) => Failure::Daemon { error, path },
                error => Failure::Monitor(error),
            })?;
        }
        Task::Ask(request) => print(&cli.global, out, |call| call.answer(&request))?,
        Task::HandOver(spec) => print(&cli.global, out, |call| call.hand_over(spec))?,
        Task::Trace(trace) => print(&cli.global, out, |call| call.trace(&trace))?,
        Task::Probe(ask) => print(&cli.global, out, |call| {
            let (text, is_there) = call.probe(ask)?;
            exit = if is_there { Exit::Done } else { Exit::Refused };
            Ok(text)
        })?,
        Task::Why(ask) => print(&cli.global, out, |call| {
            let (text, is_reachable) = call.why(ask)?;
            exit = if is_reachable { Exit::Done } else { Exit::Refused };
            Ok(text)
        })?,
    }
    Ok(exit)
}

/// Connects, and has `show` show frames.
fn watch(
    Global { socket, json, quiet, timeout }: &Global,
    show: impl FnOnce(Client, &capture::Options) -> Result<(), CaptureError>,
) -> Result<(), Failure> {
    let path = socket::path(socket.clone());
    let shown = Client::connect(&path, *timeout).map_err(CaptureError::Daemon);
    let options = capture::Options { json: *json, quiet: *quiet };
    shown.and_then(|client| show(client, &options)).map_err(|error| match error {
        CaptureError::Daemon(error) => Failure::Daemon { error, path },
        error => Failure::Capture(error),
    })
}

/// Shows what passes now.
#[cfg(feature = "top")]
fn show_top(
    Global { socket, json, quiet, timeout }: &Global,
    args: &top::TopArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = socket::path(socket.clone());
    let options = top::Options { path: path.clone(), timeout: *timeout, json: *json, quiet: *quiet, explain };
    top::run(args, options, out).map_err(|error| match error {
        TopError::Daemon(error) => Failure::Daemon { error, path },
        TopError::Output(error) => Failure::Output(error),
        error => Failure::Top(error),
    })
}

/// Connects, and prints what `ask` makes of it.
fn print(
    Global { socket, json, quiet, timeout }: &Global,
    out: &mut dyn Write,
    ask: impl FnOnce(&mut Call) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let path = socket::path(socket.clone());
    let fail = |error| Failure::Daemon { error, path: path.clone() };
    let client = Client::connect(&path, *timeout).map_err(fail)?;
    let text = ask(&mut Call { client, path, json: *json })?;
    if !quiet {
        out.write_all(text.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// A connection, and how its answers are wanted.
struct Call {
    client: Client,
    path: PathBuf,
    json: bool,
}

impl Call {
    /// What the daemon answers to `request`, as text.
    fn answer(&mut self, request: &Request) -> Result<String, Failure> {
        match request {
            // No word of vsctl asks for these: a container runtime's plugin does.
            Request::Change(Change::AttachmentAdd(_) | Change::AttachmentDel { .. }) => {
                json(&self.ask::<serde_json::Value>(request)?)
            }
            Request::Change(change) => self.show(request, |outcome: &Outcome, out| done(change, outcome, out)),
            Request::Flush(_) => self.show(request, |flushed: &vswitch_api::Flushed, out| {
                out.push_str(&format!("{} learned addresses forgotten\n", flushed.flushed));
            }),
            // No word of vsctl asks for it so: a daemon does, and what shows frames.
            Request::Takeover(_) | Request::Observe(_) => json(&self.ask::<serde_json::Value>(request)?),
            Request::Query(query) => match query {
                Query::PortList {} => self.show(request, render::ports),
                Query::PortShow { .. } => self.show(request, render::port),
                // Only asked on the way to `port add --hand-over`.
                Query::PortPlan(_) => json(&self.ask::<PortPlan>(request)?),
                // Only asked by a container runtime's plugin.
                Query::AttachmentPlan(_) => json(&self.ask::<serde_json::Value>(request)?),
                Query::AttachmentList { .. } => self.show(request, attachments::list),
                Query::PoolShow { .. } => self.show(request, attachments::pools),
                // No word of vsctl asks for it alone: `status` tells of it, and programs ask.
                Query::WorkerList {} => json(&self.ask::<serde_json::Value>(request)?),
                Query::VlanList {} => self.show(request, render::vlans),
                Query::VtepShow {} => self.show(request, render::vtep),
                Query::PeerList {} => self.show(request, health::peers),
                Query::PeerProbe(_) => self.show(request, health::probe),
                Query::FdbList(_) => self.show(request, render::fdb),
                Query::Status {} => self.show(request, render::status),
                Query::NeighbourList {} => self.show(request, explain::neighbours),
                // No word of vsctl asks for it so: what shows events does.
                Query::Monitor(_) => json(&self.ask::<serde_json::Value>(request)?),
                Query::Trace(_) => self.show(request, explain::journey),
                Query::Why(_) => self.show(request, explain::why),
                // Meanings are for people; programs get the list of counters.
                Query::Stats { .. } if self.json => json(&self.ask::<Stats>(request)?.ports),
                Query::Stats { .. } => self.show(request, render::stats),
            },
        }
    }

    /// The journey of a frame.
    fn trace(&mut self, trace: &Trace) -> Result<String, Failure> {
        let port = match trace.asks_for() {
            Some(name) => Some(self.ask::<PortInfo>(&Query::PortShow { name }.into())?),
            None => None,
        };
        let request = trace.request(port.and_then(|port| port.mac))?;
        self.answer(&request)
    }

    /// Why two stations do or do not reach each other, and whether they do. The daemon asks one of them, and does not wait:
    /// it is asked again until it knows.
    fn why(&mut self, mut ask: WhyAsk) -> Result<(String, bool), Failure> {
        loop {
            let answer: Why = self.ask(&Query::Why(ask.clone()).into())?;
            let Some(ticket) = answer.pending else {
                let mut text = String::new();
                if self.json {
                    text = json(&answer)?;
                } else {
                    explain::why(&answer, &mut text);
                }
                return Ok((text, answer.reachable));
            };
            ask.ticket = Some(ticket);
            thread::sleep(PAUSE);
        }
    }

    /// How the way to a peer is, and whether anything is at its end. The daemon does not wait: it is asked again until it
    /// knows.
    fn probe(&mut self, mut ask: ProbeAsk) -> Result<(String, bool), Failure> {
        loop {
            let answer: Probe = self.ask(&Query::PeerProbe(ask.clone()).into())?;
            let Some(ticket) = answer.pending else {
                let mut text = String::new();
                if self.json {
                    text = json(&answer)?;
                } else {
                    health::probe(&answer, &mut text);
                }
                return Ok((text, answer.state != HealthState::Unreachable));
            };
            ask.ticket = Some(ticket);
            thread::sleep(PAUSE);
        }
    }

    /// Makes a port's interface and hands it over.
    fn hand_over(&mut self, spec: PortSpec) -> Result<String, Failure> {
        let answer = hand_over::add(&mut self.client, &spec).map_err(|error| match error {
            HandOverError::Daemon(error) => Failure::Daemon { error, path: self.path.clone() },
            error => Failure::HandOver(error),
        })?;
        let outcome: Outcome = serde_json::from_value(answer)?;
        if self.json {
            return json(&outcome);
        }
        let mut text = String::new();
        done(&Change::PortAdd(spec), &outcome, &mut text);
        Ok(text)
    }

    fn show<T: DeserializeOwned + Serialize>(
        &mut self,
        request: &Request,
        render: impl FnOnce(&T, &mut String),
    ) -> Result<String, Failure> {
        let answer = self.ask(request)?;
        if self.json {
            return json(&answer);
        }
        let mut text = String::new();
        render(&answer, &mut text);
        Ok(text)
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        self.client.call(request).map_err(|error| Failure::Daemon { error, path: self.path.clone() })
    }
}

fn done(change: &Change, outcome: &Outcome, out: &mut String) {
    out.push_str(&words::done(change, outcome.changed));
    out.push('\n');
    outcome.notes.iter().for_each(|note| out.extend(["  ", note, "\n"]));
}

fn json(answer: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(answer)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// What `vsctl WORDS` does where the daemon's answer is `answer`: the exit code, and both outputs.
    fn vsctl(words: &str, answer: &str) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{answer}}}\n");
        let daemon = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            (&stream).write_all(line.as_bytes()).unwrap();
        });
        let result = alone(&format!("--timeout 60 --socket {} {words}", path.display()));
        daemon.join().unwrap();
        result
    }

    /// The same with nobody to answer.
    fn alone(words: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(["vsctl"].into_iter().chain(words.split_whitespace()), &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    fn done(text: &str) -> (Exit, String, String) {
        (Exit::Done, text.to_owned(), String::new())
    }

    #[test]
    fn what_was_done_is_said() {
        let changed = r#""result":{"changed":true,"notes":[]}"#;
        assert_eq!(vsctl("vlan del 10", changed), done("VLAN 10 deleted\n"));
        assert_eq!(vsctl("-q vlan del 10", changed), done(""));
        assert_eq!(vsctl("vlan del 10 --json", changed), done("{\"changed\":true,\"notes\":[]}\n"));

        let noted = r#""result":{"changed":true,"notes":["it joins port a"]}"#;
        assert_eq!(vsctl("vlan del 10", noted), done("VLAN 10 deleted\n  it joins port a\n"));
        let same = r#""result":{"changed":false}"#;
        assert_eq!(vsctl("vlan add 10", same), done("VLAN 10 is so already: nothing changed\n"));
        assert_eq!(vsctl("fdb flush", r#""result":{"flushed":3}"#), done("3 learned addresses forgotten\n"));
    }

    #[test]
    fn lists_for_people_and_for_programs() {
        let answer = r#""result":[{"ip":"192.0.2.2","all_vlans":false,"vlans":[10]}]"#;
        assert_eq!(vsctl("vtep peer list", answer), done("PEER       VLANS\n192.0.2.2  10\n"));
        let json = "[{\"ip\":\"192.0.2.2\",\"all_vlans\":false,\"vlans\":[10],\"health\":null}]\n";
        assert_eq!(vsctl("vtep peer list --json", answer), done(json));
        assert_eq!(vsctl("vtep peer list -q", answer), done(""));

        let ports = r#"[{"port":"a","rx_frames":1,"rx_bytes":2,"tx_frames":3,"tx_bytes":4,"drops":{"x":5}}]"#;
        let answer = format!("\"result\":{{\"ports\":{ports},\"reasons\":{{\"x\":\"why\"}}}}");
        assert_eq!(vsctl("stats --json", &answer), done(&format!("{ports}\n")));
        assert!(vsctl("stats", &answer).1.contains("why"));
    }

    #[test]
    fn exit_codes() {
        let (exit, out, err) = vsctl("port del a", r#""error":{"code":2,"message":"there is no port a"}"#);
        assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Refused, "", "vsctl: there is no port a\n"));

        for words in ["", "fly", "vlan add 4095", "port add a"] {
            let (exit, out, err) = alone(words);
            assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{words}");
            assert!(!err.is_empty(), "{words}");
        }
        for words in ["--help", "port add --help", "--version", "completions zsh"] {
            let (exit, out, err) = alone(words);
            assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{words}");
            assert!(out.contains("vsctl"), "{words}");
        }

        let (exit, _, err) = alone("--socket /nonexistent/s status");
        assert_eq!(exit, Exit::Unreachable);
        for part in ["/nonexistent/s", "is vswitchd running?", "--socket", "$VSWITCH_SOCKET"] {
            assert!(err.contains(part), "{err}");
        }
        let (exit, _, err) = vsctl("status", r#""result":7"#);
        assert_eq!(exit, Exit::Unreachable);
        assert!(err.contains("not understood"), "{err}");
    }

    #[test]
    fn a_daemon_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let (exit, _, err) = alone(&format!("--socket {} --timeout 0.02 status", path.display()));
        assert_eq!(exit, Exit::Unreachable);
        assert!(err.contains("20ms") && err.contains("--timeout SECS"), "{err}");
    }

    #[test]
    fn a_reader_that_has_seen_enough() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut err = Vec::new();
        assert_eq!(run(["vsctl", "completions", "bash"], &mut Gone, &mut err), Exit::Done);
        assert_eq!(err, b"");
    }
}

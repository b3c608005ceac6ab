//! One run of the program: words in, texts and an exit code out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vswitch_api::{Client, ClientError, Outcome, Query, Refusal, Request, Stats, socket};

use crate::cli::{Cli, Global};
use crate::render;
use crate::words::{self, Task};

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
    Usage(#[from] Refusal),
    #[error("{}", explain(error, path))]
    Daemon { error: ClientError, path: PathBuf },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Daemon { error: ClientError::Refused(_), .. } | Self::Output(_) | Self::Json(_) => Exit::Refused,
            Self::Daemon { .. } => Exit::Unreachable,
        }
    }
}

/// What went wrong and what to do.
fn explain(error: &ClientError, path: &std::path::Path) -> String {
    let listens = "it listens where its --socket option says, and vsctl looks where --socket or $VSWITCH_SOCKET says";
    match error {
        ClientError::Refused(error) => error.to_string(),
        ClientError::Connect { error: cause, .. } if cause.kind() == io::ErrorKind::PermissionDenied => {
            format!("{error}: run vsctl as the user that runs vswitchd, or as root")
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
    match execute(cli, out) {
        Ok(()) => Exit::Done,
        // Whoever reads has seen enough (`vsctl fdb list | head`).
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(failure) => {
            let _ = writeln!(err, "vsctl: {failure}");
            failure.exit()
        }
    }
}

fn execute(cli: Cli, out: &mut dyn Write) -> Result<(), Failure> {
    match words::task(cli.command)? {
        Task::Complete(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vsctl", &mut script);
            Ok(out.write_all(&script)?)
        }
        Task::Ask(request) => {
            let Global { socket, json, quiet, timeout } = cli.global;
            let path = socket::path(socket);
            let fail = |error| Failure::Daemon { error, path: path.clone() };
            let client = Client::connect(&path, timeout).map_err(fail)?;
            let text = Call { client, path, json }.answer(&request)?;
            if !quiet {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            Ok(())
        }
    }
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
            Request::Change(change) => self.show(request, |outcome: &Outcome, out| {
                out.push_str(&words::done(change, outcome.changed));
                out.push('\n');
                outcome.notes.iter().for_each(|note| out.extend(["  ", note, "\n"]));
            }),
            Request::Flush(_) => self.show(request, |flushed: &vswitch_api::Flushed, out| {
                out.push_str(&format!("{} learned addresses forgotten\n", flushed.flushed));
            }),
            Request::Query(query) => match query {
                Query::PortList {} => self.show(request, render::ports),
                Query::PortShow { .. } => self.show(request, render::port),
                Query::VlanList {} => self.show(request, render::vlans),
                Query::VtepShow {} => self.show(request, render::vtep),
                Query::PeerList {} => self.show(request, render::peers),
                Query::FdbList(_) => self.show(request, render::fdb),
                Query::Status {} => self.show(request, render::status),
                // Meanings are for people; programs get the list of counters.
                Query::Stats { .. } if self.json => json(&self.ask::<Stats>(request)?.ports),
                Query::Stats { .. } => self.show(request, render::stats),
            },
        }
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

fn json(answer: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(answer)? + "\n")
}

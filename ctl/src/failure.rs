//! How a run ends, and why one fails.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use vswitch_api::{ClientError, Code};

use crate::capture::CaptureError;
use crate::demo::DemoError;
use crate::hand_over::HandOverError;
use crate::man::ManError;
use crate::monitor::MonitorError;
#[cfg(feature = "top")]
use crate::top::TopError;
use crate::trace::TraceError;
use crate::words;

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
pub(crate) enum Failure {
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
    /// How a run ends that fails so.
    pub(crate) const fn exit(&self) -> Exit {
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

/// A failure for programs: what a refusal has on the socket.
#[derive(Debug, Serialize)]
pub(crate) struct Complaint {
    /// The daemon's code; null where it did not refuse.
    code: Option<Code>,
    message: String,
}

impl Complaint {
    pub(crate) fn of(failure: &Failure) -> Self {
        let code = match failure {
            Failure::Daemon { error: ClientError::Refused(refusal), .. } => Some(refusal.code),
            _ => None,
        };
        Self { code, message: failure.to_string() }
    }

    /// Words that are not understood.
    pub(crate) const fn usage(message: String) -> Self {
        Self { code: None, message }
    }

    /// As a line of JSON.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// What went wrong and what to do.
pub(crate) fn explain(error: &ClientError, path: &Path) -> String {
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

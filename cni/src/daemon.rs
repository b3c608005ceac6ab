//! The daemon, which may be about to be restarted or replaced: what passes by itself is waited for.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use vswitch_api::{Client, ClientError, Code as Refused, Request, RpcError, socket};

use crate::protocol::{Code, Config, Failure};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a daemon that is not there, or hands over, is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// It said why.
    #[error("{0}")]
    Refused(RpcError),
    /// It is not there, or hangs.
    #[error(
        "{error} (socket {}): is vswitchd running, as root or with a --socket-group that lets this user in? The key \
         \"socket\" or $VSWITCH_SOCKET says where it listens", path.display()
    )]
    Unreachable {
        /// What happened.
        error: ClientError,
        /// Where it was looked for.
        path: PathBuf,
    },
}

impl DaemonError {
    /// Whether the daemon may serve later what it did not now.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.code == Refused::Exhausted || is_passing(refusal),
        }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        Self::new(if error.is_passing() { Code::TryAgain } else { Code::Refused }, error.to_string())
    }
}

/// Whether it was refused only for the moment.
fn is_passing(refusal: &RpcError) -> bool {
    refusal.code == Refused::Busy
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// For one request after the other.
    pub(crate) client: Client,
    path: PathBuf,
}

impl Daemon {
    /// Connects to the daemon of `config`, and waits for one that is not there for no longer than `patience`.
    ///
    /// # Errors
    /// None is there.
    pub(crate) fn connect(config: &Config, patience: Duration) -> Result<Self, Failure> {
        let path = socket::to_ask(config.get("socket")?);
        Ok(Self::connect_to(path, patience)?)
    }

    pub(crate) fn connect_to(path: PathBuf, patience: Duration) -> Result<Self, DaemonError> {
        let deadline = Instant::now() + patience;
        let mut pause = PAUSES.0;
        loop {
            match Client::connect(&path, ANSWER) {
                Ok(client) => return Ok(Self { client, path }),
                Err(error) if Instant::now() >= deadline || !is_starting(&error) => {
                    return Err(DaemonError::Unreachable { error, path });
                }
                Err(_) => pause = wait(pause),
            }
        }
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Asks, again and again where the daemon is about to hand over. For what may be asked twice.
    ///
    /// # Errors
    /// What it refuses, and where it is gone.
    pub(crate) fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, DaemonError> {
        self.persist(|daemon| daemon.client.call(request))
    }

    /// As [`Self::persist`], for what is not to be done twice: where a connection broke, `forget` undoes what may have been
    /// done before it is done again.
    pub(crate) fn persist_once<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, ClientError>,
        forget: impl Fn(&mut Client) -> Result<(), ClientError>,
    ) -> Result<T, DaemonError> {
        let mut unsure = false;
        self.persist(|daemon| {
            if unsure {
                forget(&mut daemon.client)?;
            }
            let outcome = work(daemon);
            unsure = may_be_done(&outcome);
            outcome
        })
    }

    /// Does `work` again and again, over a new connection where the last one broke, until it is done, refused, or
    /// [`PATIENCE`] is at its end.
    pub(crate) fn persist<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, DaemonError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSES.0;
        loop {
            match work(self) {
                Ok(answer) => return Ok(answer),
                Err(ClientError::Refused(refusal)) if !is_passing(&refusal) || Instant::now() >= deadline => {
                    return Err(DaemonError::Refused(refusal));
                }
                Err(ClientError::Refused(_)) => pause = wait(pause),
                Err(ClientError::Closed | ClientError::Io(_)) if Instant::now() < deadline => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    *self = Self::connect_to(self.path.clone(), left)?;
                    pause = wait(pause);
                }
                Err(error) => return Err(DaemonError::Unreachable { error, path: self.path.clone() }),
            }
        }
    }
}

/// Whether the daemon may have done what was asked, and could not say so.
const fn may_be_done<T>(outcome: &Result<T, ClientError>) -> bool {
    matches!(outcome, Err(ClientError::Closed | ClientError::Io(_)))
}

/// Whether a daemon may be about to listen there.
fn is_starting(error: &ClientError) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error, ClientError::Connect { error, .. } if matches!(error.kind(), NotFound | ConnectionRefused))
}

fn wait(pause: Duration) -> Duration {
    thread::sleep(pause);
    (pause * 2).min(PAUSES.1)
}

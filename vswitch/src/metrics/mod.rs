//! What the daemon tells Prometheus: metrics as text over HTTP, by a thread of its own.
//!
//! The thread asks the control thread for what it knows, and puts it into words itself; workers are asked between two
//! batches, as for `vsctl stats`. However many ask, and however slowly they read, nobody but that thread waits for them.

mod http;
mod process;
mod reading;
mod serve;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use mio::Waker;
use thiserror::Error;
use vswitch_core::switch::Switch;

pub(crate) use reading::Reading;
pub(crate) use source::Request;
pub(crate) use table::reference;

use crate::privileges::{self, PrivilegesError};
use crate::sandbox::{self, SandboxError};
use process::Process;
use source::Source;

/// Why nobody answers for metrics.
#[derive(Debug, Error)]
pub(crate) enum MetricsError {
    #[error(
        "cannot listen on {addr} for metrics: {error}; choose an address of this host and a free port with --metrics-addr"
    )]
    Listen { addr: SocketAddr, error: io::Error },
    #[error("cannot start the thread that answers for metrics: {0}")]
    Start(io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// Where metrics are asked for, and what the kernel tells of the process; had before the daemon gives up the right to
/// listen and to open files.
#[derive(Debug)]
pub(crate) struct Listener(Option<(TcpListener, Process)>);

impl Listener {
    /// Listens on `addr`, if anywhere: with `inherited`, which the daemon before listened with, where that is the same.
    pub(crate) fn open(addr: Option<SocketAddr>, inherited: Option<OwnedFd>) -> Result<Self, MetricsError> {
        let Some(addr) = addr else { return Ok(Self(None)) };
        let failed = |error| MetricsError::Listen { addr, error };
        // Port 0 is any.
        let is_it = |other: SocketAddr| other.ip() == addr.ip() && (addr.port() == 0 || other.port() == addr.port());
        let inherited = inherited.map(TcpListener::from);
        let kept = inherited.filter(|listener| listener.local_addr().is_ok_and(is_it));
        let listener = kept.map_or_else(|| TcpListener::bind(addr), Ok).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self(Some((listener, Process::open()))))
    }
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Receiver<Request>,
    listener: TcpListener,
    lets_in: Arc<AtomicBool>,
}

impl Metrics {
    /// Starts to answer on `listener`, if there is one. `waker` wakes the control thread, which is to answer
    /// [`Self::requests`]; `switch` knows the addresses.
    pub(crate) fn start(
        Listener(listener): Listener,
        waker: Arc<Waker>,
        switch: Switch,
        confined: bool,
    ) -> Result<Option<Self>, MetricsError> {
        let Some((listener, process)) = listener else { return Ok(None) };
        let addr = listener.local_addr().map_err(MetricsError::Start)?;
        let other = listener.try_clone().map_err(MetricsError::Start)?;
        // One: what asks a second time before it was answered gives up.
        let (sender, requests) = bounded(1);
        let lets_in = Arc::new(AtomicBool::new(true));
        let source = Source::new(sender, waker, (switch, process), Arc::clone(&lets_in));
        let (started, outcome) = bounded(1);
        thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || {
                let ready = give_up(confined);
                let go = ready.is_ok();
                let _ = started.send(ready); // somebody waits below
                if go && let Err(error) = serve::serve(&other, source) {
                    tracing::error!(%error, "nobody answers for metrics any more");
                }
            })
            .map_err(MetricsError::Start)?;
        outcome.recv().unwrap_or_else(|_| Err(MetricsError::Start(io::ErrorKind::Other.into())))?;
        tracing::info!(%addr, "metrics: http://{addr}/metrics");
        Ok(Some(Self { requests, listener, lets_in }))
    }

    /// Those who wait to be told.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    /// Another descriptor of the listening socket.
    pub(crate) fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(Into::into)
    }

    /// Whether who connects is taken in, or waits for another daemon to do it.
    pub(crate) fn let_in(&self, lets_in: bool) {
        self.lets_in.store(lets_in, Ordering::Relaxed);
    }
}

/// Gives up what the calling thread inherits: it reads what strangers send, and opens nothing.
fn give_up(confined: bool) -> Result<(), MetricsError> {
    privileges::give_up()?;
    if confined {
        sandbox::confine_worker()?;
    }
    Ok(())
}

//! The poll loop: which port has frames, and for how long to sleep when none has.

mod batch;
mod datapath;
mod journey;
mod outbox;
mod oversize;
mod ports;

use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::ValueEnum;
use crossbeam_channel::{Receiver, Sender};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use thiserror::Error;
use vswitch_core::Instant;
use vswitch_core::switch::PortId;

pub(crate) use datapath::Datapath;

use crate::port::carrier::Entrance;

const WAKER: Token = Token(usize::MAX);
const SOCKET: Token = Token(usize::MAX - 1);
const UPLINK: Token = Token(usize::MAX - 2);
/// Events taken from one poll; what does not fit comes with the next.
const EVENTS: usize = 256;

/// What the loop does when no frame waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PollMode {
    /// Looks again without end: the shortest round trip, for a core of its own.
    Busy,
    /// Looks again for 50 us after traffic, then sleeps: waking a sleeper costs its sender more than the few looks that
    /// the next frame of a busy flow takes. Others run in between, and an idle switch uses no CPU.
    #[default]
    Adaptive,
    /// Sleeps at once: the least CPU under little traffic.
    Sleep,
}

impl PollMode {
    /// How long to look again after traffic; `None` is for ever.
    const fn spin(self) -> Option<Duration> {
        match self {
            Self::Busy => None,
            Self::Adaptive => Some(Duration::from_micros(50)),
            Self::Sleep => Some(Duration::ZERO),
        }
    }
}

/// Work the control thread asks a worker to do between two batches.
type Command = Box<dyn FnOnce(&mut Worker) + Send>;

/// Why a worker did not answer.
#[derive(Debug, Error)]
pub(crate) enum WorkerError {
    #[error("the worker thread has ended; restart vswitchd, and please report what its log says")]
    Gone,
    #[error("cannot start a worker: {0}")]
    Start(io::Error),
    #[error("cannot watch a descriptor: {0}")]
    Watch(io::Error),
}

/// The control thread's end of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Starts a worker on a thread of its own.
    pub(crate) fn start(datapath: Datapath, mode: PollMode) -> Result<Self, WorkerError> {
        let poll = Poll::new().map_err(WorkerError::Start)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(WorkerError::Start)?);
        let (commands, inbox) = crossbeam_channel::unbounded();
        let mut worker =
            Worker { poll, commands: inbox, clock: std::time::Instant::now(), ready: Vec::new(), datapath };
        worker.watch_tunnel()?;
        let thread = thread::Builder::new()
            .name("worker-0".to_owned())
            .spawn(move || {
                let _guard = AbortOnPanic;
                worker.run(mode);
            })
            .map_err(WorkerError::Start)?;
        Ok(Self { commands, waker, thread: Some(thread) })
    }

    /// Runs `work` in the worker between two batches and waits for its result.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        let (answer, result) = crossbeam_channel::bounded(1);
        let command: Command = Box::new(move |worker| {
            let _ = answer.send(work(worker)); // the caller waits, so it is there to receive
        });
        self.commands.send(command).map_err(|_| WorkerError::Gone)?;
        self.waker.wake().map_err(|_| WorkerError::Gone)?;
        result.recv().map_err(|_| WorkerError::Gone)
    }
}

/// A worker that panics must not leave a daemon behind that answers and forwards nothing: who supervises it starts it
/// again, and the state is restored.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        let (closed, _) = crossbeam_channel::bounded(0);
        self.commands = closed; // the worker sees its channel closed and ends
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What may have frames to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Tap(PortId),
    Tunnel(Entrance),
}

/// One thread's share of the switch.
pub(crate) struct Worker {
    poll: Poll,
    commands: Receiver<Command>,
    clock: std::time::Instant,
    /// Sources not yet read until empty: the poll is edge-triggered and will not name them again.
    ready: Vec<Source>,
    pub(crate) datapath: Datapath,
}

impl Worker {
    fn run(mut self, mode: PollMode) {
        let mut events = Events::with_capacity(EVENTS);
        let spin = mode.spin();
        let mut spin_until = Instant::default();
        loop {
            let spinning = spin.is_none() || self.now() < spin_until;
            let timeout = if !self.ready.is_empty() || spinning {
                Some(Duration::ZERO)
            } else {
                self.datapath.poll_timeout().map(|at| at.since(self.now()))
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the poll failed; vswitchd ends");
                std::process::abort();
            }
            let mut woken = false;
            for event in &events {
                match event.token() {
                    WAKER => woken = true,
                    SOCKET => self.mark_ready(Source::Tunnel(Entrance::Socket)),
                    UPLINK => self.mark_ready(Source::Tunnel(Entrance::Uplink)),
                    Token(port) => {
                        if let Ok(port) = u16::try_from(port) {
                            self.mark_ready(Source::Tap(PortId::new(port)));
                        }
                    }
                }
            }
            if woken && !self.run_commands() {
                return;
            }
            let now = self.now();
            self.datapath.handle_timeout(now);
            if self.ready.is_empty() {
                thread::yield_now();
            } else {
                self.serve(now);
                spin_until = now + spin.unwrap_or_default();
            }
        }
    }

    /// The moment on this worker's clock; read once a turn.
    pub(crate) fn now(&self) -> Instant {
        let nanos = self.clock.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn mark_ready(&mut self, source: Source) {
        if !self.ready.contains(&source) {
            self.ready.push(source);
        }
    }

    /// One batch of every ready source, in turn: none can starve another.
    fn serve(&mut self, now: Instant) {
        let mut ready = core::mem::take(&mut self.ready);
        ready.retain(|&source| match source {
            Source::Tap(port) => self.datapath.serve_tap(now, port),
            Source::Tunnel(entrance) => self.datapath.serve_tunnel(now, entrance),
        });
        self.ready = ready;
    }

    /// Runs what the control thread sent; false where it hung up.
    fn run_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => command(self),
                Err(crossbeam_channel::TryRecvError::Empty) => return true,
                Err(crossbeam_channel::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Adds a TAP port that the datapath already has to the poll.
    pub(crate) fn watch_tap(&mut self, port: PortId) -> Result<(), WorkerError> {
        if let Some(queue) = self.datapath.tap(port) {
            let fd = queue.as_raw_fd();
            self.poll
                .registry()
                .register(&mut SourceFd(&fd), Token(port.index()), Interest::READABLE)
                .map_err(WorkerError::Watch)?;
            self.mark_ready(Source::Tap(port)); // frames may have come before the registration
        }
        Ok(())
    }

    /// Takes `port` out of the poll; closing the descriptor would do it too.
    pub(crate) fn unwatch(&mut self, port: PortId) {
        self.ready.retain(|&source| source != Source::Tap(port));
    }

    fn watch_tunnel(&mut self) -> Result<(), WorkerError> {
        for (entrance, fd) in self.datapath.entrances() {
            let token = match entrance {
                Entrance::Socket => SOCKET,
                Entrance::Uplink => UPLINK,
            };
            self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(WorkerError::Watch)?;
            self.mark_ready(Source::Tunnel(entrance));
        }
        Ok(())
    }
}

//! The poll loop: which port has frames, and for how long to sleep when none has.
//!
//! Workers share nothing but the addresses that their switches learned. Each reads its own queue of every port and writes
//! to its own queue of any, so no frame is handed over, and frames that come on one queue leave in the order they came.
//! The kernel keeps a flow on one queue: a socket of a shared port is chosen by a hash of the outer addresses and ports,
//! a TAP's queue by a hash of the inner ones. Once a worker has written a frame of a flow to a TAP, the kernel gives it the
//! flow's other direction too (`tun_flow_update`), for as long as one comes every three seconds. A flow can so change workers once, when
//! it is first answered; frames that still wait in the queue it leaves may then be overtaken.

mod alarms;
mod asking;
mod backlog;
mod batch;
mod datapath;
mod flaps;
mod journey;
mod limits;
mod load;
mod neighbours;
mod outbox;
mod oversize;
mod ports;
mod ready;
#[cfg(test)]
mod seen;
#[cfg(test)]
mod tests;
mod threads;

use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use crossbeam_channel::Receiver;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use vswitch_core::switch::PortId;
use vswitch_core::{Frame, Instant};

pub(crate) use asking::{Answered, Exit, Remembered, Watch};
pub(crate) use datapath::{Datapath, PortStats};
pub(crate) use limits::SharedLimits;
pub(crate) use load::Load;
pub(crate) use oversize::AnswerRate;
pub(crate) use threads::{WorkerError, WorkerOptions, Workers};

use journey::Served;
use ready::Ready;
use threads::Command;

use crate::clock;
use crate::counters::Counters;
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
    /// Sources not yet read until empty: the poll is edge-triggered and will not name them again.
    ready: Ready,
    /// Whether frames are left in the kernel's queues, for another process to read.
    is_paused: bool,
    pub(crate) datapath: Datapath,
    /// Wakes the control thread.
    news: Arc<Waker>,
}

impl Worker {
    fn run(mut self, mode: PollMode) {
        let mut events = Events::with_capacity(EVENTS);
        let spin = mode.spin();
        let mut spin_until = Instant::default();
        loop {
            let now = self.now();
            self.datapath.load.end_turn(now, !self.ready.is_empty());
            let spinning = spin.is_none() || now < spin_until;
            let timeout = if self.is_paused {
                None
            } else if !self.ready.is_empty() || spinning {
                Some(Duration::ZERO)
            } else {
                self.datapath.poll_timeout().map(|at| at.since(now))
            };
            if timeout != Some(Duration::ZERO) {
                self.datapath.load.sleep();
            }
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
                    SOCKET => self.ready.mark(Source::Tunnel(Entrance::Socket)),
                    UPLINK => self.ready.mark(Source::Tunnel(Entrance::Uplink)),
                    Token(port) => {
                        if let Ok(port) = u16::try_from(port) {
                            self.ready.mark(Source::Tap(PortId::new(port)));
                        }
                    }
                }
            }
            if woken && !self.run_commands() {
                return;
            }
            if self.is_paused {
                continue;
            }
            let now = self.now();
            self.datapath.handle_timeout(now);
            self.let_in();
            if self.ready.is_empty() {
                thread::yield_now();
            } else {
                self.datapath.load.begin_turn(now);
                self.serve(now);
                self.datapath.tell(now);
                spin_until = now + spin.unwrap_or_default();
            }
        }
    }

    /// Leaves frames where they are, or goes on reading them. What was read leaves first, for nobody else can read it. What
    /// has become ready meanwhile is still known.
    pub(crate) fn set_paused(&mut self, is_paused: bool) {
        if is_paused && !self.is_paused {
            self.datapath.finish(self.now());
            self.datapath.tell_observers();
        }
        self.is_paused = is_paused;
    }

    /// The moment on the workers' clock; read twice a turn.
    pub(crate) fn now(&self) -> Instant {
        clock::now()
    }

    /// One batch of every ready source, in turn: none can starve another. The more wait, the smaller the batches.
    fn serve(&mut self, now: Instant) {
        let waiting = self.ready.len();
        let Self { ready, datapath, poll, .. } = self;
        ready.retain(|source| match source {
            Source::Tap(port) => match datapath.serve_tap(now, port, waiting) {
                Served::Empty => false,
                Served::More => true,
                Served::Held => {
                    // Or each further frame would wake this thread in vain.
                    if let Some(queue) = datapath.tap(port) {
                        let _ = poll.registry().deregister(&mut SourceFd(&queue.as_raw_fd())); // not there is as good
                    }
                    false
                }
            },
            Source::Tunnel(entrance) => datapath.serve_tunnel(now, entrance),
        });
        if mem::take(&mut self.datapath.has_news)
            && let Err(error) = self.news.wake()
        {
            tracing::error!(%error, "the control thread cannot be told of a lost port; it hears with the next request");
        }
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
            self.ready.mark(Source::Tap(port)); // frames may have come before the registration
        }
        Ok(())
    }

    /// Sends `frames` as a TAP port's own.
    pub(crate) fn announce(&mut self, port: PortId, frames: &[Frame]) {
        let now = self.now();
        self.datapath.announce(now, port, frames);
    }

    /// Sets what a TAP port may carry.
    pub(crate) fn set_limits(&mut self, port: PortId, limits: SharedLimits) {
        let now = self.now();
        self.datapath.set_limits(now, port, limits);
        self.let_in();
    }

    /// Waits again on ports that were left alone for a limit.
    fn let_in(&mut self) {
        while let Some(port) = self.datapath.let_in.pop() {
            if let Err(error) = self.watch_tap(port) {
                tracing::error!(%port, %error, "a port that has a limit is not heard until it is removed");
            }
        }
    }

    /// Removes a TAP port. Closing its descriptor takes it out of the poll.
    pub(crate) fn remove_tap(&mut self, port: PortId) -> Counters {
        self.ready.retain(|source| source != Source::Tap(port));
        self.datapath.remove(port)
    }

    fn watch_tunnel(&mut self) -> Result<(), WorkerError> {
        for (entrance, fd) in self.datapath.entrances() {
            let token = match entrance {
                Entrance::Socket => SOCKET,
                Entrance::Uplink => UPLINK,
            };
            self.poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(WorkerError::Watch)?;
            self.ready.mark(Source::Tunnel(entrance));
        }
        Ok(())
    }
}

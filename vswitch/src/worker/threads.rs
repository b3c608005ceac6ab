//! The threads that move frames, and how the control thread speaks to them: between two batches.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use mio::{Poll, Waker};
use thiserror::Error;

use super::{Datapath, PollMode, Ready, WAKER, Worker};
use crate::privileges::{self, PrivilegesError};
use crate::sandbox::{self, SandboxError};

/// Work the control thread asks a worker to do between two batches.
pub(super) type Command = Box<dyn FnOnce(&mut Worker) + Send>;

/// Why a worker did not answer.
#[derive(Debug, Error)]
pub(crate) enum WorkerError {
    #[error("the worker thread has ended; restart vswitchd, and please report what its log says")]
    Gone,
    #[error("cannot start a worker: {0}")]
    Start(io::Error),
    #[error("cannot watch a descriptor: {0}")]
    Watch(io::Error),
    #[error(transparent)]
    Privileges(#[from] PrivilegesError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

/// How workers run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerOptions {
    pub(crate) poll: PollMode,
    /// Whether they confine themselves.
    pub(crate) confined: bool,
    /// Whether they move no frame until [`Workers::resume`].
    pub(crate) paused: bool,
}

/// The control thread's end of all workers.
#[derive(Debug)]
pub(crate) struct Workers {
    first: WorkerHandle,
    others: Vec<WorkerHandle>,
}

impl Workers {
    /// Starts a worker, on a thread of its own, for each of `datapaths`, of which there is at least one. They wake `news`
    /// when a port is lost, and give up what privileges they inherit.
    pub(crate) fn start(
        datapaths: Vec<Datapath>,
        options: WorkerOptions,
        news: &Arc<Waker>,
    ) -> Result<Self, WorkerError> {
        let numbered = datapaths.into_iter().enumerate();
        let mut all =
            numbered.map(|(number, datapath)| WorkerHandle::start(number, datapath, options, Arc::clone(news)));
        let first = all.next().ok_or(WorkerError::Gone)??;
        Ok(Self { first, others: all.collect::<Result<_, _>>()? })
    }

    /// Has all of them finish their batch and leave further frames in the kernel's queues. On return none moves a frame.
    pub(crate) fn pause(&self) -> Result<(), WorkerError> {
        self.each(|worker| worker.set_paused(true)).map(drop)
    }

    /// Has all of them go on.
    pub(crate) fn resume(&self) -> Result<(), WorkerError> {
        self.each(|worker| worker.set_paused(false)).map(drop)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> NonZeroUsize {
        NonZeroUsize::MIN.saturating_add(self.others.len())
    }

    /// Runs `work` in one worker between two batches and waits for its result: for what all workers share.
    pub(crate) fn one<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Result<R, WorkerError> {
        self.first.ask(work)?.recv().map_err(|_| WorkerError::Gone)
    }

    /// Runs `work` in every worker between two batches and waits for all results, in order of the workers.
    pub(crate) fn each<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerError> {
        self.each_with(std::iter::repeat(()), move |worker, ()| work(worker))
    }

    /// As [`Self::each`], with a thing from `things` for each worker.
    pub(crate) fn each_with<T: Send + 'static, R: Send + 'static>(
        &self,
        things: impl IntoIterator<Item = T>,
        work: impl FnOnce(&mut Worker, T) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, WorkerError> {
        let asked = self.all().zip(things).map(|(worker, thing)| {
            let work = work.clone();
            worker.ask(move |worker| work(worker, thing))
        });
        // All are asked before the first is waited for.
        let results: Vec<_> = asked.collect::<Result<_, _>>()?;
        results.into_iter().map(|result| result.recv().map_err(|_| WorkerError::Gone)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &WorkerHandle> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// The control thread's end of one worker.
#[derive(Debug)]
struct WorkerHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    fn start(
        number: usize,
        datapath: Datapath,
        WorkerOptions { poll: mode, confined, paused: is_paused }: WorkerOptions,
        news: Arc<Waker>,
    ) -> Result<Self, WorkerError> {
        let poll = Poll::new().map_err(WorkerError::Start)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(WorkerError::Start)?);
        let (commands, inbox) = crossbeam_channel::unbounded();
        let mut worker = Worker { poll, commands: inbox, ready: Ready::default(), is_paused, datapath, news };
        worker.watch_tunnel()?;
        let (started, outcome) = crossbeam_channel::bounded(1);
        let thread = thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let _guard = AbortOnPanic;
                let ready = give_up(confined);
                let go = ready.is_ok();
                let _ = started.send(ready); // somebody waits below
                if go {
                    worker.run(mode);
                }
            })
            .map_err(WorkerError::Start)?;
        outcome.recv().map_err(|_| WorkerError::Gone)??;
        Ok(Self { commands, waker, thread: Some(thread) })
    }

    /// Has `work` run between two batches; what is returned receives its result.
    fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> R + Send + 'static,
    ) -> Result<Receiver<R>, WorkerError> {
        let (answer, result) = crossbeam_channel::bounded(1);
        let command: Command = Box::new(move |worker| {
            let _ = answer.send(work(worker)); // nobody waits where another worker is gone
        });
        self.commands.send(command).map_err(|_| WorkerError::Gone)?;
        self.waker.wake().map_err(|_| WorkerError::Gone)?;
        Ok(result)
    }
}

/// Gives up what the calling thread inherits and a worker does not need.
fn give_up(confined: bool) -> Result<(), WorkerError> {
    privileges::give_up()?;
    if confined {
        sandbox::confine_worker()?;
    }
    Ok(())
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

//! A core for each: client, server and daemons pinned apart, so that none waits for another's core.

use std::fs;

use netns_tests::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::machine::Machine;
use crate::meter::Role;

/// Client, server, and a daemon on each of two hosts.
const CORES: usize = 4;

/// Who runs where: client, server, and daemons in turn on what is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    cores: usize,
}

/// Daemons on cores of their own, until this ends.
#[derive(Debug)]
pub(crate) struct Pinned {
    threads: Vec<(Pid, CpuSet)>,
}

impl Apart {
    /// `None` where some would share a core, unless `anyway`.
    pub(crate) fn on(machine: &Machine, anyway: bool) -> Option<Self> {
        let cores = machine.cores;
        (cores >= CORES || anyway && cores > 1).then_some(Self { cores })
    }

    /// Keeps the calling thread, which has this role, on its core.
    pub(crate) fn stay(self, role: Role) {
        let core = match role {
            Role::Client => 0,
            Role::Server => 1,
        };
        // Where it is not allowed, the figures are those of any core.
        let _ = only(core).and_then(|set| Ok(sched_setaffinity(Pid::from_raw(0), &set)?));
    }

    /// Pins all threads of the daemons.
    pub(crate) fn pin(self, daemons: &[u32]) -> Result<Pinned> {
        let mut pinned = Pinned { threads: Vec::new() };
        for (number, daemon) in daemons.iter().enumerate() {
            let core = if self.cores >= CORES { 2 + number % (self.cores - 2) } else { 1 - number % 2 };
            let tasks = format!("/proc/{daemon}/task");
            for task in fs::read_dir(&tasks).context(&tasks)? {
                let thread = Pid::from_raw(task?.file_name().to_string_lossy().parse()?);
                let before = sched_getaffinity(thread)?;
                sched_setaffinity(thread, &only(core)?)?;
                pinned.threads.push((thread, before));
            }
        }
        Ok(pinned)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (thread, before) in &self.threads {
            // A thread that has ended needs no core.
            let _ = sched_setaffinity(*thread, before);
        }
    }
}

fn only(core: usize) -> Result<CpuSet> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(set)
}

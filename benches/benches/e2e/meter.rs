//! What is read from the machine while traffic runs: time, CPU of everything, CPU of each who takes part, memory.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use netns_tests::{Context as _, Result};

use crate::apart::Apart;
use crate::machine::{TICKS, float, machine_cpu};
use crate::network::Network;

/// Which end of the traffic a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// The threads that make traffic.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    threads: Mutex<Vec<(Role, PathBuf)>>,
    apart: Option<Apart>,
}

impl Crew {
    /// Of threads that stay on the core of their role, where `apart` is given.
    pub(crate) fn new(apart: Option<Apart>) -> Self {
        Self { apart, ..Self::default() }
    }

    /// Counts the calling thread in.
    pub(crate) fn enrol(&self, role: Role) {
        if let Some(apart) = self.apart {
            apart.stay(role);
        }
        // Where it leads nowhere, reading it later says so.
        let own = fs::read_link("/proc/thread-self").unwrap_or_default();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push((role, PathBuf::from("/proc").join(own)));
    }

    /// CPU seconds of the busiest thread of `role`.
    fn busiest(threads: &[(Role, f64)], role: Role) -> f64 {
        threads.iter().filter(|(other, _)| *other == role).fold(0.0, |most, &(_, seconds)| seconds.max(most))
    }

    fn read(&self) -> Result<Vec<(Role, f64)>> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().map(|(role, path)| Ok((*role, on_cpu(path)?))).collect()
    }
}

/// Seconds that a thread was on a CPU, interrupts it served included.
fn on_cpu(thread: &std::path::Path) -> Result<f64> {
    let path = thread.join("schedstat");
    let text = fs::read_to_string(&path).context(path.display())?;
    let nanos: u64 = text.split(' ').next().unwrap_or_default().parse().context(path.display())?;
    Ok(float(nanos) / 1e9)
}

/// CPU seconds of each thread of a process.
fn threads(pid: u32) -> Result<Vec<(PathBuf, f64)>> {
    let tasks = format!("/proc/{pid}/task");
    let seconds = |task: std::io::Result<fs::DirEntry>| {
        let path = task?.path();
        Ok((path.clone(), on_cpu(&path)?))
    };
    fs::read_dir(&tasks).context(&tasks)?.map(seconds).collect()
}

/// CPU seconds that a process took so far, in user and kernel mode.
pub(crate) fn process_cpu(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).context(&path)?;
    // The second field is the name, in parentheses, and may hold spaces; utime and stime are the fields 14 and 15.
    let behind = text.rsplit_once(") ").context(&path)?.1;
    let fields: Vec<_> = behind.split(' ').collect();
    let ticks = |field: usize| -> Result<f64> {
        let text = fields.get(field - 3).context(format_args!("{path}: field {field}"))?;
        Ok(float(text.parse()?))
    };
    Ok((ticks(14)? + ticks(15)?) / TICKS)
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context(format_args!("{path}: VmRSS"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    at: Instant,
    machine: f64,
    own: f64,
    daemons: Vec<f64>,
    /// Each thread of each daemon.
    workers: HashMap<PathBuf, f64>,
    threads: Vec<(Role, f64)>,
}

/// What was spent between two readings, in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    /// By the clock.
    pub(crate) elapsed: f64,
    /// CPU of the whole machine.
    pub(crate) machine: f64,
    /// Of it, CPU of processes that have no part in this.
    pub(crate) others: f64,
    /// CPU of each daemon.
    pub(crate) daemons: Vec<f64>,
    /// CPU of the busiest thread of any daemon.
    pub(crate) worker: f64,
    /// CPU of the busiest thread that sends.
    pub(crate) client: f64,
    /// CPU of the busiest thread that receives.
    pub(crate) server: f64,
}

impl Reading {
    pub(crate) fn take(network: &Network, crew: &Crew) -> Result<Self> {
        let daemons = network.daemons.iter().map(|&daemon| process_cpu(daemon)).collect::<Result<_>>()?;
        let own = process_cpu(std::process::id())?;
        let workers = network.daemons.iter().map(|&daemon| threads(daemon)).collect::<Result<Vec<_>>>()?;
        let workers = workers.into_iter().flatten().collect();
        Ok(Self { daemons, workers, own, threads: crew.read()?, machine: machine_cpu()?, at: Instant::now() })
    }

    pub(crate) fn since(&self, before: &Self) -> Spent {
        let threads: Vec<_> =
            self.threads.iter().zip(&before.threads).map(|(now, then)| (now.0, now.1 - then.1)).collect();
        let daemons: Vec<_> = self.daemons.iter().zip(&before.daemons).map(|(now, then)| now - then).collect();
        let machine = self.machine - before.machine;
        let grown = |(path, now): (&PathBuf, &f64)| now - before.workers.get(path).copied().unwrap_or(0.0);
        Spent {
            elapsed: (self.at - before.at).as_secs_f64(),
            machine,
            others: (machine - (self.own - before.own) - daemons.iter().sum::<f64>()).max(0.0),
            daemons,
            worker: self.workers.iter().map(grown).fold(0.0, f64::max),
            client: Crew::busiest(&threads, Role::Client),
            server: Crew::busiest(&threads, Role::Server),
        }
    }
}

impl Spent {
    /// Whether others took so much of the machine that the sample says little. Kernel threads count as others too, so
    /// some of it is part of the work.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.others > 0.1 * self.elapsed
    }

    /// CPU seconds of who has most to do: with a core for each, nothing else holds the work up.
    pub(crate) fn bottleneck(&self) -> f64 {
        self.client.max(self.server).max(self.worker)
    }
}

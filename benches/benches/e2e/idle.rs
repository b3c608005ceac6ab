//! A daemon that has ports and nothing to do: its CPU and its memory.

use std::thread;
use std::time::Duration;

use netns_tests::{Context as _, Daemon, DaemonSpec, Lab, Result};
use serde_json::{Value, json};

use crate::machine::float;
use crate::meter::{process_cpu, resident};

/// Until the kernel's own announcements on fresh interfaces have ended.
const SETTLE: Duration = Duration::from_secs(2);

/// The row's name, for filters.
pub(crate) fn name(ports: u16) -> String {
    format!("idle/{ports}-ports")
}

/// What an idle daemon takes.
#[derive(Clone, Debug)]
pub(crate) struct Idle {
    pub(crate) ports: u16,
    /// CPU seconds, and over how many.
    pub(crate) cpu: f64,
    pub(crate) watched: f64,
    /// Resident bytes.
    pub(crate) resident: u64,
}

/// Starts a daemon, gives it ports, and watches it.
pub(crate) fn run(ports: u16, watch: Duration) -> Result<Idle> {
    let lab = Lab::new(0, None)?;
    let host = lab.quiet_host("host")?;
    let daemon = Daemon::start(&lab, &host, &DaemonSpec::default())?;
    let mut containers = Vec::new();
    for number in 1..=ports {
        let name = format!("c{number}");
        let container = lab.quiet_host(&name)?;
        daemon.vsctl().ok(&format!("port add {name} --netns {}", container.path().display())).context(&name)?;
        containers.push(container);
    }
    thread::sleep(SETTLE);
    let before = process_cpu(daemon.pid())?;
    thread::sleep(watch);
    let cpu = process_cpu(daemon.pid())? - before;
    Ok(Idle { ports, cpu, watched: watch.as_secs_f64(), resident: resident(daemon.pid())? })
}

impl Idle {
    /// Of one core.
    pub(crate) fn percent(&self) -> f64 {
        self.cpu / self.watched * 100.0
    }

    pub(crate) fn mebibytes(&self) -> f64 {
        float(self.resident) / 1_048_576.0
    }

    pub(crate) fn json(&self) -> Value {
        json!({"ports": self.ports, "cpu_percent": self.percent(), "resident_bytes": self.resident})
    }
}

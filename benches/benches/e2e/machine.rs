//! The machine the figures are from, and whether others use it.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::{Context as _, Result};

/// Ticks a second in /proc, the same on every architecture Linux still runs on (USER_HZ).
pub(crate) const TICKS: f64 = 100.0;

/// A count as a number to reckon with.
pub(crate) fn float(count: u64) -> f64 {
    let [high, low] = [count >> 32, count & 0xffff_ffff].map(|half| f64::from(u32::try_from(half).unwrap_or(u32::MAX)));
    high.mul_add(4_294_967_296.0, low)
}

/// The machine the figures are from.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Load average of the last minute, before anything ran.
    pub(crate) load: f64,
    /// What paces the containers' TCP.
    pub(crate) congestion: String,
}

impl Machine {
    pub(crate) fn read(congestion: Option<&str>) -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: model.map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            load: load.split(' ').next().unwrap_or_default().parse()?,
            congestion: match congestion {
                Some(name) => name.to_owned(),
                None => fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?.trim().to_owned(),
            },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cpu, cores, load, congestion } = self;
        write!(f, "Linux {kernel}, {cores} cores of {cpu}, load {load:.2}, TCP {congestion}")
    }
}

/// CPU seconds that all cores together were busy so far.
pub(crate) fn machine_cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu ")).context("/proc/stat: cpu")?;
    let fields: Vec<f64> = line.split_whitespace().map(|field| Ok(float(field.parse()?))).collect::<Result<_>>()?;
    // user nice system idle iowait irq softirq steal: all but idle and iowait; what a hypervisor stole was not ours.
    let busy = [0, 1, 2, 5, 6].into_iter().filter_map(|field| fields.get(field)).sum::<f64>();
    Ok(busy / TICKS)
}

/// Waits until the machine has almost nothing to do, for at most `patience`.
pub(crate) fn wait_until_quiet(patience: Duration) -> Result {
    const LOOK: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + patience;
    loop {
        let (start, before) = (Instant::now(), machine_cpu()?);
        thread::sleep(LOOK);
        // Ticks are coarse: two of them in one look mean nothing.
        let busy = (machine_cpu()? - before - 2.0 / TICKS) / start.elapsed().as_secs_f64();
        if busy < 0.1 || Instant::now() > deadline {
            return Ok(());
        }
    }
}

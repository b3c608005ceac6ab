//! What the kernel knows of this process.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

use super::table;
use super::text::Text;

/// Files that are open before the thread that reads them may open no more.
#[derive(Debug)]
pub(super) struct Process {
    memory: Option<File>,
    descriptors: Option<File>,
    page: u64,
    started: SystemTime,
}

impl Process {
    pub(super) fn open() -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            memory: File::open("/proc/self/statm").ok(),
            descriptors: File::open("/proc/self/fd").ok(),
            page: page.and_then(|bytes| bytes.try_into().ok()).unwrap_or(4096),
            started: SystemTime::now(),
        }
    }

    /// Tells it; what cannot be had is left out.
    pub(super) fn tell(&self, text: &mut Text) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let spent = usage.user_time() + usage.system_time();
            let spent = Duration::from_micros(spent.num_microseconds().try_into().unwrap_or(0));
            text.single(&table::CPU, spent.as_secs_f64());
        }
        // The size of the folder is the number of its entries, from Linux 6.2 on; before it is 0.
        let open = self.descriptors.as_ref().and_then(|folder| folder.metadata().ok()).map(|folder| folder.len());
        if let Some(open) = open.filter(|&open| open > 0) {
            text.single(&table::OPEN_FDS, open);
        }
        if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            text.single(&table::MAX_FDS, most);
        }
        if let Some((mapped, resident)) = self.pages() {
            text.single(&table::RESIDENT, resident * self.page);
            text.single(&table::VIRTUAL, mapped * self.page);
        }
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        text.single(&table::STARTED, format_args!("{:.3}", started.as_secs_f64()));
    }

    /// Pages that are mapped, and those that are resident (proc(5), `statm`).
    fn pages(&self) -> Option<(u64, u64)> {
        let mut bytes = [0; 128];
        let len = self.memory.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let mut words = std::str::from_utf8(bytes.get(..len)?).ok()?.split_ascii_whitespace();
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::Format;
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::open();
        let mut text = Text::new(Format::Prometheus);
        process.tell(&mut text);
        let text = text.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.split(' ').next() == Some(name));
            line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!(value("process_virtual_memory_bytes") > value("process_resident_memory_bytes"));
        assert!(value("process_max_fds") > 2.0);
        assert!(value("process_start_time_seconds") > 1.7e9);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        if text.contains("process_open_fds") {
            let before = value("process_open_fds");
            assert!(before >= 3.0, "{before}");
        }
    }
}

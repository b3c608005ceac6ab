//! What one test has: a folder, a journal, a seed.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tempfile::TempDir;

use crate::{Host, Random, Result};

/// Lines of each log that a failure shows.
const LOG_LINES: usize = 60;

/// One test's belongings. Hosts made in different labs never meet.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    journal: Journal,
    seed: u64,
    underlay: Option<&'static str>,
}

impl Lab {
    /// An empty lab, whose daemons carry VXLAN as they find best or by `underlay`.
    ///
    /// # Errors
    /// Where no temporary folder can be made.
    pub fn new(seed: u64, underlay: Option<&'static str>) -> Result<Self> {
        // A path of a unix socket has at most 107 bytes: a short name leaves room.
        // Daemons of other users find their folders in it.
        let dir = tempfile::Builder::new().prefix("vsw").permissions(Permissions::from_mode(0o711)).tempdir()?;
        Ok(Self { dir, journal: Journal::new(), seed, underlay })
    }

    /// A host, connected to nothing. `name` is for messages and files, not for the kernel.
    ///
    /// # Errors
    /// Where no namespace can be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(name, self.journal.clone())
    }

    /// A host whose interfaces say nothing of their own accord: without IPv6, a kernel sends only what it is asked to.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn quiet_host(&self, name: &str) -> Result<Host> {
        let host = self.host(name)?;
        host.netns().set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
        Ok(host)
    }

    /// The folder for daemon `name`; the same one for the same name.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// How daemons carry VXLAN where their test says nothing else: the argument of `--underlay`.
    #[must_use]
    pub const fn underlay(&self) -> Option<&'static str> {
        self.underlay
    }

    /// Random numbers, the same for the same seed.
    #[must_use]
    pub const fn random(&self) -> Random {
        Random::new(self.seed)
    }

    /// Notes what happens, for the reader of a failure.
    pub fn note(&self, line: impl Into<String>) {
        self.journal.note(line);
    }

    /// Keeps the folder.
    #[must_use]
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    /// Keeps the folder and tells what is known: seed, journal, ends of logs.
    #[must_use]
    pub fn evidence(self) -> String {
        let Self { dir, journal, seed, .. } = self;
        let mut text = format!("seed: VSWITCH_TEST_SEED={seed}\njournal:\n{}", journal.text());
        let dir = dir.keep();
        for log in logs(&dir) {
            let Ok(content) = fs::read_to_string(&log) else { continue };
            let lines: Vec<_> = content.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            let _ = writeln!(text, "{}, the last {} of {} lines:", log.display(), tail.len(), lines.len());
            tail.iter().for_each(|line| {
                let _ = writeln!(text, "    {line}");
            });
        }
        let _ = writeln!(text, "all files: {}", dir.display());
        text
    }
}

/// The logs in the folders of `dir`, in order of name.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut logs: Vec<_> = folders.map(|folder| folder.path().join("log")).filter(|log| log.exists()).collect();
    logs.sort();
    logs
}

/// What happened, line by line.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    start: Instant,
    lines: Arc<Mutex<String>>,
}

impl Journal {
    fn new() -> Self {
        Self { start: Instant::now(), lines: Arc::default() }
    }

    pub(crate) fn note(&self, line: impl Into<String>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(lines, "    {:8.3} {}", self.start.elapsed().as_secs_f64(), line.into());
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

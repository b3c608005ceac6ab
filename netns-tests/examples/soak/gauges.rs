//! What must not grow, looked at once a second.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netns_tests::{Context, Host, Lab, Node, Result, SOON, ensure_eq, eventually};

use crate::flows::End;

/// One thing over time.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// How much its median may grow from the first quarter to the last.
    pub(crate) slack: u64,
    pub(crate) samples: Vec<(Duration, u64)>,
}

/// All that is looked at.
#[derive(Debug)]
pub(crate) struct Gauges<'a> {
    ends: Vec<&'a Host>,
    wires: Wires,
    series: Vec<Series>,
}

/// Namespaces that come and go, and the kernel's word for which of them are gone: each has one end of a wire whose
/// other end is here, and a wire ends with either of its namespaces. Nobody else on the machine is counted.
#[derive(Debug)]
pub(crate) struct Wires {
    here: Host,
    next: Arc<AtomicU64>,
}

/// One of them, with a name: a descriptor's path would soon be another's.
#[derive(Debug)]
pub(crate) struct Wired {
    _host: Host,
    pub(crate) path: PathBuf,
}

impl Drop for Wired {
    fn drop(&mut self) {
        // Without its name it cannot be found, which is what is wanted; a name that stays shows as a port that is not lost.
        let _ = fs::remove_file(&self.path);
    }
}

impl Wires {
    /// A new namespace.
    pub(crate) fn host(&self, lab: &Lab) -> Result<Wired> {
        let host = lab.quiet_host("own")?;
        let name = format!("w{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.here.netlink().add_veth(&name, "wire", Some(host.netns()))?;
        let path = lab.folder("names")?.join(name);
        symlink(host.path(), &path)?;
        Ok(Wired { _host: host, path })
    }

    /// How many of them there are.
    fn left(&self) -> Result<u64> {
        let links = self.here.netlink().links()?;
        Ok(u64::try_from(links.iter().filter(|link| link.name.starts_with('w')).count())?)
    }
}

impl<'a> Gauges<'a> {
    pub(crate) fn new(lab: &Lab, ends: &[&'a End]) -> Result<Self> {
        let wires = Wires { here: lab.quiet_host("wires")?, next: Arc::default() };
        Ok(Self { ends: ends.iter().map(|end| &end.host).collect(), wires, series: Vec::new() })
    }

    /// The wires, for another thread.
    pub(crate) fn wires(&self) -> Result<Wires> {
        Ok(Wires { here: self.wires.here.twin("wires")?, next: self.wires.next.clone() })
    }

    pub(crate) fn series(&self) -> &[Series] {
        &self.series
    }

    /// Takes a sample of everything.
    pub(crate) fn look(&mut self, at: Duration, nodes: [&Node; 2]) -> Result {
        for node in nodes {
            let name = node.host.name();
            let process = format!("/proc/{}", node.daemon.pid());
            let status = fs::read_to_string(format!("{process}/status"))?;
            let field = |field: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(field));
                let number = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
                number.context(format_args!("no {field} in {status}"))
            };
            self.add(at, &format!("{name}: resident memory of the daemon, KiB"), 1024, field("VmRSS:")?);
            self.add(at, &format!("{name}: threads of the daemon"), 0, field("Threads:")?);
            // A port that is being added has some more.
            self.add(at, &format!("{name}: open files of the daemon"), 4, count(&format!("{process}/fd"))?);
            let links = u64::try_from(node.host.netlink().links()?.len())?;
            self.add(at, &format!("{name}: interfaces of the host"), 1, links);
        }
        let inside = self.ends.iter().map(|host| Ok(host.netlink().links()?.len())).sum::<Result<usize>>()?;
        self.add(at, "interfaces of the containers that stay", 0, u64::try_from(inside)?);
        // The kernel takes namespaces down one batch after the other, later.
        self.add(at, "namespaces of containers that went, not gone yet", 20, self.wires.left()?);
        Ok(())
    }

    fn add(&mut self, at: Duration, name: &str, slack: u64, value: u64) {
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.samples.push((at, value)),
            None => self.series.push(Series { name: name.to_owned(), slack, samples: vec![(at, value)] }),
        }
    }

    /// Whether namespaces are left over once nobody makes any.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let gone = eventually(SOON, "all namespaces that came and went are gone", || {
            ensure_eq!(self.wires.left()?, 0, "namespaces left");
            Ok(())
        });
        gone.err().map(|failure| failure.to_string())
    }
}

fn count(folder: &str) -> Result<u64> {
    Ok(u64::try_from(fs::read_dir(folder)?.count())?)
}

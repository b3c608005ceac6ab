//! containerd and its command line `ctr`.

use crate::runtimes::image::{IMAGE, archive};
use crate::runtimes::{Cri, Machine};
use crate::{Context, Host, Lab, Result, SOON, ensure, eventually};

/// Without `CAP_SYS_RESOURCE` (a container, a sandbox) pods cannot be given their place among the victims of memory.
const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/busybox:latest"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#;

/// Its socket.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// containerd in a machine. It ends with the machine.
#[derive(Debug)]
pub struct Containerd<'m> {
    machine: &'m Machine,
}

impl<'m> Containerd<'m> {
    /// Starts it, with the image of busybox for `ctr` and for pods.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn start(lab: &Lab, machine: &'m Machine) -> Result<Self> {
        machine.write("/etc/containerd/config.toml", CONFIG)?;
        let mut daemon = machine.serve_with(lab, "containerd", &["containerd", "--log-level", "warn"])?;
        eventually(SOON, "containerd answers", || {
            if let Some(status) = daemon.try_wait()? {
                return Ok(Err(crate::Failure::new(format!("containerd ended ({status})"))));
            }
            machine.ok("ctr containers ls -q").map(Ok)
        })??;
        let archive = archive(lab)?;
        for namespace in [machine.cgroup(), "k8s.io"] {
            machine.ok(&format!("ctr -n {namespace} image import {}", archive.display()))?;
        }
        Ok(Self { machine })
    }

    /// That of a machine where it runs already.
    #[must_use]
    pub const fn of(machine: &'m Machine) -> Self {
        Self { machine }
    }

    /// `ctr run -d --cni`: a container that sleeps.
    ///
    /// # Errors
    /// What it complains of.
    pub fn run(&self, name: &str) -> Result {
        self.machine.ok(&format!("ctr run -d --cni {IMAGE} {name}")).map(drop)
    }

    /// Runs a command in a container.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn exec(&self, name: &str, words: &str) -> Result<String> {
        self.machine.ok(&format!("ctr task exec --exec-id exec {name} {words}"))
    }

    /// The container, for traffic of the harness.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn container(&self, name: &str) -> Result<Host> {
        let list = self.machine.ok("ctr task ls")?;
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
        let pid = line.and_then(|line| line.split_whitespace().nth(1)).context(format_args!("no {name} in {list}"))?;
        self.machine.container(name, pid)
    }

    /// Kills a container and forgets it. Nobody calls DEL: `ctr` does so only for what it ran in the foreground.
    ///
    /// # Errors
    /// Where it stays.
    pub fn kill(&self, name: &str) -> Result {
        self.machine.ok(&format!("ctr task kill -s KILL {name}"))?;
        eventually(SOON, "the container stops", || {
            let list = self.machine.ok("ctr task ls")?;
            let line = list.lines().find(|line| line.split_whitespace().next() == Some(name));
            ensure!(line.is_some_and(|line| line.contains("STOPPED")), "{list}");
            Ok(())
        })?;
        self.machine.ok(&format!("ctr task rm {name}"))?;
        self.machine.ok(&format!("ctr container rm {name}")).map(drop)
    }

    /// The kubelet's way in.
    #[must_use]
    pub const fn cri(&self) -> Cri<'m> {
        Cri::new(self.machine)
    }
}

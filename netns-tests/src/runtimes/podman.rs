//! Podman with its CNI backend.

use serde_json::Value;

use crate::runtimes::image::{IMAGE, archive};
use crate::runtimes::{Machine, find};
use crate::{Context, Host, Lab, Result};

const STORAGE: &str = r#"[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"#;

/// Podman in a machine: no daemon, only files and a monitor for each container.
#[derive(Debug)]
pub struct Podman<'m> {
    machine: &'m Machine,
}

impl<'m> Podman<'m> {
    /// Makes its files: containers get network `network` where nothing else is said.
    ///
    /// # Errors
    /// Where it does not take the image.
    pub fn start(lab: &Lab, machine: &'m Machine, network: &str) -> Result<Self> {
        let runtime = if find("crun").is_some() { "crun" } else { "runc" };
        machine.write("/etc/containers/storage.conf", STORAGE)?;
        let config = format!(
            "[network]\nnetwork_backend = \"cni\"\ndefault_network = \"{network}\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"{runtime}\"\n\
             [containers]\nlog_driver = \"k8s-file\"\n"
        );
        machine.write("/etc/containers/containers.conf", &config)?;
        machine.write("/etc/containers/policy.json", r#"{ "default": [{ "type": "insecureAcceptAnything" }] }"#)?;
        machine.ok(&format!("podman load -i {}", archive(lab)?.display()))?;
        Ok(Self { machine })
    }

    /// Runs `podman WORDS`.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn ok(&self, words: &str) -> Result<String> {
        self.machine.ok(&format!("podman {words}"))
    }

    /// `podman run -d`: a container that sleeps, or runs `command`.
    ///
    /// # Errors
    /// What it complains of.
    pub fn run(&self, name: &str, words: &str, command: &str) -> Result {
        let parent = self.machine.cgroup();
        self.ok(&format!("run -d --name {name} --cap-add NET_RAW --cgroup-parent /{parent} {words} {IMAGE} {command}"))
            .map(drop)
    }

    /// Runs a command in a container.
    ///
    /// # Errors
    /// Where it fails.
    #[track_caller]
    pub fn exec(&self, name: &str, words: &str) -> Result<String> {
        self.ok(&format!("exec {name} {words}"))
    }

    /// What it knows of a container's networks: name to settings.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn networks(&self, name: &str) -> Result<Value> {
        let all: Value = serde_json::from_str(&self.ok(&format!("inspect {name}"))?)?;
        let networks = all.pointer("/0/NetworkSettings/Networks").cloned();
        networks.context(format_args!("no networks in {all}"))
    }

    /// The container, for traffic of the harness.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn container(&self, name: &str) -> Result<Host> {
        let pid = self.ok(&format!("inspect --format {{{{.State.Pid}}}} {name}"))?;
        self.machine.container(name, &pid)
    }
}

//! Container runtimes that call CNI plugins: containerd (`ctr`, and CRI as the kubelet speaks it) and Podman, Debian's
//! packages, each on a [`Machine`] of its own.
//!
//! They keep their files at the places their packages say, so commands and files are those a reader of the documentation
//! has; the places are the machine's. No registry is asked.

mod containerd;
mod cri;
mod grpc;
mod image;
mod machine;
mod podman;

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use containerd::Containerd;
pub use cri::{Cri, Pod, PodSpec};
pub use image::IMAGE;
pub use machine::Machine;
pub use podman::Podman;

use crate::{Lab, Result};

/// A client of CNI plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `ctr run --cni`.
    Containerd,
    /// Podman's CNI backend.
    Podman,
    /// containerd as the kubelet uses it.
    Cri,
}

impl Runtime {
    /// Why its tests cannot run here: what is not installed, or why it cannot run any container, with a network or without.
    ///
    /// # Errors
    /// The reason.
    pub fn possible(self) -> std::result::Result<(), String> {
        static OUTCOMES: [OnceLock<std::result::Result<(), String>>; 3] = [const { OnceLock::new() }; 3];
        OUTCOMES[self as usize].get_or_init(|| self.probe()).clone()
    }

    fn probe(self) -> std::result::Result<(), String> {
        // A namespace of users is not enough: runtimes want cgroups and mounts.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if !nix::unistd::geteuid().is_root() || map.split_whitespace().ne(["0", "0", "4294967295"]) {
            return Err("needs root".to_owned());
        }
        let missing: Vec<_> = self.programs().iter().copied().filter(|name| find(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(format!("not installed: {} ({})", missing.join(", "), self.packages()));
        }
        if !Path::new(machine::STOCK_PLUGINS).join("host-local").exists() {
            return Err(format!("not installed: {} ({})", machine::STOCK_PLUGINS, self.packages()));
        }
        self.try_out().map_err(|failure| format!("no container can be run here: {failure}"))
    }

    fn programs(self) -> &'static [&'static str] {
        const CONTAINERD: &[&str] = &[
            "busybox",
            "tar",
            "sha256sum",
            "timeout",
            "unshare",
            "nsenter",
            "setpriv",
            "containerd",
            "ctr",
            "containerd-shim-runc-v2",
            "runc",
            "curl",
            "iptables",
        ];
        const PODMAN: &[&str] = &[
            "busybox",
            "tar",
            "sha256sum",
            "timeout",
            "unshare",
            "nsenter",
            "setpriv",
            "podman",
            "conmon",
            "iptables",
        ];
        match self {
            Self::Containerd | Self::Cri => CONTAINERD,
            Self::Podman => PODMAN,
        }
    }

    const fn packages(self) -> &'static str {
        match self {
            Self::Containerd | Self::Cri => {
                "Debian: containerd, containernetworking-plugins, iptables, busybox-static, curl"
            }
            Self::Podman => "Debian: podman, containernetworking-plugins, iptables, busybox-static",
        }
    }

    /// Runs a container without a network.
    fn try_out(self) -> Result {
        let lab = Lab::new(0, None)?;
        let host = lab.host("probe")?;
        let machine = Machine::start(&lab, &host)?;
        match self {
            Self::Containerd | Self::Cri => {
                Containerd::start(&lab, &machine)?;
                machine.ok(&format!("ctr run --rm {IMAGE} probe true"))?;
            }
            Self::Podman => {
                Podman::start(&lab, &machine, "probe")?.run("probe", "--rm --network none", "true")?;
            }
        }
        Ok(())
    }
}

/// The program of this name.
fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&machine::path()).map(|folder| folder.join(name)).find(|path| path.is_file())
}

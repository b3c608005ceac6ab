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
        let missing: Vec<_> = self.programs().filter(|name| find(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(format!("not installed: {} ({})", missing.join(", "), self.packages()));
        }
        if !Path::new(machine::STOCK_PLUGINS).join("host-local").exists() {
            return Err(format!("not installed: {} ({})", machine::STOCK_PLUGINS, self.packages()));
        }
        self.try_out().map_err(|failure| format!("no container can be run here: {failure}"))
    }

    /// What its machine is made with, and what it consists of.
    fn programs(self) -> impl Iterator<Item = &'static str> {
        const MACHINE: &[&str] =
            &["busybox", "ip", "iptables", "nft", "nsenter", "setpriv", "sha256sum", "tar", "timeout", "unshare"];
        let own: &[&str] = match self {
            Self::Containerd | Self::Cri => &["containerd", "containerd-shim-runc-v2", "ctr", "curl", "runc"],
            Self::Podman => &["conmon", "podman"],
        };
        MACHINE.iter().chain(own).copied()
    }

    const fn packages(self) -> &'static str {
        match self {
            Self::Containerd | Self::Cri => {
                "Debian: containerd, containernetworking-plugins, iptables, nftables, busybox-static, curl"
            }
            Self::Podman => "Debian: podman, containernetworking-plugins, iptables, nftables, busybox-static",
        }
    }

    /// Runs a container without a network.
    fn try_out(self) -> Result {
        let lab = Lab::new(0, None)?;
        let host = lab.host("probe")?;
        let machine = Machine::start(&lab, &host)?;
        match self {
            Self::Containerd | Self::Cri => {
                let containerd = Containerd::start(&lab, &machine)?;
                machine.ok(&format!("ctr run --rm {IMAGE} probe true"))?;
                if self == Self::Cri {
                    containerd.cri().network_trouble()?;
                }
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

//! Who is measured, and doing what.

use std::fmt;
use std::path::{Path, PathBuf};

use netns_tests::{Result, binaries::binaries};
use serde_json::{Value, json};

/// A plugin, and who chooses its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The stock `bridge`, addresses by `host-local`.
    Bridge,
    /// `vswitch-cni`, addresses by the daemon.
    Vswitch,
    /// `vswitch-cni`, addresses by `host-local`.
    Delegated,
}

/// What the network is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Containers that reach each other.
    Plain,
    /// The host is their default gateway, and masquerades.
    Routed,
}

impl Task {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Routed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Routed => "routed",
        }
    }
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Bridge, Self::Vswitch, Self::Delegated];

    /// Why it cannot be measured here.
    pub(crate) fn hindrance(self, stock: &Path) -> Option<String> {
        let lacks = |name: &str| {
            let path = stock.join(name);
            let why = || format!("there is no {}; Debian's package is containernetworking-plugins", path.display());
            (!path.is_file()).then(why)
        };
        match self {
            Self::Bridge => lacks("bridge").or_else(|| lacks("host-local")),
            Self::Vswitch => None,
            Self::Delegated => lacks("host-local"),
        }
    }

    /// The plugin's program.
    pub(crate) fn program(self, stock: &Path) -> Result<PathBuf> {
        match self {
            Self::Bridge => Ok(stock.join("bridge")),
            Self::Vswitch | Self::Delegated => Ok(binaries()?.cni.clone()),
        }
    }

    /// The network configuration, with all that is kept in `folder`.
    pub(crate) fn configuration(self, task: Task, folder: &Path) -> Value {
        let subnet = "10.77.0.0/16";
        let mut network = json!({"cniVersion": "1.0.0", "name": "bench"});
        match self {
            Self::Bridge => {
                network["type"] = "bridge".into();
                network["bridge"] = "br0".into();
            }
            Self::Vswitch | Self::Delegated => {
                network["type"] = "vswitch-cni".into();
                network["socket"] = folder.join("socket").display().to_string().into();
            }
        }
        match self {
            Self::Vswitch => network["subnet"] = subnet.into(),
            Self::Bridge | Self::Delegated => {
                network["ipam"] = json!({"type": "host-local", "subnet": subnet, "dataDir": folder.join("addresses")});
            }
        }
        if task == Task::Routed {
            network["isDefaultGateway"] = true.into();
            network["ipMasq"] = true.into();
        }
        network
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge, host-local",
            Self::Vswitch => "vswitch-cni",
            Self::Delegated => "vswitch-cni, host-local",
        })
    }
}

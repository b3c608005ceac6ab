//! The daemon's own settings, and the config file.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

use serde::Deserialize;

use super::desired::Tables;
use super::{Ageing, Desired, PeerSpec, PortSpec, StaticEntry, VlanSpec};
use crate::check::Refusal;

/// How the daemon runs; `None` where the file does not say. Options on its command line win.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where the control socket is.
    pub socket: Option<PathBuf>,
    /// Where the state file is.
    pub state_dir: Option<PathBuf>,
    /// The address on the underlay; without one there is no VXLAN.
    pub vtep_ip: Option<IpAddr>,
    /// The UDP port of VXLAN, ours and the peers'.
    pub vtep_port: Option<NonZeroU16>,
    /// How many threads move frames.
    pub workers: Option<NonZeroUsize>,
    /// How VXLAN goes: `auto`, `udp` or `uplink`.
    pub underlay: Option<String>,
    /// What a worker does when no frame waits: `busy`, `adaptive` or `sleep`.
    pub poll: Option<String>,
    /// What is logged: a level, or a filter of the `tracing` kind.
    pub log: Option<String>,
    /// How long learned addresses are kept.
    pub ageing: Option<Ageing>,
    /// Whether ports that do not say otherwise send from their own addresses only.
    pub source_guard: Option<bool>,
}

/// The config file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "File")]
pub struct Config {
    /// How the daemon runs.
    pub settings: Settings,
    /// The state it starts with.
    pub desired: Desired,
}

/// The config file as it is written: settings first, then tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    vtep_ip: Option<IpAddr>,
    vtep_port: Option<NonZeroU16>,
    workers: Option<NonZeroUsize>,
    underlay: Option<String>,
    poll: Option<String>,
    log: Option<String>,
    ageing: Option<Ageing>,
    source_guard: Option<bool>,
    #[serde(default)]
    vlan: Vec<VlanSpec>,
    #[serde(default)]
    port: Vec<PortSpec>,
    #[serde(default)]
    peer: Vec<PeerSpec>,
    #[serde(default)]
    fdb: Vec<StaticEntry>,
}

impl TryFrom<File> for Config {
    type Error = Refusal;
    fn try_from(file: File) -> Result<Self, Refusal> {
        let File { socket, state_dir, vtep_ip, vtep_port, workers, underlay, poll, log, .. } = file;
        let File { ageing, source_guard, vlan, port, peer, fdb, .. } = file;
        let desired = Desired::try_from(Tables { ageing: ageing.unwrap_or_default(), vlan, port, peer, fdb })?;
        Ok(Self {
            settings: Settings {
                socket,
                state_dir,
                vtep_ip,
                vtep_port,
                workers,
                underlay,
                poll,
                log,
                ageing,
                source_guard,
            },
            desired,
        })
    }
}

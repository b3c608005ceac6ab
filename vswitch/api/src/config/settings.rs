//! The daemon's own settings, and the config file.

use std::net::{IpAddr, SocketAddr};
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
    /// The group whose members may change too.
    pub socket_group: Option<String>,
    /// Who may connect: the socket's mode, in octal.
    pub socket_mode: Option<String>,
    /// The user to become.
    pub user: Option<String>,
    /// Whether to keep the right to enter namespaces.
    pub enter_namespaces: Option<bool>,
    /// Whether to confine itself once it serves.
    pub sandbox: Option<bool>,
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
    /// Broadcasts, multicasts and frames to unknown stations that a port may bring in a second, of each; 0 is no limit.
    pub storm_limit: Option<u32>,
    /// Addresses the FDB holds.
    pub fdb_limit: Option<u32>,
    /// Learned addresses of one port or peer.
    pub fdb_limit_per_port: Option<u32>,
    /// Where to answer for metrics.
    pub metrics_addr: Option<SocketAddr>,
    /// What is logged: a level, or a filter of the `tracing` kind.
    pub log: Option<String>,
    /// How long learned addresses are kept.
    pub ageing: Option<Ageing>,
    /// Whether ports that do not say otherwise send from their own addresses only.
    pub source_guard: Option<bool>,
    /// How many seconds the flight recorder looks back, and what memory it takes: `30` or `30,64M`.
    pub flight_recorder: Option<String>,
    /// How often peers are probed: `off`, or from `100ms` to `1h`.
    pub probe_interval: Option<String>,
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
    socket_group: Option<String>,
    socket_mode: Option<String>,
    user: Option<String>,
    enter_namespaces: Option<bool>,
    sandbox: Option<bool>,
    state_dir: Option<PathBuf>,
    vtep_ip: Option<IpAddr>,
    vtep_port: Option<NonZeroU16>,
    workers: Option<NonZeroUsize>,
    underlay: Option<String>,
    poll: Option<String>,
    storm_limit: Option<u32>,
    fdb_limit: Option<u32>,
    fdb_limit_per_port: Option<u32>,
    metrics_addr: Option<SocketAddr>,
    log: Option<String>,
    ageing: Option<Ageing>,
    source_guard: Option<bool>,
    flight_recorder: Option<String>,
    probe_interval: Option<String>,
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
        let File { vlan, port, peer, fdb, .. } = file;
        let ageing = file.ageing.unwrap_or_default();
        let desired = Desired::try_from(Tables { ageing, vlan, port, peer, fdb, cursor: Vec::new() })?;
        let settings = Settings {
            socket: file.socket,
            socket_group: file.socket_group,
            socket_mode: file.socket_mode,
            user: file.user,
            enter_namespaces: file.enter_namespaces,
            sandbox: file.sandbox,
            state_dir: file.state_dir,
            vtep_ip: file.vtep_ip,
            vtep_port: file.vtep_port,
            workers: file.workers,
            underlay: file.underlay,
            poll: file.poll,
            storm_limit: file.storm_limit,
            fdb_limit: file.fdb_limit,
            fdb_limit_per_port: file.fdb_limit_per_port,
            source_guard: file.source_guard,
            metrics_addr: file.metrics_addr,
            flight_recorder: file.flight_recorder,
            probe_interval: file.probe_interval,
            log: file.log,
            ageing: file.ageing,
        };
        Ok(Self { settings, desired })
    }
}

//! What the daemon answers. Scripts rely on the names of these fields.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Attachment, FdbTarget, PortMode};
use crate::health::Health;
use crate::monitor::Place;
use crate::peer_stats::PeerStats;
use crate::types::{
    Cidr, ContainerId, IfName, Limits, Mac, Net, NetnsRef, NetworkName, PortName, RateLimit, Vid, VlanName, Vni,
};

/// The name under which statistics show the VXLAN side; no port may take it.
pub const TUNNEL: &str = "tunnel";

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Its name.
    pub name: PortName,
    /// Where its interface lives.
    pub netns: NetnsRef,
    /// What its interface is called there.
    pub ifname: IfName,
    /// The interface's address; null where it never was.
    pub mac: Option<Mac>,
    /// The addresses it was given.
    pub addresses: Vec<Cidr>,
    /// The interface's MTU.
    pub mtu: u16,
    /// `mode`, `vlan`, `vlans` and `native`.
    #[serde(flatten)]
    pub mode: ModeInfo,
    /// Whether frames can pass.
    pub state: PortState,
    /// What the kernel leaves to us on this port.
    pub offloads: Vec<Offload>,
    /// The MAC addresses it may send from; null for all.
    #[serde(default)]
    pub allow_mac: Option<Vec<Mac>>,
    /// The IP addresses it may send from, beside link-local ones of its MAC addresses; null for all.
    #[serde(default)]
    pub allow_ip: Option<Vec<Net>>,
    /// What it may carry; null where nothing is limited.
    #[serde(default)]
    pub limits: Option<LimitsInfo>,
    /// Whose it is; null where no container runtime asked for it.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// The network whose gateway on this host it is; left out where it is none's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_of: Option<NetworkName>,
}

/// What a port may carry; null for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsInfo {
    /// From the container.
    pub rx: Option<RateInfo>,
    /// To the container.
    pub tx: Option<RateInfo>,
}

/// A limit in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateInfo {
    /// In bit/s.
    pub rate: u64,
    /// Bytes that pass at once after a pause, given or not.
    pub burst: u64,
}

impl From<RateLimit> for RateInfo {
    fn from(limit: RateLimit) -> Self {
        Self { rate: limit.rate(), burst: limit.burst_bytes() }
    }
}

impl LimitsInfo {
    /// How `limits` are shown; `None` where nothing is limited.
    #[must_use]
    pub fn of(limits: &Limits) -> Option<Self> {
        let Limits { rx, tx } = *limits;
        (!limits.is_none()).then(|| Self { rx: rx.map(RateInfo::from), tx: tx.map(RateInfo::from) })
    }
}

/// What became of `attachment.add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The port, with the addresses it got.
    pub port: PortInfo,
}

/// What became of `attachment.del`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The port there was; null where there was none.
    pub port: Option<PortInfo>,
}

/// A port that a container runtime asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentInfo {
    /// The network.
    pub network: NetworkName,
    /// The container.
    pub container: ContainerId,
    /// Its interface.
    pub ifname: IfName,
    /// The port's name.
    pub port: PortName,
    /// Where the interface lives.
    pub netns: NetnsRef,
    /// The addresses it was given.
    pub addresses: Vec<Cidr>,
    /// Whether those are another's to give, who is to be told when the container is gone.
    pub delegated: bool,
    /// Whether frames can pass.
    pub state: PortState,
}

/// How full a pool is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolInfo {
    /// The subnet.
    pub subnet: Net,
    /// The first address given.
    pub first: IpAddr,
    /// The last address given.
    pub last: IpAddr,
    /// Those that ports have, or are about to; the gateway's is not among them.
    pub used: u64,
    /// The others, without the gateway's; 2^64 - 1 where they are more.
    pub free: u64,
}

/// A port's mode as flat fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeInfo {
    /// Which of the two.
    pub mode: ModeKind,
    /// The VLAN of an access port; null for a trunk.
    pub vlan: Option<Vid>,
    /// The VLANs of a trunk; empty for an access port.
    pub vlans: Vec<Vid>,
    /// The VLAN of a trunk's untagged frames.
    pub native: Option<Vid>,
}

impl From<&PortMode> for ModeInfo {
    fn from(mode: &PortMode) -> Self {
        match mode {
            PortMode::Access(vlan) => {
                Self { mode: ModeKind::Access, vlan: Some(*vlan), vlans: Vec::new(), native: None }
            }
            PortMode::Trunk { vlans, native } => {
                Self { mode: ModeKind::Trunk, vlan: None, vlans: vlans.iter().collect(), native: *native }
            }
        }
    }
}

/// The name of a port's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeKind {
    /// Untagged, in one VLAN.
    Access,
    /// Tagged.
    Trunk,
}

/// Whether frames can pass a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortState {
    /// They can.
    Up,
    /// The interface or its namespace is gone, or could not be made yet.
    Lost,
}

/// Work the kernel leaves undone in the frames it hands to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offload {
    /// TCP and UDP checksums.
    Checksum,
    /// Cutting TCP over IPv4.
    Tso4,
    /// Cutting TCP over IPv6.
    Tso6,
    /// Cutting TCP whose first segment alone carries CWR.
    TsoEcn,
    /// Cutting UDP.
    Uso,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbInfo {
    /// The address.
    pub mac: Mac,
    /// In which VLAN.
    pub vlan: Vid,
    /// Who put it there.
    pub kind: FdbKind,
    /// The port it is behind; null for one behind a remote.
    pub port: Option<PortName>,
    /// The remote VTEP it is behind; null for one behind a port.
    pub remote: Option<IpAddr>,
    /// Seconds since its last frame; null for a static one.
    pub age_s: Option<u64>,
    /// Where else it showed up, if it moved to and fro so often that it is held; null where it is not.
    pub flapping: Option<FlappingInfo>,
    /// Times it showed up elsewhere since it was learned, as far as is remembered.
    #[serde(default)]
    pub moves: u32,
    /// Where it was before it moved last, in words; null where it did not.
    #[serde(default)]
    pub moved_from: Option<String>,
    /// Seconds since it was learned; null for a static one.
    #[serde(default)]
    pub learned_s: Option<u64>,
}

/// Why an address is held where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlappingInfo {
    /// The other port it showed up at; null where that is a remote, or gone.
    pub port: Option<PortName>,
    /// The other remote VTEP it showed up at; null where that is a port, or gone.
    pub remote: Option<IpAddr>,
    /// Seconds until it may move again.
    pub held_s: u64,
}

impl FlappingInfo {
    /// It showed up at `target` too, and is held for `held_s` seconds more.
    #[must_use]
    pub fn new(target: Option<FdbTarget>, held_s: u64) -> Self {
        let (port, remote) = match target {
            Some(FdbTarget::Port(name)) => (Some(name), None),
            Some(FdbTarget::Remote(ip)) => (None, Some(ip)),
            None => (None, None),
        };
        Self { port, remote, held_s }
    }
}

impl FdbInfo {
    /// An address behind `target`: learned where `age_s` is given, static else.
    #[must_use]
    pub fn new(mac: Mac, vlan: Vid, target: FdbTarget, age_s: Option<u64>) -> Self {
        let (port, remote) = match target {
            FdbTarget::Port(name) => (Some(name), None),
            FdbTarget::Remote(ip) => (None, Some(ip)),
        };
        let kind = if age_s.is_some() { FdbKind::Learned } else { FdbKind::Static };
        Self { mac, vlan, kind, port, remote, age_s, flapping: None, moves: 0, moved_from: None, learned_s: None }
    }
}

/// Who put an address where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdbKind {
    /// An operator: it neither moves nor ages.
    Static,
    /// The switch, from a frame.
    Learned,
}

/// A VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanInfo {
    /// Its number.
    pub vlan: Vid,
    /// What it is called on the underlay; null for a local one.
    pub vni: Option<Vni>,
    /// What people call it.
    pub name: Option<VlanName>,
    /// Whether addresses behind remotes are learned.
    pub learning: bool,
    /// Its members here.
    pub ports: Vec<PortName>,
    /// Its remote VTEPs.
    pub peers: Vec<IpAddr>,
}

/// A remote VTEP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its address.
    pub ip: IpAddr,
    /// Whether it is in every VLAN that has a VNI, now or later.
    pub all_vlans: bool,
    /// The VLANs it is in now.
    pub vlans: Vec<Vid>,
    /// How the way to it is; null where it was not probed yet, as with `--probe-interval` off.
    #[serde(default)]
    pub health: Option<Health>,
}

/// The own VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VtepInfo {
    /// Its address; null where the switch has none and all VLANs are local.
    pub ip: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// What the underlay carries.
    pub underlay_mtu: Option<u32>,
    /// The greatest MTU of a container behind it: the underlay's less the overhead.
    pub overlay_mtu: Option<u32>,
    /// How VXLAN leaves and enters the host.
    pub underlay: Option<Carried>,
    /// How many remote VTEPs it knows.
    pub peers: usize,
}

/// How VXLAN leaves and enters a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carried {
    /// By UDP sockets: super-frames are cut to datagrams, and datagrams merged.
    Udp,
    /// By an uplink: super-frames stay uncut.
    Uplink,
}

/// Counters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// By port, then those of [`TUNNEL`].
    pub ports: Vec<PortStats>,
    /// By remote VTEP; empty where one port is asked for. They are among those of [`TUNNEL`], and begin with the daemon.
    #[serde(default)]
    pub peers: Vec<PeerStats>,
    /// What the reasons among them mean.
    pub reasons: BTreeMap<String, String>,
}

/// Counters of one port, or of the VXLAN side under the name [`TUNNEL`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortStats {
    /// Its name.
    pub port: String,
    /// Frames that came from it; a super-frame counts as one, as in the kernel's own counters.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that went to it.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames dropped, by reason; reasons that never occurred may be left out.
    pub drops: BTreeMap<String, u64>,
}

/// How many addresses were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// The number.
    pub flushed: u64,
}

/// What Landlock confines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// All of it: only its state can be written.
    Daemon,
    /// The threads that read frames: they can open nothing.
    Workers,
}

/// What the interface of a port would be, for a client that makes it and hands it over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// What the port will be called.
    pub name: PortName,
    /// The addresses it will have.
    pub addresses: Vec<Cidr>,
    /// Whether the port is there and up already: nothing is to be made.
    pub up: bool,
    /// The interface's MAC address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u16,
    /// The queues it needs: one for each worker.
    pub queues: u16,
    /// What it bears as its alias, for the daemon to know it again.
    pub mark: String,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The user it runs as: the name, or the number of one that has none.
    pub user: String,
    /// Its capabilities, as capabilities(7) writes them.
    pub capabilities: Vec<String>,
    /// How it is confined; `None` where it is not.
    pub sandbox: Option<Sandbox>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Threads that move frames.
    pub workers: usize,
    /// The part of the last second or few that each moved frames in, 0 to 1, in order of the workers.
    #[serde(default)]
    pub workers_busy: Vec<f64>,
    /// Ports there are.
    pub ports: usize,
    /// Those of them that are lost.
    pub ports_lost: usize,
    /// Addresses in the table.
    pub fdb_used: u64,
    /// Addresses it may hold.
    pub fdb_limit: u64,
    /// Learned addresses one port or peer may have.
    pub fdb_limit_per_port: u64,
    /// Addresses learned since the start.
    pub fdb_learned: u64,
    /// Times an address showed up elsewhere than before.
    pub fdb_moved: u64,
    /// Addresses forgotten for their silence.
    pub fdb_aged: u64,
    /// Addresses that made room for others.
    pub fdb_evicted: u64,
    /// Frames whose source could not be learned, for want of room.
    pub fdb_limited: u64,
    /// Times an address moved to and fro so often that it was held.
    pub fdb_flapping: u64,
    /// Ports and peers with `fdb_limit_per_port` addresses that had one too many within the ageing time: old ones make room
    /// for new ones.
    #[serde(default)]
    pub fdb_full_ports: Vec<Place>,
    /// Broadcasts, multicasts and frames to unknown stations that a port may bring in a second, of each; 0 is no limit.
    pub storm_limit: u32,
    /// IP and MAC addresses that more than one port has in one VLAN.
    #[serde(default)]
    pub shared: Vec<SharedAddress>,
    /// Why the state cannot be written, so that every change is refused; null where it can.
    #[serde(default)]
    pub refuses_changes: Option<String>,
    /// The own VTEP.
    pub vtep: VtepInfo,
}

/// An address that more than one port has in one VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedAddress {
    /// The VLAN.
    pub vlan: Vid,
    /// An IP address, or a MAC address.
    pub address: String,
    /// Who has it, by name.
    pub ports: Vec<PortName>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// The type that reads `value` and writes it back, with its fields in this order.
    fn same<T: Serialize + serde::de::DeserializeOwned>(value: Value, fields: &[&str]) {
        let read: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
        let text = serde_json::to_string(&read).unwrap();
        let places: Vec<_> = fields.iter().map(|field| text.find(&format!("\"{field}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
        assert_eq!(value.as_object().unwrap().len(), fields.len(), "{text}");
    }

    const PORT: &[&str] = &[
        "name",
        "netns",
        "ifname",
        "mac",
        "addresses",
        "mtu",
        "mode",
        "vlan",
        "vlans",
        "native",
        "state",
        "offloads",
        "allow_mac",
        "allow_ip",
        "limits",
        "attachment",
    ];

    #[test]
    fn fields_are_those_promised() {
        let access = json!({
            "name": "web", "netns": "web", "ifname": "eth0", "mac": "02:00:00:00:00:01",
            "addresses": ["10.0.0.2/24"], "mtu": 1450, "mode": "access", "vlan": 10, "vlans": [], "native": null,
            "state": "up", "offloads": ["checksum", "tso4", "tso6", "tso_ecn", "uso"],
            "allow_mac": ["02:00:00:00:00:01"], "allow_ip": ["10.0.0.2/32", "fd00::/64"],
            "limits": {"rx": {"rate": 10_000_000, "burst": 65_536}, "tx": null},
            "attachment": {"network": "net", "container": "c1", "delegated": true, "seen": true},
        });
        same::<PortInfo>(access, PORT);
        let trunk = json!({
            "name": "r", "netns": "pid:7", "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1500,
            "mode": "trunk", "vlan": null, "vlans": [10, 11], "native": 5, "state": "lost", "offloads": [],
            "allow_mac": null, "allow_ip": null, "limits": null, "attachment": null,
        });
        same::<PortInfo>(trunk, PORT);

        let fdb = &["mac", "vlan", "kind", "port", "remote", "age_s", "flapping", "moves", "moved_from", "learned_s"];
        let mac = "02:00:00:00:00:01";
        let learned = json!({"mac": mac, "vlan": 1, "kind": "learned", "port": "a", "remote": null, "age_s": 12,
            "flapping": {"port": null, "remote": "192.0.2.2", "held_s": 9}, "moves": 5, "moved_from": "port b",
            "learned_s": 60});
        same::<FdbInfo>(learned, fdb);
        let fixed = json!({"mac": mac, "vlan": 1, "kind": "static", "port": null, "remote": "fd00::1", "age_s": null,
            "flapping": null, "moves": 0, "moved_from": null, "learned_s": null});
        same::<FdbInfo>(fixed, fdb);

        let vlan =
            json!({"vlan": 1, "vni": null, "name": "lab", "learning": true, "ports": ["a"], "peers": ["fd00::1"]});
        same::<VlanInfo>(vlan, &["vlan", "vni", "name", "learning", "ports", "peers"]);

        let stats = json!({
            "port": "tunnel", "rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4, "drops": {"too_big": 5},
        });
        same::<PortStats>(stats, &["port", "rx_frames", "rx_bytes", "tx_frames", "tx_bytes", "drops"]);
    }

    #[test]
    fn modes_and_kinds_follow_from_what_is_there() {
        let trunk = PortMode::Trunk { vlans: "10-11".parse().unwrap(), native: Some(Vid::MIN) };
        let ModeInfo { mode, vlan, vlans, native } = ModeInfo::from(&trunk);
        assert_eq!((mode, vlan, vlans.len(), native), (ModeKind::Trunk, None, 2, Some(Vid::MIN)));

        let mac = Mac::new([2, 0, 0, 0, 0, 1]).unwrap();
        let remote = FdbTarget::Remote(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(FdbInfo::new(mac, Vid::MIN, remote.clone(), None).kind, FdbKind::Static);
        assert_eq!(FdbInfo::new(mac, Vid::MIN, remote, Some(0)).kind, FdbKind::Learned);
    }
}

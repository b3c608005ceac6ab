//! What an operator says about VLANs, remote VTEPs and static addresses.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Refusal;
use crate::types::{Mac, PortName, Vid, VlanList, VlanName, Vni};

/// Settings of a VLAN. A port may be in a VLAN without any: it is local and has no name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VlanSpec {
    /// Which VLAN.
    pub vlan: Vid,
    /// What it is called on the underlay; without one it is local to this switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<VlanName>,
    /// Whether addresses behind remotes are learned.
    #[serde(default = "on")]
    pub learning: bool,
}

const fn on() -> bool {
    true
}

/// A remote VTEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PeerTable", into = "PeerTable")]
pub struct PeerSpec {
    /// Its address on the underlay.
    pub ip: IpAddr,
    /// The VLANs whose frames it gets and may send.
    pub vlans: PeerVlans,
}

/// The VLANs a remote VTEP is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerVlans {
    /// Those that have a VNI, now or later.
    All,
    /// These.
    Listed(VlanList),
}

impl fmt::Display for PeerVlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all VLANs"),
            Self::Listed(vlans) => write!(f, "VLAN {vlans}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PeerTable {
    ip: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vlan: Option<VlanList>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all_vlans: bool,
}

impl TryFrom<PeerTable> for PeerSpec {
    type Error = Refusal;
    fn try_from(PeerTable { ip, vlan, all_vlans }: PeerTable) -> Result<Self, Refusal> {
        let vlans = match (vlan, all_vlans) {
            (Some(vlans), false) => PeerVlans::Listed(vlans),
            (None, true) => PeerVlans::All,
            (Some(_), true) | (None, false) => return Err(Refusal::PeerVlansUnclear { ip }),
        };
        Ok(Self { ip, vlans })
    }
}

impl From<PeerSpec> for PeerTable {
    fn from(PeerSpec { ip, vlans }: PeerSpec) -> Self {
        match vlans {
            PeerVlans::All => Self { ip, vlan: None, all_vlans: true },
            PeerVlans::Listed(vlans) => Self { ip, vlan: Some(vlans), all_vlans: false },
        }
    }
}

/// An address that stays where the operator put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FdbTable", into = "FdbTable")]
pub struct StaticEntry {
    /// The address.
    pub mac: Mac,
    /// The VLAN in which it is there.
    pub vlan: Vid,
    /// Where it is.
    pub target: FdbTarget,
}

/// Where an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FdbTarget {
    /// Behind a port of this switch.
    Port(PortName),
    /// Behind a remote VTEP.
    Remote(IpAddr),
}

impl fmt::Display for FdbTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(name) => write!(f, "port {name}"),
            Self::Remote(ip) => write!(f, "remote {ip}"),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FdbTable {
    mac: Mac,
    vlan: Vid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<PortName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<IpAddr>,
}

impl TryFrom<FdbTable> for StaticEntry {
    type Error = Refusal;
    fn try_from(FdbTable { mac, vlan, port, remote }: FdbTable) -> Result<Self, Refusal> {
        let target = match (port, remote) {
            (Some(port), None) => FdbTarget::Port(port),
            (None, Some(ip)) => FdbTarget::Remote(ip),
            (Some(_), Some(_)) | (None, None) => return Err(Refusal::TargetUnclear { mac, vlan }),
        };
        Ok(Self { mac, vlan, target })
    }
}

impl From<StaticEntry> for FdbTable {
    fn from(StaticEntry { mac, vlan, target }: StaticEntry) -> Self {
        match target {
            FdbTarget::Port(port) => Self { mac, vlan, port: Some(port), remote: None },
            FdbTarget::Remote(ip) => Self { mac, vlan, port: None, remote: Some(ip) },
        }
    }
}

/// How long a learned address is kept without a frame from it; written as seconds, 0 for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Ageing {
    /// Until somebody flushes it.
    Never,
    /// So many seconds.
    After(NonZeroU32),
}

impl Ageing {
    /// As a span; `None` for never.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(seconds) => Some(Duration::from_secs(seconds.get().into())),
        }
    }
}

impl Default for Ageing {
    /// IEEE 802.1Q-2022 table 8-6: 300 s.
    fn default() -> Self {
        Self::from(300)
    }
}

impl From<u32> for Ageing {
    fn from(seconds: u32) -> Self {
        NonZeroU32::new(seconds).map_or(Self::Never, Self::After)
    }
}

impl From<Ageing> for u32 {
    fn from(ageing: Ageing) -> Self {
        match ageing {
            Ageing::Never => 0,
            Ageing::After(seconds) => seconds.get(),
        }
    }
}

//! What an operator says about a port.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Attachment;
use crate::check::Refusal;
use crate::types::{
    Allowed, Cidr, IfName, LimitWord, Limits, Mac, Mtu, Net, NetnsRef, NetworkName, PortName, Vid, VlanList,
};

/// A port: a TAP interface in somebody's network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PortTable", into = "PortTable")]
pub struct PortSpec {
    /// Its name, unique in the switch.
    pub name: PortName,
    /// Where its interface lives.
    pub netns: NetnsRef,
    /// What its interface is called there; `eth0` unless said.
    pub ifname: IfName,
    /// The interface's MAC address; the daemon chooses where none is given.
    pub mac: Option<Mac>,
    /// Addresses the interface gets.
    pub addresses: Vec<Cidr>,
    /// Default routes: at most one a family.
    pub gateways: Vec<IpAddr>,
    /// The interface's MTU; where none is given, what the underlay leaves for its VLAN.
    pub mtu: Option<Mtu>,
    /// Which VLANs it is in, and how frames are tagged.
    pub mode: PortMode,
    /// The MAC addresses it may send from. They live on it: nobody else may.
    pub allow_mac: Allowed<Mac>,
    /// The IP addresses it may send from.
    pub allow_ip: Allowed<Net>,
    /// What it may carry.
    pub limits: Limits,
    /// Whose it is, where a container runtime asked for it.
    pub attachment: Option<Attachment>,
    /// The network whose gateway on this host it is: it goes with the network's last attachment.
    pub gateway_of: Option<NetworkName>,
}

impl PortSpec {
    /// A port of which nothing else is said: `eth0` in VLAN 1, the rest as the daemon chooses.
    #[must_use]
    pub fn new(name: PortName, netns: NetnsRef) -> Self {
        Self {
            name,
            netns,
            ifname: IfName::default(),
            mac: None,
            addresses: Vec::new(),
            gateways: Vec::new(),
            mtu: None,
            mode: PortMode::default(),
            allow_mac: Allowed::default(),
            allow_ip: Allowed::default(),
            limits: Limits::default(),
            attachment: None,
            gateway_of: None,
        }
    }
}

/// Which VLANs a port is in, and how its frames are tagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortMode {
    /// Untagged, in one VLAN.
    Access(Vid),
    /// Tagged.
    Trunk {
        /// VLANs whose tags pass.
        vlans: VlanList,
        /// The VLAN of untagged frames; without one they are dropped. It need not be among `vlans`.
        native: Option<Vid>,
    },
}

impl Default for PortMode {
    /// Access to VLAN 1.
    fn default() -> Self {
        Self::Access(Vid::MIN)
    }
}

impl PortMode {
    /// The mode that the words `access`, `trunk` and `native` ask for; `None` where none of them was said.
    ///
    /// # Errors
    /// Where the words contradict each other.
    pub fn from_words(
        access: Option<Vid>,
        trunk: Option<VlanList>,
        native: Option<Vid>,
    ) -> Result<Option<Self>, Refusal> {
        match (access, trunk, native) {
            (None, None, None) => Ok(None),
            (Some(vlan), None, None) => Ok(Some(Self::Access(vlan))),
            (None, Some(vlans), native) => Ok(Some(Self::Trunk { vlans, native })),
            (Some(access), Some(trunk), _) => Err(Refusal::AccessAndTrunk { access, trunk }),
            (_, None, Some(native)) => Err(Refusal::NativeWithoutTrunk { native }),
        }
    }

    /// Whether the port is a member of `vlan`.
    #[must_use]
    pub fn contains(&self, vlan: Vid) -> bool {
        match self {
            Self::Access(own) => *own == vlan,
            Self::Trunk { vlans, native } => vlans.contains(vlan) || *native == Some(vlan),
        }
    }

    /// The VLAN of untagged frames.
    #[must_use]
    pub const fn untagged(&self) -> Option<Vid> {
        match self {
            Self::Access(vlan) => Some(*vlan),
            Self::Trunk { native, .. } => *native,
        }
    }

    /// Every VLAN the port is a member of, in ascending order.
    #[must_use]
    pub fn vlans(&self) -> VlanList {
        match self {
            Self::Access(vlan) => VlanList::from(*vlan),
            Self::Trunk { vlans, native: None } => vlans.clone(),
            Self::Trunk { vlans, native: Some(native) } => vlans.with(&VlanList::from(*native)),
        }
    }
}

impl fmt::Display for PortMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access(vlan) => write!(f, "access {vlan}"),
            Self::Trunk { vlans, native: None } => write!(f, "trunk {vlans}"),
            Self::Trunk { vlans, native: Some(native) } => write!(f, "trunk {vlans} native {native}"),
        }
    }
}

/// A port as it is written: the words of `vsctl port add`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortTable {
    name: PortName,
    netns: NetnsRef,
    #[serde(default)]
    ifname: IfName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::one_or_many")]
    address: Vec<Cidr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "super::one_or_many")]
    gateway: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<Mtu>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Vid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trunk: Option<VlanList>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    native: Option<Vid>,
    #[serde(default, rename = "allow-mac", skip_serializing_if = "Allowed::is_unsaid")]
    allow_mac: Allowed<Mac>,
    #[serde(default, rename = "allow-ip", skip_serializing_if = "Allowed::is_unsaid")]
    allow_ip: Allowed<Net>,
    #[serde(default, rename = "rx-limit", skip_serializing_if = "Option::is_none")]
    rx_limit: Option<LimitWord>,
    #[serde(default, rename = "tx-limit", skip_serializing_if = "Option::is_none")]
    tx_limit: Option<LimitWord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attachment: Option<Attachment>,
    #[serde(default, rename = "gateway-of", skip_serializing_if = "Option::is_none")]
    gateway_of: Option<NetworkName>,
}

impl TryFrom<PortTable> for PortSpec {
    type Error = Refusal;
    fn try_from(table: PortTable) -> Result<Self, Refusal> {
        let PortTable { name, netns, ifname, mac, address, gateway, mtu, access, trunk, native, .. } = table;
        let PortTable { allow_mac, allow_ip, rx_limit, tx_limit, attachment, gateway_of, .. } = table;
        let mode = PortMode::from_words(access, trunk, native)?.unwrap_or_default();
        let limits = Limits { rx: rx_limit.and_then(|word| word.0), tx: tx_limit.and_then(|word| word.0) };
        let (addresses, gateways) = (address, gateway);
        Ok(Self {
            name,
            netns,
            ifname,
            mac,
            addresses,
            gateways,
            mtu,
            mode,
            allow_mac,
            allow_ip,
            limits,
            attachment,
            gateway_of,
        })
    }
}

impl From<PortSpec> for PortTable {
    fn from(spec: PortSpec) -> Self {
        let PortSpec { name, netns, ifname, mac, addresses, gateways, mtu, mode, .. } = spec;
        let PortSpec { allow_mac, allow_ip, limits, attachment, gateway_of, .. } = spec;
        let (access, trunk, native) = match mode {
            PortMode::Access(vlan) => (Some(vlan), None, None),
            PortMode::Trunk { vlans, native } => (None, Some(vlans), native),
        };
        let (address, gateway) = (addresses, gateways);
        let limit = |limit: Option<_>| limit.map(|limit| LimitWord(Some(limit)));
        let (rx_limit, tx_limit) = (limit(limits.rx), limit(limits.tx));
        Self {
            name,
            netns,
            ifname,
            mac,
            address,
            gateway,
            mtu,
            access,
            trunk,
            native,
            allow_mac,
            allow_ip,
            rx_limit,
            tx_limit,
            attachment,
            gateway_of,
        }
    }
}

//! What can be asked of the daemon over the socket.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::{Attach, PeerSpec, Pool, PortSpec, StaticEntry, VlanSpec};
use crate::error::{Code, RpcError};
use crate::explain::{TraceAsk, WhyAsk};
use crate::health::ProbeAsk;
use crate::monitor::Listen;
use crate::observe::{self, Observe};
use crate::types::{
    Allowed, Cidr, ContainerId, IfName, LimitWord, Mac, Mtu, Net, NetworkName, PortName, Vid, VlanList,
};

/// A request. Its parameters are called as the words of `vsctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a client has one at a time")]
pub enum Request {
    /// Makes the desired state another one.
    Change(Change),
    /// Asks and changes nothing.
    Query(Query),
    /// Forgets learned addresses; answered with [`Flushed`](crate::Flushed).
    Flush(FdbFilter),
    /// Hands the switch over to another daemon; what is answered is theirs to understand.
    Takeover(Takeover),
    /// Watches frames.
    Observe(Observe),
}

/// The words of a daemon that takes over from the one it speaks to, in this order. A connection that closes before the
/// last of them, or falls silent, leaves the switch with whom it asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", deny_unknown_fields)]
pub enum Takeover {
    /// Asks for what there is, descriptors included; from here on changes are refused.
    #[serde(rename = "takeover.begin")]
    Begin {
        /// The form in which the asker understands it.
        format: u32,
    },
    /// Asks to leave frames in the kernel's queues, and for what has changed since.
    #[serde(rename = "takeover.pause")]
    Pause {},
    /// Says that the asker serves now.
    #[serde(rename = "takeover.commit")]
    Commit {},
}

/// A change of the desired state, answered with an [`Outcome`](crate::Outcome) where it does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", deny_unknown_fields)]
pub enum Change {
    /// Adds a port. Descriptors that come along are its queues, one for each worker, or one is its namespace.
    #[serde(rename = "port.add")]
    PortAdd(PortSpec),
    /// Changes what may change in a port.
    #[serde(rename = "port.set")]
    PortSet(PortSet),
    /// Removes a port, and the static addresses behind it.
    #[serde(rename = "port.del")]
    PortDel {
        /// Which.
        name: PortName,
    },
    /// Gives a VLAN settings.
    #[serde(rename = "vlan.add")]
    VlanAdd(VlanSpec),
    /// Takes a VLAN's settings away; ports in it stay in it.
    #[serde(rename = "vlan.del")]
    VlanDel {
        /// Which.
        vlan: Vid,
    },
    /// Adds a remote VTEP, or an existing one to more VLANs.
    #[serde(rename = "peer.add")]
    PeerAdd(PeerSpec),
    /// Removes a remote VTEP.
    #[serde(rename = "peer.del")]
    PeerDel {
        /// Which.
        ip: IpAddr,
        /// From this VLAN alone; from all without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<Vid>,
    },
    /// Adds a static address.
    #[serde(rename = "fdb.add")]
    FdbAdd(StaticEntry),
    /// Removes a static address. Where there is none ([`Refusal::NoStatic`](crate::Refusal::NoStatic)) the daemon
    /// looks for a learned one to forget.
    #[serde(rename = "fdb.del")]
    FdbDel {
        /// Which.
        mac: Mac,
        /// Where.
        vlan: Vid,
    },
    /// Adds the port of a container, with addresses and VNI where it is to have them: [`Attached`](crate::Attached). An
    /// attachment that is lost is replaced. Descriptors as for `port.add`.
    #[serde(rename = "attachment.add")]
    AttachmentAdd(Attach),
    /// Removes the port of a container; where there is none nothing changes: [`Detached`](crate::Detached).
    #[serde(rename = "attachment.del")]
    AttachmentDel {
        /// The container.
        container: ContainerId,
        /// Its interface.
        ifname: IfName,
        /// Only where it is attached to this network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NetworkName>,
        /// Only where it is lost: for who tidies up by a list that may be out of date.
        #[serde(default, skip_serializing_if = "crate::config::is_false")]
        lost: bool,
    },
}

/// What changes in a port; the rest stays. `access`, `trunk` and `native` mean what they mean in `port.add`, so `trunk`
/// alone leaves no native VLAN; `native` alone gives a trunk another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSet {
    /// Which port.
    pub name: PortName,
    /// Its new MTU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Makes it an access port of this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vid>,
    /// Makes it a trunk of these VLANs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trunk: Option<VlanList>,
    /// The trunk's VLAN for untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Vid>,
    /// Its new addresses, instead of all it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Vec<Cidr>>,
    /// Its new gateways, instead of all it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Vec<IpAddr>>,
    /// The MAC addresses it may send from from now on.
    #[serde(default, rename = "allow-mac", skip_serializing_if = "Option::is_none")]
    pub allow_mac: Option<Allowed<Mac>>,
    /// The IP addresses it may send from from now on.
    #[serde(default, rename = "allow-ip", skip_serializing_if = "Option::is_none")]
    pub allow_ip: Option<Allowed<Net>>,
    /// What it may send from now on.
    #[serde(default, rename = "rx-limit", skip_serializing_if = "Option::is_none")]
    pub rx_limit: Option<LimitWord>,
    /// What it may be sent from now on.
    #[serde(default, rename = "tx-limit", skip_serializing_if = "Option::is_none")]
    pub tx_limit: Option<LimitWord>,
}

impl PortSet {
    /// Whether nothing would change.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { name: _, mtu, access, trunk, native, address, gateway, allow_mac, allow_ip, .. } = self;
        let limits = self.rx_limit.is_some() || self.tx_limit.is_some();
        let mode = access.is_some() || trunk.is_some() || native.is_some();
        let guard = allow_mac.is_some() || allow_ip.is_some();
        !mode && !guard && !limits && mtu.is_none() && address.is_none() && gateway.is_none()
    }
}

/// Which learned addresses are meant: all, those of a VLAN, those behind a port, or those of both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbFilter {
    /// Only in this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Only behind this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", deny_unknown_fields)]
#[allow(clippy::large_enum_variant, reason = "a client has one at a time")]
pub enum Query {
    /// All ports: `[`[`PortInfo`](crate::PortInfo)`]`.
    #[serde(rename = "port.list")]
    PortList {},
    /// One port: [`PortInfo`](crate::PortInfo).
    #[serde(rename = "port.show")]
    PortShow {
        /// Which.
        name: PortName,
    },
    /// What the interface of such a port would be: [`PortPlan`](crate::PortPlan). A client that makes it sends its queues
    /// along with `port.add`.
    #[serde(rename = "port.plan")]
    PortPlan(PortSpec),
    /// All VLANs: `[`[`VlanInfo`](crate::VlanInfo)`]`.
    #[serde(rename = "vlan.list")]
    VlanList {},
    /// The own VTEP: [`VtepInfo`](crate::VtepInfo).
    #[serde(rename = "vtep.show")]
    VtepShow {},
    /// All remote VTEPs: `[`[`PeerInfo`](crate::PeerInfo)`]`.
    #[serde(rename = "peer.list")]
    PeerList {},
    /// How the way to a remote VTEP is: [`Probe`](crate::Probe). The switch sends probes, so it needs the right to change.
    #[serde(rename = "peer.probe")]
    PeerProbe(ProbeAsk),
    /// Addresses: `[`[`FdbInfo`](crate::FdbInfo)`]`.
    #[serde(rename = "fdb.list")]
    FdbList(FdbFilter),
    /// Counters: [`Stats`](crate::Stats).
    #[serde(rename = "stats")]
    Stats {
        /// Of this port or of `tunnel` alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
    },
    /// What the interface of such an attachment would be: [`PortPlan`](crate::PortPlan), whose name and addresses are held
    /// for it for a minute. Needs the right to change.
    #[serde(rename = "attachment.plan")]
    AttachmentPlan(Attach),
    /// All attachments: `[`[`AttachmentInfo`](crate::AttachmentInfo)`]`.
    #[serde(rename = "attachment.list")]
    AttachmentList {
        /// Of this network only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NetworkName>,
    },
    /// How full pools are: `[`[`PoolInfo`](crate::PoolInfo)`]`.
    #[serde(rename = "pool.show")]
    PoolShow {
        /// In which VLAN.
        vlan: Vid,
        /// Which.
        pools: Vec<Pool>,
    },
    /// How busy the threads are that move frames: `[`[`WorkerInfo`](crate::WorkerInfo)`]`.
    #[serde(rename = "worker.list")]
    WorkerList {},
    /// What would become of a frame: [`Journey`](crate::Journey).
    #[serde(rename = "trace")]
    Trace(TraceAsk),
    /// Why A does or does not reach B: [`Why`](crate::Why). The switch asks for B in A's name, so it needs the right to
    /// change.
    #[serde(rename = "why")]
    Why(WhyAsk),
    /// What there is, and what happens from now on: [`Listening`](crate::monitor::Listening), and a stream of
    /// [`Event`](crate::monitor::Event)s by the Unix socket that comes along.
    #[serde(rename = "monitor.start")]
    Monitor(Listen),
    /// Addresses seen in ARP and neighbour discovery, and those of ports: `[`[`NeighbourInfo`](crate::NeighbourInfo)`]`.
    #[serde(rename = "neighbour.list")]
    NeighbourList {},
    /// How the daemon is: [`Status`](crate::Status).
    #[serde(rename = "status")]
    Status {},
}

const FLUSH: &str = "fdb.flush";
const CHANGES: &[&str] = &[
    "port.add",
    "port.set",
    "port.del",
    "vlan.add",
    "vlan.del",
    "peer.add",
    "peer.del",
    "fdb.add",
    "fdb.del",
    "attachment.add",
    "attachment.del",
];
const TAKEOVER: &[&str] = &["takeover.begin", "takeover.pause", "takeover.commit"];
const QUERIES: &[&str] = &[
    "port.list",
    "port.show",
    "port.plan",
    "vlan.list",
    "vtep.show",
    "peer.list",
    "peer.probe",
    "fdb.list",
    "stats",
    "attachment.plan",
    "attachment.list",
    "pool.show",
    "worker.list",
    "trace",
    "why",
    "monitor.start",
    "neighbour.list",
    "status",
];

impl Request {
    /// The request that calls `method` with `params` (`{}` where it has none).
    ///
    /// # Errors
    /// Where there is no such method, or its parameters are wrong.
    pub fn decode(method: &str, params: Value) -> Result<Self, RpcError> {
        let call = |params| json!({"method": method, "params": params});
        let read = match method {
            FLUSH => serde_json::from_value(params).map(Self::Flush),
            _ if CHANGES.contains(&method) => serde_json::from_value(call(params)).map(Self::Change),
            _ if TAKEOVER.contains(&method) => serde_json::from_value(call(params)).map(Self::Takeover),
            _ if observe::METHODS.contains(&method) => serde_json::from_value(call(params)).map(Self::Observe),
            _ if QUERIES.contains(&method) => serde_json::from_value(call(params)).map(Self::Query),
            _ => {
                let known = [CHANGES, QUERIES, &[FLUSH], TAKEOVER, observe::METHODS].concat().join(", ");
                let message = format!("there is no method {method:?}: the methods are {known}");
                return Err(RpcError::new(Code::MethodNotFound, message));
            }
        };
        read.map_err(|error| RpcError::new(Code::InvalidParams, format!("{method}: {error}")))
    }

    /// The method and its parameters.
    ///
    /// # Errors
    /// Where JSON cannot hold them, which cannot happen with the types there are.
    pub fn encode(&self) -> serde_json::Result<(String, Value)> {
        let mut call = match self {
            Self::Change(change) => serde_json::to_value(change)?,
            Self::Query(query) => serde_json::to_value(query)?,
            Self::Flush(filter) => json!({"method": FLUSH, "params": filter}),
            Self::Takeover(word) => serde_json::to_value(word)?,
            Self::Observe(observe) => serde_json::to_value(observe)?,
        };
        let method = call["method"].as_str().unwrap_or_default().to_owned();
        Ok((method, call["params"].take()))
    }

    /// Whether it needs the right to change: it changes something, or tells what others say to each other.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Change(_) | Self::Flush(_) | Self::Takeover(_) | Self::Observe(_) => true,
            Self::Query(Query::AttachmentPlan(_) | Query::Why(_) | Query::PeerProbe(_)) => true,
            Self::Query(_) => false,
        }
    }
}

impl From<Change> for Request {
    fn from(change: Change) -> Self {
        Self::Change(change)
    }
}

impl From<Observe> for Request {
    fn from(observe: Observe) -> Self {
        Self::Observe(observe)
    }
}

impl From<Query> for Request {
    fn from(query: Query) -> Self {
        Self::Query(query)
    }
}

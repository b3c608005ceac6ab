//! Listening to what happens in the switch: ports that come and go, addresses that are learned, frames that are dropped.
//!
//! Whoever asks sends one end of a socket pair along. The answer tells what there is at that moment ([`Listening`]); what
//! happens from then on comes by the socket, one [`Event`] as a JSON object a line, until either end closes it.

mod filter;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::FdbTarget;
use crate::reply::{AttachmentInfo, FlappingInfo, PeerInfo, PortInfo, Status, VlanInfo};
use crate::types::{Mac, PortName, Vid};

/// Which events are wanted: those to which all of it applies. What concerns the whole switch concerns every port and VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// About this port, which need not be there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// In this VLAN; drops and storms of ports and peers that are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Of one of these kinds; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<EventKind>,
}

/// Kinds of events: what stands before the dot in their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Ports.
    Port,
    /// Settings of VLANs.
    Vlan,
    /// Remote VTEPs.
    Peer,
    /// Ports that container runtimes asked for.
    Attachment,
    /// Addresses.
    Fdb,
    /// Ports that flood more than they may.
    Storm,
    /// Dropped frames.
    Drops,
    /// Another daemon in the place of this one.
    Takeover,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Port, Self::Vlan, Self::Peer, Self::Attachment, Self::Fdb, Self::Storm, Self::Drops, Self::Takeover];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Vlan => "vlan",
            Self::Peer => "peer",
            Self::Attachment => "attachment",
            Self::Fdb => "fdb",
            Self::Storm => "storm",
            Self::Drops => "drops",
            Self::Takeover => "takeover",
        }
    }
}

/// The answer to whoever listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listening {
    /// What there is: [`What::Snapshot`].
    pub snapshot: Event,
    /// What every reason for a drop means.
    pub reasons: BTreeMap<String, String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When, in nanoseconds since 1970. Changes made by people come as they are made, what frames do to addresses within
    /// a tenth of a second, what is counted within a second: so lines need not be in order of it.
    pub at: u64,
    /// What; its name is the field `event`.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen. Objects have the fields that lists of the same have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
#[allow(clippy::large_enum_variant, reason = "one at a time")]
pub enum What {
    /// What there is, of what was asked for; always the first.
    #[serde(rename = "snapshot")]
    Snapshot {
        /// How the daemon is.
        status: Box<Status>,
        /// The ports.
        ports: Vec<PortInfo>,
        /// The VLANs that have settings.
        vlans: Vec<VlanInfo>,
        /// The remote VTEPs.
        peers: Vec<PeerInfo>,
    },
    /// There is a port more.
    #[serde(rename = "port.added")]
    PortAdded(PortInfo),
    /// A port is another.
    #[serde(rename = "port.changed")]
    PortChanged {
        /// The fields that are.
        changed: Vec<String>,
        /// As it is now.
        #[serde(flatten)]
        port: PortInfo,
    },
    /// There is a port less.
    #[serde(rename = "port.deleted")]
    PortDeleted(PortInfo),
    /// A port's interface is gone.
    #[serde(rename = "port.lost")]
    PortLost(PortInfo),
    /// A lost port has an interface again.
    #[serde(rename = "port.back")]
    PortBack(PortInfo),
    /// A VLAN has settings.
    #[serde(rename = "vlan.added")]
    VlanAdded(VlanInfo),
    /// It has none any more.
    #[serde(rename = "vlan.deleted")]
    VlanDeleted(VlanInfo),
    /// There is a remote VTEP more.
    #[serde(rename = "peer.added")]
    PeerAdded(PeerInfo),
    /// One is in other VLANs.
    #[serde(rename = "peer.changed")]
    PeerChanged(PeerInfo),
    /// There is one less.
    #[serde(rename = "peer.deleted")]
    PeerDeleted(PeerInfo),
    /// The way to one is otherwise than before: in [`PeerInfo::health`] the state or the findings are others.
    #[serde(rename = "peer.health")]
    PeerHealth(PeerInfo),
    /// A container has a port.
    #[serde(rename = "attachment.added")]
    AttachmentAdded(AttachmentInfo),
    /// It has it no more.
    #[serde(rename = "attachment.deleted")]
    AttachmentDeleted(AttachmentInfo),
    /// An address was seen for the first time.
    #[serde(rename = "fdb.learned")]
    FdbLearned(Address),
    /// A learned address showed up elsewhere.
    #[serde(rename = "fdb.moved")]
    FdbMoved {
        /// Where it is now.
        #[serde(flatten)]
        address: Address,
        /// Where it was.
        from: Place,
    },
    /// It was made static.
    #[serde(rename = "fdb.added")]
    FdbAdded(Address),
    /// It was not seen for the ageing time.
    #[serde(rename = "fdb.aged")]
    FdbAged(Address),
    /// It made room for another.
    #[serde(rename = "fdb.evicted")]
    FdbEvicted(Address),
    /// It was deleted or flushed, went with its port, or may not be there.
    #[serde(rename = "fdb.removed")]
    FdbRemoved(Address),
    /// It was not learned, or not moved here, for want of room.
    #[serde(rename = "fdb.limited")]
    FdbLimited(Address),
    /// It moved to and fro so often that it is held here.
    #[serde(rename = "fdb.held")]
    FdbHeld {
        /// Where.
        #[serde(flatten)]
        address: Address,
        /// Where else it showed up, and for how long it is held.
        flapping: FlappingInfo,
    },
    /// It may move again.
    #[serde(rename = "fdb.released")]
    FdbReleased(Address),
    /// A port brings in more frames for many than `--storm-limit` lets it.
    #[serde(rename = "storm.begun")]
    StormBegun {
        /// The port's name, or `tunnel`.
        port: String,
        /// The remote VTEP, where it is one.
        remote: Option<IpAddr>,
        /// The reason for which its frames are dropped.
        reason: String,
    },
    /// It has not done so for three seconds.
    #[serde(rename = "storm.ended")]
    StormEnded {
        /// As above.
        port: String,
        /// As above.
        remote: Option<IpAddr>,
        /// As above.
        reason: String,
        /// Frames that were dropped.
        frames: u64,
        /// Seconds from the first to the last of them, to within a second.
        lasted_s: u64,
    },
    /// Frames were dropped; for each port and reason told of once a second at most.
    #[serde(rename = "drops")]
    Drops {
        /// The port that counts them: its name, or `tunnel`.
        port: String,
        /// The remote VTEP whose they are, where they are one's.
        remote: Option<IpAddr>,
        /// Why.
        reason: String,
        /// How many since this was last told, or since somebody listens.
        frames: u64,
    },
    /// Another daemon is about to take over.
    #[serde(rename = "takeover.begun")]
    TakeoverBegun {},
    /// It did not: this one serves on.
    #[serde(rename = "takeover.failed")]
    TakeoverFailed {
        /// What went wrong.
        why: String,
    },
    /// It has: what follows is its to tell.
    #[serde(rename = "takeover.done")]
    TakeoverDone {},
    /// Events that were not told: there were more than could be kept, or the reader took them too slowly.
    #[serde(rename = "lost")]
    Lost {
        /// How many, among them such as were not asked for.
        events: u64,
    },
    /// Nothing more comes on this stream: the last event on it, where there was time for one.
    #[serde(rename = "disconnected")]
    Disconnected {
        /// Why.
        why: String,
    },
    /// Told by `vsctl`: it listens again, to the daemon that serves now. A snapshot comes next.
    #[serde(rename = "reconnected")]
    Reconnected {},
}

/// An address, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub mac: Mac,
    /// The VLAN it is in.
    pub vlan: Vid,
    /// `port` and `remote`.
    #[serde(flatten)]
    pub place: Place,
}

/// A port or a remote VTEP; neither, where it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The port; null for a remote.
    pub port: Option<PortName>,
    /// The remote VTEP; null for a port.
    pub remote: Option<IpAddr>,
}

impl From<FdbTarget> for Place {
    fn from(target: FdbTarget) -> Self {
        match target {
            FdbTarget::Port(name) => Self { port: Some(name), remote: None },
            FdbTarget::Remote(ip) => Self { port: None, remote: Some(ip) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn events_are_objects_with_the_fields_promised() {
        let place = json!({"mac": "02:00:00:00:00:01", "vlan": 10, "port": "a", "remote": null});
        let with = |name: &str, more: Value| {
            let mut event = json!({"at": 7, "event": name});
            for part in [&place, &more] {
                event.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            }
            event
        };
        let peer = json!({"at": 7, "event": "peer.added", "ip": "192.0.2.2", "all_vlans": false, "vlans": [10],
            "health": null});
        let vlan = json!({"at": 7, "event": "vlan.added", "vlan": 10, "vni": 100, "name": null, "learning": true,
            "ports": ["a"], "peers": []});
        let port = json!({"at": 7, "event": "port.changed", "changed": ["mtu"], "name": "a", "netns": "a",
            "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1400, "mode": "access", "vlan": 10, "vlans": [],
            "native": null, "state": "up", "offloads": [], "allow_mac": null, "allow_ip": null, "limits": null,
            "attachment": null});
        let attachment = json!({"at": 7, "event": "attachment.deleted", "network": "net", "container": "c1",
            "ifname": "eth0", "port": "c1:eth0", "netns": "a", "addresses": ["10.0.0.2/24"], "delegated": false,
            "state": "lost"});
        let counted = json!({"port": "tunnel", "remote": "192.0.2.2", "reason": "storm_broadcast"});
        let storm = |name: &str, more: Value| {
            let mut event = json!({"at": 7, "event": name});
            for part in [&counted, &more] {
                event.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
            }
            event
        };
        let table = [
            with("fdb.learned", json!({})),
            with("fdb.moved", json!({"from": {"port": null, "remote": "192.0.2.2"}})),
            with("fdb.held", json!({"flapping": {"port": "b", "remote": null, "held_s": 10}})),
            peer,
            vlan,
            port,
            attachment,
            storm("storm.begun", json!({})),
            storm("storm.ended", json!({"frames": 9, "lasted_s": 3})),
            storm("drops", json!({"frames": 9})),
            json!({"at": 7, "event": "takeover.begun"}),
            json!({"at": 7, "event": "takeover.failed", "why": "the other left"}),
            json!({"at": 7, "event": "lost", "events": 1234}),
        ];
        for object in table {
            let event: Event = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(serde_json::to_value(&event).unwrap(), object);
            let (event, kind) = (object["event"].as_str().unwrap(), event.what.kind());
            assert_eq!(kind.map_or("lost", EventKind::name), event.split('.').next().unwrap(), "{object}");
        }
    }
}

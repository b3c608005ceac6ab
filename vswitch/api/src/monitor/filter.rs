//! Which events are wanted.

use std::net::IpAddr;

use super::{Address, EventKind, Listen, What};
use crate::reply::{AttachmentInfo, PeerInfo, PortInfo, VlanInfo};
use crate::types::{PortName, Vid};

/// What an event is about.
enum Subject<'a> {
    /// Who listens.
    Listener,
    /// The whole switch.
    Takeover,
    Port(&'a PortInfo),
    Vlan(&'a VlanInfo),
    Peer(&'a PeerInfo),
    Attachment(&'a AttachmentInfo),
    /// With the other port that it concerns.
    Address(&'a Address, Option<&'a PortName>),
    /// What is counted at a port or remote.
    Counted(EventKind, &'a str, Option<IpAddr>),
}

impl What {
    fn subject(&self) -> Subject<'_> {
        match self {
            Self::PortAdded(port)
            | Self::PortChanged { port, .. }
            | Self::PortDeleted(port)
            | Self::PortLost(port)
            | Self::PortBack(port) => Subject::Port(port),
            Self::VlanAdded(vlan) | Self::VlanDeleted(vlan) => Subject::Vlan(vlan),
            Self::PeerAdded(peer) | Self::PeerChanged(peer) | Self::PeerDeleted(peer) => Subject::Peer(peer),
            Self::AttachmentAdded(attachment) | Self::AttachmentDeleted(attachment) => Subject::Attachment(attachment),
            Self::FdbLearned(address)
            | Self::FdbAdded(address)
            | Self::FdbAged(address)
            | Self::FdbEvicted(address)
            | Self::FdbRemoved(address)
            | Self::FdbLimited(address)
            | Self::FdbReleased(address) => Subject::Address(address, None),
            Self::FdbMoved { address, from } => Subject::Address(address, from.port.as_ref()),
            Self::FdbHeld { address, flapping } => Subject::Address(address, flapping.port.as_ref()),
            Self::StormBegun { port, remote, .. } | Self::StormEnded { port, remote, .. } => {
                Subject::Counted(EventKind::Storm, port, *remote)
            }
            Self::Drops { port, remote, .. } => Subject::Counted(EventKind::Drops, port, *remote),
            Self::TakeoverBegun {} | Self::TakeoverFailed { .. } | Self::TakeoverDone {} => Subject::Takeover,
            Self::Snapshot { .. } | Self::Lost { .. } | Self::Disconnected { .. } | Self::Reconnected {} => {
                Subject::Listener
            }
        }
    }

    /// Its kind; `None` for what is told to everybody.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        Some(match self.subject() {
            Subject::Listener => return None,
            Subject::Takeover => EventKind::Takeover,
            Subject::Port(_) => EventKind::Port,
            Subject::Vlan(_) => EventKind::Vlan,
            Subject::Peer(_) => EventKind::Peer,
            Subject::Attachment(_) => EventKind::Attachment,
            Subject::Address(..) => EventKind::Fdb,
            Subject::Counted(kind, ..) => kind,
        })
    }
}

impl Subject<'_> {
    fn is_at(&self, name: &PortName) -> bool {
        match self {
            Self::Listener | Self::Takeover => true,
            Self::Port(port) => port.name == *name,
            Self::Vlan(_) | Self::Peer(_) => false,
            Self::Attachment(attachment) => attachment.port == *name,
            Self::Address(address, other) => address.place.port.as_ref() == Some(name) || *other == Some(name),
            Self::Counted(_, port, _) => *port == name.as_str(),
        }
    }

    fn is_in(&self, vlan: Vid, is_in: impl Fn(&str, Option<IpAddr>, Vid) -> bool) -> bool {
        match self {
            Self::Listener | Self::Takeover => true,
            Self::Port(port) => is_member(port, vlan),
            Self::Vlan(info) => info.vlan == vlan,
            Self::Peer(peer) => peer.vlans.contains(&vlan),
            Self::Attachment(attachment) => is_in(attachment.port.as_str(), None, vlan),
            Self::Address(address, _) => address.vlan == vlan,
            Self::Counted(_, port, remote) => is_in(port, *remote, vlan),
        }
    }
}

fn is_member(port: &PortInfo, vlan: Vid) -> bool {
    let mode = &port.mode;
    mode.vlan == Some(vlan) || mode.native == Some(vlan) || mode.vlans.contains(&vlan)
}

impl Listen {
    /// Whether events of `kind` are wanted.
    #[must_use]
    pub fn wants_kind(&self, kind: EventKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }

    /// Whether `what` is wanted. `is_in` says whether a port, by its name or [`TUNNEL`](crate::reply::TUNNEL), or a remote
    /// VTEP is in a VLAN.
    pub fn wants(&self, what: &What, is_in: impl Fn(&str, Option<IpAddr>, Vid) -> bool) -> bool {
        let subject = what.subject();
        what.kind().is_none_or(|kind| self.wants_kind(kind))
            && self.port.as_ref().is_none_or(|port| subject.is_at(port))
            && self.vlan.is_none_or(|vlan| subject.is_in(vlan, is_in))
    }

    /// Whether `port` is wanted in a snapshot.
    #[must_use]
    pub fn wants_port(&self, port: &PortInfo) -> bool {
        let is_named = self.port.as_ref().is_none_or(|name| port.name == *name);
        self.wants_kind(EventKind::Port) && is_named && self.vlan.is_none_or(|vlan| is_member(port, vlan))
    }

    /// Whether VLAN `vlan` is wanted in a snapshot.
    #[must_use]
    pub fn wants_vlan(&self, vlan: Vid) -> bool {
        self.wants_kind(EventKind::Vlan) && self.port.is_none() && self.vlan.is_none_or(|wanted| wanted == vlan)
    }

    /// Whether `peer` is wanted in a snapshot.
    #[must_use]
    pub fn wants_peer(&self, peer: &PeerInfo) -> bool {
        let is_in = self.vlan.is_none_or(|vlan| peer.vlans.contains(&vlan));
        self.wants_kind(EventKind::Peer) && self.port.is_none() && is_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Place;
    use crate::reply::TUNNEL;

    fn listen(port: Option<&str>, vlan: Option<&str>, kinds: &[EventKind]) -> Listen {
        let port = port.map(|port| port.parse().unwrap());
        Listen { port, vlan: vlan.map(|vlan| vlan.parse().unwrap()), kinds: kinds.to_vec() }
    }

    fn address(vlan: &str, port: &str) -> Address {
        let place = Place { port: Some(port.parse().unwrap()), remote: None };
        Address { mac: "02:00:00:00:00:01".parse().unwrap(), vlan: vlan.parse().unwrap(), place }
    }

    fn drops(port: &str, remote: Option<IpAddr>) -> What {
        What::Drops { port: port.to_owned(), remote, reason: "x".to_owned(), frames: 1 }
    }

    #[test]
    fn what_is_asked_for_is_told_and_nothing_else() {
        let peer: IpAddr = "192.0.2.2".parse().unwrap();
        let from = Place { port: Some("b".parse().unwrap()), remote: None };
        let moved = What::FdbMoved { address: address("10", "a"), from };
        let learned = What::FdbLearned(address("20", "c"));
        let (at_port, at_peer) = (drops("a", None), drops(TUNNEL, Some(peer)));
        let (takeover, lost) = (What::TakeoverDone {}, What::Lost { events: 1 });
        let all = [&moved, &learned, &at_port, &at_peer, &takeover, &lost];
        // Port a and the peer are in VLAN 10, the tunnel itself in none.
        let is_in = |port: &str, remote: Option<IpAddr>, vlan: Vid| {
            vlan.get() == 10 && (port == "a" || port == TUNNEL && remote == Some(peer))
        };
        type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a [EventKind], [bool; 6]);
        let table: [Case<'_>; 9] = [
            (None, None, &[], [true; 6]),
            (Some("a"), None, &[], [true, false, true, false, true, true]),
            (Some("b"), None, &[], [true, false, false, false, true, true]),
            (Some("z"), None, &[], [false, false, false, false, true, true]),
            (None, Some("10"), &[], [true, false, true, true, true, true]),
            (None, Some("20"), &[], [false, true, false, false, true, true]),
            (None, None, &[EventKind::Fdb], [true, true, false, false, false, true]),
            (None, None, &[EventKind::Drops, EventKind::Takeover], [false, false, true, true, true, true]),
            (Some("a"), Some("10"), &[EventKind::Drops], [false, false, true, false, false, true]),
        ];
        for (port, vlan, kinds, expected) in table {
            let listen = listen(port, vlan, kinds);
            assert_eq!(all.map(|what| listen.wants(what, is_in)), expected, "{listen:?}");
        }
        assert!(!listen(None, Some("10"), &[]).wants(&drops(TUNNEL, None), is_in));
    }
}

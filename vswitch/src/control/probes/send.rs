//! The socket that probes leave by, and what the network says there of them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use vswitch_core::Instant;
use vswitch_sys::{ProbeSocket, Trouble};
use vtep::oam::{Kind, Message};

use super::Probes;
use crate::clock;
use crate::health::{Ask, Path};

/// Source ports of datagrams between VTEPs (RFC 7348 5); one is tried after the other.
const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

impl Probes {
    /// Sends one probe.
    pub(super) fn send(&mut self, (own, peer, port): (IpAddr, IpAddr, u16), ask: &Ask) {
        let Ask { sequence, len, networks } = ask;
        if self.socket.is_none() {
            self.socket = open(own);
        }
        let Some(path) = self.paths.get_mut(&peer) else { return };
        let Some(socket) = &self.socket else {
            path.not_sent(*sequence, clock::now(), Trouble::Other(0));
            return;
        };
        let now = clock::now();
        let message = Message {
            kind: Kind::Request,
            key: self.keys.key(peer),
            sequence: *sequence,
            time: now.as_nanos(),
            asked: peer,
            sender: own,
            port: socket.local_addr().port(),
            networks: networks.iter().filter_map(|vni| vtep::Vni::new(vni.get())).collect(),
        };
        let bytes = message.write(*len);
        path.sent(*sequence, now);
        let to = SocketAddr::new(peer, port);
        let sent = socket.send(to, &bytes).or_else(|error| {
            // It may be of an earlier datagram, to another peer. What was said is read, and then told no more.
            if error.raw_os_error() == Some(nix::libc::EMSGSIZE) {
                return Err(error);
            }
            hear_complaints(socket, &mut self.paths, now);
            socket.send(to, &bytes)
        });
        match sent {
            Ok(()) => self.sent += 1,
            Err(error) => {
                if let Some(path) = self.paths.get_mut(&peer) {
                    path.not_sent(*sequence, now, trouble(&error));
                }
            }
        }
    }

    /// Takes what the network said of probes.
    pub(super) fn hear_network(&mut self, now: Instant) {
        if let Some(socket) = &self.socket {
            hear_complaints(socket, &mut self.paths, now);
        }
    }
}

fn hear_complaints(socket: &ProbeSocket, paths: &mut BTreeMap<IpAddr, Path>, now: Instant) {
    while let Ok(Some(complaint)) = socket.complaint() {
        if let Some(path) = paths.get_mut(&complaint.to.ip().to_canonical()) {
            path.complain(now, complaint.what, complaint.by);
        }
    }
}

/// A socket on a source port of datagrams between VTEPs, or on any where those are taken.
fn open(own: IpAddr) -> Option<ProbeSocket> {
    let at = |port| ProbeSocket::open(SocketAddr::new(own, port));
    // From the far end: the lanes' ports are spread over the range, and few.
    let socket = SOURCE_PORTS.rev().take(64).find_map(|port| at(port).ok());
    match socket.map_or_else(|| at(0), Ok) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%own, %error, "peers cannot be probed");
            None
        }
    }
}

fn trouble(error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(nix::libc::EMSGSIZE) => Trouble::TooBig(0),
        _ => match error.kind() {
            ErrorKind::PermissionDenied => Trouble::Prohibited,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Trouble::HostUnreachable,
            ErrorKind::ConnectionRefused => Trouble::PortUnreachable,
            _ => Trouble::Other(error.raw_os_error().unwrap_or(0)),
        },
    }
}

//! Asking in a port's name: a frame of the switch's own goes the way of one from the port, and the answer is noticed as it
//! passes. Where nobody asked, a batch pays one look at an empty list.

use std::net::IpAddr;

use crossbeam_channel::Sender;
use vswitch_core::switch::{Egress, Explained, PortId, Verdict};
use vswitch_core::{Frame, Instant, MacAddr, VlanId, wire};

use super::datapath::Datapath;
use super::neighbours::Heard;
use super::ports::Device;
use crate::port::tunnel::Stranger;

/// Answers that are waited for at a time.
const OPEN: usize = 48;

/// Answers that are waited for: those of `ip` to the station `to`, whoever gives them.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) id: u64,
    pub(crate) ip: IpAddr,
    pub(crate) to: MacAddr,
    /// The identifier of the ICMP echo that is asked for; `None`: ARP or neighbour discovery.
    pub(crate) echo: Option<u16>,
    pub(crate) until: Instant,
    pub(crate) answers: Sender<Answered>,
}

/// An answer that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) port: PortId,
    pub(crate) mac: MacAddr,
    pub(crate) at: Instant,
}

/// What is remembered beside addresses in the FDB.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) heard: Vec<(PortId, Heard)>,
    pub(crate) strangers: Vec<Stranger>,
}

/// How a frame would leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) port: PortId,
    pub(crate) vlan: VlanId,
    pub(crate) tag: Option<vswitch_core::Tag>,
    /// The largest packet that fits there.
    pub(crate) mtu: u16,
}

impl Datapath {
    /// Waits for an answer; the one that was waited for longest is given up where too many are.
    pub(crate) fn watch(&mut self, watch: Watch) {
        if self.watches.len() >= OPEN {
            self.watches.remove(0);
        }
        self.watches.push(watch);
    }

    /// Waits no longer.
    pub(crate) fn unwatch(&mut self, id: u64) {
        self.watches.retain(|watch| watch.id != id);
    }

    /// Sends `frame` as if it had come in on the local port `port`.
    pub(crate) fn inject(&mut self, now: Instant, port: PortId, frame: &Frame) -> Verdict {
        let verdict = self.switch.ingress(now, port, frame.bytes());
        let copies = self.ways(&verdict).into_iter().map(|way| {
            let mut copy = frame.clone();
            copy.retag(way.tag);
            (way.port, way.vlan, copy)
        });
        let copies = copies.collect();
        self.deliver(now, copies);
        verdict
    }

    /// What would become of a frame from `port`, or from a remote in `vlan`, and how it would leave.
    pub(crate) fn explain(
        &mut self,
        now: Instant,
        port: PortId,
        vlan: Option<VlanId>,
        frame: &[u8],
    ) -> (Explained, Vec<Exit>) {
        let explained = match vlan {
            None => self.switch.explain(now, port, frame),
            Some(vlan) => self.switch.explain_remote(now, port, vlan, frame),
        };
        let exits = self.ways(&explained.verdict).into_iter().filter_map(|way| {
            let mtu = self.way_mtu(now, way.port)?;
            Some(Exit { port: way.port, vlan: way.vlan, tag: way.tag, mtu })
        });
        let exits = exits.collect();
        (explained, exits)
    }

    /// All ways a frame would leave by.
    fn ways(&self, verdict: &Verdict) -> Vec<Egress> {
        match verdict {
            Verdict::Unicast(way) => vec![*way],
            Verdict::Flood(flood) => self.switch.flood_targets(flood).collect(),
            Verdict::Drop(_) => Vec::new(),
        }
    }

    /// The largest packet that leaves by `port`; for a remote, what the kernel knows of the path there now.
    fn way_mtu(&mut self, now: Instant, port: PortId) -> Option<u16> {
        match &mut self.ports.get_mut(port)?.device {
            Device::Tap(tap) => Some(tap.mtu()),
            Device::Remote(remote) => {
                let tunnel = self.tunnel.as_ref()?;
                tunnel.learn_way(now, remote);
                Some(tunnel.inner_mtu(now, remote))
            }
        }
    }

    /// Who was heard, and who spoke VXLAN to us that is no peer.
    pub(crate) fn remembered(&self) -> Remembered {
        Remembered {
            heard: self.neighbours.all().collect(),
            strangers: self.tunnel.as_ref().map(|tunnel| tunnel.strangers().to_vec()).unwrap_or_default(),
        }
    }

    /// Looks for answers among the frames of the batch, which came in on `ingress`.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for_answers(&mut self, now: Instant, ingress: PortId) {
        let Self { watches, batch, .. } = self;
        batch.frames().iter().for_each(|frame| look(watches, now, ingress, frame.bytes()));
    }
}

/// Looks whether `frame`, which came in on `ingress`, is an answer.
#[cold]
#[inline(never)]
pub(super) fn look(watches: &mut Vec<Watch>, now: Instant, ingress: PortId, frame: &[u8]) {
    watches.retain(|watch| {
        // Of who answers none in particular: to all nodes, as one without an address is answered (RFC 4861 7.2.4).
        let to_it = |to: &[u8]| *to == watch.to.0 || *to == [0x33, 0x33, 0, 0, 0, 1];
        if frame.get(..6).is_some_and(to_it)
            && let Some((mac, ip)) = watch.echo.map_or_else(|| wire::speaker(frame), |ident| echo_reply(frame, ident))
            && ip == watch.ip
        {
            // More than one may answer; who answers without end finds no room.
            let _ = watch.answers.try_send(Answered { port: ingress, mac, at: now });
        }
        watch.until >= now
    });
}

/// The sender of `frame`, where that is a reply to the ICMP echo `ident`.
fn echo_reply(frame: &[u8], ident: u16) -> Option<(MacAddr, IpAddr)> {
    let ethertype = |at: usize| frame.get(at..at + 2);
    let at = if ethertype(12) == Some(&[0x81, 0x00]) { 18 } else { 14 };
    let (packet, mac) = (frame.get(at..)?, MacAddr(*frame.get(6..)?.first_chunk()?));
    let (ip, icmp, reply): (IpAddr, &[u8], u8) = match *ethertype(at - 2)? {
        [0x08, 0x00] if packet.get(9) == Some(&1) => {
            let len = usize::from(packet.first()? & 0xf) * 4;
            ((*packet.get(12..)?.first_chunk::<4>()?).into(), packet.get(len..)?, 0)
        }
        [0x86, 0xdd] if packet.get(6) == Some(&58) => {
            ((*packet.get(8..)?.first_chunk::<16>()?).into(), packet.get(40..)?, 129)
        }
        _ => return None,
    };
    (icmp.first() == Some(&reply) && icmp.get(4..6) == Some(&ident.to_be_bytes())).then_some((mac, ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_from_all_else() {
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        let v4 = |kind: u8, ident: u16| {
            let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
            [&[2; 6], &mac.0[..], &[8, 0], &ip, &[kind, 0, 0, 0], &ident.to_be_bytes(), &[0, 1]].concat()
        };
        let v6 = |kind: u8| {
            let ip = [&[0x60, 0, 0, 0, 0, 8, 58, 64][..], &[0xfd; 16], &[0xfe; 16]].concat();
            [&[2; 6], &mac.0[..], &[0x81, 0, 0, 9, 0x86, 0xdd], &ip, &[kind, 0, 0, 0, 0, 7, 0, 1]].concat()
        };
        let table = [
            (v4(0, 7), Some("10.0.0.2")),
            (v4(8, 7), None),
            (v4(0, 8), None),
            (v6(129), Some("fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd")),
            (v6(128), None),
        ];
        for (frame, from) in table {
            let from = from.map(|from| (mac, from.parse().unwrap()));
            assert_eq!(echo_reply(&frame, 7), from, "{frame:x?}");
            for len in 0..frame.len() - 2 {
                assert_eq!(echo_reply(&frame[..len], 7), None, "{len} bytes of {frame:x?}");
            }
        }
    }
}

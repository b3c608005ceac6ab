//! Who was heard where: the senders of ARP and neighbour discovery among the frames for many.
//!
//! Only frames that are flooded come here, which are few, and of those a port may have so many looked at a second. What is
//! remembered is bounded for each port, so that who invents addresses pushes out his own.

use std::net::IpAddr;
use std::time::Duration;

use vswitch_core::switch::PortId;
use vswitch_core::{Instant, MacAddr, VlanId, wire};

/// Addresses remembered of a port, and of a remote.
const PER_PORT: usize = 32;
const PER_REMOTE: usize = 512;
/// Frames of one port looked at in [`WINDOW`].
const LOOKS: u32 = 32;
const WINDOW: Duration = Duration::from_millis(500);

/// An address that somebody said he has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) ip: IpAddr,
    pub(crate) mac: MacAddr,
    pub(crate) vlan: VlanId,
    pub(crate) at: Instant,
}

/// What was heard, by port.
#[derive(Debug, Default)]
pub(super) struct Neighbours(Vec<Option<Box<Ear>>>);

#[derive(Debug, Default)]
struct Ear {
    since: Instant,
    looks: u32,
    heard: Vec<Heard>,
}

impl Neighbours {
    /// Listens to a frame for many that came in on `port`.
    #[inline]
    pub(super) fn listen(&mut self, now: Instant, port: PortId, is_remote: bool, vlan: VlanId, frame: &[u8]) {
        if may_speak(frame) {
            self.look(now, port, is_remote, vlan, frame);
        }
    }

    #[cold]
    #[inline(never)]
    fn look(&mut self, now: Instant, port: PortId, is_remote: bool, vlan: VlanId, frame: &[u8]) {
        if self.0.len() <= port.index() {
            self.0.resize_with(port.index() + 1, || None);
        }
        let ear = self.0[port.index()].get_or_insert_default();
        if now.since(ear.since) > WINDOW {
            (ear.since, ear.looks) = (now, 0);
        }
        ear.looks += 1;
        if ear.looks <= LOOKS
            && let Some((mac, ip)) = wire::speaker(frame)
        {
            ear.remember(Heard { ip, mac, vlan, at: now }, if is_remote { PER_REMOTE } else { PER_PORT });
        }
    }

    /// Forgets what was heard on `port`.
    pub(super) fn forget(&mut self, port: PortId) {
        if let Some(ear) = self.0.get_mut(port.index()) {
            *ear = None;
        }
    }

    /// All that is remembered, with the port it was heard on.
    pub(super) fn all(&self) -> impl Iterator<Item = (PortId, Heard)> + '_ {
        let ears = (0..=u16::MAX).map(PortId::new).zip(&self.0);
        ears.flat_map(|(port, ear)| ear.iter().flat_map(move |ear| ear.heard.iter().map(move |heard| (port, *heard))))
    }
}

impl Ear {
    fn remember(&mut self, new: Heard, most: usize) {
        let is_same = |old: &Heard| (old.ip, old.vlan) == (new.ip, new.vlan);
        if let Some(old) = self.heard.iter_mut().find(|old| is_same(old)) {
            *old = new;
        } else if self.heard.len() < most {
            self.heard.push(new);
        } else if let Some(oldest) = self.heard.iter_mut().min_by_key(|old| old.at) {
            *oldest = new;
        }
    }
}

/// Whether `frame` may be one that says who its sender is: ARP or IPv6, behind a tag or not.
#[inline]
fn may_speak(frame: &[u8]) -> bool {
    let ethertype = |at: usize| matches!(frame.get(at..at + 2), Some([0x08, 0x06] | [0x86, 0xdd]));
    ethertype(12) || ethertype(16) && frame.get(12..14) == Some(&[0x81, 0x00])
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLAN: VlanId = VlanId::MIN;

    fn arp(n: u32) -> Vec<u8> {
        let [a, b, c, d] = n.to_be_bytes();
        let mac = [2, 0, a, b, c, d];
        let head = [&[0xff; 6], &mac[..], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        [&head[..], &mac, &[10, b, c, d], &[0; 6], &[10, 0, 0, 1]].concat()
    }

    #[test]
    fn who_invents_addresses_pushes_out_his_own() {
        let (liar, honest) = (PortId::new(3), PortId::new(7));
        let mut neighbours = Neighbours::default();
        let at = |millis: u64| Instant::from_nanos(60_000_000_000 + millis * 1_000_000);
        neighbours.listen(at(0), honest, false, VLAN, &arp(1));
        for n in 0..10_000 {
            neighbours.listen(at(u64::from(n)), liar, false, VLAN, &arp(n));
        }
        let on = |port| neighbours.all().filter(|(on, _)| *on == port).count();
        assert_eq!((on(liar), on(honest)), (PER_PORT, 1));
        // The newest that were looked at: at most LOOKS in each window.
        assert!(neighbours.all().all(|(on, heard)| on == honest || heard.at > at(9_000)));
        let mut again = Neighbours::default();
        (0..1_000).for_each(|n| again.listen(at(0), liar, true, VLAN, &arp(n)));
        assert_eq!(again.all().count(), usize::try_from(LOOKS).unwrap());
        again.forget(liar);
        assert_eq!(again.all().count(), 0);
    }

    #[test]
    fn the_latest_word_counts() {
        let mut neighbours = Neighbours::default();
        let mut moved = arp(1);
        moved[22..28].copy_from_slice(&[2, 0, 0, 0, 9, 9]); // its own, in ARP
        for (millis, frame) in [(0, arp(1)), (1, moved), (2, vec![0; 60])] {
            neighbours.listen(Instant::from_nanos(millis), PortId::new(0), false, VLAN, &frame);
        }
        let all: Vec<_> = neighbours.all().map(|(_, heard)| (heard.ip.to_string(), heard.mac.0, heard.at)).collect();
        assert_eq!(all, [("10.0.0.1".to_owned(), [2, 0, 0, 0, 9, 9], Instant::from_nanos(1))]);
    }
}

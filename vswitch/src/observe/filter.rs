//! Which frames somebody wants to see.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;
use vswitch_api::observe::{self, Place};
use vswitch_api::record::Direction;

use super::names::{GONE, NONE, Name, Names};
use super::{Fate, Sight};
use crate::drops::Drop;

/// Bytes that are looked at: Ethernet, two tags and the addresses of IPv6.
const HEAD: usize = 14 + 8 + 40;

/// There is no such reason.
#[derive(Debug, Error)]
#[error("frames are not dropped for {name:?}: the reasons are {}", reasons())]
pub(crate) struct NoReason {
    name: String,
}

fn reasons() -> String {
    let mut names: Vec<_> = Drop::all().map(Drop::name).collect();
    names.sort_unstable();
    names.dedup(); // two stages may share one
    names.join(", ")
}

/// Which frames are meant.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    place: Where,
    mac: Option<[u8; 6]>,
    ip: Option<IpAddr>,
    vlan: Option<u16>,
    /// By its name: two stages may share one.
    reason: Option<&'static str>,
    direction: Option<Direction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Where {
    All,
    Tunnel,
    Drops,
    Named(String),
}

/// What a filter looks at.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) name: Option<&'a Name>,
    /// The number of that name.
    pub(super) number: u32,
    pub(crate) direction: Direction,
    pub(crate) fate: Fate,
    pub(crate) vlan: Option<u16>,
    head: [u8; HEAD],
    /// Bytes there are of it.
    known: usize,
}

impl<'a> View<'a> {
    pub(super) fn new<'b>(names: &'a Names, sight: &Sight<'b>, pieces: impl Iterator<Item = &'b [u8]>) -> Self {
        let number = names.number(sight.place);
        let vlan = sight.vlan.map(|vlan| vlan.get());
        Self { number, ..Self::of(names.get(number), sight.direction, sight.fate, vlan, pieces) }
    }

    /// That of a frame whose bytes lie in `pieces`.
    pub(crate) fn of<'b>(
        name: Option<&'a Name>,
        direction: Direction,
        fate: Fate,
        vlan: Option<u16>,
        pieces: impl Iterator<Item = &'b [u8]>,
    ) -> Self {
        let (mut head, mut known) = ([0; HEAD], 0);
        for piece in pieces {
            let len = piece.len().min(HEAD - known);
            head[known..known + len].copy_from_slice(&piece[..len]);
            known += len;
        }
        Self { name, number: NONE, direction, fate, vlan, head, known }
    }

    /// What the port is called.
    pub(crate) fn port(&self) -> &'a str {
        self.name.map_or(GONE, |name| &name.text)
    }

    fn head(&self) -> &[u8] {
        &self.head[..self.known]
    }
}

impl Filter {
    /// The one that was asked for.
    pub(crate) fn new(wanted: &observe::Filter) -> Result<Self, NoReason> {
        let observe::Filter { place, mac, ip, vlan, reason, direction } = wanted;
        let reason = reason.as_ref().map(|name| {
            let known = Drop::all().map(Drop::name).find(|known| known == name);
            known.ok_or_else(|| NoReason { name: name.clone() })
        });
        Ok(Self {
            place: match place {
                Place::All => Where::All,
                Place::Tunnel => Where::Tunnel,
                Place::Drops => Where::Drops,
                Place::Port(name) => Where::Named(name.as_str().to_owned()),
                Place::Remote(ip) => Where::Named(format!("remote {ip}")),
            },
            mac: mac.map(|mac| mac.octets()),
            ip: *ip,
            vlan: vlan.map(|vlan| vlan.get()),
            reason: reason.transpose()?,
            direction: *direction,
        })
    }

    /// Whether it asks for what stands in a frame.
    pub(super) const fn looks_inside(&self) -> bool {
        self.mac.is_some() || self.ip.is_some()
    }

    /// Whether it means a frame.
    pub(crate) fn wants(&self, view: &View<'_>) -> bool {
        let dropped = match view.fate {
            Fate::Dropped(drop) => Some(drop.name()),
            _ => None,
        };
        let is_there = match &self.place {
            Where::All => true,
            Where::Drops => dropped.is_some(),
            Where::Tunnel => view.name.is_some_and(|name| name.is_tunnel),
            Where::Named(text) => view.name.is_some_and(|name| *name.text == **text),
        };
        is_there
            && self.direction.is_none_or(|direction| direction == view.direction)
            && self.reason.is_none_or(|reason| dropped == Some(reason))
            && self.vlan.is_none_or(|vlan| view.vlan == Some(vlan))
            && self.mac.is_none_or(|mac| has_mac(view.head(), mac))
            && self.ip.is_none_or(|ip| addresses(view.head()).is_some_and(|ends| ends.contains(&ip)))
    }
}

fn has_mac(head: &[u8], mac: [u8; 6]) -> bool {
    head.len() >= 12 && (head[..6] == mac || head[6..12] == mac)
}

/// Who speaks to whom, in IP or ARP.
fn addresses(head: &[u8]) -> Option<[IpAddr; 2]> {
    let mut at = 12;
    // A tag, and one behind it.
    for _ in 0..2 {
        if matches!(head.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
    }
    let packet = head.get(at + 2..)?;
    let v4 = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
    let v6 = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
    match head.get(at..at + 2)? {
        [0x08, 0x00] => Some([v4(12)?, v4(16)?]),
        [0x08, 0x06] => Some([v4(14)?, v4(24)?]),
        [0x86, 0xdd] => Some([v6(8)?, v6(24)?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use vswitch_core::switch::{Reason, VlanDrop};

    use super::*;
    use crate::drops::PortDrop;

    fn frame(tags: &[u8], ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa][..], tags, &ethertype.to_be_bytes(), packet].concat()
    }

    #[test]
    fn all_of_it_must_apply() {
        let mut ipv4 = vec![0; 20];
        ipv4[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let mut arp = vec![0; 28];
        (arp[14], arp[17], arp[24], arp[27]) = (10, 1, 10, 2);
        let mut ipv6 = vec![0; 40];
        (ipv6[8], ipv6[23], ipv6[24], ipv6[39]) = (0xfd, 1, 0xfd, 2);
        let frames = [
            frame(&[], 0x0800, &ipv4),
            frame(&[0x81, 0, 0, 10], 0x0806, &arp),
            frame(&[0x81, 0, 0, 10, 0x88, 0xa8, 0, 1], 0x86dd, &ipv6),
            frame(&[], 0x88b5, &[0; 46]),
            vec![1, 2, 3],
        ];
        let port = Name { text: "a".into(), is_tunnel: false };
        let remote = Name { text: "remote 192.0.2.2".into(), is_tunnel: true };
        let full = Fate::Dropped(PortDrop::QueueFull.into());
        let vlan = Fate::Dropped(Reason::Vlan(VlanDrop::ALL[0]).into());
        let views = [
            (&port, Direction::In, Fate::Left, Some(10), &frames[0]),
            (&remote, Direction::In, Fate::Left, Some(10), &frames[1]),
            (&port, Direction::Out, full, Some(20), &frames[2]),
            (&remote, Direction::Out, vlan, None, &frames[3]),
            (&port, Direction::In, Fate::Flood(3), Some(10), &frames[4]),
        ];
        let name = Reason::Vlan(VlanDrop::ALL[0]).name();
        let table = [
            ("{}".to_owned(), [true; 5]),
            (r#"{"where":{"port":"a"}}"#.to_owned(), [true, false, true, false, true]),
            (r#"{"where":{"remote":"192.0.2.2"}}"#.to_owned(), [false, true, false, true, false]),
            (r#"{"where":"tunnel"}"#.to_owned(), [false, true, false, true, false]),
            (r#"{"where":"drops"}"#.to_owned(), [false, false, true, true, false]),
            (r#"{"direction":"in"}"#.to_owned(), [true, true, false, false, true]),
            (r#"{"vlan":10}"#.to_owned(), [true, true, false, false, true]),
            (r#"{"mac":"02:00:00:00:00:0a"}"#.to_owned(), [true, true, true, true, false]),
            (r#"{"mac":"02:00:00:00:00:0c"}"#.to_owned(), [false; 5]),
            (r#"{"ip":"10.0.0.2"}"#.to_owned(), [true, true, false, false, false]),
            (r#"{"ip":"fd00::1"}"#.to_owned(), [false, false, true, false, false]),
            (r#"{"reason":"queue_full"}"#.to_owned(), [false, false, true, false, false]),
            (format!(r#"{{"reason":"{name}","where":"tunnel"}}"#), [false, false, false, true, false]),
            (format!(r#"{{"reason":"{name}","vlan":10}}"#), [false; 5]),
        ];
        for (text, expected) in table {
            let filter = Filter::new(&serde_json::from_str(&text).unwrap()).unwrap();
            let wants = views.map(|(name, direction, fate, vlan, bytes)| {
                // In any pieces.
                let (head, tail) = bytes.split_at(bytes.len().min(13));
                filter.wants(&View::of(Some(name), direction, fate, vlan, [head, tail].into_iter()))
            });
            assert_eq!(wants, expected, "{text}");
        }
    }

    #[test]
    fn a_reason_that_is_none() {
        let wanted = observe::Filter { reason: Some("no_reason".to_owned()), ..observe::Filter::default() };
        let message = Filter::new(&wanted).unwrap_err().to_string();
        assert!(message.contains("no_reason") && message.contains("queue_full, "), "{message}");
    }
}

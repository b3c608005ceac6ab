//! Frames of one's own making.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Six octets.
pub type Mac = [u8; 6];

/// Everybody.
pub const BROADCAST: Mac = [0xff; 6];

/// Local experimental EtherType 1 (IEEE 802-2014 9.2.4): nobody answers it.
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
/// EtherType of an 802.1Q tag.
const TAG: [u8; 2] = [0x81, 0x00];
/// Least frame, without its checksum.
const LEAST: usize = 60;
/// Before the number that tells a probe from anything else.
const MAGIC: [u8; 8] = *b"vsprobe:";

/// An Ethernet frame; `tag` is the TCI of an 802.1Q tag.
#[must_use]
pub fn ethernet(to: Mac, from: Mac, tag: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    if let Some(tci) = tag {
        frame.extend_from_slice(&TAG);
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A number that no other probe has.
#[must_use]
pub fn cookie() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A frame that can be told from all others by its `cookie`.
#[must_use]
pub fn probe(to: Mac, from: Mac, tag: Option<u16>, cookie: u64) -> Vec<u8> {
    let payload = [&MAGIC[..], &cookie.to_be_bytes()].concat();
    let mut frame = ethernet(to, from, tag, u16::from_be_bytes(EXPERIMENTAL), &payload);
    frame.resize(frame.len().max(LEAST), 0);
    frame
}

/// The cookie of a probe.
#[must_use]
pub fn cookie_of(frame: &[u8]) -> Option<u64> {
    let payload = untagged(frame).strip_prefix(&EXPERIMENTAL)?.strip_prefix(&MAGIC)?;
    payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// The TCI of a frame's outer 802.1Q tag.
#[must_use]
pub fn tag_of(frame: &[u8]) -> Option<u16> {
    let tci = frame.get(12..)?.strip_prefix(&TAG)?.first_chunk()?;
    Some(u16::from_be_bytes(*tci))
}

/// A frame from its EtherType on, behind the tag if it has one.
fn untagged(frame: &[u8]) -> &[u8] {
    let behind = if tag_of(frame).is_some() { 16 } else { 12 };
    frame.get(behind..).unwrap_or_default()
}

/// The address that `frame` is for, and the one it is from.
#[must_use]
pub fn addresses(frame: &[u8]) -> Option<(Mac, Mac)> {
    let (to, rest) = frame.split_first_chunk()?;
    Some((*to, *rest.first_chunk()?))
}

/// The datagram that carries `inner` (RFC 7348 5).
#[must_use]
pub fn vxlan(flags: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[flags, 0, 0, 0, a, b, c, 0], inner].concat()
}

/// An address as people write it.
#[must_use]
pub fn text(mac: Mac) -> String {
    let mut text = String::new();
    for octet in mac {
        let separator = if text.is_empty() { "" } else { ":" };
        let _ = write!(text, "{separator}{octet:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_found_again() {
        let (to, from) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let plain = probe(to, from, None, 7);
        let tagged = probe(to, from, Some(0x600a), 8);
        assert_eq!((cookie_of(&plain), tag_of(&plain), plain.len()), (Some(7), None, 60));
        assert_eq!((cookie_of(&tagged), tag_of(&tagged)), (Some(8), Some(0x600a)));
        assert_eq!(addresses(&tagged), Some((to, from)));
        assert_eq!(cookie_of(&plain[..20]), None);
        assert_eq!(text(to), "02:00:00:00:00:01");
    }
}

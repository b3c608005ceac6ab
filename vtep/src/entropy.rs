//! The flow a frame belongs to, as the outer source port shows it to the underlay's ECMP and to the receiver's queues
//! (RFC 7348 section 5).

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use crate::inner::{Ip, MACS_LEN, TCP, UDP};

/// Fixed, so that a flow keeps its path when the daemon restarts. A container that aims its flows at one lane only hurts
/// itself.
const SEED: u64 = 0x7674_6570;

/// A hash of the inner flow, the same in both directions: addresses and ports of TCP and UDP over IPv4 and IPv6, with or
/// without tag; addresses alone for fragments, which must not part from the first one, and other protocols; else the
/// MAC addresses.
#[must_use]
#[inline]
pub fn flow_hash(frame: &[u8]) -> u64 {
    if let Some(ip) = Ip::find(frame) {
        return hash_ip(frame, &ip);
    }
    match frame.split_at_checked(MACS_LEN) {
        Some((macs, _)) => symmetric(macs, [0; 2], [0; 2], 0),
        None => 0,
    }
}

/// The same for a frame whose IP header was found.
#[inline]
pub(crate) fn hash_ip(frame: &[u8], ip: &Ip) -> u64 {
    let ports = match frame.get(ip.transport..).and_then(<[u8]>::first_chunk::<4>) {
        Some(&[a, b, c, d]) if !ip.fragment && matches!(ip.protocol, TCP | UDP) => ([a, b], [c, d]),
        _ => ([0; 2], [0; 2]),
    };
    symmetric(ip.addresses(frame), ports.0, ports.1, ip.protocol)
}

/// The lane of a flow among `lanes`, spread evenly; 0 where there is none.
#[must_use]
#[inline]
pub fn lane(hash: u64, lanes: usize) -> usize {
    let lanes = u64::try_from(lanes).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
    usize::try_from(((hash >> 32) * lanes) >> 32).unwrap_or(0)
}

#[inline]
fn symmetric(pair: &[u8], source: [u8; 2], destination: [u8; 2], protocol: u8) -> u64 {
    let state = FixedState::with_seed(SEED);
    let (from, to) = pair.split_at(pair.len() / 2);
    let ends = end(&state, from, source).wrapping_add(end(&state, to, destination));
    state.hash_one((ends, protocol))
}

/// One end of the flow, hashed alone so that the sum of both knows no direction.
#[inline]
fn end(state: &FixedState, address: &[u8], port: [u8; 2]) -> u64 {
    let mut wide = [0; 16];
    wide[..address.len()].copy_from_slice(address);
    state.hash_one((u128::from_ne_bytes(wide), u16::from_ne_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, tagged};

    #[test]
    fn both_directions_and_tags_agree() {
        for build in [Build::tcp4(), Build::tcp6(), Build::udp4(), Build::udp6()] {
            let there = build.clone().payload(&[1; 100]).bytes();
            let back = build.clone().reversed().payload(&[2; 9]).bytes();
            assert_eq!(flow_hash(&there), flow_hash(&back), "{build:?}");
            assert_eq!(flow_hash(&there), flow_hash(&tagged(&there, 5)), "{build:?}");
            let other = build.clone().ports(1, 2).bytes();
            assert_ne!(flow_hash(&there), flow_hash(&other), "{build:?}");
        }
    }

    #[test]
    fn fragments_stay_together() {
        let mut first = Build::udp4().payload(&[0; 64]).bytes();
        first[20] |= 0x20; // more fragments
        let mut second = Build::udp4().ports(7, 7).payload(&[0; 64]).bytes();
        second[21] = 8;
        assert_eq!(flow_hash(&first), flow_hash(&second));
    }

    #[test]
    fn every_length_hashes() {
        let frame = tagged(&Build::tcp6().payload(&[0; 40]).bytes(), 9);
        for len in 0..=frame.len() {
            let _ = flow_hash(&frame[..len]);
        }
    }

    #[test]
    fn lanes_fill_evenly() {
        let mut count = [0; 16];
        for port in 0..4096 {
            count[lane(flow_hash(&Build::tcp4().ports(port, 80).bytes()), 16)] += 1;
        }
        assert!(count.iter().all(|&flows| (180..340).contains(&flows)), "{count:?}");
        assert_eq!(lane(u64::MAX, 16), 15);
        assert_eq!(lane(u64::MAX, 0), 0);
    }
}

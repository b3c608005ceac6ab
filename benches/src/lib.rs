//! Frames to measure with, a switch and a tunnel.
//!
//! ```text
//! cargo bench -p benches --bench parts      # the parts, in memory
//! cargo bench -p benches --bench e2e        # the whole, against the kernel; as root
//! ```
//! README.md says how to read what they print.
#![allow(clippy::unwrap_used, reason = "constants that a type checks at run time")]

pub mod stations;
pub mod tunnel;

use vswitch_core::{Checksum, Frame, Gso, GsoKind, MacAddr, Offload};
use vtep::checksum::Sum;

/// Bytes before the payload of a TCP frame over IPv4, with timestamps as every Linux sends them.
pub const TCP_HEADERS: usize = 14 + IP + TCP;
/// Bytes of an IPv4 header.
const IP: usize = 20;
/// Bytes of a TCP header with timestamps.
const TCP: usize = 32;

/// Station number `number`: each has an address of its own, spread over all octets but the first.
#[must_use]
pub const fn station(number: u32) -> MacAddr {
    // Odd, so that no two numbers meet.
    let spread = (number as u64).wrapping_mul(0x9e_3779_b97f);
    MacAddr::from_u64(0x0200_0000_0000 | (spread & 0x00ff_ffff_ffff))
}

/// A frame of 60 bytes (64 on the wire) from one station to another.
#[must_use]
pub fn least(from: MacAddr, to: MacAddr) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

/// A TCP super-frame with `payload` bytes, to be cut every `segment`, as a kernel hands it over.
#[must_use]
pub fn super_frame(payload: u16, segment: u16) -> Frame {
    let mut bytes = least(station(1), station(2))[..14].to_vec();
    let length = u16::try_from(IP + TCP).unwrap_or(0) + payload;
    bytes.extend([0x45, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = Sum::of(&bytes[14..34]).complete();
    bytes[24..26].copy_from_slice(&sum);
    bytes.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 0x20, 0, 0, 0, 0, 0]);
    bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    let partial = Sum::pseudo_header(&bytes[26..34], 6, length - 20).partial();
    bytes[50..52].copy_from_slice(&partial);
    bytes.extend((0..payload).map(|place| place.to_le_bytes()[0]));
    let mut frame = Frame::from_bytes(&bytes);
    let header = u16::try_from(TCP_HEADERS).unwrap_or(0);
    let gso = Gso { kind: GsoKind::TcpV4, segment, header, ecn: false };
    frame.offload = Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, gso: Some(gso) };
    frame
}

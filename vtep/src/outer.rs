//! The headers around a frame on the underlay, for where no socket writes them: Ethernet, IP, UDP, VXLAN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use vswitch_core::{Checksum, Frame};

use crate::checksum::Sum;
use crate::header::{HEADER_LEN, Vni, encode};
use crate::inner::{ETHERNET_LEN, IPV4, IPV6, MACS_LEN, UDP, UDP_LEN, get16, put, tag_len};

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Hops a packet may take.
const HOPS: u8 = 64;

/// Bytes before the VXLAN header of a packet between hosts that have addresses like `ip`: Ethernet, IP without options,
/// UDP.
#[must_use]
pub const fn outer_len(ip: IpAddr) -> usize {
    match ip {
        IpAddr::V4(_) => ETHERNET_LEN + IPV4_LEN + UDP_LEN,
        IpAddr::V6(_) => ETHERNET_LEN + IPV6_LEN + UDP_LEN,
    }
}

/// Appends to `out` all that goes before the untagged bytes of `frame` in a packet of network `vni`, where `more` bytes of
/// payload follow those of the frame: outer headers, VXLAN
/// header, and, where a tag has to be left out, the addresses before it. Returns how many bytes of `frame` to leave out;
/// `None`, and nothing appended, where the whole is longer than an IP packet can be, or another tag would be the first
/// thing inside (RFC 7348 6.1): the switch hands out no such frame.
///
/// The frame may be a super-frame: lengths are those of the whole. Over IPv4 the UDP checksum is zero (RFC 7348 5). Over
/// IPv6 it is complete, or for a super-frame the pseudo-header's sum, to be completed by whoever cuts it. The Ethernet
/// header has no addresses.
pub fn write_outer(
    out: &mut Vec<u8>,
    frame: &Frame,
    more: usize,
    vni: Vni,
    (from, to): (SocketAddr, SocketAddr),
    tos: u8,
) -> Option<usize> {
    let bytes = frame.bytes();
    let tag = tag_len(bytes);
    if tag > 0 && tag_len(bytes.get(tag..)?) > 0 {
        return None;
    }
    let udp = u16::try_from(UDP_LEN + HEADER_LEN + bytes.len() - tag + more).ok()?;
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_ipv4(out, from, to, tos, udp.checked_add(20)?),
        (IpAddr::V6(from), IpAddr::V6(to)) => write_ipv6(out, from, to, tos, udp),
        _ => return None,
    }
    let udp_at = out.len();
    for word in [from.port(), to.port(), udp, 0] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&encode(vni));
    if tag > 0 {
        out.extend_from_slice(&bytes[..MACS_LEN]);
    }
    let skip = if tag > 0 { MACS_LEN + tag } else { 0 };
    if to.is_ipv6() {
        let pseudo = Sum::pseudo_header(&out[udp_at - 2 * 16..udp_at], UDP, udp);
        let sum = if frame.offload.gso.is_some() {
            pseudo.partial()
        } else {
            pseudo.plus(Sum::of(&out[udp_at..])).plus(rest(frame, skip)).complete_nonzero()
        };
        put(out, udp_at + 6, sum);
    }
    Some(skip)
}

/// The sum of what stands behind the first `skip` bytes of a frame, as it will be once its own checksum is paid: from
/// there on everything then sums up to the complement of the pseudo-header's sum, which is what the field holds now.
fn rest(frame: &Frame, skip: usize) -> Sum {
    let bytes = frame.bytes();
    match frame.offload.checksum {
        Checksum::Partial { start, offset } => {
            let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
            let owed = bytes.get(field..field + 2).map_or(0, |field| get16(field, 0));
            let before = bytes.get(skip..start).unwrap_or_default();
            Sum::of(before).plus(Sum::of(&(!owed).to_be_bytes()))
        }
        Checksum::Complete => Sum::of(&bytes[skip..]),
    }
}

/// Ethernet and IPv4 header of a packet of `len` bytes.
fn write_ipv4(out: &mut Vec<u8>, from: Ipv4Addr, to: Ipv4Addr, tos: u8, len: u16) {
    out.extend_from_slice(&[0; MACS_LEN]);
    out.extend_from_slice(&IPV4);
    let at = out.len();
    out.extend_from_slice(&[0x45, tos]);
    out.extend_from_slice(&len.to_be_bytes());
    // No identification (RFC 6864 4.1), don't fragment, no checksum yet.
    out.extend_from_slice(&[0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
    out.extend_from_slice(&from.octets());
    out.extend_from_slice(&to.octets());
    let sum = Sum::of(&out[at..]).complete();
    put(out, at + 10, sum);
}

/// Ethernet and IPv6 header before `udp` bytes.
fn write_ipv6(out: &mut Vec<u8>, from: Ipv6Addr, to: Ipv6Addr, class: u8, udp: u16) {
    out.extend_from_slice(&[0; MACS_LEN]);
    out.extend_from_slice(&IPV6);
    out.extend_from_slice(&[0x60 | class >> 4, class << 4, 0, 0]);
    out.extend_from_slice(&udp.to_be_bytes());
    out.extend_from_slice(&[UDP, HOPS]);
    out.extend_from_slice(&from.octets());
    out.extend_from_slice(&to.octets());
}

/// What a packet's outer headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Where it comes from.
    pub from: SocketAddr,
    /// The TOS octet or traffic class.
    pub tos: u8,
    /// Where the UDP payload lies.
    pub payload: Range<usize>,
}

/// Reads the outer headers of a packet that is UDP over IP without options or extensions.
#[must_use]
pub fn parse_outer(packet: &[u8]) -> Option<Outer> {
    let ip = packet.get(ETHERNET_LEN..)?;
    let octet = |at: usize| ip.get(at).copied();
    let (at, from, tos) = match *packet.get(MACS_LEN..)?.first_chunk::<2>()? {
        IPV4 if octet(0)? == 0x45 && octet(9)? == UDP => {
            let from = Ipv4Addr::from(*ip.get(12..)?.first_chunk::<4>()?);
            (IPV4_LEN, IpAddr::V4(from), octet(1)?)
        }
        IPV6 if octet(0)? >> 4 == 6 && octet(6)? == UDP => {
            let from = Ipv6Addr::from(*ip.get(8..)?.first_chunk::<16>()?);
            (IPV6_LEN, IpAddr::V6(from), octet(0)? << 4 | octet(1)? >> 4)
        }
        _ => return None,
    };
    let at = ETHERNET_LEN + at;
    let &[a, b, _, _, len_hi, len_lo, _, _] = packet.get(at..)?.first_chunk::<UDP_LEN>()?;
    // An Ethernet frame may be padded behind its packet.
    let end = at + usize::from(u16::from_be_bytes([len_hi, len_lo]));
    let payload = at + UDP_LEN..end;
    (payload.start <= end && end <= packet.len()).then(|| Outer {
        from: SocketAddr::new(from, u16::from_be_bytes([a, b])),
        tos,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, check, tagged};
    use vswitch_core::Offload;

    const ENDS: [(&str, &str); 2] =
        [("192.0.2.1:50000", "192.0.2.2:4789"), ("[2001:db8::1]:50000", "[2001:db8::2]:4789")];

    fn packet(frame: &Frame, (from, to): (&str, &str)) -> Vec<u8> {
        let mut out = Vec::new();
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        let skip = write_outer(&mut out, frame, 0, Vni::new(7).unwrap(), (from, to), 0xb9).unwrap();
        out.extend_from_slice(&frame.bytes()[skip..]);
        out
    }

    #[test]
    fn written_and_read_again() {
        for ends in ENDS {
            for tag in [false, true] {
                let inner = Build::tcp4().payload(b"inside").bytes();
                let frame = Frame::from_bytes(&if tag { tagged(&inner, 10) } else { inner.clone() });
                let packet = packet(&frame, ends);
                let outer = parse_outer(&packet).unwrap();
                let from: SocketAddr = ends.0.parse().unwrap();
                assert_eq!((outer.from, outer.tos), (from, 0xb9));
                assert_eq!(outer.payload.start, outer_len(from.ip()));
                assert_eq!(packet[outer.payload.start + HEADER_LEN..], inner, "{ends:?} {tag}");
                if from.is_ipv6() {
                    check(&packet); // with all checksums; over IPv4 there is none
                }
                let padded = [&packet[..], &[0; 20]].concat();
                assert_eq!(parse_outer(&padded).unwrap(), outer);
            }
        }
    }

    #[test]
    fn the_outer_checksum_foresees_the_inner_one() {
        let whole = Build::udp4().payload(b"paid in time").bytes();
        let mut frame = Frame::from_bytes(&whole);
        let len = u16::try_from(whole.len() - 34).unwrap();
        let partial = Sum::pseudo_header(&whole[26..34], UDP, len).partial();
        frame.bytes_mut()[40..42].copy_from_slice(&partial);
        frame.offload = Offload { checksum: Checksum::Partial { start: 34, offset: 6 }, gso: None };
        let sent = packet(&frame, ENDS[1]);
        let headers = sent.len() - whole.len();
        let arrived = [&sent[..headers], &whole[..]].concat();
        check(&arrived);
    }

    #[test]
    fn no_tag_is_the_first_thing_inside() {
        let inner = Build::tcp4().payload(b"inside").bytes();
        let double = Frame::from_bytes(&tagged(&tagged(&inner, 10), 20));
        for (from, to) in ENDS {
            let mut out = vec![1, 2, 3];
            let ends = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(write_outer(&mut out, &double, 0, Vni::new(7).unwrap(), ends, 0), None);
            assert_eq!(out, [1, 2, 3]);
        }
    }

    #[test]
    fn no_packet_is_longer_than_ip_allows() {
        let (from, to) = (ENDS[0].0.parse().unwrap(), ENDS[0].1.parse().unwrap());
        let mut out = vec![1, 2, 3];
        for (len, fits) in [(65_535 - 36, true), (65_535 - 35, false), (65_535 - 15, false), (65_550, false)] {
            let frame = Frame::from_bytes(&vec![0; len]);
            let wrote = write_outer(&mut out, &frame, 0, Vni::new(7).unwrap(), (from, to), 0);
            assert_eq!(wrote.is_some(), fits, "{len}");
            assert_eq!(out.len() > 3, fits);
            out.truncate(3);
        }
    }

    #[test]
    fn stubs_and_strangers_are_none() {
        for ends in ENDS {
            let packet = packet(&Frame::from_bytes(&Build::udp4().payload(b"x").bytes()), ends);
            let headers = outer_len(ends.0.parse::<SocketAddr>().unwrap().ip());
            for len in 0..headers {
                assert_eq!(parse_outer(&packet[..len]), None, "{len}");
            }
            for (at, value) in [(12, 0), (14, 0x46 | 0x10)] {
                let mut other = packet.clone();
                other[at] = value;
                assert_eq!(parse_outer(&other), None, "{at}");
            }
            let mut short = packet.clone();
            put(&mut short, headers - 4, 7_u16.to_be_bytes());
            assert_eq!(parse_outer(&short), None, "shorter than its header");
        }
    }
}

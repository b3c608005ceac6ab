//! Judges of frames, with sums and comparisons of their own.

use std::collections::HashMap;

use etherparse::{InternetSlice, SlicedPacket, TransportSlice};

/// Where headers lie in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    /// The IP header.
    pub ip: usize,
    /// The TCP or UDP header.
    pub transport: usize,
}

/// The internet checksum as RFC 1071 explains it: the sum of 16-bit words with their carries, not complemented.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the lengths and checksums of a TCP or UDP frame are those that its bytes ask for.
pub fn is_correct(frame: &[u8], Offsets { ip, transport }: Offsets) -> bool {
    let behind = &frame[transport..];
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let len = u16::try_from(behind.len()).expect("a segment fits a packet");
    let (protocol, addresses, is_ip_correct) = if frame[ip] >> 4 == 4 {
        let header = &frame[ip..transport];
        let is_correct = checksum(&[header]) == 0xffff && usize::from(word(ip + 2)) == frame.len() - ip;
        (frame[ip + 9], &frame[ip + 12..ip + 20], is_correct)
    } else {
        // Options may stand between; what the pseudo-header wants is the last protocol.
        let next = if transport == ip + 40 { frame[ip + 6] } else { last_protocol(frame, ip, transport) };
        (next, &frame[ip + 8..ip + 40], usize::from(word(ip + 4)) == frame.len() - ip - 40)
    };
    let is_udp_correct = protocol != 17 || (word(transport + 4) == len && word(transport + 6) != 0);
    let pseudo = [[0, protocol], len.to_be_bytes()].concat();
    is_ip_correct && is_udp_correct && checksum(&[addresses, &pseudo, behind]) == 0xffff
}

/// The protocol named by the extension header that ends at `transport`.
fn last_protocol(frame: &[u8], ip: usize, transport: usize) -> u8 {
    let (mut at, mut next) = (ip + 40, frame[ip + 6]);
    while at < transport {
        next = frame[at];
        at += 8 * (usize::from(frame[at + 1]) + 1);
    }
    next
}

/// Asserts that `got` are the frames `sent`, and those of each flow in their order. Two spellings of the same do not
/// count: an IPv4 identification under DF (RFC 6864 4.1), and a checksum of ones where zero is meant. `owes` says that
/// the checksum of TCP and UDP frames was still owed when they were sent.
pub fn same_frames(sent: &[Vec<u8>], got: &[Vec<u8>], owes: bool) {
    assert_eq!(by_flow(sent, owes), by_flow(got, owes));
}

/// Frames by what must keep their order.
fn by_flow(frames: &[Vec<u8>], owes: bool) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: HashMap<_, Vec<_>> = HashMap::new();
    for frame in frames {
        let (flow, plain) = plain(frame, owes);
        flows.entry(flow).or_default().push(plain);
    }
    flows
}

/// Which flow a frame belongs to, and the frame with one spelling for what has two. What is not TCP or UDP is a flow of
/// its own.
fn plain(frame: &[u8], owes: bool) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = frame.to_vec();
    let Ok(SlicedPacket { net: Some(net), transport: Some(transport), .. }) = SlicedPacket::from_ethernet(frame) else {
        return (bytes.clone(), bytes);
    };
    let place = |part: &[u8]| part.as_ptr() as usize - frame.as_ptr() as usize;
    let (addresses, is_v4) = match &net {
        InternetSlice::Ipv4(ip) => {
            let header = ip.header();
            let at = place(header.slice());
            if header.dont_fragment() {
                bytes[at + 4..at + 6].fill(0);
                bytes[at + 10..at + 12].fill(0);
            }
            one_zero(&mut bytes, at + 10);
            (frame[at + 9..at + 10].iter().chain(&frame[at + 12..at + 20]).copied().collect::<Vec<_>>(), true)
        }
        InternetSlice::Ipv6(ip) => {
            let at = place(ip.header().slice());
            (frame[at + 6..at + 7].iter().chain(&frame[at + 8..at + 40]).copied().collect(), false)
        }
        InternetSlice::Arp(_) => return (bytes.clone(), bytes),
    };
    let (at, field) = match &transport {
        TransportSlice::Tcp(tcp) => (place(tcp.slice()), 16),
        TransportSlice::Udp(udp) => (place(udp.slice()), 6),
        _ => return (frame.to_vec(), frame.to_vec()),
    };
    let is_none = field == 6 && frame[at + 6..at + 8] == [0, 0];
    if owes {
        bytes[at + field..at + field + 2].fill(0);
    } else if !is_none {
        one_zero(&mut bytes, at + field);
    }
    let flow = [&frame[..at.min(14)], &[u8::from(is_v4)], &addresses, &frame[at..at + 4]].concat();
    (flow, bytes)
}

/// Writes a checksum of ones as zero.
fn one_zero(bytes: &mut [u8], at: usize) {
    if bytes[at..at + 2] == [0xff, 0xff] {
        bytes[at..at + 2].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_seen() {
        let mut frame = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([1, 2, 3, 4], [5, 6, 7, 8], 9);
        builder.udp(10, 11).write(&mut frame, b"odd").unwrap();
        let at = Offsets { ip: 14, transport: 34 };
        assert!(is_correct(&frame, at));
        for changed in 14..frame.len() {
            let mut frame = frame.clone();
            frame[changed] ^= 4;
            assert!(std::panic::catch_unwind(|| is_correct(&frame, at)).map_or(true, |correct| !correct), "{changed}");
        }
    }
}

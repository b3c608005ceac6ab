//! A frame in a line.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv6Slice, LaxIpPayloadSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice,
    TcpSlice, TransportSlice,
};
use vswitch_api::record::{Record, Verdict};

/// When a frame was, where, which way, what it is, and what became of it.
pub(super) fn line(record: &Record) -> String {
    let Record { at, port, direction, verdict, vlan, len, head } = record;
    let vlan = vlan.map_or_else(|| "-".to_owned(), |vlan| vlan.to_string());
    let mut line = format!("{} {port:<12} {:<3} vlan {vlan:<4} ", clock(*at), direction.name());
    line.push_str(&summary(head));
    let _ = write!(line, ", {len} bytes");
    let _ = match verdict {
        Verdict::Passed { to } if to.is_empty() => Ok(()),
        Verdict::Passed { to } => write!(line, " -> {to}"),
        Verdict::Dropped(reason) => write!(line, " DROPPED {reason}"),
    };
    line
}

/// The time of day (UTC), to the microsecond.
pub(crate) fn clock(at: u64) -> String {
    let (seconds, micros) = (at / 1_000_000_000 % 86_400, at % 1_000_000_000 / 1_000);
    format!("{:02}:{:02}:{:02}.{micros:06}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What a frame is, from its first bytes.
pub(super) fn summary(head: &[u8]) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(head) else {
        return format!("no Ethernet header in {} bytes", head.len());
    };
    let mut text = String::new();
    if let Some(LinkSlice::Ethernet2(link)) = &packet.link {
        let _ = write!(text, "{} > {}", mac(link.source()), mac(link.destination()));
    }
    for id in packet.vlan_ids() {
        let _ = write!(text, " tag {}", id.value());
    }
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => push(&mut text, &arp_text(arp)),
        Some(LaxNetSlice::Ipv4(ip)) => {
            let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
            let _ = write!(text, " IPv4 {from} > {to}");
            transport(&mut text, &packet, ip.payload());
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
            let _ = write!(text, " IPv6 {from} > {to}");
            transport(&mut text, &packet, ip.payload());
        }
        None => match packet.ether_payload() {
            Some(payload) if payload.ether_type.0 >= 0x600 => {
                let _ = write!(text, " EtherType {:#06x}", payload.ether_type.0);
            }
            _ => push(&mut text, "IEEE 802.3"),
        },
    }
    text
}

fn push(text: &mut String, more: &str) {
    text.extend([" ", more]);
}

fn transport(text: &mut String, packet: &LaxSlicedPacket<'_>, payload: &LaxIpPayloadSlice<'_>) {
    if payload.fragmented && packet.transport.is_none() {
        push(text, "fragment");
        return;
    }
    let _ = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => write!(
            text,
            " TCP {} > {} [{}] seq {} ack {} win {}",
            tcp.source_port(),
            tcp.destination_port(),
            flags(tcp),
            tcp.sequence_number(),
            tcp.acknowledgment_number(),
            tcp.window_size()
        ),
        Some(TransportSlice::Udp(udp)) => {
            write!(text, " UDP {} > {}", udp.source_port(), udp.destination_port())
        }
        Some(TransportSlice::Icmpv4(icmp)) => write!(text, " {}", icmpv4(icmp)),
        Some(TransportSlice::Icmpv6(icmp)) => write!(text, " {}", icmpv6(icmp)),
        Some(TransportSlice::Igmp(_)) => write!(text, " IGMP"),
        None => match payload.ip_number.0 {
            6 => write!(text, " TCP, cut short"),
            17 => write!(text, " UDP, cut short"),
            number => write!(text, " protocol {number}"),
        },
    };
}

/// As tcpdump writes them.
fn flags(tcp: &TcpSlice<'_>) -> String {
    let all = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
        (tcp.ack(), '.'),
    ];
    all.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)).collect()
}

fn arp_text(arp: &ArpPacketSlice<'_>) -> String {
    let ip =
        |bytes: &[u8]| bytes.first_chunk::<4>().map_or_else(|| "?".to_owned(), |ip| Ipv4Addr::from(*ip).to_string());
    let (from, to) = (ip(arp.sender_protocol_addr()), ip(arp.target_protocol_addr()));
    match arp.operation() {
        ArpOperation::REQUEST if from == to => format!("ARP {from} announces itself"),
        ArpOperation::REQUEST => format!("ARP who has {to}? tell {from}"),
        ArpOperation::REPLY => {
            let at = arp.sender_hw_addr().first_chunk::<6>().map_or_else(|| "?".to_owned(), |at| mac(*at));
            format!("ARP {from} is at {at}")
        }
        ArpOperation(number) => format!("ARP operation {number}"),
    }
}

fn icmpv4(icmp: &Icmpv4Slice<'_>) -> String {
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    let [a, b, c, d] = icmp.bytes5to8();
    let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match (kind, code) {
        (0, 0) => format!("ICMP echo reply id {id} seq {sequence}"),
        (8, 0) => format!("ICMP echo request id {id} seq {sequence}"),
        (3, 4) => format!("ICMP fragmentation needed, MTU {sequence}"),
        (3, _) => format!("ICMP unreachable, code {code}"),
        (11, _) => "ICMP time exceeded".to_owned(),
        _ => format!("ICMP type {kind} code {code}"),
    }
}

fn icmpv6(icmp: &Icmpv6Slice<'_>) -> String {
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    let [a, b, c, d] = icmp.bytes5to8();
    let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    // Of neighbour discovery, the address in question follows the first eight bytes (RFC 4861 4.3).
    let target = || {
        let target = icmp.slice().get(8..).and_then(|rest| rest.first_chunk::<16>());
        target.map_or_else(|| "?".to_owned(), |target| Ipv6Addr::from(*target).to_string())
    };
    match kind {
        1 => format!("ICMPv6 unreachable, code {code}"),
        2 => format!("ICMPv6 packet too big, MTU {}", u32::from_be_bytes([a, b, c, d])),
        3 => "ICMPv6 time exceeded".to_owned(),
        128 => format!("ICMPv6 echo request id {id} seq {sequence}"),
        129 => format!("ICMPv6 echo reply id {id} seq {sequence}"),
        130..=132 | 143 => "ICMPv6 multicast listener".to_owned(),
        133 => "ICMPv6 router solicitation".to_owned(),
        134 => "ICMPv6 router advertisement".to_owned(),
        135 => format!("ICMPv6 who has {}?", target()),
        136 => format!("ICMPv6 {} is here", target()),
        137 => "ICMPv6 redirect".to_owned(),
        _ => format!("ICMPv6 type {kind} code {code}"),
    }
}

fn mac(octets: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = octets;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use vswitch_api::record::Direction;

    use super::*;

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
    const MACS: &str = "02:00:00:00:00:0a > 02:00:00:00:00:0b";

    fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
        [&B[..], &A, &ethertype.to_be_bytes(), packet].concat()
    }

    fn built(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>) -> Vec<u8> {
        let mut frame = Vec::new();
        builder.write(&mut frame, &[0; 10]).unwrap();
        frame
    }

    fn nd(kind: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
        packet.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        ethernet(0x86dd, &[packet, message].concat())
    }

    #[test]
    fn what_frames_are() {
        let arp = |operation: u8, to: u8| {
            let head = [0, 1, 8, 0, 6, 4, 0, operation];
            ethernet(0x0806, &[&head[..], &A, &[10, 0, 0, 1], &[0; 6], &[10, 0, 0, to]].concat())
        };
        let mut tcp = Vec::new();
        let builder = PacketBuilder::ethernet2(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1000, 80, 7, 512).syn();
        builder.write(&mut tcp, &[0; 1400]).unwrap();
        let mut ping = Vec::new();
        let builder = PacketBuilder::ethernet2(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        builder.icmpv4_echo_request(3, 4).write(&mut ping, &[]).unwrap();
        let v6 = PacketBuilder::ethernet2(A, B).ipv6([1; 16], [2; 16], 64).udp(5, 6);
        let tagged =
            PacketBuilder::ethernet2(A, B).single_vlan(10.try_into().unwrap()).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let syn = "IPv4 10.0.0.1 > 10.0.0.2 TCP 1000 > 80 [S] seq 7 ack 0 win 512";
        let table = [
            (arp(1, 2), "ARP who has 10.0.0.2? tell 10.0.0.1"),
            (arp(1, 1), "ARP 10.0.0.1 announces itself"),
            (arp(2, 2), "ARP 10.0.0.1 is at 02:00:00:00:00:0a"),
            (tcp.clone(), syn),
            // Cut, as most are.
            (tcp[..54].to_vec(), syn),
            (tcp[..40].to_vec(), "IPv4 10.0.0.1 > 10.0.0.2 TCP, cut short"),
            (ping, "IPv4 10.0.0.1 > 10.0.0.2 ICMP echo request id 3 seq 4"),
            (built(v6), "IPv6 101:101:101:101:101:101:101:101 > 202:202:202:202:202:202:202:202 UDP 5 > 6"),
            (built(tagged.udp(5, 6)), "tag 10 IPv4 10.0.0.1 > 10.0.0.2 UDP 5 > 6"),
            (nd(135), "IPv6 fd00::1 > fd00::2 ICMPv6 who has fd00::9?"),
            (nd(136), "IPv6 fd00::1 > fd00::2 ICMPv6 fd00::9 is here"),
            (ethernet(0x88b5, &[0; 46]), "EtherType 0x88b5"),
            (ethernet(38, &[0; 46]), "IEEE 802.3"),
        ];
        for (frame, expected) in table {
            assert_eq!(summary(&frame), format!("{MACS} {expected}"));
        }
        for len in 0..tcp.len().min(80) {
            assert!(!summary(&tcp[..len]).is_empty());
        }
        assert_eq!(summary(&[1, 2, 3]), "no Ethernet header in 3 bytes");
    }

    #[test]
    fn a_line() {
        let record = Record {
            at: 1_700_000_000_123_456_789,
            port: "web".to_owned(),
            direction: Direction::In,
            verdict: Verdict::Passed { to: "db".to_owned() },
            vlan: Some(10),
            len: 60,
            head: ethernet(0x88b5, &[]),
        };
        let text = format!("22:13:20.123456Z web          in  vlan 10   {MACS} EtherType 0x88b5, 60 bytes");
        assert_eq!(line(&record), format!("{text} -> db"));
        let dropped = Record { verdict: Verdict::Dropped("too_big".to_owned()), ..record.clone() };
        assert_eq!(line(&dropped), format!("{text} DROPPED too_big"));
        let left = Record { verdict: Verdict::Passed { to: String::new() }, ..record };
        assert_eq!(line(&left), text);
    }
}

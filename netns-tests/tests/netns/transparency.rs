use std::net::{SocketAddr, UdpSocket};

use etherparse::PacketBuilder;
use netns_tests::frames::{Mac, ethernet, vxlan};
use netns_tests::{Lab, Node, Result, SOON, Station, Underlay, drops, ensure_eq, eventually};
use socket2::{Domain, SockRef, Type};

use crate::Tests;

pub(crate) const TESTS: Tests = &[("malformed_ip", malformed_ip), ("ecn", ecn)];

/// Somebody behind the sender.
const FAR: Mac = [2, 0xfa, 0, 0, 0, 1];

/// It is a switch: what is wrong above Ethernet is not its business.
fn malformed_ip(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let a = Station::new(h1.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(h1.attach_quiet(lab, "b", "--access 10")?)?;
    let c = Station::new(h2.attach_quiet(lab, "c", "--access 10")?)?;
    let before = (h1.stats()?, h2.stats()?);
    let mut random = lab.random();
    let mut bytes = [0; 1400];
    for turn in 0..300 {
        random.fill(&mut bytes);
        let ethertype = [0x0800, 0x86dd, 0x0806, 0x88a8, 0x0000, 0xffff][random.below(6)];
        bytes[0] = [0x45, 0x60, 0x40, 0x4f, 0x00, bytes[0]][random.below(6)];
        bytes[9] = [6, 17, 1, bytes[9]][random.below(4)];
        bytes[6] = [6, 17, 58, bytes[6]][random.below(4)];
        // The receiver's kernel drops an 802.1ad tag that is cut short.
        let len = 6 + random.below(bytes.len() - 6);
        let listener = if turn % 2 == 0 { &b } else { &c };
        let frame = ethernet(listener.mac, a.mac, None, ethertype, &bytes[..len]);
        a.wire.send(&frame)?;
        listener.wire.until(&format!("frame {turn} of type {ethertype:#06x}, {len} bytes"), |got| got == frame)?;
    }
    ensure_eq!(h1.stats()?.drops_since(&before.0), drops([]), "drops of h1");
    ensure_eq!(h2.stats()?.drops_since(&before.1), drops([]), "drops of h2");
    Ok(())
}

/// RFC 6040: congestion marked outside is carried inside, where the ends understand it.
fn ecn(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let host = lab.host("peer")?;
    let own = underlay.join(&host)?.v4;
    node.join(10, 100, &[own])?;
    let station = Station::new(node.attach_quiet(lab, "c1", "--access 10")?)?;
    // A peer that is only a socket.
    let socket = host.socket(Domain::IPV4, Type::DGRAM, None)?;
    socket.connect(&SocketAddr::new(node.ip, 4789).into())?;
    let peer = UdpSocket::from(socket);
    let packet = |ecn: u8, number: u8| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(FAR, station.mac)
            .ipv4([10, 0, 0, 9], [10, 0, 0, 1], 64)
            .udp(1000, 1000 + u16::from(number))
            .write(&mut bytes, &[number; 40])?;
        // The header's checksum with the other TOS: one's complement, so the difference can be taken off.
        bytes[15] |= ecn;
        let sum = u16::from_be_bytes([bytes[24], bytes[25]]) - u16::from(ecn);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        Ok(bytes)
    };
    let sender = SockRef::from(&peer);
    // Outer, inner, and what arrives: nothing where congestion was marked for ends that do not understand.
    for (number, (outer, inner, seen)) in (1..).zip([
        (0, 0, Some(0)),
        (0, 2, Some(2)),
        (3, 2, Some(3)),
        (3, 1, Some(3)),
        (3, 3, Some(3)),
        (0, 3, Some(3)),
        (2, 0, Some(0)),
        (1, 2, Some(1)),
        (3, 0, None),
    ]) {
        let before = node.stats()?;
        sender.set_tos_v4(outer)?;
        peer.send(&vxlan(0x08, 100, &packet(inner, number)?))?;
        sender.set_tos_v4(0)?;
        let Some(seen) = seen else {
            eventually(SOON, "congestion that nobody understands is dropped", || {
                ensure_eq!(node.stats()?.drops_since(&before), drops([("tunnel", "ecn_ce", 1)]), "drops");
                Ok(())
            })?;
            continue;
        };
        let port = 1000 + u16::from(number);
        let arrived = station.wire.find(&format!("ECN {outer:02b} outside, {inner:02b} inside"), |frame| {
            let is_it = frame.len() >= 42 && frame[36..38] == port.to_be_bytes();
            is_it.then(|| frame.to_vec())
        })?;
        ensure_eq!(arrived[15] & 3, seen, "ECN inside that was {inner:02b}, {outer:02b} outside");
        let ip = etherparse::Ipv4HeaderSlice::from_slice(&arrived[14..])?.to_header();
        ensure_eq!(ip.header_checksum, ip.calc_header_checksum(), "checksum of the IPv4 header");
    }
    Ok(())
}

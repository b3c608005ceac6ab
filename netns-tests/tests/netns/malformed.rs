use std::io;
use std::net::{SocketAddr, UdpSocket};

use etherparse::PacketBuilder;
use netns_tests::frames::{BROADCAST, Mac, cookie, cookie_of, ethernet, probe, text, vxlan};
use netns_tests::traffic::tcp::Connection;
use netns_tests::{
    Capture, Context, DaemonSpec, Host, Lab, Node, Result, Station, Underlay, ensure, ensure_eq, traffic,
};
use nix::libc;
use socket2::{Domain, Type};
use vswitch_sys::PacketSocket;
use vswitch_sys::vnet::{self, VnetHdr};

use crate::Tests;
use crate::moves::{Counters, moves, received, sent, sum};

pub(crate) const TESTS: Tests = &[
    ("datagrams", |lab| datagrams(lab, 1)),
    ("datagrams_with_two_workers", |lab| datagrams(lab, 2)),
    ("datagrams_by_chance", datagrams_by_chance),
    ("frames", |lab| frames(lab, 1)),
    ("frames_with_two_workers", |lab| frames(lab, 2)),
    ("virtio_headers", virtio_headers),
    ("frames_by_chance", frames_by_chance),
    ("least_segments", least_segments),
];

/// One switch, two hosts on the underlay that send it what they like, and containers.
struct Scene {
    _underlay: Underlay,
    node: Node,
    /// A peer in VLAN 10, VNI 100.
    peer: Host,
    /// No peer in any VLAN.
    stranger: Host,
    a: Station,
    /// In VLAN 10 as well.
    near: Station,
    /// In VLAN 20.
    b: Station,
}

/// A station behind the peer, known to the switch.
const AWAY: Mac = [0x02, 0, 0, 0, 0, 0x77];
/// A station whose address the switch does not know.
const NEW: Mac = [0x02, 0, 0, 0, 0, 0x78];

impl Scene {
    fn new(lab: &Lab) -> Result<Self> {
        Self::with_workers(lab, 1)
    }

    fn with_workers(lab: &Lab, count: u16) -> Result<Self> {
        let underlay = Underlay::new(lab, 1500)?;
        let spec = DaemonSpec { config: format!("workers = {count}\n"), ..DaemonSpec::default() };
        let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec)?;
        let (peer, stranger) = (lab.host("peer")?, lab.host("stranger")?);
        let peer_ip = underlay.join(&peer)?.v4;
        underlay.join(&stranger)?;
        node.join(10, 100, &[peer_ip])?;
        node.join(20, 200, &[])?;
        node.ok(&format!("fdb add {} --vlan 10 --remote {peer_ip}", text(AWAY)))?;
        let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
        let near = Station::new(node.attach_quiet(lab, "near", "--access 10")?)?;
        let b = Station::new(node.attach_quiet(lab, "b", "--access 20")?)?;
        for (station, vlan) in [(&a, 10), (&near, 10), (&b, 20)] {
            node.ok(&format!("fdb add {} --vlan {vlan} --port {}", text(station.mac), station.host.name()))?;
        }
        Ok(Self { _underlay: underlay, node, peer, stranger, a, near, b })
    }

    /// A socket of `host` that sends to the switch's VTEP.
    fn socket(&self, host: &Host) -> Result<UdpSocket> {
        let socket = host.socket(Domain::IPV4, Type::DGRAM, None)?;
        socket.connect(&SocketAddr::new(self.node.ip, 4789).into())?;
        Ok(socket.into())
    }

    /// Waits until the switch has dealt with everything that `socket`, with virtio headers, of station a has sent before.
    /// Returns the length of the good frame that shows it.
    fn barrier(&self, socket: &PacketSocket) -> Result<usize> {
        let number = cookie();
        let good = probe(self.near.mac, self.a.mac, None, number);
        socket.send(&[&VnetHdr::default().to_bytes(), &good[..]].concat())?;
        self.near.wire.until("a good frame", |frame| cookie_of(frame) == Some(number))?;
        Ok(good.len())
    }

    /// The switch still does all it is there for.
    fn still_works(&self, lab: &Lab) -> Result {
        // Of its own, since the queue of the other may be full of what came before.
        let wire = Capture::open(&self.a.host, "eth0")?;
        let number = cookie();
        let good = vxlan(0x08, 100, &probe(self.a.mac, AWAY, None, number));
        self.socket(&self.peer)?.send(&good)?;
        wire.until("a good frame from the peer", |frame| cookie_of(frame) == Some(number))?;
        let c = self.node.attach_quiet(lab, "c", "--address 10.0.0.3/24 --access 10")?;
        let d = self.node.attach_quiet(lab, "d", "--address 10.0.0.4/24 --access 10")?;
        traffic::everything((&c, "10.0.0.3".parse()?), (&d, "10.0.0.4".parse()?), 1450, 1 << 20, 1)?;
        ensure_eq!(self.node.ok("status")?["pid"], self.node.daemon.pid(), "who answers");
        Ok(())
    }
}

/// An IPv4 packet without ECN, in a frame.
fn ipv4(to: Mac, from: Mac, payload: usize) -> Result<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(from, to).ipv4([10, 0, 0, 7], [10, 0, 0, 1], 64).udp(7, 7);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).context("build a frame")?;
    Ok(frame)
}

/// What becomes of a datagram.
enum Fate {
    /// Dropped before there was a frame.
    Datagram(&'static str),
    /// The frame inside is dropped.
    Frame(&'static str),
    /// The frame inside reaches station a.
    Arrives,
}

fn datagrams(lab: &Lab, workers: u16) -> Result {
    use Fate::{Arrives, Datagram, Frame};
    let scene = Scene::with_workers(lab, workers)?;
    let (to, inner) = (scene.a.mac, probe(scene.a.mac, AWAY, None, cookie()));
    let headers = |bytes: [u8; 8], inner: &[u8]| [&bytes[..], inner].concat();
    let from = |source: Mac| vxlan(0x08, 100, &probe(to, source, None, cookie()));
    let reserved = |last: u8| vxlan(0x08, 100, &probe([0x01, 0x80, 0xc2, 0, 0, last], AWAY, None, cookie()));
    let tagged = |tci| vxlan(0x08, 100, &probe(to, AWAY, Some(tci), cookie()));
    let cut = |len| vxlan(0x08, 100, &inner[..len]);
    let table = [
        ("an empty datagram", vec![], Datagram("vxlan_truncated")),
        ("one byte", vec![0x08], Datagram("vxlan_truncated")),
        ("a header cut short", headers([0x08, 0, 0, 0, 0, 0, 100, 0], &[])[..7].to_vec(), Datagram("vxlan_truncated")),
        ("a header alone", cut(0), Datagram("vxlan_truncated")),
        ("one byte of a frame", cut(1), Datagram("vxlan_truncated")),
        ("a frame without EtherType", cut(12), Datagram("vxlan_truncated")),
        ("half an EtherType", cut(13), Datagram("vxlan_truncated")),
        ("an Ethernet header alone", cut(14), Arrives),
        ("a frame shorter than Ethernet's least", cut(20), Arrives),
        ("I flag off", vxlan(0x00, 100, &inner), Datagram("vxlan_flags")),
        ("all flags but I", vxlan(0xf7, 100, &inner), Datagram("vxlan_flags")),
        ("all reserved bits set", headers([0xff, 0xff, 0xff, 0xff, 0, 0, 100, 0xff], &inner), Arrives),
        ("VNI 0", vxlan(0x08, 0, &inner), Datagram("unknown_vni")),
        ("an unknown VNI", vxlan(0x08, 101, &inner), Datagram("unknown_vni")),
        ("the greatest VNI", vxlan(0x08, 0xff_ffff, &inner), Datagram("unknown_vni")),
        ("a VNI whose VLAN has other peers", vxlan(0x08, 200, &inner), Datagram("unknown_vtep")),
        ("a tag inside", tagged(10), Datagram("inner_tag")),
        ("a priority tag inside", tagged(0xe000), Datagram("inner_tag")),
        ("a reserved tag inside", tagged(4095), Datagram("inner_tag")),
        ("a multicast source inside", from([0x01, 0, 0x5e, 0, 0, 1]), Frame("bad_source")),
        ("a broadcast source inside", from(BROADCAST), Frame("bad_source")),
        ("a zero source inside", from([0; 6]), Frame("bad_source")),
        ("for spanning tree", reserved(0x00), Frame("reserved_address")),
        ("for LACP", reserved(0x02), Frame("reserved_address")),
        ("for LLDP", reserved(0x0e), Frame("reserved_address")),
        ("for its own sender", vxlan(0x08, 100, &probe(AWAY, NEW, None, cookie())), Frame("same_port")),
        ("an IPv4 header cut short", vxlan(0x08, 100, &ethernet(to, AWAY, None, 0x0800, &[0x45, 0])), Arrives),
        (
            "IPv4 that says it is longer",
            {
                let mut frame = ipv4(to, AWAY, 100)?;
                frame[16..18].copy_from_slice(&0xffff_u16.to_be_bytes());
                vxlan(0x08, 100, &frame)
            },
            Arrives,
        ),
    ];
    let socket = scene.socket(&scene.peer)?;
    let mut counters = Counters::of(&scene.node)?;
    for (what, datagram, fate) in &table {
        socket.send(datagram).context(what)?;
        let inside = datagram.len().saturating_sub(8);
        let expected = match fate {
            Datagram(reason) => vec![("tunnel", "rx_frames", 1), ("tunnel", *reason, 1)],
            Frame(reason) => [received("tunnel", inside), vec![("tunnel", *reason, 1)]].concat(),
            Arrives => [received("tunnel", inside), sent("a", inside)].concat(),
        };
        counters.expect(&moves(&expected), what)?;
        if matches!(fate, Arrives) {
            scene.a.wire.until(what, |frame| frame == &datagram[8..])?;
        }
    }

    // Who is no peer is heard in no VLAN, whatever it says.
    let stranger = scene.socket(&scene.stranger)?;
    for vni in [100, 200] {
        stranger.send(&vxlan(0x08, vni, &inner))?;
        counters.expect(&moves(&[("tunnel", "rx_frames", 1), ("tunnel", "unknown_vtep", 1)]), "a stranger")?;
    }
    // Congestion that the ends inside do not understand (RFC 6040 4.2), and some that they do.
    let congested = scene.socket(&scene.peer)?;
    socket2::SockRef::from(&congested).set_tos_v4(3)?;
    congested.send(&vxlan(0x08, 100, &ipv4(to, AWAY, 100)?))?;
    counters.expect(&moves(&[("tunnel", "rx_frames", 1), ("tunnel", "ecn_ce", 1)]), "congestion")?;
    counters.expect_rest("after all of them")?;
    scene.still_works(lab)
}

fn datagrams_by_chance(lab: &Lab) -> Result {
    const COUNT: u64 = 2000;
    let scene = Scene::new(lab)?;
    let mut random = lab.random();
    let socket = scene.socket(&scene.peer)?;
    let mut counters = Counters::of(&scene.node)?;
    let good = vxlan(0x08, 100, &ipv4(scene.a.mac, AWAY, 60)?);
    for _ in 0..COUNT {
        // Half of them noise, half of them good but for some bytes and their end.
        let mut datagram = good.clone();
        if random.below(2) == 0 {
            datagram.resize(random.below(200), 0);
            random.fill(&mut datagram);
        } else {
            for _ in 0..=random.below(4) {
                let at = random.below(datagram.len());
                random.fill(&mut datagram[at..=at]);
            }
            datagram.truncate(random.below(good.len() + 1));
        }
        socket.send(&datagram)?;
    }
    // Each of them is counted, whatever becomes of it.
    let moved = counters.expect_total("tunnel", "rx_frames", COUNT)?;
    let is_drop = |name: &str| !name.starts_with("rx_") && !name.starts_with("tx_");
    let dropped: u64 = moved.iter().filter(|((_, name), _)| is_drop(name)).map(|(_, count)| count).sum();
    ensure!(dropped > COUNT / 4, "few of them were dropped: {moved:?}");
    scene.still_works(lab)
}

/// Frames that a container makes itself. What reaches the switch is counted with a reason.
fn frames(lab: &Lab, workers: u16) -> Result {
    let scene = Scene::with_workers(lab, workers)?;
    let own = scene.a.mac;
    let from = |source: Mac| probe(BROADCAST, source, None, cookie());
    let tagged = |tci| probe(BROADCAST, own, Some(tci), cookie());
    let mut table = vec![
        ("a multicast source", from([0x01, 0, 0x5e, 0, 0, 1]), "bad_source"),
        ("a broadcast source", from(BROADCAST), "bad_source"),
        ("a zero source", from([0; 6]), "bad_source"),
        ("a reserved tag", tagged(4095), "vlan_not_allowed"),
        ("the tag of its own VLAN", tagged(10), "vlan_not_allowed"),
        ("the tag of another VLAN", tagged(20), "vlan_not_allowed"),
        ("for itself", probe(own, own, None, cookie()), "same_port"),
        ("half a tag", tagged(10)[..15].to_vec(), "truncated"),
        ("a tag without EtherType", tagged(10)[..16].to_vec(), "truncated"),
        ("a tag with half an EtherType", tagged(10)[..17].to_vec(), "truncated"),
    ];
    for last in 0..=0x0f {
        let group = [0x01, 0x80, 0xc2, 0, 0, last];
        table.push(("a reserved group", probe(group, own, None, cookie()), "reserved_address"));
    }
    let mut counters = Counters::of(&scene.node)?;
    for (what, frame, reason) in &table {
        scene.a.wire.send(frame).context(what)?;
        let expected = [received("a", frame.len()), vec![("a", *reason, 1)]].concat();
        counters.expect(&moves(&expected), what)?;
    }
    // What is no reason to drop: the next group, no payload, an EtherType that is a length.
    let fine = [
        ("the group after the reserved ones", probe([0x01, 0x80, 0xc2, 0, 0, 0x10], own, None, cookie())),
        ("an Ethernet header alone", ethernet(BROADCAST, own, None, 0x88b5, &[])),
        ("IEEE 802.3 with a wrong length", ethernet(BROADCAST, own, None, 1500, &[0xaa; 20])),
        ("a service tag, which is payload", ethernet(BROADCAST, own, None, 0x88a8, &[0, 10, 8, 0])),
        ("for nobody", probe([0; 6], own, None, cookie())),
        ("malformed IPv4", ethernet(BROADCAST, own, None, 0x0800, &[0xff; 20])),
    ];
    for (what, frame) in &fine {
        scene.a.wire.send(frame).context(what)?;
        let len = frame.len();
        let expected = [received("a", len), sent("near", len), sent("tunnel", len)].concat();
        counters.expect(&moves(&expected), what)?;
    }
    // Shorter than an Ethernet header: most kernels let nobody send that.
    for len in [1, 13] {
        let runt = &probe(BROADCAST, own, None, cookie())[..len];
        if refused(scene.a.wire.socket().send(runt))? {
            counters.expect_rest("a runt that the kernel refused")?;
        } else {
            counters.expect(&moves(&[received("a", len), vec![("a", "truncated", 1)]].concat()), "a runt")?;
        }
    }
    counters.expect_rest("after all of them")?;
    scene.still_works(lab)
}

/// Whether the kernel refused what it was asked to send, as it does with most that makes no sense.
fn refused(outcome: io::Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(false),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A TCP segment over IPv4 of `payload` bytes, and the virtio header that asks for segments of 1000.
fn super_frame(to: Mac, from: Mac, payload: usize) -> Result<(VnetHdr, Vec<u8>)> {
    let builder = PacketBuilder::ethernet2(from, to).ipv4([10, 0, 0, 7], [10, 0, 0, 1], 64).tcp(7, 7, 1, 1000);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0x5a; payload]).context("build a frame")?;
    let header = VnetHdr {
        flags: vnet::F_NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
    };
    Ok((header, frame))
}

/// A packet socket of a container that sends virtio headers.
fn raw(host: &Host) -> Result<PacketSocket> {
    let socket = host.packet_socket("eth0")?;
    socket.virtio_headers()?;
    Ok(socket)
}

/// Bytes of the headers of [`super_frame`].
const HEADERS: usize = 54;

/// What becomes of a frame with a virtio header of the container's own making.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Virtio {
    /// The header makes no sense: most kernels refuse it or lose it; where one does not, the switch drops it.
    Nonsense,
    /// Too many segments: dropped where it came in, so that neither the tunnel nor a neighbour multiplies it.
    TooMany,
    /// The sender's kernel mends it, or refuses it.
    Mended,
    /// More segments than a turn has, as a kernel may make them: it passes in two parts.
    Split,
}

/// A frame that does not go through for a reason of the sender's kernel moves no counter.
fn virtio_outcomes(fate: Virtio, to: &str, bytes: usize) -> Vec<Vec<(&str, &'static str, u64)>> {
    let received = || received("a", bytes);
    let passed = || [received(), sent(to, bytes)].concat();
    let dropped_by = |port| [received(), vec![(port, "bad_offload", 1)]].concat();
    match (fate, to) {
        (Virtio::Nonsense, _) => vec![vec![], dropped_by("a"), dropped_by(to)],
        (Virtio::TooMany, _) => vec![dropped_by("a")],
        (Virtio::Mended, _) => vec![vec![], passed()],
        (Virtio::Split, _) => {
            let both = u64::try_from(bytes + HEADERS).unwrap_or(u64::MAX);
            let counted = |port, frames, bytes| [(port, frames, 2), (port, bytes, both)];
            vec![vec![], [counted("a", "rx_frames", "rx_bytes"), counted(to, "tx_frames", "tx_bytes")].concat()]
        }
    }
}

fn virtio_headers(lab: &Lab) -> Result {
    use Virtio::{Mended, Nonsense, Split, TooMany};
    let scene = Scene::new(lab)?;
    let (own, near) = (scene.a.mac, scene.near.mac);
    let socket = raw(&scene.a.host)?;
    let (good, frame) = super_frame(AWAY, own, 3000)?;
    let (_, large) = super_frame(AWAY, own, 60_000)?;
    let (_, short) = super_frame(AWAY, own, 100)?;
    let (_, seven) = super_frame(AWAY, own, 7000)?;
    let arp = ethernet(
        AWAY,
        own,
        None,
        0x0806,
        &[0, 1, 8, 0, 6, 4, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    let one = VnetHdr { gso_type: vnet::GSO_NONE, gso_size: 0, hdr_len: 0, ..good };
    let table = [
        ("checksum past the end", VnetHdr { csum_start: 3040, ..good }, &frame, Nonsense),
        ("checksum past the end, one frame", VnetHdr { csum_start: 150, ..one }, &short, Nonsense),
        ("checksum at the maximum", VnetHdr { csum_start: u16::MAX, csum_offset: u16::MAX, ..good }, &frame, Nonsense),
        ("checksum field past the end, one frame", VnetHdr { csum_offset: 119, ..one }, &short, Nonsense),
        (
            "checksum inside the Ethernet header, one frame",
            VnetHdr { csum_start: 2, csum_offset: 4, ..one },
            &short,
            Nonsense,
        ),
        ("checksum inside the Ethernet header", VnetHdr { csum_start: 6, csum_offset: 0, ..good }, &frame, Nonsense),
        ("checksum inside the IP header", VnetHdr { csum_start: 14, ..good }, &frame, Nonsense),
        (
            "checksum inside the IP header, one frame",
            VnetHdr { csum_start: 14, csum_offset: 10, ..one },
            &short,
            Nonsense,
        ),
        ("checksum in the payload", VnetHdr { csum_start: 60, ..good }, &frame, Nonsense),
        ("checksum at another field", VnetHdr { csum_offset: 18, ..good }, &frame, Nonsense),
        ("segments of nothing", VnetHdr { gso_size: 0, ..good }, &frame, Nonsense),
        ("segments of one byte", VnetHdr { gso_size: 1, ..good }, &frame, TooMany),
        ("segments of one byte, 60,000 of them", VnetHdr { gso_size: 1, ..good }, &large, TooMany),
        ("600 segments", VnetHdr { gso_size: 100, ..good }, &large, Split),
        ("1,000 segments of less than TCP has", VnetHdr { gso_size: 7, ..good }, &seven, TooMany),
        (
            "congestion, which TCP may say",
            VnetHdr { gso_type: vnet::GSO_TCPV4 | vnet::GSO_ECN, ..good },
            &frame,
            Mended,
        ),
        ("congestion of one frame", VnetHdr { gso_type: vnet::GSO_ECN, ..one }, &short, Mended),
        ("headers of no length", VnetHdr { hdr_len: 0, ..good }, &frame, Mended),
        ("a checksum in ARP", VnetHdr { csum_start: 16, csum_offset: 6, ..one }, &arp, Nonsense),
        ("segments without checksum", VnetHdr { flags: 0, ..good }, &frame, Mended),
        ("IPv6 in name only", VnetHdr { gso_type: vnet::GSO_TCPV6, ..good }, &frame, Nonsense),
        ("UDP in name only", VnetHdr { gso_type: vnet::GSO_UDP_L4, csum_offset: 6, ..good }, &frame, Nonsense),
        ("UDP fragments", VnetHdr { gso_type: vnet::GSO_UDP, ..good }, &frame, Nonsense),
        ("an unknown kind", VnetHdr { gso_type: 9, ..good }, &frame, Nonsense),
        ("all bits", VnetHdr { gso_type: 0x7f, flags: 0xff, ..good }, &frame, Nonsense),
        ("headers longer than the frame", VnetHdr { hdr_len: u16::MAX, ..good }, &frame, Nonsense),
    ];
    let mut counters = Counters::of(&scene.node)?;
    for (what, header, frame, fate) in &table {
        for (to, mac) in [("tunnel", AWAY), ("near", near)] {
            let mut frame = (*frame).clone();
            frame[..6].copy_from_slice(&mac);
            let refused = refused(socket.send(&[&header.to_bytes(), &frame[..]].concat()))?;
            let good = scene.barrier(&socket)?;
            let good = moves(&[received("a", good), sent("near", good)].concat());
            let outcomes = virtio_outcomes(*fate, to, frame.len());
            let possible: Vec<_> = outcomes.iter().map(|outcome| sum(&good, &moves(outcome))).collect();
            let now = scene.node.stats()?;
            let moved = counters.moved(&now);
            ensure!(possible.contains(&moved), "{what}, to {to}: {moved:?}, and possible is any of {possible:?}");
            ensure!(!refused || moved == good, "{what}, to {to}: refused by the kernel, and counted: {moved:?}");
            counters.last = now;
        }
    }
    scene.still_works(lab)
}

fn frames_by_chance(lab: &Lab) -> Result {
    let scene = Scene::new(lab)?;
    let mut random = lab.random();
    let socket = raw(&scene.a.host)?;
    let counters = Counters::of(&scene.node)?;
    let mut accepted = 0_u64;
    for round in 0..3000 {
        let to = [BROADCAST, AWAY, NEW, scene.b.mac][random.below(4)];
        let (mut header, mut frame) = super_frame(to, scene.a.mac, random.below(3000))?;
        if random.below(4) == 0 {
            let mut bytes = header.to_bytes();
            let at = random.below(bytes.len());
            random.fill(&mut bytes[at..=at]);
            header = VnetHdr::decode(&bytes).context("ten bytes are a header")?;
        }
        for _ in 0..random.below(4) {
            // Behind the addresses; those decide where it goes, and have tests of their own.
            let at = 12 + random.below(frame.len().min(60) - 12);
            random.fill(&mut frame[at..=at]);
        }
        if !refused(socket.send(&[&header.to_bytes(), &frame[..]].concat()))? {
            accepted += 1;
        }
        // What goes beyond a device's queue, or a listener's, is lost before anyone counts.
        if round % 20 == 19 {
            scene.barrier(&socket)?;
        }
    }
    let read = scene.node.stats()?.count("a", "rx_frames") - counters.last.count("a", "rx_frames");
    ensure!(read > 300, "the kernel kept nearly all of them: it took {accepted}, and the switch has read {read}");
    scene.still_works(lab)
}

/// Real kernels whose MTU leaves next to nothing for a segment make super-frames of more than a thousand: none is lost.
fn least_segments(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let words = |n| format!("--address 10.0.0.{n}/24 --access 10 --mtu 100");
    let (c1, c2) = (h1.attach_quiet(lab, "c1", &words(1))?, h1.attach_quiet(lab, "c2", &words(2))?);
    let c3 = h2.attach_quiet(lab, "c3", &words(3))?;
    let seed = lab.random().next_u64();
    for (peer, ip) in [(&c2, "10.0.0.2"), (&c3, "10.0.0.3")] {
        Connection::open(&c1, peer, ip.parse()?)?.both_ways(2 << 20, 100_000, seed)?;
    }
    for node in [&h1, &h2] {
        let drops = node.stats()?.drops;
        ensure!(!drops.keys().any(|(_, reason)| reason == "bad_offload"), "drops: {drops:?}");
    }
    Ok(())
}

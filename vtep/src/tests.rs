//! A tunnel in memory: what goes in at one end comes out at the other.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use vswitch_core::{Frame, Offload, PortId, Tag, VlanId};

use super::*;
use crate::checksum::Sum;
use crate::testing::{Build, check, cut, tagged};

const MTU: usize = 1500;
const LONGEST: usize = MTU - 36;

fn here() -> IpAddr {
    IpAddr::from([192, 0, 2, 1])
}

fn there() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 4789))
}

fn vni() -> Vni {
    Vni::new(100).unwrap()
}

fn directory() -> Directory {
    let mut directory = Directory::new();
    let vlan = VlanId::new(10).unwrap();
    directory.add_network(vlan, vni()).unwrap();
    directory.add_remote(here(), PortId::new(3), [vlan].into_iter().collect()).unwrap();
    directory
}

fn merge() -> Merge {
    Merge::new(LONGEST)
}

/// A train as the receiver sees it: bytes, stride, TOS.
type Wire = (Vec<u8>, usize, u8);

fn encapsulate(frames: &[Frame], lanes: usize) -> Vec<Wire> {
    let mut trains = Trains::new(lanes, false);
    for (index, frame) in frames.iter().enumerate() {
        trains.push(index, frame, vni(), there(), MTU).unwrap();
    }
    wires(&trains, frames)
}

fn wires(trains: &Trains, frames: &[Frame]) -> Vec<Wire> {
    let mut wires = Vec::new();
    for lane in 0..trains.lanes() {
        for train in trains.lane(lane) {
            let pieces = trains.pieces(lane, train);
            let bytes: Vec<u8> = pieces.iter().flat_map(|&piece| trains.resolve(piece, frames).to_vec()).collect();
            assert_eq!(bytes.len(), train.bytes);
            assert_eq!(bytes.len().div_ceil(train.stride), train.count);
            assert!(train.count <= MAX_TRAIN_DATAGRAMS && train.bytes <= MAX_TRAIN_BYTES);
            assert!(train.stride + 28 <= MTU);
            wires.push((bytes, train.stride, train.tos));
        }
    }
    wires
}

/// The frames that come out, each with what it owes.
fn receive(merge: &mut Merge, wires: &mut [Wire]) -> (Vec<Frame>, Vec<DecapDrop>) {
    receive_owing(merge, wires, &[])
}

/// As [`receive`], where the frame of each train is known to owe something.
fn receive_owing(merge: &mut Merge, wires: &mut [Wire], owed: &[Offload]) -> (Vec<Frame>, Vec<DecapDrop>) {
    let directory = directory();
    let mut drops = Vec::new();
    for (buffer, (bytes, stride, tos)) in wires.iter_mut().enumerate() {
        let debts = owed.get(buffer).copied().unwrap_or_default();
        let mut train = DatagramTrain { bytes, stride: *stride, from: here(), tos: *tos, debts };
        merge.receive(buffer, &mut train, &directory, |_, reason| drops.push(reason));
    }
    let frames = merge.finish().iter_mut().map(|inbound| {
        assert_eq!((inbound.remote, inbound.vlan.get()), (PortId::new(3), 10));
        let len = inbound.len();
        let (head, tail) = inbound.parts();
        let mut frame = Frame::with_capacity(70_000);
        assert!(frame.assign(head.bytes()));
        frame.offload = head.offload;
        for piece in tail {
            assert!(frame.append(&wires[piece.buffer].0[piece.range.clone()]));
        }
        assert_eq!(frame.len(), len);
        frame
    });
    let frames = frames.collect();
    merge.clear();
    (frames, drops)
}

/// The packets by which an uplink carries `frames`, virtio header first.
fn wrapped(frames: &[Frame]) -> Vec<Vec<u8>> {
    let ends = (SocketAddr::new(here(), 50_000), there());
    let wrap = |frame: &Frame| {
        let mut packet = Vec::new();
        let skip = uplink::wrap(&mut packet, frame, 0, vni(), ends, 0).unwrap();
        packet.extend_from_slice(&frame.bytes()[skip..]);
        packet
    };
    frames.iter().map(wrap).collect()
}

/// What a receiver reads out of such packets.
fn unwrapped(packets: &[Vec<u8>]) -> (Vec<Wire>, Vec<Offload>) {
    let unwrap = |packet: &Vec<u8>| {
        let (received, owed) = uplink::unwrap(packet)?;
        let bytes = packet[received.at..received.at + received.len].to_vec();
        Some(((bytes, received.stride, received.tos), owed))
    };
    packets.iter().filter_map(unwrap).unzip()
}

/// What one sender hands over: a frame, complete or with debts, and the segments it stands for.
#[derive(Clone, Debug)]
struct Sent {
    frame: Frame,
    segments: Vec<Vec<u8>>,
}

fn by_flow(segments: &[Vec<u8>]) -> std::collections::BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = std::collections::BTreeMap::new();
    for segment in segments {
        let key = match segment[12..14] {
            [0x08, 0x00] if segment.len() >= 38 => [&segment[..14], &[segment[23]], &segment[26..38]].concat(),
            [0x86, 0xdd] if segment.len() >= 58 => [&segment[..14], &[segment[20]], &segment[22..58]].concat(),
            _ => segment[..14].to_vec(),
        };
        flows.entry(key).or_insert_with(Vec::new).push(segment.clone());
    }
    flows
}

/// A few flows whose frames follow one another as a sender would have it, with a break here and there.
fn any_batch() -> impl Strategy<Value = Vec<Sent>> {
    let step = (
        0_usize..6,
        prop_oneof![0_usize..40, 0_usize..5000, Just(1000), Just(64_000)],
        prop_oneof![Just(None), (500_u16..1300).prop_map(Some), Just(Some(1000))],
        prop_oneof![6 => Just(0x10_u8), 1 => Just(0x18), 1 => Just(0x11), 1 => Just(0x02), 1 => Just(0x90), 1 => Just(0x50)],
        prop_oneof![9 => Just(None), 1 => (0_u8..6).prop_map(Some)],
    );
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let mut flows: Vec<Build> = [
            Build::tcp4(),
            Build::tcp6(),
            Build::udp4(),
            Build::udp6(),
            Build::tcp4().ports(1, 2),
            Build::tcp6().class(1),
        ]
        .to_vec();
        flows[5].hosts = (5, 6);
        let mut batch = Vec::new();
        for (flow, len, segment, flags, twist) in steps {
            let build = &mut flows[flow];
            build.flags = flags;
            match twist {
                Some(0) => build.seq = build.seq.wrapping_add(1),
                Some(1) => build.ttl ^= 1,
                Some(2) => build.options = if build.options.is_empty() { vec![1; 4] } else { Vec::new() },
                Some(3) => build.ack += 1,
                Some(4) => build.class ^= 2,
                Some(5) => {
                    let bytes = [&[0xff; 12][..], &[0x08, 0x06], &vec![9; len.min(200)]].concat();
                    batch.push(Sent { frame: Frame::from_bytes(&bytes), segments: vec![bytes] });
                }
                _ => {}
            }
            let len = if segment.is_some() { len.max(1) } else { len.min(1300) };
            let mut sent = build.clone();
            sent.payload = (0..len).map(|at| u8::try_from((at * 7 + flow) % 251).unwrap()).collect();
            let (frame, segments) = match segment {
                Some(segment) => (sent.frame(Some(segment)), sent.cut(segment)),
                None if len % 2 == 0 => (Frame::from_bytes(&sent.bytes()), vec![sent.bytes()]),
                None => (sent.frame(None), vec![sent.bytes()]),
            };
            build.seq = build.seq.wrapping_add(u32::try_from(len).unwrap());
            build.id = build.id.wrapping_add(u16::try_from(segments.len()).unwrap());
            batch.push(Sent { frame, segments });
        }
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_segment_arrives_as_it_left(batch in any_batch(), lanes in 1_usize..5, tag in any::<bool>()) {
        let mut frames: Vec<Frame> = batch.iter().map(|sent| sent.frame.clone()).collect();
        let sent: Vec<Vec<u8>> = batch.iter().flat_map(|sent| sent.segments.clone()).collect();
        if tag {
            frames.iter_mut().for_each(|frame| frame.retag(Some(Tag::from_bits(7))));
        }
        let mut wires = encapsulate(&frames, lanes);
        let (received, drops) = receive(&mut merge(), &mut wires);
        prop_assert!(drops.is_empty());
        let received = cut(&received);
        received.iter().filter(|segment| segment[13] != 0x06).for_each(|segment| check(segment));
        let (sent, received) = (by_flow(&sent), by_flow(&received));
        prop_assert_eq!(sent.len(), received.len());
        for (flow, segments) in &sent {
            prop_assert_eq!(Some(segments), received.get(flow));
        }
    }

    #[test]
    fn uncut_frames_arrive_as_they_left(batch in any_batch(), tag in any::<bool>()) {
        let mut frames: Vec<Frame> = batch.iter().map(|sent| sent.frame.clone()).collect();
        let sent: Vec<Vec<u8>> = batch.iter().flat_map(|sent| sent.segments.clone()).collect();
        if tag {
            frames.iter_mut().for_each(|frame| frame.retag(Some(Tag::from_bits(7))));
        }
        let (mut wires, owed) = unwrapped(&wrapped(&frames));
        prop_assert_eq!(wires.len(), frames.len());
        let (received, drops) = receive_owing(&mut merge(), &mut wires, &owed);
        prop_assert!(drops.is_empty());
        let (sent, received) = (by_flow(&sent), by_flow(&cut(&received)));
        prop_assert_eq!(sent.len(), received.len());
        for (flow, segments) in &sent {
            prop_assert_eq!(Some(segments), received.get(flow));
        }
    }

    #[test]
    fn random_packets_of_an_uplink_never_panic(
        batch in any_batch(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..10),
        len in any::<prop::sample::Index>(),
    ) {
        let frames: Vec<Frame> = batch.iter().map(|sent| sent.frame.clone()).collect();
        let mut packets = wrapped(&frames);
        for packet in &mut packets {
            for (at, value) in &noise {
                let at = at.index(packet.len().min(150));
                packet[at] = *value;
            }
            packet.truncate(len.index(packet.len()) + 1);
        }
        let (mut wires, owed) = unwrapped(&packets);
        let (received, _) = receive_owing(&mut merge(), &mut wires, &owed);
        // What a virtio header claims may still be refused.
        for mut segments in received.iter().filter_map(|frame| Segments::new(frame).ok()) {
            while segments.write_next(&mut Vec::new()).is_some() {}
        }
    }

    #[test]
    fn random_datagrams_never_panic(
        batch in any_batch(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        stride in prop_oneof![Just(None), (0_usize..3000).prop_map(Some)],
        tos in any::<u8>(),
    ) {
        let frames: Vec<Frame> = batch.iter().map(|sent| sent.frame.clone()).collect();
        let mut wires = encapsulate(&frames, 2);
        for wire in &mut wires {
            for (at, value) in &noise {
                let at = at.index(wire.0.len().min(300));
                wire.0[at] = *value;
            }
            wire.1 = stride.unwrap_or(wire.1);
            wire.2 = tos;
        }
        let mut merge = merge();
        for _ in 0..2 {
            let (received, _) = receive(&mut merge, &mut wires);
            cut(&received);
        }
    }

    #[test]
    fn noise_never_panics(mut wires in prop::collection::vec(
        (prop::collection::vec(any::<u8>(), 0..200), 0_usize..220, any::<u8>()), 0..20,
    )) {
        for wire in &mut wires {
            if let [flags, _, _, _, a, b, c, ..] = wire.0.as_mut_slice() {
                (*flags, *a, *b, *c) = (8, 0, 0, 100);
            }
        }
        let (received, _) = receive(&mut merge(), &mut wires);
        cut(&received);
    }
}

#[test]
fn a_full_super_frame_crosses_in_two_trains_and_comes_out_whole() {
    for (build, rest) in [(Build::tcp4(), 2), (Build::tcp6(), 3)] {
        let header = build.header();
        let segment = LONGEST - header;
        let mut build = build.flags(0x18).payload(&vec![0x42; 64_000]);
        build.id = 7;
        let frame = build.frame(Some(u16::try_from(segment).unwrap()));
        let mut wires = encapsulate(std::slice::from_ref(&frame), 16);
        // 44 datagrams fill a UDP packet of 64 KiB.
        assert_eq!(wires.iter().map(|wire| wire.0.len().div_ceil(wire.1)).collect::<Vec<_>>(), [44, rest]);
        let (received, drops) = receive(&mut merge(), &mut wires);
        assert_eq!((received.len(), drops.len()), (1, 0));
        assert_eq!(received[0].bytes(), frame.bytes());
        assert_eq!(received[0].offload, frame.offload);
    }
}

#[test]
fn interleaved_flows_merge_each() {
    let flows: Vec<Build> =
        (0..8).map(|port| Build::new(inner::Version::V4, port % 2 == 0).ports(1000 + port, 80)).collect();
    let mut frames = Vec::new();
    for round in 0..10_u16 {
        for flow in &flows {
            let mut build = flow.clone().payload(&[7; 500]);
            build.seq = flow.seq.wrapping_add(500 * u32::from(round));
            build.id = flow.id.wrapping_add(round);
            frames.push(Frame::from_bytes(&build.bytes()));
        }
    }
    // One lane: the trains hold the flows in turn.
    let mut wires = encapsulate(&frames, 1);
    let (received, _) = receive(&mut merge(), &mut wires);
    assert_eq!(received.len(), 8);
    for (frame, flow) in received.iter().zip(&flows) {
        assert_eq!(frame.bytes(), flow.clone().payload(&[7; 5000]).frame(Some(500)).bytes());
    }
}

/// What follows a segment of 1000 bytes, and whether it is merged.
#[test]
fn what_ends_a_merge() {
    type Twist = fn(&mut Build);
    let keep: Twist = |_| {};
    let table: &[(&str, Twist, Twist, bool)] = &[
        ("nothing", keep, keep, true),
        ("a shorter one", keep, |next| next.payload.truncate(1), true),
        ("a longer one", keep, |next| next.payload.push(1), false),
        ("PSH on the last", keep, |next| next.flags |= 0x08, true),
        ("FIN on the last", keep, |next| next.flags |= 0x01, true),
        ("PSH before", |first| first.flags |= 0x08, keep, false),
        ("SYN", keep, |next| next.flags |= 0x02, false),
        ("RST", keep, |next| next.flags |= 0x04, false),
        ("URG", keep, |next| next.flags |= 0x20, false),
        ("CWR", keep, |next| next.flags |= 0x80, false),
        ("CWR before", |first| first.flags |= 0x80, keep, false),
        ("ECE on one", keep, |next| next.flags |= 0x40, false),
        ("no payload", keep, |next| next.payload.clear(), false),
        ("a gap", keep, |next| next.seq += 1, false),
        ("another acknowledgement", keep, |next| next.ack += 1, false),
        ("another timestamp", keep, |next| next.options[7] += 1, false),
        ("no options", keep, |next| next.options.clear(), false),
        ("another TTL", keep, |next| next.ttl -= 1, false),
        ("another TOS", keep, |next| next.class = 4, false),
        ("another ECN codepoint", |first| first.class = 2, |next| next.class = 3, false),
        ("the same identification under DF", keep, |next| next.id = next.id.wrapping_sub(1), true),
        ("a gap in the identification", keep, |next| next.id = next.id.wrapping_add(1), false),
        ("one without DF", keep, |next| next.df = false, false),
        ("another host", keep, |next| next.hosts.0 = 9, false),
        ("another port", keep, |next| next.ports.0 += 1, false),
    ];
    for (what, change_first, change_next, merges) in table {
        for version in [inner::Version::V4, inner::Version::V6] {
            let mut first = Build::new(version, true).payload(&[1; 1000]);
            let mut next = first.clone();
            next.seq = next.seq.wrapping_add(1000);
            next.id = next.id.wrapping_add(1);
            change_first(&mut first);
            change_next(&mut next);
            let merges =
                *merges || (version == inner::Version::V6 && (what.contains("identification") || what.contains("DF")));
            let frames = [Frame::from_bytes(&first.bytes()), Frame::from_bytes(&next.bytes())];
            let (received, _) = receive(&mut merge(), &mut encapsulate(&frames, 1));
            assert_eq!(received.len(), if merges { 1 } else { 2 }, "{what} {version:?}");
            if !merges {
                assert!(received.iter().zip(&frames).all(|(received, sent)| received.bytes() == sent.bytes()));
            }
        }
    }
}

#[test]
fn nothing_follows_a_short_segment() {
    let mut build = Build::udp4();
    let mut frames = Vec::new();
    for len in [100, 100, 60, 60, 100] {
        frames.push(Frame::from_bytes(&build.clone().payload(&vec![1; len]).bytes()));
        build.id = build.id.wrapping_add(1);
    }
    let (received, _) = receive(&mut merge(), &mut encapsulate(&frames, 1));
    assert_eq!(received.iter().map(|frame| frame.len() - 42).collect::<Vec<_>>(), [260, 60, 100]);
}

#[test]
fn a_wrong_checksum_is_passed_on_and_never_merged() {
    for build in [Build::tcp4(), Build::udp6()] {
        for corrupt in 0..3 {
            let mut frames = Vec::new();
            for index in 0..3_u16 {
                let mut build = build.clone().payload(&[5; 100]);
                build.seq = build.seq.wrapping_add(100 * u32::from(index));
                build.id = build.id.wrapping_add(index);
                let mut bytes = build.bytes();
                if index == corrupt {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                frames.push(Frame::from_bytes(&bytes));
            }
            let (received, _) = receive(&mut merge(), &mut encapsulate(&frames, 1));
            assert_eq!(received.len(), if corrupt == 1 { 3 } else { 2 }, "segment {corrupt} of {build:?}");
            assert_eq!(
                by_flow(&cut(&received)),
                by_flow(&frames.iter().map(|f| f.bytes().to_vec()).collect::<Vec<_>>())
            );
        }
    }
}

#[test]
fn an_ack_or_a_fragment_is_not_overtaken() {
    let first = Build::tcp4().payload(&[1; 100]);
    let mut ack = Build::tcp4();
    (ack.seq, ack.id) = (first.seq + 100, first.id.wrapping_add(1));
    let mut next = ack.clone().payload(&[2; 100]);
    next.id = ack.id;
    let mut fragment = Build::udp4().payload(&[3; 64]).bytes();
    fragment[20] |= 0x20;
    for between in [ack.bytes(), fragment] {
        let frames = [first.bytes(), between, next.bytes()].map(|bytes| Frame::from_bytes(&bytes));
        let (received, _) = receive(&mut merge(), &mut encapsulate(&frames, 1));
        let order = |frames: &[Frame]| frames.iter().map(|frame| frame.bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(order(&received), order(&frames));
    }
}

#[test]
fn a_kernel_next_door_owes_the_checksum() {
    let wire = |frame: &Frame| -> Wire {
        let bytes = [&encode(vni())[..], frame.bytes()].concat();
        (bytes.clone(), bytes.len(), 0)
    };
    for build in [Build::tcp4(), Build::tcp6(), Build::udp4(), Build::udp6()] {
        for len in [1, 1000] {
            let frame = build.clone().payload(&vec![1; len]).frame(None);
            let (received, _) = receive(&mut merge(), &mut [wire(&frame)]);
            assert_eq!((received[0].bytes(), received[0].offload), (frame.bytes(), frame.offload));
        }
        let frame = build.clone().payload(&[1; 30_000]).frame(Some(1300));
        let (received, drops) = receive(&mut merge(), &mut [wire(&frame)]);
        if build.is_tcp {
            assert_eq!(received[0].bytes(), frame.bytes());
            let segment = received[0].offload.gso.unwrap().segment;
            assert_eq!(usize::from(segment), LONGEST - build.header());
            cut(&received).iter().for_each(|segment| check(segment));
        } else {
            assert_eq!((received.len(), drops), (0, vec![DecapDrop::Uncut]));
        }
    }
}

#[test]
fn an_uncut_udp_super_frame_keeps_its_segments() {
    for build in [Build::udp4(), Build::udp6()] {
        // Payload that would be a VXLAN header and a frame, were it cut where the inner segments end.
        let build = build.payload(&[&[8, 0, 0, 0, 0, 0, 7, 0][..]; 2500].concat());
        let frame = build.frame(Some(1000));
        let wire = [&encode(vni())[..], frame.bytes()].concat();
        let (frames, drops) = receive(&mut merge(), &mut [(wire.clone(), 1000, 0)]);
        assert_eq!(drops, []);
        assert_eq!(cut(&frames), build.cut(1000));
        // Were its checksum not owed, nobody could say where it ends.
        let complete = [&encode(vni())[..], &build.bytes()].concat();
        let (frames, drops) = receive(&mut merge(), &mut [(complete, 1000, 0)]);
        assert_eq!((frames.len(), drops), (0, vec![DecapDrop::Uncut]));
        // Segments of one byte are an attack.
        let (frames, drops) = receive(&mut merge(), &mut [(wire, 1, 0)]);
        assert_eq!((frames.len(), drops), (0, vec![DecapDrop::Uncut]));
    }
}

/// Zero means "none" to UDP alone (RFC 768), which stores the other zero.
#[test]
fn a_checksum_that_comes_out_as_zero() {
    for (build, at, expected) in [(Build::tcp4(), 50, [0, 0]), (Build::udp4(), 40, [0xff, 0xff])] {
        let whole = |word: u16| build.clone().payload(&word.to_be_bytes());
        let zero = (0..=u16::MAX).map(whole).find(|build| build.bytes()[at..at + 2] == expected).unwrap();
        assert_eq!(cut(&[zero.frame(None)]), [zero.bytes()]);
    }
}

#[test]
fn an_owed_checksum_is_owed_even_where_it_seems_complete() {
    let mut build = Build::tcp4().payload(&[7; 9000]);
    let at = build.header() - 32;
    let mut frame = build.frame(Some(1398));
    // The last two bytes make the whole sum verify with the pseudo-header's sum in the field.
    let len = build.payload.len();
    let missing = (0..=u16::MAX).find(|guess| {
        build.payload[len - 2..].copy_from_slice(&guess.to_be_bytes());
        frame = build.frame(Some(1398));
        let bytes = frame.bytes();
        let pseudo = Sum::pseudo_header(&bytes[26..34], 6, u16::try_from(bytes.len() - at).unwrap());
        pseudo.plus(Sum::of(&bytes[at..])).is_valid()
    });
    assert!(missing.is_some());
    let wire = [&encode(vni())[..], frame.bytes()].concat();
    let stride = wire.len();
    let (frames, drops) = receive(&mut merge(), &mut [(wire, stride, 0)]);
    assert_eq!(drops, []);
    assert!(frames[0].offload.gso.is_some());
}

#[test]
fn malformed_datagrams() {
    let frame = Build::udp4().payload(&[1; 20]).bytes();
    let not_ect = Build::udp4().class(0).bytes();
    let with = |header: [u8; 8], frame: &[u8]| [&header, frame].concat();
    let good = encode(vni());
    let table: &[(&str, Vec<u8>, u8, Option<DecapDrop>)] = &[
        ("good", with(good, &frame), 0, None),
        ("reserved bits set", with([0xff, 1, 2, 3, 0, 0, 100, 9], &frame), 0, None),
        ("no byte", Vec::new(), 0, Some(DecapDrop::VxlanTruncated)),
        ("7 bytes", good[..7].to_vec(), 0, Some(DecapDrop::VxlanTruncated)),
        ("no frame", good.to_vec(), 0, Some(DecapDrop::VxlanTruncated)),
        ("13 bytes of frame", with(good, &frame[..13]), 0, Some(DecapDrop::VxlanTruncated)),
        ("an Ethernet header alone", with(good, &frame[..14]), 0, None),
        ("I flag off", with([0xf7, 0, 0, 0, 0, 0, 100, 0], &frame), 0, Some(DecapDrop::VxlanFlags)),
        ("VNI 0", with([8, 0, 0, 0, 0, 0, 0, 0], &frame), 0, Some(DecapDrop::UnknownVni)),
        ("VNI 101", with([8, 0, 0, 0, 0, 0, 101, 0], &frame), 0, Some(DecapDrop::UnknownVni)),
        ("a tag inside", with(good, &tagged(&frame, 5)), 0, Some(DecapDrop::InnerTag)),
        ("a tag cut short", with(good, &tagged(&frame, 5)[..14]), 0, Some(DecapDrop::InnerTag)),
        ("CE on Not-ECT", with(good, &not_ect), 3, Some(DecapDrop::EcnCe)),
        ("IP cut short", with(good, &frame[..20]), 3, None),
    ];
    for (what, bytes, tos, expected) in table {
        let mut wires = [(bytes.clone(), bytes.len(), *tos)];
        let (received, drops) = receive(&mut merge(), &mut wires);
        assert_eq!(drops, expected.iter().copied().collect::<Vec<_>>(), "{what}");
        assert_eq!(received.len(), usize::from(expected.is_none()), "{what}");
        if let [frame] = received.as_slice() {
            assert_eq!(frame.bytes(), &bytes[8..], "{what}");
        }
    }
    let mut train = DatagramTrain {
        bytes: &mut with(good, &frame),
        stride: 0,
        from: there().ip(),
        tos: 0,
        debts: Offload::default(),
    };
    let mut drops = Vec::new();
    merge().receive(0, &mut train, &directory(), |_, reason| drops.push(reason));
    assert_eq!(drops, [DecapDrop::UnknownVtep]);
}

#[test]
fn congestion_on_one_datagram_of_many() {
    let frames: Vec<Frame> = (0..3_u16)
        .map(|index| {
            let mut build = Build::tcp4().class(2).payload(&[1; 100]);
            build.seq = build.seq.wrapping_add(100 * u32::from(index));
            build.id = build.id.wrapping_add(index);
            Frame::from_bytes(&build.bytes())
        })
        .collect();
    let mut wires = encapsulate(&frames, 1);
    assert_eq!((wires.len(), wires[0].2), (1, 2));
    wires[0].2 = 3;
    let (received, _) = receive(&mut merge(), &mut wires);
    assert_eq!(received.len(), 1);
    for segment in cut(&received) {
        check(&segment);
        assert_eq!(segment[15], 3);
    }
}

#[test]
fn trains_end_where_they_must() {
    let v6 = SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, 1], 4789));
    let frame = |len| Frame::from_bytes(&Build::udp4().payload(&vec![1; len]).bytes());
    let frames = [frame(100), frame(100), frame(50), frame(50), frame(60)];
    let mut trains = Trains::new(1, false);
    for (index, frame) in frames.iter().enumerate() {
        trains.push(index, frame, vni(), there(), MTU).unwrap();
    }
    trains.push(4, &frames[4], vni(), v6, MTU).unwrap();
    let shape: Vec<_> = trains.lane(0).iter().map(|train| (train.count, train.stride, train.to)).collect();
    assert_eq!(shape, [(3, 150, there()), (1, 100, there()), (1, 110, there()), (1, 110, v6)]);
    assert_eq!(trains.lane(0)[0].segment().map(u16::from), None.or(Some(150)));
    assert_eq!(trains.lane(0)[1].segment(), None);
    assert_eq!(trains.waiting(), 6);
    trains.clear();
    assert_eq!(trains.waiting(), 0);
}

#[test]
fn one_frame_to_many_remotes_is_cut_once() {
    let frames = [Build::tcp4().payload(&[1; 9000]).frame(Some(1000))];
    let mut trains = Trains::new(4, false);
    let remotes: Vec<SocketAddr> = (1..=3).map(|host| SocketAddr::from(([192, 0, 2, host], 4789))).collect();
    for &remote in &remotes {
        trains.push(0, &frames[0], vni(), remote, MTU).unwrap();
    }
    let wires = wires(&trains, &frames);
    assert_eq!(wires.len(), 3);
    assert!(wires.iter().all(|wire| *wire == wires[0]));
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_no_trace() {
    let v6 = SocketAddr::from(([0xfd, 0, 0, 0, 0, 0, 0, 1], 4789));
    let mut trains = Trains::new(2, false);
    for (to, longest) in [(there(), MTU - 36), (v6, MTU - 56)] {
        let plain = |len: usize| Frame::from_bytes(&vec![2; len]);
        assert_eq!(largest_inner_frame(to.ip(), MTU), longest);
        assert_eq!(trains.push(0, &plain(longest), vni(), to, MTU), Ok(()));
        assert_eq!(trains.push(1, &plain(longest + 1), vni(), to, MTU), Err(EncapDrop::TooBig));
        let segment = u16::try_from(longest - Build::tcp4().header()).unwrap();
        let build = Build::tcp4().payload(&[1; 5000]);
        assert_eq!(trains.push(2, &build.frame(Some(segment)), vni(), to, MTU), Ok(()));
        assert_eq!(trains.push(3, &build.frame(Some(segment + 1)), vni(), to, MTU), Err(EncapDrop::TooBig));
        assert_eq!(trains.push(4, &build.frame(Some(0)), vni(), to, MTU), Err(EncapDrop::BadOffload));
        // The tag is not sent, so it does not count.
        let mut tagged = plain(longest);
        tagged.retag(Some(Tag::from_bits(3)));
        assert_eq!(trains.push(5, &tagged, vni(), to, MTU), Ok(()));
        assert_eq!(trains.push(6, &plain(100), vni(), to, 0), Err(EncapDrop::TooBig));
    }
    // Cut once for IPv4, then refused for the smaller IPv6 underlay.
    let frame = Frame::from_bytes(&[2; 1460]);
    assert_eq!(trains.push(7, &frame, vni(), there(), MTU), Ok(()));
    assert_eq!(trains.push(7, &frame, vni(), v6, MTU), Err(EncapDrop::TooBig));
}

#[test]
fn retagging_after_push_does_no_harm() {
    let mut frames = [Frame::from_bytes(&tagged(&Build::tcp6().payload(b"hello").bytes(), 7))];
    let mut trains = Trains::new(1, false);
    trains.push(0, &frames[0], vni(), there(), MTU).unwrap();
    let before = wires(&trains, &frames);
    for tag in [None, Some(Tag::from_bits(9))] {
        frames[0].retag(tag);
        assert_eq!(wires(&trains, &frames), before);
    }
}

/// What one remote sent is taken out from among what others did, which keeps its order.
#[test]
fn what_a_remote_sent_is_forgotten() {
    let vlan = VlanId::new(10).unwrap();
    let hosts: [IpAddr; 2] = [[192, 0, 2, 7].into(), [192, 0, 2, 8].into()];
    let mut directory = Directory::new();
    directory.add_network(vlan, vni()).unwrap();
    for (host, port) in hosts.into_iter().zip([7, 8]) {
        directory.add_remote(host, PortId::new(port), [vlan].into_iter().collect()).unwrap();
    }
    let mut merge = merge();
    for (n, from) in [0, 1, 1, 0, 1, 0].map(|host| hosts[host]).into_iter().enumerate() {
        let frame =
            [&[2, 0, 0, 0, 0, u8::try_from(n).unwrap(), 2, 0, 0, 0, 0, 0xff, 0x88, 0xb5][..], &[0; 46]].concat();
        let mut bytes = [&crate::encode(vni())[..], &frame].concat();
        let stride = bytes.len();
        let mut train = DatagramTrain { bytes: &mut bytes, stride, from, tos: 0, debts: Offload::default() };
        merge.receive(n, &mut train, &directory, |_, reason| panic!("{reason:?}"));
    }
    let numbers = |inbound: &mut [Inbound]| inbound.iter().map(|one| one.head.bytes()[5]).collect::<Vec<_>>();
    assert_eq!(numbers(merge.finish()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(merge.forget(PortId::new(8), 2).len(), 2);
    assert_eq!(numbers(merge.finished()), [0, 1, 3, 5]);
    assert_eq!(merge.forget(PortId::new(7), 9).len(), 0);
    assert_eq!(numbers(merge.finished()), [0, 1, 3, 5]);
}

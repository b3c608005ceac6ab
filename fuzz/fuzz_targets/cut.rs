//! There and back: frames of a container are cut, sent, received and merged; what the other side would see of them is
//! what the first side meant, with correct checksums.
//!
//! Input: the underlay's MTU (2), then up to four reads (see `Read`).
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use vswitch_core::{Checksum, Frame, GsoKind, Offload};
use vswitch_fuzz::{
    Offsets, Read, assembled, checksum, cut, directory, is_correct, remote, same_frames, tag_len, tunnel_vni,
};
use vtep::{
    DatagramTrain, DecapDrop, EncapDrop, HEADER_LEN, MAX_SEGMENTS, MAX_TRAIN_BYTES, MAX_TRAIN_DATAGRAMS, Merge,
    Segments, Trains, largest_inner_frame, parse,
};

/// Frames of one batch at most.
const FRAMES: usize = 4;
/// Source ports.
const LANES: usize = 2;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let mtu = usize::from(input.arbitrary::<u16>().unwrap_or_default());
    let mut frames: Vec<Frame> = Vec::new();
    while !input.is_empty() && frames.len() < FRAMES {
        let Ok(read) = input.arbitrary::<Read>() else { break };
        frames.extend(read.frame());
    }

    // What must arrive.
    let longest = largest_inner_frame(remote(), mtu);
    let mut trains = Trains::new(LANES, false);
    let mut sent = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let pushed = trains.push(index, frame, tunnel_vni(), (remote(), 4789).into(), mtu);
        let Ok(segments) = Segments::untagged(frame) else {
            assert_eq!(pushed, Err(EncapDrop::BadOffload));
            continue;
        };
        let parts = cut(segments, frame.bytes());
        judge(frame, &parts);
        if parts.iter().any(|part| part.len() > longest) {
            assert_eq!(pushed, Err(EncapDrop::TooBig));
            continue;
        }
        assert_eq!(pushed, Ok(()));
        sent.extend(parts);
    }
    assert_eq!(trains.waiting(), sent.len());

    // The wire.
    let mut receives = Vec::new();
    for lane in 0..trains.lanes() {
        for train in trains.lane(lane) {
            let bytes: Vec<u8> =
                trains.pieces(lane, train).iter().flat_map(|piece| trains.resolve(*piece, &frames).to_vec()).collect();
            assert_eq!(bytes.len(), train.bytes);
            assert!(train.count <= MAX_TRAIN_DATAGRAMS && (train.bytes <= MAX_TRAIN_BYTES || train.count == 1));
            assert_eq!(bytes.len().div_ceil(train.stride), train.count, "equal datagrams, the last may be shorter");
            for datagram in bytes.chunks(train.stride) {
                assert_eq!(parse(datagram), Ok(tunnel_vni()));
            }
            receives.push((bytes, train.stride, train.tos));
        }
    }
    let arrived: Vec<Vec<u8>> = receives
        .iter()
        .flat_map(|(bytes, stride, _)| bytes.chunks(*stride).map(|datagram| datagram[HEADER_LEN..].to_vec()))
        .collect();
    same_frames(&sent, &arrived, false);

    // The other side.
    let directory = directory();
    let mut merge = Merge::new(longest);
    let mut buffers = Vec::new();
    let mut dropped = 0;
    for (number, (mut bytes, stride, tos)) in receives.into_iter().enumerate() {
        let mut train = DatagramTrain { bytes: &mut bytes, stride, from: remote(), tos, debts: Offload::default() };
        merge.receive(number, &mut train, &directory, |_, reason| {
            assert!(matches!(reason, DecapDrop::InnerTag | DecapDrop::VxlanTruncated), "{reason:?}");
            dropped += 1;
        });
        buffers.push(bytes);
    }
    // A tag under the tag, and a stub, are what no remote takes; the switch sends neither.
    let carried = |frame: &Vec<u8>| frame.len() >= 14 && frame[12..14] != [0x81, 0x00];
    let before = sent.len();
    sent.retain(carried);
    assert_eq!(before - sent.len(), dropped);
    let (mut seen, mut owes) = (Vec::new(), false);
    for inbound in merge.finish() {
        let whole = assembled(inbound, &buffers);
        // A hand-made frame whose checksum field looks as if it was owed still: it will be paid.
        owes |= whole.offload.gso.is_none() && whole.offload.checksum != Checksum::Complete;
        seen.extend(cut(Segments::new(&whole).expect("what arrives can be cut"), whole.bytes()));
    }
    same_frames(&sent, &seen, owes);
});

/// Whether `parts` are what `frame` owes.
fn judge(frame: &Frame, parts: &[Vec<u8>]) {
    let (bytes, tag) = (frame.bytes(), tag_len(frame.bytes()));
    assert!(parts.len() <= MAX_SEGMENTS);
    match (frame.offload.gso, frame.offload.checksum) {
        (Some(gso), Checksum::Partial { start, .. }) => {
            let headers = usize::from(gso.header);
            let payload: Vec<u8> = parts.iter().flat_map(|part| part[headers - tag..].to_vec()).collect();
            assert_eq!(payload, bytes[headers..], "the payload of all segments is that of the super-frame");
            let at = Offsets { ip: 14, transport: usize::from(start) - tag };
            for (index, part) in parts.iter().enumerate() {
                assert!(is_correct(part, at), "{at:?} {part:02x?}");
                if gso.kind != GsoKind::Udp {
                    let place = (index * usize::from(gso.segment)) as u32;
                    judge_tcp(
                        &bytes[start.into()..],
                        &part[at.transport..],
                        place,
                        index == 0,
                        index + 1 == parts.len(),
                    );
                }
            }
        }
        (Some(_), Checksum::Complete) => panic!("a super-frame owes its checksum"),
        (None, Checksum::Complete) => assert_eq!(parts, [vswitch_fuzz::untagged(bytes)]),
        (None, Checksum::Partial { start, offset }) => {
            let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
            let [part] = parts else { panic!("one frame, {} parts", parts.len()) };
            let mut as_before = part.clone();
            as_before[field - tag..field - tag + 2].copy_from_slice(&bytes[field..field + 2]);
            assert_eq!(as_before, vswitch_fuzz::untagged(bytes), "nothing but the checksum changes");
            if offset % 2 == 0 {
                // With the sum of the pseudo-header, which the field held, all sums up to ones.
                assert_eq!(checksum(&[&part[start - tag..], &bytes[field..field + 2]]), 0xffff);
            }
        }
    }
}

/// Whether the TCP header of a segment, `place` bytes behind the super-frame's, has its number and flags: CWR goes with
/// the first (RFC 3168 6.1.2), FIN and PSH with the last.
fn judge_tcp(whole: &[u8], part: &[u8], place: u32, is_first: bool, is_last: bool) {
    let number = |header: &[u8]| u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    assert_eq!(number(part), number(whole).wrapping_add(place));
    let mut flags = whole[13];
    if !is_first {
        flags &= !0x80;
    }
    if !is_last {
        flags &= !0x09;
    }
    assert_eq!(part[13], flags);
}

//! Datagrams from anybody: each is a frame or one drop, and what comes out of the merge is what came in.
//!
//! Input: the underlay's MTU (2), then receives (see `Datagrams`).
#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use vswitch_core::{Checksum, Offload};
use vswitch_fuzz::{Datagrams, assembled, cut, directory, same_frames};
use vtep::{DatagramTrain, DecapDrop, Inner, Merge, Segments, Tail, decap, largest_inner_frame};

/// Receives of one batch at most.
const RECEIVES: usize = 8;

fn train<'a>(from: &Datagrams, bytes: &'a mut [u8]) -> DatagramTrain<'a> {
    let &Datagrams { stride, tos, from, debts, .. } = from;
    DatagramTrain { bytes, stride, from, tos, debts }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let mtu = input.arbitrary::<u16>().unwrap_or_default();
    let directory = directory();
    let mut receives = Vec::new();
    while !input.is_empty() && receives.len() < RECEIVES {
        receives.extend(input.arbitrary::<Datagrams>());
    }

    // Each datagram alone, as the parser sees it.
    let mut buffers: Vec<Vec<u8>> = receives.iter().map(|receive| receive.bytes.clone()).collect();
    let (mut inners, mut dropped) = (Vec::new(), Vec::new());
    for (number, (receive, bytes)) in receives.iter().zip(&mut buffers).enumerate() {
        let before = (inners.len(), dropped.len());
        decap(&mut train(receive, bytes), &directory, |bytes, inner| match inner {
            Ok(inner) => {
                let frame = bytes[inner.range.clone()].to_vec();
                inners.push((number, inner, frame));
            }
            Err(reason) => dropped.push(reason),
        });
        let count = inners.len() - before.0 + dropped.len() - before.1;
        let len = receive.bytes.len();
        let is_uncut = inners[before.0..].iter().any(|(_, inner, _)| inner.segment.is_some());
        let expected = if receive.stride == 0 || is_uncut { 1 } else { len.div_ceil(receive.stride).max(1) };
        // One that nobody cut and that is dropped does not say that it was one.
        assert!(count == expected || (count == 1 && inners.len() == before.0), "{count} of {expected}");
    }

    // The same, merged.
    let mut merged_buffers: Vec<Vec<u8>> = receives.iter().map(|receive| receive.bytes.clone()).collect();
    let mut merge = Merge::new(largest_inner_frame([192, 0, 2, 1].into(), mtu.into()));
    let mut reasons = Vec::new();
    for (number, (receive, bytes)) in receives.iter().zip(&mut merged_buffers).enumerate() {
        merge.receive(number, &mut train(receive, bytes), &directory, |_, reason| reasons.push(reason));
    }
    assert_eq!(buffers, merged_buffers, "payload is touched by nobody but for its congestion mark");
    // What the merge drops beyond the parser is a super-frame that it could not make sense of.
    let uncut = reasons.iter().filter(|reason| **reason == DecapDrop::Uncut).count();
    reasons.retain(|reason| *reason != DecapDrop::Uncut);
    assert_eq!(reasons, dropped);

    let owes = inners.iter().any(|(_, inner, _)| inner.debts != Offload::default());
    let (mut frames, mut merged) = (0, Vec::new());
    for inbound in merge.finish() {
        let whole = assembled(inbound, &buffers);
        let (head, tails) = inbound.parts();
        let joined =
            head.offload.gso.map_or(0, |gso| tails.iter().filter(|tail| is_joined(tail, gso.header, &inners)).count());
        frames += 1 + joined;
        if joined == 0 {
            merged.push(whole.bytes().to_vec());
        } else {
            let segments = Segments::new(&whole).expect("what was merged can be cut");
            let parts = cut(segments, whole.bytes());
            assert_eq!(parts.len(), 1 + joined);
            merged.extend(parts);
        }
        if let Checksum::Partial { start, offset } = whole.offload.checksum {
            assert!(usize::from(start) + usize::from(offset) + 2 <= whole.len());
        }
    }
    assert_eq!(frames + uncut, inners.len(), "each datagram is a frame or one drop");
    if uncut == 0 {
        let sent: Vec<_> = inners.into_iter().map(|(_, _, frame)| frame).collect();
        same_frames(&sent, &merged, owes);
    }
});

/// Whether a piece of payload is that of a later datagram: it begins directly behind that one's headers.
fn is_joined(tail: &Tail, headers: u16, inners: &[(usize, Inner, Vec<u8>)]) -> bool {
    let of = |(number, inner, _): &&(usize, Inner, Vec<u8>)| {
        *number == tail.buffer && inner.range.start <= tail.range.start && tail.range.end <= inner.range.end
    };
    let (_, inner, _) = inners.iter().find(of).expect("a piece lies within one datagram");
    inner.range.start + usize::from(headers) == tail.range.start
}

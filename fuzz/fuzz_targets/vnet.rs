//! Virtio headers: whatever is believed lies inside the frame, comes to a bounded number of segments, and can be said
//! again.
//!
//! Input: see `Read`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vswitch_core::{Checksum, Tag};
use vswitch_fuzz::{Read, cut, tag_len, tagged, untagged};
use vswitch_sys::vnet::{F_NEEDS_CSUM, GSO_NONE, VnetHdr};
use vtep::{MAX_SEGMENTS, Segments, vnet};

fuzz_target!(|read: Read| {
    let Some(mut frame) = read.frame() else { return };
    let (said, bytes, debts) = (read.header, &read.bytes, frame.offload);

    if let Checksum::Partial { start, offset } = debts.checksum {
        assert!(usize::from(start) >= 14 + tag_len(bytes), "a sum over the switch's own headers: {debts:?}");
        assert!(usize::from(start) + usize::from(offset) + 2 <= bytes.len(), "{debts:?}");
    }
    if let Some(gso) = debts.gso {
        let payload = bytes.len().checked_sub(gso.header.into()).expect("headers inside the frame");
        assert!(gso.segment > 0 && payload.div_ceil(gso.segment.into()) <= MAX_SEGMENTS, "{debts:?}");
    }

    let again = vnet::header(&debts);
    assert_eq!(vnet::offload(&again, bytes), Some(debts));
    let expected = if said.flags & F_NEEDS_CSUM == 0 {
        VnetHdr::default()
    } else {
        // The kind of a plain frame may carry a bit that means nothing there.
        let gso_type = if debts.gso.is_some() { said.gso_type } else { GSO_NONE };
        let gso_size = if debts.gso.is_some() { said.gso_size } else { 0 };
        VnetHdr { flags: F_NEEDS_CSUM, gso_type, gso_size, hdr_len: again.hdr_len, ..said }
    };
    assert_eq!(again, expected);

    for segments in [Segments::new(&frame), Segments::untagged(&frame)].into_iter().flatten() {
        let longest = segments.longest();
        let all = cut(segments, bytes);
        assert!(all.len() <= MAX_SEGMENTS);
        assert_eq!(all.iter().map(Vec::len).max(), Some(longest));
    }

    // A tag moves what is owed along with the bytes that owe it.
    if bytes.len() < 18 || tag_len(&untagged(bytes)) > 0 {
        return;
    }
    let summed = debts.checksum;
    for tag in [Some(Tag::from_bits(0x6005)), None] {
        frame.retag(tag);
        let now = tag.map_or_else(|| untagged(bytes), |tag| tagged(&untagged(bytes), tag.bits()));
        assert_eq!(frame.bytes(), now);
        if let (Checksum::Partial { start: old, .. }, Checksum::Partial { start, .. }) =
            (summed, frame.offload.checksum)
        {
            assert_eq!(frame.bytes()[start.into()..], bytes[old.into()..]);
        }
        assert_eq!(vnet::offload(&vnet::header(&frame.offload), frame.bytes()), Some(frame.offload));
    }
});

//! Ethernet and one 802.1Q tag: etherparse reads the same, and tags put on and taken off again leave no trace.
//!
//! Input: four tags (8), frame.
#![no_main]

use std::cell::RefCell;

use arbitrary::Unstructured;
use etherparse::{Ethernet2Slice, SingleVlanSlice};
use libfuzzer_sys::fuzz_target;
use vswitch_core::wire::ethernet::Ethernet;
use vswitch_core::{Frame, Instant, Limits, PortId, PortMode, Switch, Tag, Verdict, VlanId, VlanSet};
use vswitch_fuzz::{tag_len, tagged, untagged};

const VLAN: VlanId = VlanId::MIN;

/// What etherparse reads.
fn judged(bytes: &[u8]) -> Option<([u8; 6], [u8; 6], Option<u16>)> {
    let header = Ethernet2Slice::from_slice_without_fcs(bytes).ok()?;
    let tag = if header.ether_type().0 == 0x8100 {
        let tag = SingleVlanSlice::from_slice(header.payload_slice()).ok()?;
        let [priority, drop_eligible] =
            [u16::from(tag.priority_code_point().value()), u16::from(tag.drop_eligible_indicator())];
        Some(priority << 13 | drop_eligible << 12 | tag.vlan_identifier().value())
    } else {
        None
    };
    Some((header.destination(), header.source(), tag))
}

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(tags) = input.arbitrary::<[u16; 4]>() else { return };
    let bytes = input.take_rest();

    let parsed = Ethernet::parse(bytes).ok();
    let said = parsed.map(|header| (header.destination().0, header.source().0, header.tag.map(Tag::bits)));
    assert_eq!(said, judged(bytes));
    let mut frame = Frame::from_bytes(bytes);
    let Some(header) = parsed else { return };
    assert_eq!(frame.tag(), header.tag);
    assert_eq!(header.is_double, header.tag.is_some() && bytes[16..18] == [0x81, 0x00]);

    // Under a tag taken off another one would come to light: the switch lets no such frame out untagged.
    let bare = untagged(bytes);
    for (at, bits) in tags.into_iter().enumerate() {
        frame.retag(Some(Tag::from_bits(bits)));
        assert_eq!(frame.bytes(), tagged(&bare, bits));
        if at % 2 == 0 && !header.is_double {
            frame.retag(None);
            assert_eq!(frame.bytes(), bare);
        }
    }
    frame.retag(header.tag);
    if !header.is_double || header.tag.is_some() {
        assert_eq!(frame.bytes(), bytes);
    }
    SWITCH.with_borrow_mut(|switch| deliver(switch, bytes));
});

thread_local! {
    /// Ports 0 and 2 without tags, 1 and 3 with.
    static SWITCH: RefCell<Switch> = RefCell::new({
        let mut switch = Switch::new(Limits { entries: 64, per_port: 16 }, 0);
        let trunk = PortMode::Trunk { vlans: [VLAN].into_iter().collect(), native: None };
        let native = PortMode::Trunk { vlans: VlanSet::new(), native: Some(VLAN) };
        for (port, mode) in (0..).zip([PortMode::Access(VLAN), trunk.clone(), native, trunk]) {
            switch.add_port(PortId::new(port), mode);
        }
        switch
    });
}

/// Lets a switch decide: a flood leaves on every port as its mode says, out of one buffer, with the payload unharmed.
fn deliver(switch: &mut Switch, bytes: &[u8]) {
    for ingress in 0..2 {
        let verdict = switch.ingress(Instant::from_nanos(0), PortId::new(ingress), bytes);
        switch.fdb_flush(None, None);
        let Verdict::Flood(flood) = verdict else { continue };
        let mut frame = Frame::from_bytes(bytes);
        let ways: Vec<_> = switch.flood_targets(&flood).collect();
        assert!(ways.iter().all(|way| way.port.get() != ingress), "a frame never leaves where it came in");
        let given = if tag_len(bytes) > 0 { u16::from_be_bytes([bytes[14], bytes[15]]) } else { 0 };
        for way in ways {
            frame.retag(way.tag);
            let expected = if way.port.get() % 2 == 1 {
                tagged(&untagged(bytes), given & 0xf000 | VLAN.get())
            } else {
                untagged(bytes)
            };
            assert_eq!(frame.bytes(), expected, "{way:?}");
        }
    }
}

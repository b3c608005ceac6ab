//! Which VLAN a frame belongs to when it comes in, and which tag it carries when it goes out (IEEE 802.1Q-2022 6.9).

use alloc::boxed::Box;
use core::fmt;

use crate::wire::vlan::{Tag, VlanId};

crate::drop_reasons! {
    /// Why a frame belongs to no VLAN.
    pub enum VlanDrop {
        /// The frame's tag names a VLAN that its port does not carry; an access port and a remote take no tag but, on
        /// an access port, a priority tag.
        VlanNotAllowed => "vlan_not_allowed",
            "Let the port carry the VLAN (`vsctl port set NAME --trunk LIST`), or have the container send without a \
             tag.",
        /// The frame has no VLAN tag and its trunk port has no native VLAN.
        UntaggedNotAllowed => "untagged_not_allowed",
            "Give the trunk a native VLAN (`vsctl port set NAME --trunk LIST --native VID`), or have the container \
             tag its frames.",
    }
}

/// How a port takes part in VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// One VLAN; frames pass untagged.
    Access(VlanId),
    /// Many VLANs, told apart by tags.
    Trunk {
        /// The VLANs whose tags pass.
        vlans: VlanSet,
        /// Where untagged frames belong; its frames leave untagged. Need not be in `vlans`.
        native: Option<VlanId>,
    },
    /// One remote VTEP. Frames pass untagged, the VNI says the VLAN, and no frame goes from one remote to another.
    Remote {
        /// The VLANs that reach it.
        vlans: VlanSet,
    },
}

impl PortMode {
    /// Whether the port takes part in `vlan`.
    #[must_use]
    pub fn is_member(&self, vlan: VlanId) -> bool {
        match self {
            Self::Access(access) => *access == vlan,
            Self::Trunk { vlans, native } => *native == Some(vlan) || vlans.contains(vlan),
            Self::Remote { vlans } => vlans.contains(vlan),
        }
    }

    /// The VLANs the port takes part in, in ascending order.
    pub fn vlans(&self) -> impl Iterator<Item = VlanId> + '_ {
        VlanId::all().filter(|&vlan| self.is_member(vlan))
    }

    pub(crate) const fn is_remote(&self) -> bool {
        matches!(self, Self::Remote { .. })
    }

    /// The VLAN of a frame that came in on this local port with `tag`.
    #[inline]
    pub(crate) fn classify(&self, tag: Option<Tag>) -> Result<Classified, VlanDrop> {
        let untagged = tag.is_none_or(Tag::is_priority);
        let vlan = match self {
            Self::Access(vlan) if untagged => *vlan,
            Self::Trunk { native, .. } if untagged => native.ok_or(VlanDrop::UntaggedNotAllowed)?,
            Self::Trunk { vlans, .. } => {
                tag.and_then(Tag::vlan).filter(|&vlan| vlans.contains(vlan)).ok_or(VlanDrop::VlanNotAllowed)?
            }
            Self::Access(_) | Self::Remote { .. } => return Err(VlanDrop::VlanNotAllowed),
        };
        Ok(Classified { vlan, tag: tag.unwrap_or(Tag::from_bits(0)).in_vlan(vlan), is_double: false })
    }

    /// The VLAN of a frame that this remote sent in the VNI of `vlan`. The frame must be untagged (RFC 7348 6.1).
    #[inline]
    pub(crate) fn classify_remote(&self, vlan: VlanId, tag: Option<Tag>) -> Result<Classified, VlanDrop> {
        match self {
            Self::Remote { vlans } if tag.is_none() && vlans.contains(vlan) => {
                Ok(Classified { vlan, tag: Tag::from_bits(0).in_vlan(vlan), is_double: false })
            }
            _ => Err(VlanDrop::VlanNotAllowed),
        }
    }

    /// Whether frames of `vlan` leave here with a tag.
    #[inline]
    pub(crate) fn is_tagged(&self, vlan: VlanId) -> bool {
        matches!(self, Self::Trunk { native, .. } if *native != Some(vlan))
    }
}

/// What classification found. Aligned so that it moves as one word: in parts, a core waits for one to be stored before it
/// loads the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub(crate) struct Classified {
    pub(crate) vlan: VlanId,
    /// The frame's tag where it leaves tagged, with the priority bits it came with.
    pub(crate) tag: Tag,
    /// A second tag stands behind it: the frame may leave only where the first stays on.
    pub(crate) is_double: bool,
}

/// A set of VLANs.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    /// No VLAN.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new([0; 64]))
    }

    /// Every VLAN, 1 to 4094.
    #[must_use]
    pub fn all() -> Self {
        VlanId::all().collect()
    }

    /// Adds `vlan`; returns whether it was missing.
    pub fn insert(&mut self, vlan: VlanId) -> bool {
        let (word, bit) = Self::place(vlan);
        let missing = self.0[word] & bit == 0;
        self.0[word] |= bit;
        missing
    }

    /// Takes `vlan` out; returns whether it was there.
    pub fn remove(&mut self, vlan: VlanId) -> bool {
        let (word, bit) = Self::place(vlan);
        let there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        there
    }

    /// Whether `vlan` is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, vlan: VlanId) -> bool {
        let (word, bit) = Self::place(vlan);
        self.0[word] & bit != 0
    }

    /// Whether the set holds no VLAN.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// The VLANs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> + '_ {
        VlanId::all().filter(|&vlan| self.contains(vlan))
    }

    /// Word and bit of `vlan`.
    fn place(vlan: VlanId) -> (usize, u64) {
        (usize::from(vlan.get() >> 6), 1 << (vlan.get() & 63))
    }
}

impl Default for VlanSet {
    fn default() -> Self {
        Self::new()
    }
}

impl Extend<VlanId> for VlanSet {
    fn extend<I: IntoIterator<Item = VlanId>>(&mut self, vlans: I) {
        for vlan in vlans {
            self.insert(vlan);
        }
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> Self {
        let mut set = Self::new();
        set.extend(vlans);
        set
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(vid: u16) -> VlanId {
        VlanId::new(vid).unwrap()
    }

    fn set(vids: &[u16]) -> VlanSet {
        vids.iter().copied().map(vlan).collect()
    }

    fn trunk(vids: &[u16], native: Option<u16>) -> PortMode {
        PortMode::Trunk { vlans: set(vids), native: native.map(vlan) }
    }

    #[test]
    fn in_by_port_and_tag() {
        const NOT_ALLOWED: Result<(u16, u16), VlanDrop> = Err(VlanDrop::VlanNotAllowed);
        const UNTAGGED: Result<(u16, u16), VlanDrop> = Err(VlanDrop::UntaggedNotAllowed);
        let access = PortMode::Access(vlan(10));
        let plain = trunk(&[10, 20, 4094], None);
        let native = trunk(&[10, 20], Some(20));
        let native_apart = trunk(&[10], Some(99));
        let remote = PortMode::Remote { vlans: set(&[10]) };
        // Mode, tag on the wire, VLAN and the tag it has where it leaves tagged.
        let table = [
            (&access, None, Ok((10, 0x000a))),
            (&access, Some(0x0000), Ok((10, 0x000a))),
            (&access, Some(0xa000), Ok((10, 0xa00a))), // priority 5
            (&access, Some(0x1000), Ok((10, 0x100a))), // drop eligible
            (&access, Some(0x000a), NOT_ALLOWED),      // its own VLAN
            (&access, Some(0xa00a), NOT_ALLOWED),
            (&access, Some(0x0014), NOT_ALLOWED),
            (&access, Some(0x0fff), NOT_ALLOWED),
            (&plain, None, UNTAGGED),
            (&plain, Some(0xe000), UNTAGGED),
            (&plain, Some(0x000a), Ok((10, 0x000a))),
            (&plain, Some(0xf014), Ok((20, 0xf014))),
            (&plain, Some(0x0ffe), Ok((4094, 0x0ffe))),
            (&plain, Some(0x001e), NOT_ALLOWED),
            (&plain, Some(0x0fff), NOT_ALLOWED),
            (&native, None, Ok((20, 0x0014))),
            (&native, Some(0x6000), Ok((20, 0x6014))),
            (&native, Some(0x0014), Ok((20, 0x0014))),
            (&native, Some(0x000a), Ok((10, 0x000a))),
            (&native_apart, None, Ok((99, 0x0063))),
            (&native_apart, Some(0x0063), NOT_ALLOWED), // its tag is not in the set
            (&remote, None, NOT_ALLOWED),
            (&remote, Some(0x000a), NOT_ALLOWED),
        ];
        for (mode, bits, expected) in table {
            let found = mode.classify(bits.map(Tag::from_bits)).map(|frame| (frame.vlan.get(), frame.tag.bits()));
            assert_eq!(found, expected, "{mode:?} with tag {bits:04x?}");
        }
    }

    #[test]
    fn in_from_a_remote() {
        let remote = PortMode::Remote { vlans: set(&[10, 20]) };
        let table = [
            (&remote, 10, None, true),
            (&remote, 20, None, true),
            (&remote, 30, None, false),
            (&remote, 10, Some(0x000a), false),
            (&remote, 10, Some(0xa000), false),
            (&PortMode::Access(vlan(10)), 10, None, false),
            (&trunk(&[10], Some(10)), 10, None, false),
        ];
        for (mode, vid, bits, allowed) in table {
            let found = mode.classify_remote(vlan(vid), bits.map(Tag::from_bits));
            let expected = if allowed {
                Ok(Classified { vlan: vlan(vid), tag: Tag::from_bits(vid), is_double: false })
            } else {
                Err(VlanDrop::VlanNotAllowed)
            };
            assert_eq!(found, expected, "{mode:?} in VLAN {vid} with tag {bits:04x?}");
        }
    }

    #[test]
    fn out_by_port_and_vlan() {
        let table = [
            (PortMode::Access(vlan(10)), 10, Some(false)),
            (PortMode::Access(vlan(10)), 20, None),
            (trunk(&[10, 20], None), 10, Some(true)),
            (trunk(&[10, 20], None), 30, None),
            (trunk(&[10, 20], Some(20)), 10, Some(true)),
            (trunk(&[10, 20], Some(20)), 20, Some(false)),
            (trunk(&[10], Some(99)), 99, Some(false)),
            (PortMode::Remote { vlans: set(&[10]) }, 10, Some(false)),
            (PortMode::Remote { vlans: set(&[10]) }, 20, None),
        ];
        for (mode, vid, tagged) in table {
            assert_eq!(mode.is_member(vlan(vid)), tagged.is_some(), "{mode:?}, VLAN {vid}");
            if let Some(tagged) = tagged {
                assert_eq!(mode.is_tagged(vlan(vid)), tagged, "{mode:?}, VLAN {vid}");
            }
            assert_eq!(mode.vlans().any(|member| member == vlan(vid)), tagged.is_some());
        }
    }

    #[test]
    fn a_set_of_vlans() {
        let mut set = set(&[1, 63, 64, 4094]);
        assert!(!set.insert(vlan(64)) && set.insert(vlan(65)));
        assert!(set.remove(vlan(63)) && !set.remove(vlan(63)));
        assert_eq!(set.iter().map(VlanId::get).collect::<alloc::vec::Vec<_>>(), [1, 64, 65, 4094]);
        assert_eq!(VlanSet::all().iter().count(), 4094);
        assert!(VlanSet::new().is_empty() && !set.is_empty());
    }
}

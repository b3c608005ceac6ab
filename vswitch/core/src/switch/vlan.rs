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
        /// The frame has no VLAN tag and its trunk port has no native VLAN.
        UntaggedNotAllowed => "untagged_not_allowed",
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
        Ok(Classified { vlan, tag: tag.unwrap_or(Tag::from_bits(0)).in_vlan(vlan) })
    }

    /// The VLAN of a frame that this remote sent in the VNI of `vlan`. The frame must be untagged (RFC 7348 6.1).
    #[inline]
    pub(crate) fn classify_remote(&self, vlan: VlanId, tag: Option<Tag>) -> Result<Classified, VlanDrop> {
        match self {
            Self::Remote { vlans } if tag.is_none() && vlans.contains(vlan) => {
                Ok(Classified { vlan, tag: Tag::from_bits(0).in_vlan(vlan) })
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

/// What classification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Classified {
    pub(crate) vlan: VlanId,
    /// The frame's tag where it leaves tagged, with the priority bits it came with.
    pub(crate) tag: Tag,
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

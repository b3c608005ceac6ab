//! The 802.1Q tag (IEEE 802.1Q-2022 9.6).

use core::fmt;

/// EtherType of a C-tag. 0x88A8 (S-tag) is opaque payload to this switch.
pub const ETHERTYPE: [u8; 2] = [0x81, 0x00];

/// Bytes of a tag: EtherType and control information.
pub const TAG_LEN: usize = 4;

/// A VLAN identifier, 1 to 4094: 0 means "priority only" and 4095 is reserved (IEEE 802.1Q-2022 table 9-2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The least VLAN, where ports live that name none.
    pub const MIN: Self = Self(1);
    /// The greatest VLAN.
    pub const MAX: Self = Self(4094);

    /// The VLAN `vid`, or `None` outside 1 to 4094.
    #[must_use]
    pub const fn new(vid: u16) -> Option<Self> {
        if vid >= Self::MIN.0 && vid <= Self::MAX.0 { Some(Self(vid)) } else { None }
    }

    /// Every VLAN in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (Self::MIN.0..=Self::MAX.0).map(Self)
    }

    /// The number, 1 to 4094.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Tag control information as it stands on the wire: 3 bits priority, 1 bit drop eligible, 12 bits VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u16);

impl Tag {
    /// The tag with these 16 bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The 16 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Its VLAN; `None` for a priority tag (0) and for the reserved 4095.
    #[must_use]
    pub const fn vlan(self) -> Option<VlanId> {
        VlanId::new(self.0 & 0x0fff)
    }

    /// Whether it carries a priority and no VLAN.
    #[must_use]
    pub const fn is_priority(self) -> bool {
        self.0 & 0x0fff == 0
    }

    /// The same priority and drop-eligible bits in `vlan`.
    #[must_use]
    pub const fn in_vlan(self, vlan: VlanId) -> Self {
        Self(self.0 & 0xf000 | vlan.0)
    }
}

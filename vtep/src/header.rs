//! The VXLAN header (RFC 7348 section 5): flags, 24 reserved bits, VNI, 8 reserved bits.

use std::fmt;

use crate::decap::DecapDrop;

/// Bytes of the VXLAN header.
pub const HEADER_LEN: usize = 8;

/// The flag that says the VNI is valid.
const I_FLAG: u8 = 0x08;

/// A VXLAN network identifier, 1 to 16777215.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The greatest VNI.
    pub const MAX: Self = Self(0xff_ffff);

    /// The network `vni`, or `None` outside 1 to 16777215.
    #[must_use]
    pub const fn new(vni: u32) -> Option<Self> {
        if vni >= 1 && vni <= Self::MAX.0 { Some(Self(vni)) } else { None }
    }

    /// The number, 1 to 16777215.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The header of a datagram in network `vni`: I flag set, all reserved bits zero.
#[must_use]
#[inline]
pub const fn encode(vni: Vni) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.0.to_be_bytes();
    [I_FLAG, 0, 0, 0, a, b, c, 0]
}

/// The network a datagram belongs to. Reserved bits are ignored (RFC 7348 section 5).
///
/// # Errors
/// The datagram is shorter than the header, has the I flag off, or names VNI 0, which no network of ours has.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<Vni, DecapDrop> {
    let Some(&[flags, _, _, _, a, b, c, _]) = datagram.first_chunk::<HEADER_LEN>() else {
        return Err(DecapDrop::VxlanTruncated);
    };
    if flags & I_FLAG == 0 {
        return Err(DecapDrop::VxlanFlags);
    }
    Vni::new(u32::from_be_bytes([0, a, b, c])).ok_or(DecapDrop::UnknownVni)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range() {
        for (vni, valid) in [(0, false), (1, true), (0xff_ffff, true), (0x100_0000, false), (u32::MAX, false)] {
            assert_eq!(Vni::new(vni).map(Vni::get), valid.then_some(vni));
        }
    }

    #[test]
    fn headers() {
        let vni = Vni::new(0x12_3456).unwrap();
        assert_eq!(encode(vni), [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
        let table: &[(&[u8], Result<Vni, DecapDrop>)] = &[
            (&encode(vni), Ok(vni)),
            (&[0xff, 0xff, 0xff, 0xff, 0x12, 0x34, 0x56, 0xff, 1, 2], Ok(vni)), // reserved bits are ignored
            (&[], Err(DecapDrop::VxlanTruncated)),
            (&encode(vni)[..7], Err(DecapDrop::VxlanTruncated)),
            (&[0x00, 0, 0, 0, 0x12, 0x34, 0x56, 0], Err(DecapDrop::VxlanFlags)),
            (&[0xf7, 0, 0, 0, 0x12, 0x34, 0x56, 0], Err(DecapDrop::VxlanFlags)),
            (&[0x08, 0, 0, 0, 0, 0, 0, 0xff], Err(DecapDrop::UnknownVni)),
        ];
        for (bytes, expected) in table {
            assert_eq!(parse(bytes), *expected, "{bytes:02x?}");
        }
    }
}

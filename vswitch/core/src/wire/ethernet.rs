//! The Ethernet header (IEEE 802.3-2022 3.1.1), with one 802.1Q tag.

use crate::addr::MacAddr;
use crate::wire::vlan::{ETHERTYPE, Tag};

/// Bytes of both addresses and the EtherType.
pub const HEADER_LEN: usize = 14;

crate::drop_reasons! {
    /// Why bytes are no Ethernet frame.
    pub enum EthernetDrop {
        /// The frame ends before its Ethernet header (14 bytes, 18 with an 802.1Q tag) does.
        Truncated => "truncated",
            "Look for a broken or hostile program in the container: no kernel sends such frames.",
    }
}

/// What a switch reads of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// The addresses as words, see [`MacAddr::to_u64`]: made of octets again, they cost more than all else here.
    pub(crate) destination: u64,
    pub(crate) source: u64,
    /// The outer 802.1Q tag. An 802.1ad tag (0x88A8) is payload.
    pub tag: Option<Tag>,
    /// Whether a second 802.1Q tag stands behind the outer one.
    pub is_double: bool,
}

impl Ethernet {
    /// Reads the header; `frame` may be only the head of a frame.
    ///
    /// # Errors
    /// [`EthernetDrop::Truncated`] where the header, or the tag with the EtherType it covers, is cut short.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, EthernetDrop> {
        let (header, behind) = frame.split_first_chunk::<HEADER_LEN>().ok_or(EthernetDrop::Truncated)?;
        let &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, type_hi, type_lo] = header;
        let destination = u64::from_be_bytes([d0, d1, d2, d3, d4, d5, s0, s1]) >> 16;
        let source = u64::from_be_bytes([d4, d5, s0, s1, s2, s3, s4, s5]) << 16 >> 16;
        let (tag, is_double) = if [type_hi, type_lo] == ETHERTYPE {
            let &[hi, lo, inner_hi, inner_lo] = behind.first_chunk::<4>().ok_or(EthernetDrop::Truncated)?;
            (Some(Tag::from_bits(u16::from_be_bytes([hi, lo]))), [inner_hi, inner_lo] == ETHERTYPE)
        } else {
            (None, false)
        };
        Ok(Self { destination, source, tag, is_double })
    }

    /// The destination address.
    #[must_use]
    pub const fn destination(&self) -> MacAddr {
        MacAddr::from_u64(self.destination)
    }

    /// The source address.
    #[must_use]
    pub const fn source(&self) -> MacAddr {
        MacAddr::from_u64(self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 7];

    #[test]
    fn every_header() {
        type Case = (&'static [u8], Result<Option<u16>, EthernetDrop>);
        let table: [Case; 9] = [
            (&[], Err(EthernetDrop::Truncated)),
            (&[0x08], Err(EthernetDrop::Truncated)),
            (&[0x08, 0x00], Ok(None)),
            (&[0x00, 0x2a], Ok(None)), // 802.3 length
            (&[0x81, 0x00], Err(EthernetDrop::Truncated)),
            (&[0x81, 0x00, 0x60, 0x0a, 0x08], Err(EthernetDrop::Truncated)),
            (&[0x81, 0x00, 0x60, 0x0a, 0x08, 0x00], Ok(Some(0x600a))),
            (&[0x81, 0x00, 0x60, 0x0a, 0x81, 0x00], Ok(Some(0x600a))), // the inner tag is payload
            (&[0x88, 0xa8, 0x60, 0x0a], Ok(None)),
        ];
        for (behind, expected) in table {
            let frame: alloc::vec::Vec<u8> = MACS.iter().chain(behind).copied().collect();
            let parsed = Ethernet::parse(&frame);
            assert_eq!(parsed.map(|header| header.tag.map(Tag::bits)), expected, "{behind:02x?}");
            if let Ok(header) = parsed {
                assert_eq!(header.destination(), MacAddr([2, 0, 0, 0, 0, 9]));
                assert_eq!(header.source(), MacAddr([2, 0, 0, 0, 0, 7]));
            }
        }
        assert_eq!(Ethernet::parse(&MACS[..11]), Err(EthernetDrop::Truncated));
    }
}

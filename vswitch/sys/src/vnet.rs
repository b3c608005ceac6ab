//! The virtio-net header before every frame of a TAP device (virtio 1.3, 5.1.6).
//!
//! Little endian on every machine: [`crate::Tap`] asks the kernel for that order.

/// Bytes of the header: the legacy form, without the buffer count.
pub const VNET_HDR_LEN: usize = 10;

/// Flag: bytes from `csum_start` on are to be summed and the sum stored at `csum_start + csum_offset`.
pub const F_NEEDS_CSUM: u8 = 1;
/// Flag: the checksums are known to be right.
pub const F_DATA_VALID: u8 = 2;

/// Kind of super-frame: none, one frame.
pub const GSO_NONE: u8 = 0;
/// Kind of super-frame: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// Kind of super-frame: UDP fragments, which no TAP of ours is offered.
pub const GSO_UDP: u8 = 3;
/// Kind of super-frame: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// Kind of super-frame: UDP datagrams of one size, over either IP.
pub const GSO_UDP_L4: u8 = 5;
/// Bit beside the TCP kinds: the first segment carries CWR.
pub const GSO_ECN: u8 = 0x80;

/// Bytes of the header with tunnel fields: the form of virtio 1 with a hash, and where the headers inside begin.
pub const TUNNEL_HDR_LEN: usize = 24;
/// Flag: the outer UDP checksum is to be computed too.
pub const F_UDP_TUNNEL_CSUM: u8 = 8;
/// Bit beside the kind: the super-frame stands in a UDP tunnel over IPv4.
pub const GSO_UDP_TUNNEL_IPV4: u8 = 0x20;
/// Bit beside the kind: the super-frame stands in a UDP tunnel over IPv6.
pub const GSO_UDP_TUNNEL_IPV6: u8 = 0x40;

/// What the header says, as it stands there: nothing of it is checked against the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHdr {
    /// [`F_NEEDS_CSUM`], [`F_DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` kinds, with or without [`GSO_ECN`].
    pub gso_type: u8,
    /// Bytes of all headers of a super-frame; the kernel takes it as a hint.
    pub hdr_len: u16,
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// Where the sum begins.
    pub csum_start: u16,
    /// Where it is stored, from `csum_start` on.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// The header at the start of `bytes`; `None` where they are fewer than [`VNET_HDR_LEN`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[flags, gso_type, a, b, c, d, e, f, g, h] = bytes.first_chunk::<VNET_HDR_LEN>()?;
        Some(Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([a, b]),
            gso_size: u16::from_le_bytes([c, d]),
            csum_start: u16::from_le_bytes([e, f]),
            csum_offset: u16::from_le_bytes([g, h]),
        })
    }

    /// The header as it stands before a frame.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; VNET_HDR_LEN] {
        let [a, b] = self.hdr_len.to_le_bytes();
        let [c, d] = self.gso_size.to_le_bytes();
        let [e, f] = self.csum_start.to_le_bytes();
        let [g, h] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }

    /// Writes the header to the start of `bytes`; false, and nothing written, where they are fewer than
    /// [`VNET_HDR_LEN`].
    #[must_use]
    pub fn encode(&self, bytes: &mut [u8]) -> bool {
        let Some(room) = bytes.first_chunk_mut::<VNET_HDR_LEN>() else { return false };
        *room = self.to_bytes();
        true
    }
}

/// The header of a frame that may stand in a UDP tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelHdr {
    /// What is owed. Where the type names a tunnel, kind and sizes are those of the frame inside.
    pub vnet: VnetHdr,
    /// Where the outer UDP header begins.
    pub outer_transport: u16,
    /// Where the IP header inside begins.
    pub inner_network: u16,
}

impl TunnelHdr {
    /// The header at the start of `bytes`; `None` where they are fewer than [`TUNNEL_HDR_LEN`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[.., a, b, c, d] = bytes.first_chunk::<TUNNEL_HDR_LEN>()?;
        Some(Self {
            vnet: VnetHdr::decode(bytes)?,
            outer_transport: u16::from_le_bytes([a, b]),
            inner_network: u16::from_le_bytes([c, d]),
        })
    }

    /// The header as it stands before a frame; buffer count and hash are zero.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TUNNEL_HDR_LEN] {
        let mut bytes = [0; TUNNEL_HDR_LEN];
        bytes[..VNET_HDR_LEN].copy_from_slice(&self.vnet.to_bytes());
        bytes[20..22].copy_from_slice(&self.outer_transport.to_le_bytes());
        bytes[22..].copy_from_slice(&self.inner_network.to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_endian_in_the_order_of_the_standard() {
        let header = VnetHdr {
            flags: F_NEEDS_CSUM,
            gso_type: GSO_TCPV4 | GSO_ECN,
            hdr_len: 66,
            gso_size: 1448,
            csum_start: 34,
            csum_offset: 16,
        };
        let mut bytes = [0xee; 12];
        assert!(header.encode(&mut bytes));
        assert_eq!(bytes, [1, 0x81, 66, 0, 0xa8, 0x05, 34, 0, 16, 0, 0xee, 0xee]);
        assert_eq!(VnetHdr::decode(&bytes), Some(header));
    }

    #[test]
    fn tunnel_fields_stand_at_the_end() {
        let vnet = VnetHdr { flags: F_NEEDS_CSUM, gso_type: GSO_TCPV4 | GSO_UDP_TUNNEL_IPV4, ..VnetHdr::default() };
        let header = TunnelHdr { vnet, outer_transport: 34, inner_network: 0x0140 };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..2], [1, 0x21]);
        assert_eq!(bytes[10..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 34, 0, 0x40, 1]);
        assert_eq!(TunnelHdr::decode(&bytes), Some(header));
        assert_eq!(TunnelHdr::decode(&bytes[..23]), None);
    }

    #[test]
    fn short_buffers() {
        assert_eq!(VnetHdr::decode(&[0; 9]), None);
        let mut bytes = [7; 9];
        assert!(!VnetHdr::default().encode(&mut bytes));
        assert_eq!(bytes, [7; 9]);
    }
}

//! Inputs: fields from the front of the bytes, in the order the targets' files say, and zeros where they end.

use std::net::IpAddr;

use arbitrary::{Arbitrary, Result, Unstructured};
use vswitch_core::{Frame, Offload, PortId, VlanId, VlanSet};
use vswitch_sys::vnet::{VNET_HDR_LEN, VnetHdr};
use vtep::{Directory, Vni, vnet};

use crate::wire::repair;

/// Payload put behind a frame at most, so that an input of some bytes may be a super-frame of 64 KiB.
const MAX_MORE: u16 = 65_000;

/// What a device hands over in one read: a virtio header and a frame.
///
/// As bytes: how many bytes of a pattern follow the frame (2), the length of the frame's own (2), header (10), frame.
#[derive(Debug)]
pub struct Read {
    /// What the header says.
    pub header: VnetHdr,
    /// The frame.
    pub bytes: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Read {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let more = u16::arbitrary(input)?.min(MAX_MORE);
        let len = usize::from(u16::arbitrary(input)?);
        let header = VnetHdr::decode(&<[u8; VNET_HDR_LEN]>::arbitrary(input)?).unwrap_or_default();
        let mut bytes = input.bytes(len.min(input.len()))?.to_vec();
        bytes.extend((0..=250).cycle().take(usize::from(more)));
        Ok(Self { header, bytes })
    }
}

impl Read {
    /// The frame with the debts that the switch believes; `None` where it drops the read.
    pub fn frame(&self) -> Option<Frame> {
        let mut frame = Frame::from_bytes(&self.bytes);
        frame.offload = vnet::offload(&self.header, &self.bytes)?;
        Some(frame)
    }
}

/// What one receive from the tunnel brings.
///
/// As bytes: length (2), stride (2), TOS (1), who sent it (1; from 128 on the checksums are put right), what the frame
/// owes where it is one datagram (10).
#[derive(Debug)]
pub struct Datagrams {
    /// All datagrams.
    pub bytes: Vec<u8>,
    /// Bytes of each but the last.
    pub stride: usize,
    /// The outer TOS.
    pub tos: u8,
    /// The sender.
    pub from: IpAddr,
    /// What a single datagram owes.
    pub debts: Offload,
}

impl<'a> Arbitrary<'a> for Datagrams {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let (len, stride) = (usize::from(u16::arbitrary(input)?), usize::from(u16::arbitrary(input)?));
        let tos = u8::arbitrary(input)?;
        let sender = u8::arbitrary(input)?;
        let from = match sender % 8 {
            0 => stranger(),
            1 => remote_v6(),
            _ => remote(),
        };
        let header = VnetHdr::decode(&<[u8; VNET_HDR_LEN]>::arbitrary(input)?).unwrap_or_default();
        let mut bytes = input.bytes(len.min(input.len()))?.to_vec();
        let is_one = stride == 0 || stride >= bytes.len();
        if sender >= 128 {
            let stride = if is_one { bytes.len().max(1) } else { stride };
            let frames = bytes.chunks_mut(stride).filter_map(|datagram| datagram.get_mut(vtep::HEADER_LEN..));
            frames.for_each(repair);
        }
        let frame = bytes.get(vtep::HEADER_LEN..).filter(|_| is_one).unwrap_or_default();
        Ok(Self { stride, tos, from, debts: vnet::offload(&header, frame).unwrap_or_default(), bytes })
    }
}

/// The VLAN that the tunnel carries.
pub fn tunnel_vlan() -> VlanId {
    VlanId::MIN
}

/// Its name on the underlay.
pub fn tunnel_vni() -> Vni {
    Vni::MAX
}

/// A remote VTEP in that VLAN.
pub fn remote() -> IpAddr {
    IpAddr::from([192, 0, 2, 2])
}

/// Another.
pub fn remote_v6() -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 3])
}

/// Somebody else.
pub fn stranger() -> IpAddr {
    IpAddr::from([192, 0, 2, 99])
}

/// A host that knows both remotes.
pub fn directory() -> Directory {
    let mut directory = Directory::new();
    let vlans: VlanSet = [tunnel_vlan()].into_iter().collect();
    directory.add_network(tunnel_vlan(), tunnel_vni()).expect("the only network");
    directory.add_remote(remote(), PortId::new(2), vlans.clone()).expect("the first remote");
    directory.add_remote(remote_v6(), PortId::new(3), vlans).expect("the second remote");
    directory
}

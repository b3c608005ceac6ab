//! Datagrams in: what a received train holds, each datagram checked in the order of its headers.

use std::net::IpAddr;
use std::ops::Range;

use vswitch_core::wire::vlan::ETHERTYPE;
use vswitch_core::{Offload, PortId, VlanId};

use crate::ecn;
use crate::header::{HEADER_LEN, Vni, parse};
use crate::inner::{ETHERNET_LEN, Ip, MACS_LEN, UDP};
use crate::remotes::Directory;

vswitch_core::drop_reasons! {
    /// Why a received datagram is dropped.
    pub enum DecapDrop {
        /// The datagram is too short for a VXLAN header and an Ethernet header.
        VxlanTruncated => "vxlan_truncated",
            "Something else than VXLAN sends to this port: `vsctl capture tunnel` and `tcpdump -n udp port 4789` say \
             who.",
        /// The VXLAN header does not have the I flag set.
        VxlanFlags => "vxlan_flags",
            "The sender speaks another protocol, or an older VXLAN, on this port: `tcpdump -n udp port 4789` says \
             who.",
        /// No VLAN here is carried in that VXLAN network.
        UnknownVni => "unknown_vni",
            "Give a VLAN that VNI (`vsctl vlan add VID --vni VNI`), or take this host from the sender's list of \
             peers.",
        /// The sender is not among the remotes of that VLAN.
        UnknownVtep => "unknown_vtep",
            "Add the sender if it is meant (`vsctl vtep peer add IP --vlan VID`). Where its address is another than \
             expected, it sends from a second interface, or NAT is on the way.",
        /// The frame inside has a VLAN tag, which VXLAN does not carry (RFC 7348 6.1).
        InnerTag => "inner_tag",
            "Have the other side strip the tag (an access port for that VNI), or map each VLAN to a VNI of its own.",
        /// The underlay marked congestion on a packet whose ends do not understand the mark (RFC 6040 4.2).
        EcnCe => "ecn_ce",
            "Nothing here: the sender takes it for congestion, which it is. Look for the full queue on the underlay.",
        /// A UDP super-frame that nobody cut, and where its datagrams end is lost.
        Uncut => "uncut_super_frame",
            "Turn off UDP tunnel segmentation on the interface that hands it over: `ethtool -K DEV \
             tx-udp_tnl-segmentation off`.",
    }
}

/// Datagrams received in one go, as `UDP_GRO` hands them over.
#[derive(Debug)]
pub struct DatagramTrain<'a> {
    /// All datagrams, one behind the other.
    pub bytes: &'a mut [u8],
    /// Bytes of each but the last, which may be shorter.
    pub stride: usize,
    /// The outer source address.
    pub from: IpAddr,
    /// The outer TOS octet or traffic class.
    pub tos: u8,
    /// What the frame inside still owes, where there is one datagram and whoever received it knows.
    pub debts: Offload,
}

/// A frame taken out of its datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where the frame lies in the train's bytes.
    pub range: Range<usize>,
    /// Its VLAN.
    pub vlan: VlanId,
    /// The switch's port that stands for its sender.
    pub remote: PortId,
    /// Bytes of payload of each datagram in it, where it is a UDP super-frame that nobody cut.
    pub segment: Option<u16>,
    /// What it still owes, as far as is known.
    pub debts: Offload,
}

/// Whether the train is in truth one datagram, with a UDP super-frame inside that a kernel on this machine left uncut.
///
/// `UDP_GRO` then names the *inner* segment size (Linux 6.18: whatever has `SKB_GSO_UDP_L4`). To cut there would let the
/// payload pose as VXLAN headers. In a real train the first packet inside ends within the first datagram; in a
/// super-frame the lengths are those of the whole.
fn is_uncut(bytes: &[u8], stride: usize) -> bool {
    if stride >= bytes.len() {
        return false;
    }
    let inner = bytes.get(HEADER_LEN..).and_then(Ip::find);
    inner.is_some_and(|ip| ip.protocol == UDP && HEADER_LEN + ip.end == bytes.len())
}

/// Takes the frames out of a train, in order; `each` gets the train's bytes with every frame, or a datagram with the
/// reason why it was dropped. A congestion mark is carried over to the frame, in place.
pub fn decap(
    train: &mut DatagramTrain<'_>,
    directory: &Directory,
    mut each: impl FnMut(&[u8], Result<Inner, DecapDrop>),
) {
    let uncut = is_uncut(train.bytes, train.stride);
    let stride = if train.stride == 0 || uncut { train.bytes.len() } else { train.stride };
    let debts = train.debts;
    let segment = uncut.then(|| u16::try_from(train.stride).unwrap_or(u16::MAX));
    // Datagrams of a train mostly belong to one network: it is looked up once.
    let mut last: Option<(Vni, (VlanId, PortId))> = None;
    let mut at = 0_usize;
    // An empty datagram is one too.
    loop {
        let end = train.bytes.len().min(at.saturating_add(stride));
        let frame = at + HEADER_LEN..end;
        let inner = parse(&train.bytes[at..end]).and_then(|vni| {
            let (vlan, remote) = match last {
                Some((known, sender)) if known == vni => sender,
                _ => directory.admit(vni, train.from)?,
            };
            last = Some((vni, (vlan, remote)));
            let bytes = &mut train.bytes[frame.clone()];
            if bytes.len() < ETHERNET_LEN {
                return Err(DecapDrop::VxlanTruncated);
            }
            if bytes[MACS_LEN..ETHERNET_LEN] == ETHERTYPE {
                return Err(DecapDrop::InnerTag);
            }
            ecn::decapsulate(bytes, train.tos).map_err(|ecn::Congested| DecapDrop::EcnCe)?;
            Ok(Inner { range: frame, vlan, remote, segment, debts })
        });
        match inner {
            Ok(inner) => each(train.bytes, Ok(inner)),
            Err(reason) => each(&train.bytes[at..end], Err(reason)),
        }
        at = end;
        if at >= train.bytes.len() {
            return;
        }
    }
}

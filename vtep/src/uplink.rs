//! VXLAN packets as an uplink carries them: behind a virtio header that says what the frame inside owes, so that nobody
//! needs to cut a super-frame, or to complete a checksum, before it meets a wire.

use std::net::{IpAddr, SocketAddr};

use vswitch_core::{Frame, Offload};
use vswitch_sys::Received;
use vswitch_sys::vnet::{
    F_NEEDS_CSUM, F_UDP_TUNNEL_CSUM, GSO_NONE, GSO_UDP_L4, GSO_UDP_TUNNEL_IPV4, GSO_UDP_TUNNEL_IPV6, TUNNEL_HDR_LEN,
    TunnelHdr, VnetHdr,
};

use crate::header::{HEADER_LEN, Vni};
use crate::inner::{ETHERNET_LEN, IPV4, IPV6, MACS_LEN, UDP_LEN};
use crate::outer::{Outer, outer_len, parse_outer, write_outer};
use crate::vnet;

/// Bits beside the kind of a super-frame that stands in a tunnel.
const TUNNEL: u8 = GSO_UDP_TUNNEL_IPV4 | GSO_UDP_TUNNEL_IPV6;

/// Appends to `out` all that goes before the untagged bytes of `frame`, where `more` bytes of payload follow those of the
/// frame: the virtio header, then what [`write_outer`] writes. Returns how many bytes of `frame` to leave out; `None`, and
/// nothing appended, where no device could cut the whole, or it is too long for one packet.
pub fn wrap(
    out: &mut Vec<u8>,
    frame: &Frame,
    more: usize,
    vni: Vni,
    ends: (SocketAddr, SocketAddr),
    tos: u8,
) -> Option<usize> {
    let from = out.len();
    out.extend_from_slice(&[0; TUNNEL_HDR_LEN]);
    let wrapped = write_outer(out, frame, more, vni, ends, tos).and_then(|skip| {
        let header = header(frame, skip.saturating_sub(MACS_LEN), ends.1.ip())?;
        out[from..from + TUNNEL_HDR_LEN].copy_from_slice(&header.to_bytes());
        Some(skip)
    });
    if wrapped.is_none() {
        out.truncate(from);
    }
    wrapped
}

/// The virtio header for `frame` without its `tag` bytes, behind the outer headers; `None` where no device could cut it.
fn header(frame: &Frame, tag: usize, to: IpAddr) -> Option<TunnelHdr> {
    let outer = outer_len(to) + HEADER_LEN;
    let shift = i16::try_from(outer).ok()? - i16::try_from(tag).ok()?;
    let mut vnet = vnet::header(&frame.offload.shifted(shift)?);
    let mut header = TunnelHdr::default();
    if vnet.gso_type != GSO_NONE {
        // Whoever cuts it looks for IP right behind the Ethernet header.
        let ethertype = frame.bytes().get(tag + MACS_LEN..)?.first_chunk::<2>()?;
        if ![IPV4, IPV6].contains(ethertype) {
            return None;
        }
        match to {
            IpAddr::V4(_) => vnet.gso_type |= GSO_UDP_TUNNEL_IPV4,
            IpAddr::V6(_) => {
                vnet.gso_type |= GSO_UDP_TUNNEL_IPV6;
                vnet.flags |= F_UDP_TUNNEL_CSUM; // no zero checksum over IPv6 (RFC 6936)
            }
        }
        header.outer_transport = u16::try_from(outer_len(to) - UDP_LEN).ok()?;
        header.inner_network = u16::try_from(outer + ETHERNET_LEN).ok()?;
    }
    header.vnet = vnet;
    Some(header)
}

/// What a packet from an uplink is: a train of datagrams, or one, whose frame owes what the virtio header says. `None` where
/// it is no VXLAN, or the header makes no sense.
#[must_use]
pub fn unwrap(bytes: &[u8]) -> Option<(Received, Offload)> {
    let TunnelHdr { vnet, .. } = TunnelHdr::decode(bytes)?;
    let packet = &bytes[TUNNEL_HDR_LEN..];
    let Outer { from, tos, payload } = parse_outer(packet)?;
    let frame = packet.get(payload.start + HEADER_LEN..payload.end).unwrap_or_default();
    let is_train = vnet.gso_type == GSO_UDP_L4;
    let inside = payload.start + HEADER_LEN;
    let owed = usize::from(vnet.csum_start).checked_sub(inside).filter(|_| vnet.flags & F_NEEDS_CSUM != 0);
    let debts = match owed {
        // A train's header speaks of the outer checksum, as that of a plain datagram may.
        _ if is_train => Offload::default(),
        None if vnet.gso_type == GSO_NONE => Offload::default(),
        start => {
            let csum_start = u16::try_from(start?).ok()?;
            vnet::offload(&VnetHdr { gso_type: vnet.gso_type & !TUNNEL, csum_start, ..vnet }, frame)?
        }
    };
    let (at, len) = (TUNNEL_HDR_LEN + payload.start, payload.len());
    let stride = if is_train { usize::from(vnet.gso_size).clamp(1, len.max(1)) } else { len };
    Some((Received { from, tos, stride, at, len, truncated: false }, debts))
}

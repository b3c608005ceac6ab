//! Who sends VXLAN here without being a peer: for people who look for what is wrong.

use std::net::IpAddr;

use vswitch_core::Instant;
use vtep::{DecapDrop, Vni};

use crate::clock;

/// A sender of VXLAN whose datagram was refused: a peer of no VLAN that its VNI means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stranger {
    pub(crate) from: IpAddr,
    pub(crate) vni: Vni,
    /// Whether the VNI is one of ours.
    pub(crate) knows_vni: bool,
    pub(crate) at: Instant,
}

/// Remembers who sent what was refused. Bounded, and whoever forges senders pushes others out: it is for people to read.
#[cold]
#[inline(never)]
pub(super) fn note_stranger(strangers: &mut Vec<Stranger>, from: IpAddr, datagram: &[u8], why: DecapDrop) {
    const MOST: usize = 16;
    let Ok(vni) = vtep::parse(datagram) else { return };
    let stranger = Stranger { from, vni, knows_vni: why == DecapDrop::UnknownVtep, at: clock::now() };
    if let Some(known) = strangers.iter_mut().find(|known| (known.from, known.vni) == (from, vni)) {
        *known = stranger;
    } else if strangers.len() < MOST {
        strangers.push(stranger);
    } else if let Some(oldest) = strangers.iter_mut().min_by_key(|known| known.at) {
        *oldest = stranger;
    }
}

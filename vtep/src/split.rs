//! Super-frames of more segments than one turn may have become several of fewer.
//!
//! A kernel whose peer takes segments of 36 bytes makes super-frames of 64 KiB all the same: 1,800 segments. Dropped, they
//! would come again and again, for a retransmission is a super-frame too.

use vswitch_core::{Checksum, Frame, Gso, GsoKind, Offload};
use vswitch_sys::vnet::VnetHdr;

use crate::checksum::Sum;
use crate::cut::{MAX_SEGMENTS, Segments};
use crate::inner::{Ip, TCP, put};
use crate::vnet;

/// Payload bytes of a segment at least: what the kernel's least segment (`tcp_min_snd_mss`, 48) leaves beside 40 bytes of
/// options. Who asks for less made the frame by hand.
const MIN_SEGMENT: u16 = 8;

/// A super-frame, and what of it is still to be handed out.
#[derive(Debug)]
pub struct Parts {
    whole: Frame,
    /// Segments of the whole are this long; `whole` says how long parts are.
    segment: u16,
    /// Parts handed out.
    taken: usize,
}

impl Parts {
    /// The parts of a TCP super-frame of more than [`MAX_SEGMENTS`] segments, as `header` claims it is; `None` where it is
    /// none, no kernel's, or its claims do not fit its bytes.
    #[must_use]
    pub fn new(header: &VnetHdr, frame: &[u8]) -> Option<Self> {
        let offload = vnet::claimed(header, frame)?;
        let gso = offload.gso.filter(|gso| gso.kind != GsoKind::Udp && gso.segment >= MIN_SEGMENT)?;
        let part = usize::from(gso.segment).checked_mul(MAX_SEGMENTS).and_then(|len| u16::try_from(len).ok())?;
        let mut whole = Frame::from_bytes(frame);
        whole.offload = Offload { gso: Some(Gso { segment: part, ..gso }), ..offload };
        Segments::new(&whole).ok()?;
        Some(Self { whole, segment: gso.segment, taken: 0 })
    }

    /// Makes `frame` the next part; false, and nothing done, where there is none.
    pub fn next(&mut self, frame: &mut Frame) -> bool {
        let mut headers = Vec::new();
        let Ok(mut segments) = Segments::new(&self.whole) else { return false };
        let mut payload = None;
        for _ in 0..=self.taken {
            headers.clear();
            payload = segments.write_next(&mut headers);
        }
        let (Some(payload), Some(gso)) = (payload, self.whole.offload.gso) else { return false };
        let Some(ip) = Ip::find(&headers) else { return false };
        // Its checksum is owed again: that of all its segments together was of no use.
        let len = u16::try_from(headers.len() - ip.transport + payload.len()).unwrap_or(u16::MAX);
        let owed = Sum::pseudo_header(ip.addresses(&headers), TCP, len).partial();
        let Checksum::Partial { start, offset } = self.whole.offload.checksum else { return false };
        put(&mut headers, usize::from(start) + usize::from(offset), owed);
        let is_super = payload.len() > usize::from(self.segment);
        let fits = frame.assign(&headers) && frame.append(&self.whole.bytes()[payload]);
        frame.offload = Offload {
            checksum: self.whole.offload.checksum,
            gso: is_super.then_some(Gso { segment: self.segment, ecn: gso.ecn && self.taken == 0, ..gso }),
        };
        self.taken += 1;
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, cut, tagged};

    fn parts(frame: &Frame) -> Option<Vec<Frame>> {
        let mut parts = Parts::new(&vnet::header(&frame.offload), frame.bytes())?;
        let mut all = Vec::new();
        let mut part = Frame::with_capacity(70_000);
        while parts.next(&mut part) {
            all.push(part.clone());
        }
        Some(all)
    }

    #[test]
    fn the_parts_have_the_same_segments() {
        for build in [Build::tcp4(), Build::tcp6()] {
            for (segment, len) in [(36, 60_000), (8, 60_001), (100, 60_000), (117, 60_000), (36, 512 * 36 + 1)] {
                let payload: Vec<u8> = (0..=250).cycle().take(len).collect();
                let build = build.clone().flags(0x99).payload(&payload);
                let frame = build.frame(Some(segment));
                let parts = parts(&frame).unwrap();
                assert_eq!(parts.len(), len.div_ceil(usize::from(segment)).div_ceil(MAX_SEGMENTS));
                for part in &parts {
                    let is_believed = vnet::offload(&vnet::header(&part.offload), part.bytes());
                    assert_eq!(is_believed, Some(part.offload), "{segment} of {len}");
                }
                // Identifications begin anew with each part: such packets are never cut further.
                let (mut have, mut want) = (cut(&parts), build.cut(segment));
                if build.version == crate::inner::Version::V4 {
                    have.iter_mut().chain(&mut want).for_each(|bytes| bytes[18..26].fill(0));
                }
                assert_eq!(have, want, "{segment} of {len}");
            }
        }
    }

    #[test]
    fn what_no_kernel_makes_has_no_parts() {
        let payload = [7; 60_000];
        let tcp = Build::tcp4().payload(&payload);
        assert!(parts(&tcp.frame(Some(7))).is_none(), "less than the least segment");
        assert!(parts(&tcp.frame(Some(1))).is_none());
        assert!(parts(&Build::udp4().payload(&payload).frame(Some(36))).is_none(), "UDP has a limit of its own");
        let mut lying = tcp.frame(Some(36));
        lying.offload.checksum = Checksum::Partial { start: 34, offset: 6 };
        assert!(parts(&lying).is_none(), "a checksum elsewhere");
        let mut in_vlan = Frame::from_bytes(&tagged(tcp.frame(None).bytes(), 10));
        in_vlan.offload = tcp.frame(Some(36)).offload.shifted(4).unwrap();
        assert_eq!(parts(&in_vlan).unwrap().len(), 4);
    }
}

//! Neighbouring segments of a flow in a batch from a container leave as one super-frame: the device is entered once for
//! up to 64 of them.
//!
//! The rules are those of [`crate::Merge`]. Only neighbours are joined, so nothing can overtake anything, and a batch in
//! which no two belong together costs a look at the headers of each.

use std::ops::Range;

use vswitch_core::Frame;

use crate::growth::{Growth, Segment, Transport, same_flow};
use crate::inner::{ETHERNET_LEN, Ip, TCP, UDP, tag_len};

/// Bytes of all headers at most: Ethernet with a tag 18, IPv6 40, TCP 60.
const HEADERS: usize = 128;

/// Segments that leave together.
#[derive(Debug)]
pub struct Run {
    /// What it began with; `None` where nothing may follow.
    growth: Option<Growth>,
    /// The frames, by their place in the batch: each with where its payload lies.
    pieces: Vec<(usize, Range<usize>)>,
    head: Frame,
}

impl Default for Run {
    fn default() -> Self {
        Self { growth: None, pieces: Vec::new(), head: Frame::with_capacity(HEADERS) }
    }
}

impl Run {
    /// Begins anew with `frame`, number `index` of the batch.
    pub fn begin(&mut self, index: usize, frame: &Frame) {
        self.pieces.clear();
        self.growth = segment(frame).map(|(ip, segment)| {
            let headers = segment.headers;
            self.head.assign(&frame.bytes()[..headers]);
            self.pieces.push((index, headers..frame.len()));
            Growth::begin(ip, &segment)
        });
    }

    /// Adds `frame`, number `index` of the batch, where it is the next segment of the flow and nothing it would say is
    /// lost; returns whether it did.
    pub fn takes(&mut self, index: usize, frame: &Frame) -> bool {
        let Some(growth) = &mut self.growth else { return false };
        let Some((ip, segment)) = segment(frame) else { return false };
        let (head, bytes) = (self.head.bytes(), frame.bytes());
        let takes = same_flow(head, bytes, &ip) && growth.takes(head, bytes, &ip, &segment);
        if takes {
            growth.extend(&segment);
            self.pieces.push((index, segment.headers..frame.len()));
        }
        takes
    }

    /// Whether there is more than the frame it began with.
    #[must_use]
    pub fn is_super(&self) -> bool {
        self.pieces.len() > 1
    }

    /// The super-frame: its head, and the frames of the batch in which its payload lies, with where it does.
    pub fn finish(&mut self) -> (&mut Frame, &[(usize, Range<usize>)]) {
        if let Some(growth) = self.growth.take() {
            growth.patch(&mut self.head);
        }
        (&mut self.head, &self.pieces)
    }
}

/// What `frame` is, where it may be joined with others.
fn segment(frame: &Frame) -> Option<(Ip, Segment)> {
    let bytes = frame.bytes();
    // A super-frame passes as it is.
    if frame.offload.gso.is_some() || bytes.len() < ETHERNET_LEN + tag_len(bytes) {
        return None;
    }
    let ip = Ip::find(bytes).filter(|ip| matches!(ip.protocol, TCP | UDP) && ip.is_plain())?;
    if bytes.len() < ip.transport + 8 {
        return None;
    }
    match Transport::inspect(bytes, &ip, frame.offload.checksum) {
        Transport::Segment(segment) => Some((ip, segment)),
        Transport::Owed { .. } | Transport::Opaque => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, check, cut, tagged};

    /// The frames that leave, whole, and what became of the ones that came.
    fn joined(frames: &[Frame]) -> Vec<Frame> {
        let mut out = Vec::new();
        let mut run = Run::default();
        let mut flush = |run: &mut Run, first: usize| {
            if !run.is_super() {
                out.push(frames[first].clone());
                return;
            }
            let (head, pieces) = run.finish();
            let mut whole = Frame::with_capacity(70_000);
            whole.assign(head.bytes());
            whole.offload = head.offload;
            for (index, range) in pieces {
                assert!(whole.append(&frames[*index].bytes()[range.clone()]));
            }
            out.push(whole);
        };
        run.begin(0, &frames[0]);
        let mut first = 0;
        for (index, frame) in frames.iter().enumerate().skip(1) {
            if !run.takes(index, frame) {
                flush(&mut run, first);
                run.begin(index, frame);
                first = index;
            }
        }
        flush(&mut run, first);
        out
    }

    #[test]
    fn neighbours_become_one_and_cut_apart_again() {
        for build in [Build::udp4(), Build::udp6(), Build::tcp4(), Build::tcp6()] {
            let payload: Vec<u8> = (0..=250).cycle().take(64 * 64).collect();
            let wanted = build.clone().payload(&payload).cut(64);
            let is_owed = |owed: bool| -> Vec<Frame> {
                let one = |bytes: &Vec<u8>| if owed { owe(bytes) } else { Frame::from_bytes(bytes) };
                wanted.iter().map(one).collect()
            };
            for frames in [is_owed(true), is_owed(false)] {
                let out = joined(&frames);
                assert_eq!(out.len(), 1, "{build:?}");
                assert_eq!(cut(&out), wanted, "{build:?}");
            }
        }
    }

    /// The frame as a container's kernel hands it over: its checksum is owed.
    fn owe(complete: &[u8]) -> Frame {
        let ip = Ip::find(complete).unwrap();
        let offset = if ip.protocol == TCP { 16 } else { 6 };
        let mut frame = Frame::from_bytes(complete);
        let len = u16::try_from(complete.len() - ip.transport).unwrap();
        let partial = crate::checksum::Sum::pseudo_header(ip.addresses(complete), ip.protocol, len).partial();
        let field = ip.transport + offset;
        frame.bytes_mut()[field..field + 2].copy_from_slice(&partial);
        let (start, offset) = (u16::try_from(ip.transport).unwrap(), u16::try_from(offset).unwrap());
        frame.offload.checksum = vswitch_core::Checksum::Partial { start, offset };
        frame
    }

    #[test]
    fn strangers_stay_apart() {
        let one = || Build::udp4().payload(&[1; 64]);
        let mut corrupt = one().bytes();
        *corrupt.last_mut().unwrap() ^= 1;
        let strangers = [
            ("another port", one().ports(40_001, 80).bytes()),
            ("another class", one().class(4).bytes()),
            ("the way back", one().reversed().bytes()),
            ("a longer one", one().payload(&[1; 65]).bytes()),
            ("another protocol", Build::tcp4().payload(&[1; 64]).bytes()),
            ("another version", Build::udp6().payload(&[1; 64]).bytes()),
            ("another VLAN", tagged(&one().bytes(), 10)),
            ("a corrupt one", corrupt),
            ("no payload", one().payload(&[]).bytes()),
        ];
        for (what, stranger) in strangers {
            let frames = [Frame::from_bytes(&one().bytes()), Frame::from_bytes(&stranger)];
            let out = joined(&frames);
            assert_eq!(out.len(), 2, "{what}");
            assert_eq!(out[1].bytes(), stranger, "{what}");
        }
        let next = Build::udp4().payload(&[1; 200]).frame(Some(64));
        assert_eq!(joined(&[Frame::from_bytes(&one().bytes()), next.clone()]).len(), 2, "a super-frame");
        let mut lying = owe(&one().bytes());
        lying.offload.checksum = vswitch_core::Checksum::Partial { start: 40, offset: 6 };
        assert_eq!(joined(&[lying.clone(), lying]).len(), 2, "a checksum owed elsewhere");
        check(&one().bytes());
    }
}

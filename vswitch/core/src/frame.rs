//! An Ethernet frame in a buffer of its own, with room in front for a header and its offload debts beside it.

use alloc::boxed::Box;
use alloc::vec;

use crate::offload::Offload;
use crate::wire::vlan::{ETHERTYPE, TAG_LEN, Tag};

/// Bytes kept free before a frame: a VLAN tag, a virtio-net header of up to 24 bytes, and alignment.
pub const HEADROOM: usize = 64;

/// Both MAC addresses; a tag stands behind them.
const MACS: usize = 12;

/// An Ethernet frame without its checksum (FCS), or the head of one whose payload lies elsewhere.
///
/// The buffer is allocated once and used for frame after frame.
#[derive(Clone, Debug)]
pub struct Frame {
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    /// What the frame still owes.
    pub offload: Offload,
}

impl Frame {
    /// An empty frame with room for `capacity` bytes behind [`HEADROOM`].
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let buf = vec![0; HEADROOM + capacity].into_boxed_slice();
        Self { buf, start: HEADROOM, end: HEADROOM, offload: Offload::default() }
    }

    /// A frame that holds a copy of `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::with_capacity(bytes.len());
        frame.buf[HEADROOM..].copy_from_slice(bytes);
        frame.end = HEADROOM + bytes.len();
        frame
    }

    /// Makes the frame `bytes` without debts; returns false, and leaves it empty, where they exceed its capacity.
    pub fn assign(&mut self, bytes: &[u8]) -> bool {
        self.clear();
        self.append(bytes)
    }

    /// Appends `bytes`; returns false, and does nothing, where they exceed the capacity.
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.buf.get_mut(self.end..self.end + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.end += bytes.len();
        true
    }

    /// Empties the frame: no bytes, no debts, full headroom.
    pub fn clear(&mut self) {
        (self.start, self.end, self.offload) = (HEADROOM, HEADROOM, Offload::default());
    }

    /// Lets `fill` write a device header of `header` bytes (at most [`HEADROOM`]) and the frame behind it in one go;
    /// it answers with how many bytes it wrote in all. Afterwards the header stands in [`Self::before`].
    ///
    /// # Errors
    /// What `fill` fails with; the frame is then empty.
    pub fn fill_with<E>(&mut self, header: usize, fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        self.clear();
        let header = header.min(HEADROOM);
        let written = fill(&mut self.buf[HEADROOM - header..])?;
        self.end = (HEADROOM - header + written).clamp(HEADROOM, self.buf.len());
        Ok(())
    }

    /// The `len` bytes before the frame, for a device header that must stand directly in front of it.
    /// Fewer where the headroom is used up.
    pub fn before(&mut self, len: usize) -> &mut [u8] {
        let from = self.start.saturating_sub(len);
        &mut self.buf[from..self.start]
    }

    /// The frame with the `len` bytes before it: a device header written by [`Self::before`], then the frame.
    #[must_use]
    pub fn with_before(&self, len: usize) -> &[u8] {
        &self.buf[self.start.saturating_sub(len)..self.end]
    }

    /// The bytes of the frame, from the destination address on.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The bytes of the frame, to change in place.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..self.end]
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the frame holds no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The outer 802.1Q tag, if there is one.
    #[must_use]
    pub fn tag(&self) -> Option<Tag> {
        match *self.bytes().get(MACS..MACS + TAG_LEN)? {
            [a, b, hi, lo] if [a, b] == ETHERTYPE => Some(Tag::from_bits(u16::from_be_bytes([hi, lo]))),
            _ => None,
        }
    }

    /// Makes `tag` the frame's outer tag: pushes, rewrites or pops as needed, and moves the offload offsets along.
    ///
    /// Naming the tag wanted, not the step to it, lets one buffer serve many ports in turn. A frame of fewer than
    /// 14 bytes, which no stage lets through, stays as it is.
    pub fn retag(&mut self, tag: Option<Tag>) {
        match (self.tag(), tag) {
            (None, None) => {}
            (Some(have), Some(want)) => {
                if have != want {
                    self.bytes_mut()[MACS + 2..MACS + TAG_LEN].copy_from_slice(&want.bits().to_be_bytes());
                }
            }
            (Some(_), None) => {
                if let Some(offload) = self.offload.shifted(-4) {
                    self.buf.copy_within(self.start..self.start + MACS, self.start + TAG_LEN);
                    self.start += TAG_LEN;
                    self.offload = offload;
                }
            }
            (None, Some(want)) => {
                if let Some(offload) =
                    self.offload.shifted(4).filter(|_| self.len() >= MACS + 2 && self.start >= TAG_LEN)
                {
                    self.buf.copy_within(self.start..self.start + MACS, self.start - TAG_LEN);
                    self.start -= TAG_LEN;
                    self.offload = offload;
                    let [hi, lo] = want.bits().to_be_bytes();
                    self.bytes_mut()[MACS..MACS + TAG_LEN].copy_from_slice(&[ETHERTYPE[0], ETHERTYPE[1], hi, lo]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::{Checksum, Gso, GsoKind};

    const UNTAGGED: [u8; 18] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x08, 0x00, 0xaa, 0xbb, 0xcc, 0xdd];

    #[test]
    fn retag_there_and_back() {
        let mut frame = Frame::from_bytes(&UNTAGGED);
        let gso = Gso { kind: GsoKind::TcpV4, segment: 1448, header: 66, ecn: false };
        frame.offload = Offload { checksum: Checksum::Partial { start: 34, offset: 16 }, gso: Some(gso) };

        frame.retag(Some(Tag::from_bits(0x600a)));
        assert_eq!(frame.bytes()[..12], UNTAGGED[..12]);
        assert_eq!(frame.bytes()[12..16], [0x81, 0x00, 0x60, 0x0a]);
        assert_eq!(frame.bytes()[16..], UNTAGGED[12..]);
        assert_eq!(frame.offload.checksum, Checksum::Partial { start: 38, offset: 16 });
        assert_eq!(frame.offload.gso, Some(Gso { header: 70, ..gso }));

        frame.retag(Some(Tag::from_bits(0x0014)));
        assert_eq!(frame.tag(), Some(Tag::from_bits(0x0014)));

        frame.retag(None);
        assert_eq!(frame.bytes(), UNTAGGED);
        assert_eq!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
        assert_eq!(frame.before(10).len(), 10);
    }

    #[test]
    fn a_stub_is_left_alone() {
        for len in 0..14 {
            let mut frame = Frame::from_bytes(&UNTAGGED[..len]);
            frame.retag(Some(Tag::from_bits(1)));
            assert_eq!(frame.bytes(), &UNTAGGED[..len]);
        }
    }

    #[test]
    fn a_device_header_stands_before_the_frame() {
        let mut frame = Frame::with_capacity(100);
        frame
            .fill_with(10, |room| {
                room[..10].fill(0xee);
                room[10..28].copy_from_slice(&UNTAGGED);
                Ok::<_, ()>(28)
            })
            .unwrap();
        assert_eq!(frame.bytes(), UNTAGGED);
        assert_eq!(frame.before(10), [0xee; 10]);
        assert_eq!(frame.with_before(10).len(), 28);
        assert_eq!(frame.fill_with(10, |_| Err("gone")), Err("gone"));
        assert!(frame.is_empty());
    }
}

//! The frames of one turn, in buffers used turn after turn.

use vswitch_core::{Frame, Tag};

use crate::port::tap::FRAME_CAPACITY;

/// Frames read in one turn at most.
pub(crate) const FRAMES: usize = 64;
/// Frames read in one turn however many sources wait: looking for the next one takes as long as some frames.
pub(super) const FEWEST: usize = 16;
/// Segments, or copies, after which a turn reads no further frame: what a super-frame is cut into costs as much as frames,
/// and so does what a frame for many is copied to.
pub(crate) const SEGMENTS: usize = 512;
/// Bytes after which a turn reads no further frame: four super-frames fit the cache, forty do not.
pub(crate) const BYTES: usize = 256 * 1024;

/// What one source may take of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    frames: usize,
    /// Copies of a frame to a group, as they were last.
    group: usize,
    /// Copies of any other frame, as they were last: those to unknown stations are many.
    other: usize,
}

impl Share {
    /// A share of one of `waiting` sources, whose frames to groups went out in `group` copies each last time, and
    /// whose others in `other`.
    pub(super) fn new(waiting: usize, group: usize, other: usize) -> Self {
        Self { frames: (FRAMES / waiting.max(1)).max(FEWEST), group, other }
    }
}

/// Whether `frame` is a broadcast or multicast.
pub(super) fn is_to_group(frame: &Frame) -> bool {
    frame.bytes().first().is_some_and(|octet| octet & 1 != 0)
}

/// Buffers for one turn. Memory never touched is never resident, so an idle switch pays little for them.
#[derive(Debug)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    tags: [Option<Tag>; FRAMES],
    len: usize,
    bytes: usize,
    segments: usize,
    groups: usize,
    share: Share,
    /// Frames asked for, those not kept among them.
    asked: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let frames = (0..FRAMES).map(|_| Frame::with_capacity(FRAME_CAPACITY)).collect();
        Self {
            frames,
            tags: [None; FRAMES],
            len: 0,
            bytes: 0,
            segments: 0,
            groups: 0,
            share: Share::new(1, 1, 1),
            asked: 0,
        }
    }

    /// Empties it, for what `share` allows.
    pub(super) fn begin(&mut self, share: Share) {
        (self.len, self.bytes, self.segments, self.groups, self.asked, self.share) = (0, 0, 0, 0, 0, share);
    }

    /// A buffer for the next frame; `None` once the batch is full. It joins the batch by [`Self::keep`].
    pub(super) fn next(&mut self) -> Option<&mut Frame> {
        if self.bytes >= BYTES || self.segments >= SEGMENTS || self.asked == self.share.frames {
            return None;
        }
        self.asked += 1;
        self.frames.get_mut(self.len)
    }

    /// Makes the frame in the buffer last given part of the batch.
    pub(super) fn keep(&mut self) {
        let frame = &self.frames[self.len];
        self.bytes += frame.len();
        let segments =
            frame.offload.gso.map_or(1, |gso| usize::try_from(gso.frames(frame.len())).unwrap_or(usize::MAX));
        let is_group = is_to_group(frame);
        self.groups += usize::from(is_group);
        self.segments += segments.max(if is_group { self.share.group } else { self.share.other });
        self.tags[self.len] = frame.tag();
        self.len += 1;
    }

    /// How many of the frames are to groups.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// The tag that frame `index` came with.
    pub(super) fn tag(&self, index: usize) -> Option<Tag> {
        self.tags[index]
    }

    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames[..self.len]
    }

    pub(super) fn frames_mut(&mut self) -> &mut [Frame] {
        &mut self.frames[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use vswitch_core::{Gso, GsoKind};

    use super::*;

    /// How many frames of `len` bytes, whose first octet is `first`, a turn reads.
    fn read(share: Share, len: usize, first: u8, segment: Option<u16>) -> usize {
        let mut batch = Batch::new();
        batch.begin(share);
        while let Some(frame) = batch.next() {
            let mut bytes = vec![0; len];
            bytes[0] = first;
            frame.assign(&bytes);
            frame.offload.gso = segment.map(|segment| Gso { kind: GsoKind::Udp, segment, header: 42, ecn: false });
            batch.keep();
        }
        batch.frames().len()
    }

    #[test]
    fn a_turn_ends_with_what_costs_most() {
        // Sources that wait, ports, copies last time; a frame's length, its first octet, its segments; frames read.
        type Case = ((usize, usize, usize), (usize, u8, Option<u16>), usize);
        let table: [Case; 13] = [
            ((1, 2, 1), (60, 2, None), 64),
            ((2, 2, 1), (60, 2, None), 32),
            ((1000, 2, 1), (60, 2, None), 16),
            ((1, 2, 1), (65_000, 2, None), 5),
            ((2, 2, 1), (65_000, 2, None), 5),
            ((1, 2, 1), (64_000, 2, Some(1_000)), 5),
            ((1, 2, 1), (64_000, 2, Some(100)), 1),
            ((1, 8, 1), (60, 0xff, None), 64),
            ((1, 100, 1), (60, 0xff, None), 6),
            ((1, 100, 1), (60, 2, None), 64),
            ((1, 1000, 1), (60, 0x33, None), 1),
            ((1, 1000, 1000), (60, 2, None), 1),
            ((2, 100, 50), (60, 2, None), 11),
        ];
        for ((waiting, group, other), (len, first, segment), expected) in table {
            let share = Share::new(waiting, group, other);
            assert_eq!(read(share, len, first, segment), expected, "{share:?}, {len} bytes, {first:#x}, {segment:?}");
        }
    }
}

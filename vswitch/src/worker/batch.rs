//! The frames of one turn, in buffers used turn after turn.

use vswitch_core::{Frame, Tag};

use crate::port::tap::FRAME_CAPACITY;

/// Frames read in one turn at most.
pub(crate) const FRAMES: usize = 64;
/// Segments after which a turn reads no further frame: what a super-frame is cut into costs as much as frames.
pub(crate) const SEGMENTS: usize = 512;
/// Bytes after which a turn reads no further frame: four super-frames fit the cache, forty do not.
pub(crate) const BYTES: usize = 256 * 1024;

/// Buffers for one turn. Memory never touched is never resident, so an idle switch pays little for them.
#[derive(Debug)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    tags: [Option<Tag>; FRAMES],
    len: usize,
    bytes: usize,
    segments: usize,
    /// Frames asked for, those not kept among them.
    asked: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let frames = (0..FRAMES).map(|_| Frame::with_capacity(FRAME_CAPACITY)).collect();
        Self { frames, tags: [None; FRAMES], len: 0, bytes: 0, segments: 0, asked: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.bytes, self.segments, self.asked) = (0, 0, 0, 0);
    }

    /// A buffer for the next frame; `None` once the batch is full. It joins the batch by [`Self::keep`].
    pub(super) fn next(&mut self) -> Option<&mut Frame> {
        if self.bytes >= BYTES || self.segments >= SEGMENTS || self.asked == FRAMES {
            return None;
        }
        self.asked += 1;
        self.frames.get_mut(self.len)
    }

    /// Makes the frame in the buffer last given part of the batch.
    pub(super) fn keep(&mut self) {
        let frame = &self.frames[self.len];
        self.bytes += frame.len();
        self.segments += frame.offload.gso.map_or(1, |gso| frame.len() / usize::from(gso.segment).max(1));
        self.tags[self.len] = frame.tag();
        self.len += 1;
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

//! The frames of one turn, in buffers used turn after turn.

use vswitch_core::{Frame, Tag};

use crate::port::tap::FRAME_CAPACITY;

/// Frames read in one turn at most.
pub(crate) const FRAMES: usize = 64;
/// Bytes after which a turn reads no further frame: four super-frames fit the cache, forty do not.
pub(crate) const BYTES: usize = 256 * 1024;

/// Buffers for one turn. Memory never touched is never resident, so an idle switch pays little for them.
#[derive(Debug)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    tags: [Option<Tag>; FRAMES],
    len: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        let frames = (0..FRAMES).map(|_| Frame::with_capacity(FRAME_CAPACITY)).collect();
        Self { frames, tags: [None; FRAMES], len: 0, bytes: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.bytes) = (0, 0);
    }

    /// A buffer for the next frame; `None` once the batch is full. It joins the batch by [`Self::keep`].
    pub(super) fn next(&mut self) -> Option<&mut Frame> {
        if self.bytes >= BYTES { None } else { self.frames.get_mut(self.len) }
    }

    /// Makes the frame in the buffer last given part of the batch.
    pub(super) fn keep(&mut self) {
        self.bytes += self.frames[self.len].len();
        self.tags[self.len] = self.frames[self.len].tag();
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

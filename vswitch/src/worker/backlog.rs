//! Frames that wait, in memory that is taken once.

use std::collections::VecDeque;

use vswitch_core::{Frame, Offload};

/// What a frame counts for at least, so that small ones cannot be many more than there was room made for.
const LEAST: usize = 256;

/// A queue of frames, bounded in bytes. Its memory is asked for when it is made, and resident once it was used.
#[derive(Debug)]
pub(super) struct Backlog {
    /// A ring, in which every frame lies in one piece: what is behind the last that fits stays empty.
    ring: Vec<u8>,
    room: usize,
    waiting: VecDeque<Waiting>,
    /// Where the next one would lie.
    tail: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    at: usize,
    len: usize,
    offload: Offload,
}

impl Backlog {
    /// An empty one with room for `room` bytes.
    pub(super) fn new(room: usize) -> Self {
        Self { ring: Vec::with_capacity(room), room, waiting: VecDeque::with_capacity(room / LEAST + 1), tail: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts a copy of the frame that lies in `pieces` at the end; false where there is no room for it.
    pub(super) fn push<'a>(&mut self, offload: Offload, pieces: impl Iterator<Item = &'a [u8]> + Clone) -> bool {
        let len = pieces.clone().map(<[u8]>::len).sum::<usize>();
        let Some(at) = self.place(len.max(LEAST)) else { return false };
        self.tail = at + len.max(LEAST);
        let mut to = at;
        for piece in pieces {
            self.write(to, piece);
            to += piece.len();
        }
        self.waiting.push_back(Waiting { at, len, offload });
        true
    }

    /// Where a frame that counts for `len` bytes can lie.
    fn place(&self, len: usize) -> Option<usize> {
        let Some(first) = self.waiting.front().map(|first| first.at) else { return (len <= self.room).then_some(0) };
        if self.tail <= first {
            return (len <= first - self.tail).then_some(self.tail);
        }
        if len <= self.room - self.tail { Some(self.tail) } else { (len <= first).then_some(0) }
    }

    /// Writes into the ring, which reaches as far as something was written so far.
    fn write(&mut self, at: usize, piece: &[u8]) {
        if self.ring.len() < at {
            self.ring.resize(at, 0);
        }
        let over = piece.len().min(self.ring.len() - at);
        self.ring[at..at + over].copy_from_slice(&piece[..over]);
        self.ring.extend_from_slice(&piece[over..]);
    }

    /// Takes the first, a copy of which goes into `frame`; false where none waits. One that exceeds what `frame` holds
    /// leaves it empty.
    pub(super) fn pop(&mut self, frame: &mut Frame) -> bool {
        let Some(Waiting { at, len, offload }) = self.waiting.pop_front() else { return false };
        if frame.assign(&self.ring[at..at + len]) {
            frame.offload = offload;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use vswitch_core::{Gso, GsoKind};

    use super::*;

    fn frame(number: u32, len: usize) -> Frame {
        let mut bytes = vec![number.to_le_bytes()[0]; len];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Frame::from_bytes(&bytes)
    }

    #[test]
    fn what_goes_in_comes_out_in_order_and_memory_stays() {
        let mut backlog = Backlog::new(10_000);
        let (memory, places) = (backlog.ring.capacity(), backlog.waiting.capacity());
        let mut out = Frame::with_capacity(4_000);
        let (mut next, mut expected, mut refused) = (0_u32, VecDeque::new(), 0);
        // Lengths and how many leave in between: round and round, with all lengths at all places.
        for turn in 0..20_000_usize {
            let len = 60 + turn * 7_919 % 2_900;
            let pieces = frame(next, len);
            let gso = (len > 1_514).then_some(Gso { kind: GsoKind::Udp, segment: 1_000, header: 42, ecn: false });
            if backlog.push(Offload { gso, ..Offload::default() }, pieces.bytes().chunks(1_000)) {
                expected.push_back((pieces, gso));
                next += 1;
            } else {
                refused += 1;
                assert!(!backlog.is_empty());
            }
            for _ in 0..turn % 5 / 2 {
                let was_there = backlog.pop(&mut out);
                let first = expected.pop_front();
                assert_eq!(was_there, first.is_some());
                if let Some((pieces, gso)) = first {
                    assert_eq!((out.bytes(), out.offload.gso), (pieces.bytes(), gso));
                }
            }
            let held: usize = expected.iter().map(|(frame, _)| frame.len().max(LEAST)).sum();
            assert!(held <= 10_000, "{held}");
        }
        assert!(refused > 100, "{refused}");
        assert_eq!((backlog.ring.capacity(), backlog.waiting.capacity()), (memory, places));
        expected.iter().for_each(|_| assert!(backlog.pop(&mut out)));
        assert!(backlog.is_empty() && !backlog.pop(&mut out));
    }

    #[test]
    fn room_is_what_was_said() {
        // Length of a frame, and how many find room in 64 KiB.
        for (len, expected) in [(60, 256), (256, 256), (257, 255), (1_514, 43), (65_536, 1), (65_537, 0)] {
            let mut backlog = Backlog::new(1 << 16);
            let frame = frame(0, len);
            let taken = (0..1_000).take_while(|_| backlog.push(frame.offload, std::iter::once(frame.bytes()))).count();
            assert_eq!(taken, expected, "{len} bytes");
        }
    }
}

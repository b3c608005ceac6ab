//! Where datagrams are received into.

use std::net::SocketAddr;

use super::BATCH;

/// What stands in one slot of an [`Inbox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// From where.
    pub from: SocketAddr,
    /// The IP header's DSCP and ECN.
    pub tos: u8,
    /// Bytes of each datagram but the last, which may be shorter; equal to `len` for a single one.
    pub stride: usize,
    /// Where in the slot they begin.
    pub at: usize,
    /// Bytes in all.
    pub len: usize,
    /// Whether the slot was too small and the rest is lost.
    pub truncated: bool,
}

/// Buffers to receive into, allocated once.
#[derive(Debug)]
pub struct Inbox {
    pub(super) bytes: Box<[u8]>,
    pub(super) each: usize,
    slots: usize,
    pub(super) received: Vec<Received>,
}

impl Inbox {
    /// An inbox of `slots` buffers, 1 to [`BATCH`], of `each` bytes; 65,536 hold any train.
    #[must_use]
    pub fn new(slots: usize, each: usize) -> Self {
        let (slots, each) = (slots.clamp(1, BATCH), each.max(1));
        Self { bytes: vec![0; slots * each].into_boxed_slice(), each, slots, received: Vec::with_capacity(slots) }
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// Lets `read` fill the next slot from another source than a socket; false where all are filled.
    ///
    /// # Errors
    /// What `read` fails with, and the slot stays free.
    pub fn fill<E>(&mut self, read: impl FnOnce(&mut [u8]) -> Result<Received, E>) -> Result<bool, E> {
        let slot = self.received.len();
        if slot == self.slots {
            return Ok(false);
        }
        let room = &mut self.bytes[slot * self.each..][..self.each];
        let received = read(room)?;
        let at = received.at.min(self.each);
        self.received.push(Received { at, len: received.len.min(self.each - at), ..received });
        Ok(true)
    }

    /// How many slots the last receipt filled.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last receipt brought nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How many buffers there are.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots
    }

    /// What the last receipt brought, slot by slot.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// What slot `index` holds.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Received> {
        self.received.get(index).copied()
    }

    /// The bytes of slot `index`; none where it is not filled.
    #[must_use]
    pub fn bytes(&self, index: usize) -> &[u8] {
        self.received.get(index).map_or(&[], |received| &self.bytes[index * self.each + received.at..][..received.len])
    }

    /// The bytes of slot `index`, to change in place.
    pub fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        match self.received.get(index) {
            Some(received) => &mut self.bytes[index * self.each + received.at..][..received.len],
            None => &mut [],
        }
    }
}

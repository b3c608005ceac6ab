//! What leaves in one turn: the verdicts of a batch, gathered by where the frames leave.

use vswitch_core::switch::{Egress, PortId};

/// A frame of the batch on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// Its place in the batch.
    pub(super) frame: usize,
    pub(super) egress: Egress,
    /// One of many copies: a port that it does not fit says nothing about the way to its destination.
    pub(super) is_flooded: bool,
}

/// What leaves in this turn, in order of arrival. Empty between batches; the storage is kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// For each TAP port, by number: a device takes its frames one after the other.
    to_taps: Vec<Vec<Outgoing>>,
    touched: Vec<PortId>,
    /// Of all of them.
    copies: usize,
    /// For all remotes, frame by frame: a frame is cut once for all it goes to.
    to_remotes: Vec<Outgoing>,
}

impl Outbox {
    pub(super) fn push_to_tap(&mut self, out: Outgoing) {
        let port = out.egress.port;
        if self.to_taps.len() <= port.index() {
            self.to_taps.resize_with(port.index() + 1, Vec::new);
        }
        let queue = &mut self.to_taps[port.index()];
        if queue.is_empty() {
            self.touched.push(port);
        }
        queue.push(out);
        self.copies += 1;
    }

    pub(super) fn push_to_remote(&mut self, out: Outgoing) {
        self.to_remotes.push(out);
        self.copies += 1;
    }

    /// How many copies leave in all.
    pub(super) fn copies(&self) -> usize {
        self.copies
    }

    /// The TAP ports that something leaves on, in the order they were first named.
    pub(super) fn taps(&self) -> &[PortId] {
        &self.touched
    }

    /// What leaves on TAP port `port`.
    pub(super) fn to_tap(&self, port: PortId) -> &[Outgoing] {
        self.to_taps.get(port.index()).map_or(&[], Vec::as_slice)
    }

    /// What leaves through the tunnel.
    pub(super) fn to_remotes(&self) -> &[Outgoing] {
        &self.to_remotes
    }

    pub(super) fn clear(&mut self) {
        for port in self.touched.drain(..) {
            self.to_taps[port.index()].clear();
        }
        self.to_remotes.clear();
        self.copies = 0;
    }
}

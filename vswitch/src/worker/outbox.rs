//! Step 8 of a frame's journey: verdicts of one batch, gathered by the port they leave on.

use vswitch_core::switch::{Egress, PortId};

/// A frame of the batch on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// Its place in the batch.
    pub(super) frame: usize,
    pub(super) egress: Egress,
}

/// For each port what leaves on it, in order of arrival. Empty between batches; the storage is kept.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: Vec<Vec<Outgoing>>,
    touched: Vec<PortId>,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: usize, egress: Egress) {
        let port = egress.port.index();
        if self.queues.len() <= port {
            self.queues.resize_with(port + 1, Vec::new);
        }
        let queue = &mut self.queues[port];
        if queue.is_empty() {
            self.touched.push(egress.port);
        }
        queue.push(Outgoing { frame, egress });
    }

    /// The ports that something leaves on, in the order they were first named.
    pub(super) fn touched(&self) -> &[PortId] {
        &self.touched
    }

    /// What leaves on `port`.
    pub(super) fn queue(&self, port: PortId) -> &[Outgoing] {
        self.queues.get(port.index()).map_or(&[], Vec::as_slice)
    }

    pub(super) fn clear(&mut self) {
        for port in self.touched.drain(..) {
            self.queues[port.index()].clear();
        }
    }
}

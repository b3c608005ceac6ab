//! What the control thread tells the thread that answers for metrics.

use std::sync::Arc;

use mio::Waker;
use vswitch_api::{PeerInfo, RpcError};

use super::{Control, ControlError};
use crate::metrics::{Listener, Metrics, MetricsError, Reading};
use crate::worker::Load;

impl Control {
    /// Has `listener` answered, from a thread of its own that wakes this one by `waker`.
    pub(crate) fn answer_metrics(
        &mut self,
        listener: Listener,
        waker: Arc<Waker>,
        confined: bool,
    ) -> Result<(), MetricsError> {
        self.metrics = Metrics::start(listener, waker, self.addresses.sibling(), confined)?;
        Ok(())
    }

    /// Tells those who asked since. Where it cannot, they hear nothing, and say so.
    pub(super) fn tell_metrics(&self) {
        for request in self.metrics.iter().flat_map(Metrics::requests) {
            if self.is_handed_over {
                continue; // another's to answer
            }
            match self.reading() {
                Ok(reading) => drop(request.send(reading)), // one that waits no longer is as good
                Err(error) => tracing::error!(%error, "metrics cannot be told"),
            }
        }
    }

    /// Whether this daemon takes in who asks for metrics.
    pub(super) fn let_metrics_in(&self, lets_in: bool) {
        if let Some(metrics) = &self.metrics {
            metrics.let_in(lets_in);
        }
    }

    /// How busy the workers are, in their order.
    pub(super) fn worker_loads(&self) -> Result<Vec<Load>, ControlError> {
        Ok(self.workers.each(|worker| {
            let now = worker.now();
            worker.datapath.load(now)
        })?)
    }

    fn reading(&self) -> Result<Reading, RpcError> {
        let remotes = self.counted()?.remotes;
        let counted = |peer: PeerInfo| {
            let counters = self.remotes.get(&peer.ip).and_then(|id| remotes.get(id));
            (peer, counters.cloned().unwrap_or_default())
        };
        Ok(Reading {
            status: self.status()?,
            ports: self.desired.ports().map(|spec| self.port_info(spec)).collect(),
            stats: self.stats(None)?,
            vlans: self.desired.known_vlans().into_iter().map(|vlan| self.vlan_info(vlan)).collect(),
            peers: self.peers().into_iter().map(counted).collect(),
            probes: self.counted_oam()?,
            loads: self.worker_loads()?,
            targets: self.targets(),
        })
    }
}

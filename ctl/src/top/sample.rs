//! What the daemon tells at one moment.

use std::time::Duration;

use vswitch_api::{Client, ClientError, PeerInfo, PortInfo, Query, Stats, Status, WorkerInfo};

/// All of it. The answers come one after the other: what one names, another may not know any more.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When the counters were told, by a clock that never jumps.
    pub(super) at: Duration,
    pub(super) status: Status,
    pub(super) stats: Stats,
    pub(super) ports: Vec<PortInfo>,
    pub(super) peers: Vec<PeerInfo>,
    pub(super) workers: Vec<WorkerInfo>,
}

impl Sample {
    /// Asks for it; `clock` says what time it is.
    ///
    /// # Errors
    /// Where the daemon does not answer.
    pub(super) fn ask(client: &mut Client, clock: impl Fn() -> Duration) -> Result<Self, ClientError> {
        let workers = client.call(&Query::WorkerList {}.into())?;
        let asked = clock();
        let stats = client.call(&Query::Stats { port: None }.into())?;
        // They were read somewhere between: the error is the same half each time, if it is one at all.
        let at = asked + clock().saturating_sub(asked) / 2;
        Ok(Self {
            at,
            workers,
            stats,
            status: client.call(&Query::Status {}.into())?,
            ports: client.call(&Query::PortList {}.into())?,
            peers: client.call(&Query::PeerList {}.into())?,
        })
    }
}

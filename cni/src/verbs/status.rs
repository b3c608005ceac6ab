//! STATUS: whether ADD would work.

use std::time::Duration;

use vswitch_api::{PoolInfo, Query, Status};

use super::Call;
use crate::args::Args;
use crate::daemon::Daemon;
use crate::masquerade;
use crate::network::{Ipam, Network};
use crate::protocol::{Code, Command, Failure};

/// How long a daemon that is not there is waited for: one that is being restarted is back by then, and who asks for a
/// status wants an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the daemon, at what masquerades, at the pools, and at the IPAM plugin.
pub(super) fn status(call: &Call<'_>) -> Result<(), Failure> {
    let network = Network::read(call.config, &Args::default())?;
    // Every frame passes the daemon: without it nobody who is attached gets any.
    let cut_off = |failure: Failure| Failure::new(Code::LimitedConnectivity, failure.details);
    let mut daemon = Daemon::connect(call.config, PATIENCE).map_err(cut_off)?;
    daemon.call::<Status>(&Query::Status {}.into()).map_err(|error| cut_off(error.into()))?;
    if network.gateway.is_some_and(|gateway| gateway.masquerade) {
        masquerade::possible().map_err(|error| Failure::new(Code::NotAvailable, error.to_string()))?;
    }
    match (&network.ipam, network.vlan()) {
        (Ipam::Embedded(pools), Some(vlan)) => {
            let query = Query::PoolShow { vlan, pools: pools.clone() };
            let pools: Vec<PoolInfo> = daemon.call(&query.into())?;
            let full: Vec<_> = pools.iter().filter(|pool| pool.free == 0).map(|pool| pool.subnet.to_string()).collect();
            if full.is_empty() {
                return Ok(());
            }
            let why = format!("no address of {} is free in VLAN {vlan}", full.join(" and "));
            Err(Failure::new(Code::NotAvailable, why))
        }
        (Ipam::Delegated(_), _) => match call.delegate()? {
            // Older plugins have no STATUS, and answer to it with errors that mean nothing.
            Some(delegate) if delegate.is_recent()? => delegate.forward(Command::Status),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

//! The start of a tunnel: opens what carries VXLAN, or goes on with what another daemon opened.

use std::net::SocketAddr;

use thiserror::Error;
use vswitch_api::Carried;
use vswitch_sys::{Uplink, UplinkError};
use vtep::TunnelError;

use super::super::carrier::{Carrier, UnderlayMode};
use super::super::handed::{SocketSet, UplinkSet};
use super::super::sockets::Sockets;
use super::super::uplink::UplinkCarrier;
use super::TunnelPort;
use crate::underlay::Underlay;

/// Why there is no tunnel.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Sockets(#[from] TunnelError),
    #[error("--underlay uplink: {0}; --underlay udp works without")]
    Uplink(#[from] UplinkError),
    #[error("--underlay says otherwise, but VXLAN is carried by {0:?} already")]
    OtherWay(Carried),
}

impl TunnelPort {
    /// Opens the VTEP on `underlay`, once for each of `workers`. The kernel gives each of them a share of what comes, by a
    /// hash of the outer addresses and ports: what one flow sends comes to one worker.
    pub(crate) fn open(
        underlay: Underlay,
        port: u16,
        mode: UnderlayMode,
        workers: u16,
    ) -> Result<Vec<Self>, OpenError> {
        Ok(Self::all(underlay, carriers(underlay, port, mode, workers)?))
    }

    /// Goes on with the VTEP that another daemon opened on `underlay`. Its way of carrying VXLAN must be one that `mode`
    /// means.
    pub(crate) fn adopt(
        underlay: Underlay,
        port: u16,
        mode: UnderlayMode,
        (sockets, uplink): (Vec<SocketSet>, Option<UplinkSet>),
    ) -> Result<Vec<Self>, OpenError> {
        let wrong = match (mode, &uplink) {
            (UnderlayMode::Udp, Some(_)) => Some(Carried::Uplink),
            (UnderlayMode::Uplink, None) => Some(Carried::Udp),
            _ => None,
        };
        if let Some(carried) = wrong {
            return Err(OpenError::OtherWay(carried));
        }
        let sockets = Sockets::adopt(SocketAddr::new(underlay.address, port), sockets)?;
        let carriers = match uplink {
            None => by_sockets(sockets),
            Some((queues, programs)) => by_uplink(underlay, sockets, Uplink::adopt(underlay.index, queues, programs)?),
        };
        Ok(Self::all(underlay, carriers))
    }
}

/// Opens what carries VXLAN, once for each of `workers`.
fn carriers(
    underlay: Underlay,
    port: u16,
    mode: UnderlayMode,
    workers: u16,
) -> Result<Vec<Box<dyn Carrier>>, OpenError> {
    let local = SocketAddr::new(underlay.address, port);
    let sockets = Sockets::open(local, workers)?;
    if mode == UnderlayMode::Udp {
        return Ok(by_sockets(sockets));
    }
    match Uplink::open(underlay.index, local, workers) {
        Ok(uplinks) => {
            if let Some(uplink) = uplinks.first() {
                tracing::info!(interface = uplink.name(), "VXLAN super-frames leave and enter uncut");
            }
            Ok(by_uplink(underlay, sockets, uplinks))
        }
        Err(error) if mode == UnderlayMode::Uplink => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "VXLAN goes by UDP sockets: there is no uplink");
            Ok(by_sockets(sockets))
        }
    }
}

fn by_sockets(sockets: Vec<Sockets>) -> Vec<Box<dyn Carrier>> {
    sockets.into_iter().map(|one| Box::new(one) as Box<dyn Carrier>).collect()
}

fn by_uplink(underlay: Underlay, sockets: Vec<Sockets>, uplinks: Vec<Uplink>) -> Vec<Box<dyn Carrier>> {
    let queues = sockets.into_iter().zip(uplinks).enumerate();
    let carrier = |(number, (sockets, uplink))| UplinkCarrier::boxed(sockets, uplink, underlay.address, number == 0);
    queues.map(carrier).collect()
}

//! VXLAN by UDP sockets: works everywhere and needs no privilege.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use vswitch_api::Carried;
use vswitch_core::{Frame, Offload};
use vswitch_sys::{Inbox, UdpEndpoint, UdpOptions};
use vtep::{EncapDrop, Failure, Trains, Tunnel, TunnelError, TunnelOptions};

use super::carrier::{Carrier, Entrance, Parcel, Pushed, Receipt};
use super::handed::SocketSet;
use crate::takeover::Name;

/// Source ports that flows are spread over: as many paths as most underlays have, and few descriptors.
const LANES: usize = 16;
/// Socket queues in bytes: the kernel counts twice what a frame has, and a container may send megabytes in one burst.
const QUEUE: usize = 8 << 20;

/// The sockets of a VTEP, and what waits to be sent by them.
#[derive(Debug)]
pub(super) struct Sockets {
    tunnel: Tunnel,
    trains: Trains,
}

impl Sockets {
    /// Opens the sockets at `local`, a set for each of `workers`.
    pub(super) fn open(local: SocketAddr, workers: u16) -> Result<Vec<Self>, TunnelError> {
        if workers > 1 {
            // Sockets that share a port would also share it with those of another daemon: one that does not finds out.
            drop(UdpEndpoint::open(local, &UdpOptions::default()).map_err(TunnelError::Receive)?);
        }
        let options = TunnelOptions {
            local: local.ip(),
            port: local.port(),
            lanes: LANES,
            reuse_port: workers > 1,
            receive_buffer: Some(QUEUE),
            send_buffer: Some(QUEUE),
        };
        let one = |_| {
            let tunnel = Tunnel::open(&options)?;
            let trains = Trains::new(tunnel.lanes(), false);
            Ok(Self { tunnel, trains })
        };
        (0..workers).map(one).collect()
    }

    /// Takes over the sockets of each worker, which are to be those at `local`.
    pub(super) fn adopt(local: SocketAddr, sets: Vec<SocketSet>) -> Result<Vec<Self>, TunnelError> {
        let one = |(receive, lanes): SocketSet| {
            let tunnel = Tunnel::adopt(receive, lanes)?;
            if tunnel.endpoint().local_addr() != local {
                let message = format!("{} instead of {local}", tunnel.endpoint().local_addr());
                return Err(TunnelError::NotOurs(io::Error::other(message)));
            }
            let trains = Trains::new(tunnel.lanes(), false);
            Ok(Self { tunnel, trains })
        };
        sets.into_iter().map(one).collect()
    }

    /// The source port of each lane.
    pub(super) fn lane_ports(&self) -> Vec<u16> {
        self.tunnel.lane_ports().collect()
    }
}

impl Carrier for Sockets {
    fn kind(&self) -> Carried {
        Carried::Udp
    }

    fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        vec![(Entrance::Socket, self.tunnel.endpoint().as_raw_fd())]
    }

    fn receive(
        &mut self,
        _: Entrance,
        inbox: &mut Inbox,
        debts: &mut Vec<Offload>,
        _: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Receipt> {
        debts.clear();
        let filled = self.tunnel.recv(inbox)?;
        Ok(Receipt { more: filled == inbox.slots() })
    }

    fn dropped(&self) -> u64 {
        self.tunnel.endpoint().dropped().map(u64::from).unwrap_or_else(|error| {
            tracing::debug!(%error, "the VXLAN socket does not tell what it dropped");
            0
        })
    }

    fn descriptors(&self, worker: u16) -> io::Result<Vec<(Name, OwnedFd)>> {
        let (receive, lanes) = self.tunnel.try_clone()?;
        let lanes = lanes.into_iter().map(|lane| (Name::Lane(worker), lane));
        Ok(std::iter::once((Name::Receive(worker), receive)).chain(lanes).collect())
    }

    fn is_silent(&self) -> bool {
        false
    }

    fn push(&mut self, &Parcel { index, frame, vni, to, mtu, .. }: &Parcel<'_>) -> Result<Pushed, EncapDrop> {
        self.trains.push(index, frame, vni, to, mtu.into()).map(|()| Pushed::Waits)
    }

    fn send(&mut self, to: IpAddr, datagram: &[u8]) -> io::Result<()> {
        self.tunnel.send(to, datagram)
    }

    fn waiting(&self) -> usize {
        self.trains.waiting()
    }

    fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>) {
        if self.trains.waiting() > 0 && self.tunnel.flush(&mut self.trains, frames, failures) {
            tracing::warn!("the underlay's device cannot checksum trains of datagrams (EIO); they leave one by one");
        }
    }
}

//! The tunnel port: frames to remote VTEPs and from them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;

use vswitch_core::{Frame, Instant, VlanId};
use vswitch_sys::{Inbox, Netlink, NetlinkError};
use vtep::{
    DatagramTrain, DecapDrop, Directory, Failure, Inbound, Merge, Trains, Tunnel, TunnelError, TunnelOptions,
    largest_inner_frame,
};

use crate::counters::Counters;
use crate::drops::{Drop, PortDrop};
use crate::underlay::Underlay;

/// Source ports that flows are spread over: as many paths as most underlays have, and few descriptors.
const LANES: usize = 16;
/// Trains received at once; a slot holds the largest.
const SLOTS: usize = 16;
const SLOT: usize = 65_536;
/// Socket queues in bytes: the kernel counts twice what a frame has, and a container may send megabytes in one burst.
const QUEUE: usize = 8 << 20;
/// Datagrams that wait at most before they are sent: bounds what one turn holds, however many remotes a flood has.
const WAITING: usize = 4096;
/// How long a path's MTU is believed, as long as the kernel does (`mtu_expires`, RFC 1191 6.3).
const PATH_MTU_LIFETIME: core::time::Duration = core::time::Duration::from_secs(600);

/// The tunnel as one worker sees it.
#[derive(Debug)]
pub(crate) struct TunnelPort {
    tunnel: Tunnel,
    underlay: Underlay,
    directory: Arc<Directory>,
    trains: Trains,
    inbox: Inbox,
    merge: Merge,
    /// What concerns no remote in particular.
    counters: Counters,
}

/// A remote VTEP as one worker sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) to: SocketAddr,
    /// What the path there was found to carry, where that is less than the underlay's MTU, and until when.
    path_mtu: Option<(u16, Instant)>,
}

impl Remote {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, path_mtu: None }
    }
}

impl TunnelPort {
    /// Opens the sockets of the VTEP on `underlay`.
    pub(crate) fn open(underlay: Underlay, port: u16) -> Result<Self, TunnelError> {
        let options = TunnelOptions {
            local: underlay.address,
            port,
            lanes: LANES,
            reuse_port: false,
            receive_buffer: Some(QUEUE),
            send_buffer: Some(QUEUE),
        };
        let tunnel = Tunnel::open(&options)?;
        let trains = Trains::new(tunnel.lanes(), false);
        let longest_frame = largest_inner_frame(underlay.address, underlay.mtu.into());
        Ok(Self {
            tunnel,
            underlay,
            directory: Arc::default(),
            trains,
            inbox: Inbox::new(SLOTS, SLOT),
            merge: Merge::new(longest_frame),
            counters: Counters::default(),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.tunnel.endpoint().as_raw_fd()
    }

    pub(crate) fn set_directory(&mut self, directory: Arc<Directory>) {
        self.directory = directory;
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        match self.tunnel.endpoint().dropped() {
            Ok(dropped) => counters.dropped_many(PortDrop::ReceiveQueueFull, dropped.into()),
            Err(error) => tracing::debug!(%error, "the VXLAN socket does not tell what it dropped"),
        }
        counters
    }

    pub(crate) fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Receives one batch, takes the frames out and merges them; false once nothing is left to receive.
    pub(crate) fn receive(&mut self) -> bool {
        self.merge.clear();
        let filled = match self.tunnel.recv(&mut self.inbox) {
            Ok(filled) => filled,
            Err(error) => {
                tracing::warn!(%error, "receiving VXLAN failed");
                return false;
            }
        };
        for slot in 0..filled {
            let Some(received) = self.inbox.get(slot) else { continue };
            let from = received.from.ip().to_canonical();
            let bytes = self.inbox.bytes_mut(slot);
            let mut train = DatagramTrain { bytes, stride: received.stride, from, tos: received.tos };
            self.merge.receive(slot, &mut train, &self.directory, |why| {
                self.counters.rx_frames += 1;
                self.counters.dropped(why);
            });
        }
        filled == self.inbox.slots()
    }

    /// The frames of the batch, and the buffers in which their payload lies.
    pub(crate) fn inbound(&mut self) -> (&mut [Inbound], &Inbox) {
        (self.merge.finish(), &self.inbox)
    }

    /// Encapsulates `frame`, number `index` of the batch, for `remote`; it leaves with the next [`Self::flush`].
    pub(crate) fn push(
        &mut self,
        now: Instant,
        index: usize,
        frame: &Frame,
        vlan: VlanId,
        remote: &Remote,
    ) -> Result<(), Drop> {
        let vni = self.directory.vni(vlan).ok_or(DecapDrop::UnknownVni)?;
        let mtu = usize::from(self.path_mtu(now, remote));
        self.trains.push(index, frame, vni, remote.to, mtu).map_err(Drop::Encap)
    }

    /// The largest packet inside that reaches `remote`.
    pub(crate) fn inner_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        self.path_mtu(now, remote).saturating_sub(self.underlay.overhead())
    }

    fn path_mtu(&self, now: Instant, remote: &Remote) -> u16 {
        match remote.path_mtu {
            Some((mtu, until)) if now < until => mtu,
            _ => self.underlay.mtu,
        }
    }

    /// Whether so much waits that it should leave before more is pushed.
    pub(crate) fn is_full(&self) -> bool {
        self.trains.waiting() >= WAITING
    }

    /// Sends what was pushed; `failures` gets what did not leave.
    pub(crate) fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>) {
        if self.trains.waiting() > 0 && self.tunnel.flush(&mut self.trains, frames, failures) {
            tracing::warn!("the underlay's device cannot checksum trains of datagrams (EIO); they leave one by one");
        }
    }

    /// Asks the kernel what the path to `remote` carries, and believes it for a while.
    pub(crate) fn learn_path_mtu(&self, now: Instant, remote: &mut Remote) {
        match kernel_path_mtu(remote.to.ip()) {
            Ok(Some(mtu)) if mtu < self.underlay.mtu => {
                tracing::info!(remote = %remote.to.ip(), mtu, "the path to a remote carries less than the underlay");
                remote.path_mtu = Some((mtu, now + PATH_MTU_LIFETIME));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(remote = %remote.to.ip(), %error, "the path MTU cannot be read"),
        }
    }
}

/// What the kernel's routing knows: a path MTU learned from ICMP, else the MTU of the device.
fn kernel_path_mtu(to: IpAddr) -> Result<Option<u16>, NetlinkError> {
    let netlink = Netlink::open()?;
    let route = netlink.route_to(to)?;
    let mtu = match route.mtu {
        Some(mtu) => Some(mtu),
        None => netlink.link_by_index(route.index)?.map(|link| link.mtu),
    };
    Ok(mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX)))
}

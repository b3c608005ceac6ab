//! What carries VXLAN between hosts: in one of two ways, which are the same to all behind them and to all peers.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};

use clap::ValueEnum;
use vswitch_api::Carried;
use vswitch_core::{Frame, Offload};
use vswitch_sys::Inbox;
use vtep::{EncapDrop, Failure, Vni};

use crate::takeover::Name;

/// How VXLAN leaves and enters this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UnderlayMode {
    /// By an uplink where host and kernel allow it, else by sockets.
    #[default]
    Auto,
    /// By UDP sockets: super-frames are cut to datagrams here and merged again there.
    Udp,
    /// By an uplink: super-frames leave and enter the host uncut (Linux 6.17).
    Uplink,
}

/// Where datagrams come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Socket,
    Uplink,
}

/// What one receipt brought beside what stands in the inbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// More may be waiting.
    pub(crate) more: bool,
}

/// A frame for a remote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel<'a> {
    /// Its place in the batch.
    pub(crate) index: usize,
    pub(crate) frame: &'a Frame,
    pub(crate) vni: Vni,
    pub(crate) to: SocketAddr,
    /// What the path there carries, in bytes.
    pub(crate) mtu: u16,
    /// Whether the way there leaves by the interface that holds the VTEP's address.
    pub(crate) on_underlay: bool,
}

/// What became of a frame that is not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Waits,
    /// It would overtake what waits: flush, and push it again.
    FlushFirst,
}

/// One way to carry VXLAN.
pub(crate) trait Carrier: fmt::Debug + Send {
    /// Which it is.
    fn kind(&self) -> Carried;

    /// Where datagrams come in, each to be waited on.
    fn entrances(&self) -> Vec<(Entrance, RawFd)>;

    /// Receives one batch into `inbox`; `debts` gets what the frame of each slot still owes, as far as that is known,
    /// `malformed` each packet whose virtio header made no sense, without that header.
    fn receive(
        &mut self,
        entrance: Entrance,
        inbox: &mut Inbox,
        debts: &mut Vec<Offload>,
        malformed: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Receipt>;

    /// Datagrams that came too fast and were lost.
    fn dropped(&self) -> u64;

    /// Those of them that the carrier's descriptors do not tell of any more.
    fn dropped_before(&self) -> u64 {
        0
    }

    /// Other descriptors of all it has, named for worker number `worker`: for another process to carry VXLAN by.
    fn descriptors(&self, worker: u16) -> io::Result<Vec<(Name, OwnedFd)>>;

    /// Whether the kernel tells nothing of what became of a packet, so that its routes must be asked beforehand.
    fn is_silent(&self) -> bool;

    /// Looks after what nobody tells of, once a while.
    fn check(&mut self) {}

    /// Encapsulates a frame; it leaves with the next [`Self::flush`], in order within its flow.
    fn push(&mut self, parcel: &Parcel<'_>) -> Result<Pushed, EncapDrop>;

    /// Whether [`Self::push_joined`] is worth a try.
    fn joins(&self) -> bool {
        false
    }

    /// Encapsulates frames of the batch that were joined: the parcel holds their head, `tail` says in which of them their
    /// payload lies, and where. False where they must be pushed one by one.
    fn push_joined(&mut self, _: &Parcel<'_>, _tail: &[(usize, Range<usize>)]) -> bool {
        false
    }

    /// Sends one datagram to the VXLAN port of another VTEP, at once.
    fn send(&mut self, to: IpAddr, datagram: &[u8]) -> io::Result<()>;

    /// Datagrams that wait.
    fn waiting(&self) -> usize;

    /// Sends what was pushed, and lies in `frames`; `failures` gets what did not leave.
    fn flush(&mut self, frames: &[Frame], failures: &mut Vec<Failure>);
}

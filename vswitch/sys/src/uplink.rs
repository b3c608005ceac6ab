//! An uplink: a TAP device through which VXLAN super-frames leave and enter the host without being cut.
//!
//! Linux 6.17 lets a TAP carry super-frames inside a UDP tunnel. Two programs tie it to the underlay: datagrams for the
//! VTEP that the underlay's interface receives are diverted into the TAP, and what is written to the TAP goes on by that
//! interface to its next hop. The host's addresses, routes and settings stay as they are, and TAP and programs end with
//! their descriptors.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::bpf::{BpfError, Ingress};
use crate::netlink::{Link, Netlink, NetlinkError};
use crate::tap::{Offloads, Tap, TapError, TapQueue, attach_all};
use crate::vnet::TUNNEL_HDR_LEN;

/// `TUN_F_UDP_TUNNEL_GSO` and `TUN_F_UDP_TUNNEL_GSO_CSUM` (`linux/if_tun.h` of 6.17).
const TUNNEL_GSO: libc::c_uint = 0x80 | 0x100;

/// Packets that wait to be read at most: all remotes share the queue, and a burst of small frames is thousands.
const QUEUE: u32 = 8192;
/// The largest MTU of a TAP: 64 KiB less Ethernet header and alignment.
const MTU_MAX: u32 = 65_521;

/// Why there is no uplink.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The underlay's interface is gone, or of a kind whose packets have no Ethernet header.
    #[error("interface {0}, which holds the VTEP's address, has no Ethernet header")]
    NotEthernet(u32),
    /// The TAP device was renamed or deleted while it was set up.
    #[error("interface {0} vanished while it was set up; keep network managers off vswitch-up*")]
    Vanished(String),
    /// The TAP device could not be had.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The kernel's TAP carries no super-frames in tunnels.
    #[error("a TAP of this kernel carries no super-frames in tunnels: {0}; it takes Linux 6.17")]
    TooOld(#[source] io::Error),
    /// The TAP device could not be set up.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A program could not be attached.
    #[error(transparent)]
    Bpf(#[from] BpfError),
    /// A descriptor leads to something else.
    #[error("what was handed over is no uplink: {0}")]
    NotOurs(#[source] io::Error),
}

/// One queue of an uplink. Every packet, both ways, stands behind [`TUNNEL_HDR_LEN`] bytes of header and an Ethernet
/// header whose addresses mean nothing.
#[derive(Debug)]
pub struct Uplink {
    queue: TapQueue,
    name: String,
    index: u32,
    /// What diverts and what forwards; they go with the last queue.
    programs: Arc<[Ingress; 2]>,
}

impl Uplink {
    /// Puts an uplink of `queues` queues on interface `underlay`, for VXLAN datagrams to `local`.
    ///
    /// # Errors
    /// A kernel before 6.17, no privilege (CAP_NET_ADMIN and CAP_BPF), an underlay without Ethernet headers.
    pub fn open(underlay: u32, local: SocketAddr, queues: u16) -> Result<Vec<Self>, UplinkError> {
        let netlink = Netlink::open()?;
        let is_ethernet = |link: &Link| link.mac.is_some_and(|mac| mac != [0; 6]); // the loopback has zeros
        let below = netlink.link_by_index(underlay)?.filter(is_ethernet).ok_or(UplinkError::NotEthernet(underlay))?;
        let (name, taps) = attach_all("vswitch-up%d", queues)?;
        for tap in taps.iter().take(1) {
            let [most, ..] = Offloads::STEPS;
            tap.set_header(TUNNEL_HDR_LEN).map_err(UplinkError::TooOld)?;
            tap.set_offload(most.bits() | TUNNEL_GSO).map_err(UplinkError::TooOld)?;
        }
        let index = netlink.link(&name)?.ok_or_else(|| UplinkError::Vanished(name.clone()))?.index;
        // Else the kernel would speak IPv6 to us.
        netlink.set_no_link_local(index)?;
        netlink.set_mtu(index, below.mtu.min(MTU_MAX))?;
        netlink.set_queue_length(index, QUEUE)?;
        let forward = Ingress::forward(index, underlay)?;
        netlink.set_up(index, true)?;
        let divert = Ingress::divert(underlay, local, index)?;
        let programs = Arc::new([divert, forward]);
        let uplink = |queue| Self { queue, name: name.clone(), index, programs: Arc::clone(&programs) };
        Ok(taps.into_iter().map(uplink).collect())
    }

    /// Takes over an uplink on interface `underlay` that [`Self::open`] made, maybe in another process: its queues, what
    /// diverts and what forwards.
    ///
    /// # Errors
    /// What is no such uplink, or no longer one: its own or the underlay's interface was deleted.
    pub fn adopt(underlay: u32, queues: Vec<OwnedFd>, programs: [OwnedFd; 2]) -> Result<Vec<Self>, UplinkError> {
        // Header and offloads stay as they are: they are not those of a port.
        let tap = Tap::adopt_granted(queues, Offloads::default())?;
        let name = tap.name().to_owned();
        let index = Netlink::open()?.link(&name)?.ok_or_else(|| UplinkError::Vanished(name.clone()))?.index;
        let [divert, forward] = programs;
        let divert = Ingress::adopt(divert, underlay).map_err(UplinkError::NotOurs)?;
        let forward = Ingress::adopt(forward, index).map_err(UplinkError::NotOurs)?;
        let programs = Arc::new([divert, forward]);
        let uplink = |queue| Self { queue, name: name.clone(), index, programs: Arc::clone(&programs) };
        Ok(tap.into_queues().into_iter().map(uplink).collect())
    }

    /// Other descriptors of what [`Self::adopt`] takes: of this queue, and of the programs.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<(OwnedFd, [OwnedFd; 2])> {
        let [divert, forward] = &*self.programs;
        Ok((self.queue.try_clone()?.into(), [divert.try_clone()?, forward.try_clone()?]))
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one packet; what does not fit into `room` is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where there is none.
    pub fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.queue.read(room)
    }

    /// Writes one packet that lies in pieces.
    ///
    /// # Errors
    /// EINVAL where the header contradicts the packet.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.queue.write_vectored(pieces)
    }

    /// Whether the interface is there and up.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn is_up(&self) -> Result<bool, NetlinkError> {
        Ok(Netlink::open()?.link_by_index(self.index)?.is_some_and(|link| link.up))
    }

    /// How many packets, those of all queues, came in too fast and were lost; `None` once the interface is gone.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn dropped(&self) -> Result<Option<u64>, NetlinkError> {
        Ok(Netlink::open()?.link_by_index(self.index)?.map(|link| link.tx_dropped))
    }
}

impl AsFd for Uplink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl AsRawFd for Uplink {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}

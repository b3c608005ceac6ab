//! What a turn takes from the tunnel, and what it leaves. No device is behind the ports: what leaves is not looked at.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vswitch_api::Carried;
use vswitch_core::switch::{Limits, PortId, PortMode};
use vswitch_core::{Frame, Instant, Offload, VlanId};
use vswitch_sys::{Inbox, Received};
use vtep::{Directory, EncapDrop, Failure, Vni};

use super::Datapath;
use crate::bounds::Bounds;
use crate::port::carrier::{Carrier, Entrance, Parcel, Pushed, Receipt};
use crate::port::tunnel::TunnelPort;
use crate::takeover::Name;
use crate::underlay::Underlay;

/// Trains in a receipt, and datagrams in each.
const TRAINS: usize = 10;
const EACH: usize = 64;
const LEN: usize = 60;
const PORTS: u16 = 100;
const REMOTE: PortId = PortId::new(PORTS);
const NOW: Instant = Instant::from_nanos(1 << 30);

fn vlan() -> VlanId {
    VlanId::new(10).unwrap()
}

fn vni() -> Vni {
    Vni::new(1000).unwrap()
}

fn peer() -> SocketAddr {
    "192.0.2.2:4789".parse().unwrap()
}

/// Brings the same frame without end.
#[derive(Debug)]
struct Endless {
    datagram: Vec<u8>,
    receipts: Arc<AtomicUsize>,
}

impl Carrier for Endless {
    fn kind(&self) -> Carried {
        Carried::Udp
    }

    fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        Vec::new()
    }

    fn receive(
        &mut self,
        _: Entrance,
        inbox: &mut Inbox,
        _: &mut Vec<Offload>,
        _: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Receipt> {
        self.receipts.fetch_add(1, Ordering::Relaxed);
        inbox.clear();
        let train = self.datagram.repeat(EACH);
        for _ in 0..TRAINS {
            inbox.fill(|room| {
                room[..train.len()].copy_from_slice(&train);
                let stride = self.datagram.len();
                Ok::<_, io::Error>(Received { from: peer(), tos: 0, stride, at: 0, len: train.len(), truncated: false })
            })?;
        }
        Ok(Receipt { more: true })
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn descriptors(&self, _: u16) -> io::Result<Vec<(Name, OwnedFd)>> {
        Ok(Vec::new())
    }

    fn is_silent(&self) -> bool {
        false
    }

    fn push(&mut self, _: &Parcel<'_>) -> Result<Pushed, EncapDrop> {
        Ok(Pushed::Waits)
    }

    fn send(&mut self, _: IpAddr, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn waiting(&self) -> usize {
        0
    }

    fn flush(&mut self, _: &[Frame], _: &mut Vec<Failure>) {}
}

/// A switch of [`PORTS`] ports, whose only remote sends frames to a MAC address that begins with `first`; and how often it
/// has received.
fn datapath(first: u8) -> (Datapath, Arc<AtomicUsize>) {
    let receipts = Arc::new(AtomicUsize::new(0));
    let mut frame = [vec![first, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5], vec![0; LEN - 14]].concat();
    frame.splice(..0, vtep::encode(vni()));
    let carrier: Box<dyn Carrier> = Box::new(Endless { datagram: frame, receipts: Arc::clone(&receipts) });
    let underlay = Underlay { address: "192.0.2.1".parse().unwrap(), index: 1, prefix: None, mtu: 1500 };
    let tunnels = TunnelPort::all(underlay, vec![carrier]).into_iter().map(Some).collect();
    let bounds = Bounds { fdb: Limits { entries: 100, per_port: 100 }, storm: None };
    let mut datapath = Datapath::siblings(tunnels, bounds, 7).remove(0);
    let mut directory = Directory::new();
    directory.add_network(vlan(), vni()).unwrap();
    directory.add_remote(peer().ip(), REMOTE, [vlan()].into_iter().collect()).unwrap();
    datapath.set_directory(Arc::new(directory));
    for port in 0..PORTS {
        datapath.switch_mut().add_port(PortId::new(port), PortMode::Access(vlan()));
    }
    datapath.set_remote(REMOTE, peer(), PortMode::Remote { vlans: [vlan()].into_iter().collect() });
    (datapath, receipts)
}

/// Frames taken from the tunnel so far, and those dropped.
fn taken(datapath: &Datapath) -> (u64, u64) {
    let tunnel = datapath.stats().tunnel;
    (tunnel.rx_frames, tunnel.drops().values().sum())
}

#[test]
fn a_turn_takes_from_the_tunnel_what_its_copies_allow() {
    let (mut datapath, receipts) = datapath(0xff);
    let mut before = 0;
    // The first few before it is known what they cost; then 5 at a time, until they are 512 copies.
    for (turn, frames) in [32, 10, 10, 10].into_iter().enumerate() {
        let entrance = if turn % 2 == 0 { Entrance::Socket } else { Entrance::Uplink };
        assert!(datapath.serve_tunnel(NOW, entrance));
        before += frames;
        assert_eq!(taken(&datapath), (before, 0), "turn {turn}");
    }
    assert_eq!(receipts.load(Ordering::Relaxed), 1, "received over what was left");
    // Who pauses leaves nothing of it, and receives nothing.
    datapath.finish(NOW);
    assert_eq!(taken(&datapath), ((TRAINS * EACH) as u64, 0));
    assert_eq!(receipts.load(Ordering::Relaxed), 1);
    assert!(datapath.serve_tunnel(NOW, Entrance::Socket));
    assert_eq!(receipts.load(Ordering::Relaxed), 2);
}

#[test]
fn frames_for_one_leave_in_turns_of_many() {
    let (mut datapath, receipts) = datapath(2);
    datapath.switch_mut().fdb_add_static(vlan(), vswitch_core::MacAddr([2, 0, 0, 0, 0, 1]), PortId::new(7)).unwrap();
    for (frames, received) in [(512, 1), (640, 1), (640 + 512, 2)] {
        assert!(datapath.serve_tunnel(NOW, Entrance::Socket));
        assert_eq!((taken(&datapath), receipts.load(Ordering::Relaxed)), ((frames, 0), received));
    }
}

#[test]
fn what_a_remote_left_goes_with_it() {
    let (mut datapath, _) = datapath(0xff);
    assert!(datapath.serve_tunnel(NOW, Entrance::Socket));
    datapath.remove(REMOTE);
    // The next peer gets its number.
    let other = "192.0.2.3:4789".parse().unwrap();
    datapath.set_remote(REMOTE, other, PortMode::Remote { vlans: [vlan()].into_iter().collect() });
    datapath.finish(NOW);
    assert_eq!(taken(&datapath), ((TRAINS * EACH) as u64, (TRAINS * EACH) as u64 - 32));
    assert_eq!(datapath.stats().tunnel.drops()["unknown_vtep"], (TRAINS * EACH) as u64 - 32);
}

//! A tunnel in memory: one super-frame that becomes one train.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use vswitch_core::{Frame, Offload, PortId, VlanId};
use vtep::{DatagramTrain, Directory, Merge, Trains, Vni, largest_inner_frame};

use crate::super_frame;

/// The other end.
pub const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// Payload of a full segment in an underlay of 1500 bytes.
pub const SEGMENT: u16 = 1398;
/// As much as a train of full datagrams holds.
pub const PAYLOAD: u16 = 43 * SEGMENT;

const UNDERLAY_MTU: usize = 1500;

fn vni() -> Vni {
    Vni::new(100).unwrap()
}

/// The frame that is cut.
#[must_use]
pub fn frame() -> Frame {
    super_frame(PAYLOAD, SEGMENT)
}

/// Trains for as many lanes as a daemon has use for.
#[must_use]
pub fn trains() -> Trains {
    Trains::new(8, false)
}

/// Cuts `frame`, and forgets what was cut before.
pub fn cut(trains: &mut Trains, frame: &Frame) {
    trains.clear();
    trains.push(0, frame, vni(), SocketAddr::new(REMOTE, 4789), UNDERLAY_MTU).unwrap();
}

/// The only train, and the size of its datagrams.
#[must_use]
pub fn on_the_wire(trains: &Trains, frames: &[Frame]) -> (Vec<u8>, usize) {
    let (lane, train) = (0..trains.lanes()).find_map(|lane| Some((lane, trains.lane(lane).first()?))).unwrap();
    let pieces = trains.pieces(lane, train);
    (pieces.iter().flat_map(|&piece| trains.resolve(piece, frames).to_vec()).collect(), train.stride)
}

/// Who may send, and where to.
#[must_use]
pub fn directory() -> Directory {
    let vlan = VlanId::new(1).unwrap();
    let mut directory = Directory::new();
    directory.add_network(vlan, vni()).unwrap();
    directory.add_remote(REMOTE, PortId::new(9), [vlan].into_iter().collect()).unwrap();
    directory
}

/// An empty batch of the receiver's.
#[must_use]
pub fn batch() -> Merge {
    Merge::new(largest_inner_frame(REMOTE, UNDERLAY_MTU))
}

/// Merges the train again; returns how long the one frame is that comes of it.
///
/// # Panics
/// Where it is not one.
pub fn merge(merge: &mut Merge, directory: &Directory, bytes: &mut [u8], stride: usize) -> usize {
    merge.clear();
    let mut train = DatagramTrain { bytes, stride, from: REMOTE, tos: 0, debts: Offload::default() };
    merge.receive(0, &mut train, directory, |_, reason| unreachable!("{reason:?}"));
    let merged = merge.finish();
    assert_eq!(merged.len(), 1);
    merged[0].len()
}

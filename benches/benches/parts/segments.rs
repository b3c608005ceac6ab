//! The tunnel in memory: a super-frame of 62 KiB cut into a train, and a train merged back. Limit: memcpy of it all.

use std::net::{IpAddr, SocketAddr};

use benches::{TCP_HEADERS, super_frame};
use criterion::{Criterion, Throughput};
use vswitch_core::{Frame, Offload, PortId, VlanId};
use vtep::{DatagramTrain, Directory, Merge, Trains, Vni, largest_inner_frame};

const UNDERLAY_MTU: usize = 1500;

/// Payload of a full segment in an underlay of 1500 bytes.
const SEGMENT: u16 = 1398;
/// As much as a train of full datagrams holds.
const PAYLOAD: u16 = 43 * SEGMENT;

pub(crate) fn benches(c: &mut Criterion) {
    let remote = IpAddr::from([192, 0, 2, 2]);
    let to = SocketAddr::new(remote, 4789);
    let vni = Vni::new(100).unwrap();
    let vlan = VlanId::new(1).unwrap();
    let mut directory = Directory::new();
    directory.add_network(vlan, vni).unwrap();
    directory.add_remote(remote, PortId::new(9), [vlan].into_iter().collect()).unwrap();

    let frames = [super_frame(PAYLOAD, SEGMENT)];
    let mut group = c.benchmark_group("segments");
    group.throughput(Throughput::Bytes(u64::from(PAYLOAD)));
    let mut trains = Trains::new(8, false);
    group.bench_function("cut", |b| {
        b.iter(|| {
            trains.clear();
            trains.push(0, &frames[0], vni, to, UNDERLAY_MTU)
        });
    });

    trains.clear();
    trains.push(0, &frames[0], vni, to, UNDERLAY_MTU).unwrap();
    let (mut bytes, stride) = on_the_wire(&trains, &frames);
    let longest_frame = largest_inner_frame(remote, UNDERLAY_MTU);
    let mut merge = Merge::new(longest_frame);
    group.bench_function("merge", |b| {
        b.iter(|| {
            merge.clear();
            let mut train =
                DatagramTrain { bytes: &mut bytes, stride, from: remote, tos: 0, debts: Offload::default() };
            merge.receive(0, &mut train, &directory, |reason| unreachable!("{reason:?}"));
            let merged = merge.finish();
            assert_eq!(merged.len(), 1);
            assert_eq!(merged[0].len(), TCP_HEADERS + usize::from(PAYLOAD));
        });
    });
    let mut copy = bytes.clone();
    group.bench_function("limit: memcpy", |b| b.iter(|| copy.copy_from_slice(std::hint::black_box(&bytes))));
    group.finish();
}

/// The only train, and the size of its datagrams.
fn on_the_wire(trains: &Trains, frames: &[Frame]) -> (Vec<u8>, usize) {
    let (lane, train) = (0..trains.lanes()).find_map(|lane| Some((lane, trains.lane(lane).first()?))).unwrap();
    let pieces = trains.pieces(lane, train);
    (pieces.iter().flat_map(|&piece| trains.resolve(piece, frames).to_vec()).collect(), train.stride)
}

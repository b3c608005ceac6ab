//! The whole decision on a frame: parse, classify, learn, look up. Limit: 25 ns a frame is 40 M frames/s on a core.

use benches::{least, station};
use criterion::{BenchmarkId, Criterion, Throughput};
use vswitch_core::{Instant, PortId};

use crate::fdb::{STRIDE, learn, switch};

/// How many pairs of stations talk, each a frame in turn: so few that a core's cache holds all that is known of them, and
/// so many that it does not. The frames themselves lie in a row, where the core foresees them.
const FLOWS: [(&str, u32); 2] = [("256 flows", 1 << 8), ("64k flows", 1 << 16)];

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline, known unicast");
    group.throughput(Throughput::Elements(1));
    for (name, entries) in [("1k addresses", 1 << 10), ("1M addresses", 1 << 20)] {
        let mut switch = switch(entries);
        learn(&mut switch, entries);
        for (flows_name, flows) in FLOWS.into_iter().filter(|(_, flows)| *flows <= entries / 4) {
            // Stations of a multiple of four are on port 0, the one behind each on port 1.
            let frame = |flow: u32| {
                let from = (flow.wrapping_mul(STRIDE) & (entries / 4 - 1)) * 4;
                least(station(from), station(from | 1))
            };
            let frames: Vec<_> = (0..flows).map(frame).collect();
            let mut turn = frames.iter().cycle();
            group.bench_function(BenchmarkId::new(name, flows_name), |b| {
                b.iter(|| turn.next().map(|frame| switch.ingress(Instant::default(), PortId::new(0), frame)));
            });
        }
    }
    group.finish();
}

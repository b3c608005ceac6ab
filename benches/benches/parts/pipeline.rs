//! The whole decision on a frame: parse, classify, learn, look up. Limit: 25 ns a frame is 40 M frames/s on a core.

use std::hint::black_box;
use std::time::Duration;

use benches::stations::{frames, learn, switch};
use criterion::{BenchmarkId, Criterion, Throughput};
use vswitch_core::{Instant, PortId, Switch, Verdict};

use crate::fdb::BATCH;

/// How many pairs of stations talk, each a frame in turn: so few that a core's cache holds all that is known of them, and
/// so many that it does not. The frames themselves lie in a row, where the core foresees them.
const FLOWS: [(&str, u32); 2] = [("256 flows", 1 << 8), ("64k flows", 1 << 16)];

const TABLES: [(&str, u32); 2] = [("1k addresses", 1 << 10), ("1M addresses", 1 << 20)];

/// Time between two batches: a core's share of 10 M frames/s.
const BATCH_TIME: Duration = Duration::from_nanos(6_400);

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline, known unicast");
    for (name, entries) in TABLES {
        let mut switch = switch(entries);
        learn(&mut switch, entries);
        for (flows_name, flows) in FLOWS.into_iter().filter(|(_, flows)| *flows <= entries / 4) {
            let frames = frames(entries, 0, flows);
            let mut turn = frames.iter().cycle();
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(format!("{name}, one by one"), flows_name), |b| {
                b.iter(|| turn.next().map(|frame| leaves(&switch.ingress(Instant::default(), PortId::new(0), frame))));
            });
            let mut turn = frames.chunks(usize::try_from(BATCH).unwrap()).cycle();
            group.throughput(Throughput::Elements(BATCH.into()));
            group.bench_function(BenchmarkId::new(format!("{name}, batches of 64"), flows_name), |b| {
                b.iter(|| turn.next().map(|batch| decide(&mut switch, Instant::default(), batch)));
            });
        }
    }
    group.finish();
}

/// Decides on frames of port 0; returns how many left on port 1.
pub(crate) fn decide(switch: &mut Switch, now: Instant, batch: &[[u8; 60]]) -> usize {
    let frames = batch.iter().map(<[u8; 60]>::as_slice);
    let mut left = 0;
    switch.ingress_batch(now, PortId::new(0), frames, |_, _, verdict| left += usize::from(leaves(&verdict)));
    left
}

fn leaves(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unicast(egress) if egress.port == PortId::new(1))
}

/// Decides on `rounds` times `frames`, batch by batch, while time passes; returns when it is then.
pub(crate) fn run(switch: &mut Switch, mut now: Instant, frames: &[[u8; 60]], rounds: u64) -> Instant {
    for _ in 0..rounds {
        for batch in frames.chunks(usize::try_from(BATCH).unwrap()) {
            black_box(decide(switch, now, batch));
            now = now + BATCH_TIME;
        }
    }
    now
}

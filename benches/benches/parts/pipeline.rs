//! The whole decision on a frame: parse, classify, learn, look up. Limit: 25 ns a frame is 40 M frames/s on a core.

use benches::{least, station};
use criterion::{BenchmarkId, Criterion, Throughput};
use vswitch_core::{Instant, MacAddr, PortId};

use crate::fdb::{STRIDE, learn, switch};

/// Frames in memory; with 64 bytes each a cache holds them, so that the table's misses are all that is left.
const FRAMES: u32 = 1 << 8;

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1));
    for (name, entries) in [("1k", 1 << 10), ("1M", 1 << 20)] {
        let mut switch = switch(entries);
        learn(&mut switch, entries);
        // Stations of a multiple of four are on port 0, those behind on port 1: known on both sides, to another port.
        let mut frame = least(MacAddr::ZERO, MacAddr::ZERO);
        let mut number = 0_u32;
        group.bench_function(BenchmarkId::new("known unicast, any pair of stations", name), |b| {
            b.iter(|| {
                number = number.wrapping_add(STRIDE);
                let from = number & (entries - 1) & !3;
                frame[..6].copy_from_slice(&station((from ^ (entries >> 1)) | 1).0);
                frame[6..12].copy_from_slice(&station(from).0);
                switch.ingress(Instant::default(), PortId::new(0), &frame)
            });
        });
        let frames: Vec<_> = (0..FRAMES)
            .map(|number| {
                let from = number.wrapping_mul(STRIDE) & (entries - 1) & !3;
                least(station(from), station(from | 1))
            })
            .collect();
        let mut turn = frames.iter().cycle();
        group.bench_function(BenchmarkId::new("known unicast, 256 flows", name), |b| {
            b.iter(|| turn.next().map(|frame| switch.ingress(Instant::default(), PortId::new(0), frame)));
        });
    }
    group.finish();
}

//! The forwarding database. Limit of a lookup that a cache does not hold: one read of memory from a random place.

use std::hint::black_box;

use benches::stations::{STRIDE, learn, switch, vlan};
use benches::{least, station};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use vswitch_core::{Instant, Limits, PortId, PortMode, Switch};

/// Frames that a worker decides on at once, at most.
pub(crate) const BATCH: u32 = 64;

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("fdb");
    group.throughput(Throughput::Elements(1));
    for (name, entries) in [("1k", 1 << 10), ("1M", 1 << 20)] {
        let mut switch = switch(entries);
        learn(&mut switch, entries);
        let mut number = 0_u32;
        group.bench_function(BenchmarkId::new("lookup", name), |b| {
            b.iter(|| {
                number = number.wrapping_add(STRIDE);
                switch.fdb_lookup(vlan(), station(number & (entries - 1)))
            });
        });
        group.throughput(Throughput::Elements(BATCH.into()));
        group.bench_function(BenchmarkId::new("lookup, 64 at once", name), |b| {
            b.iter(|| {
                let first = number;
                number = number.wrapping_add(STRIDE.wrapping_mul(BATCH));
                let batch =
                    (1..=BATCH).map(|step| station(first.wrapping_add(STRIDE.wrapping_mul(step)) & (entries - 1)));
                batch.clone().for_each(|mac| switch.fdb_look_ahead(vlan(), mac));
                batch.for_each(|mac| {
                    black_box(switch.fdb_lookup(vlan(), mac));
                });
            });
        });
        group.throughput(Throughput::Elements(1));
        let memory: Vec<u64> = (0..u64::from(entries) * 4).collect();
        group.bench_function(BenchmarkId::new("limit: one read of 32 bytes each", name), |b| {
            b.iter(|| {
                number = number.wrapping_add(STRIDE);
                memory.get(usize::try_from(number & (entries - 1)).unwrap() * 4).copied()
            });
        });
    }
    for (name, entries) in [("1k", 1 << 10), ("1M", 1 << 20)] {
        group.throughput(Throughput::Elements(entries.into()));
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("learn into an empty table", name), |b| {
            let fresh = || switch(entries);
            b.iter_batched_ref(fresh, |switch| learn(switch, entries), BatchSize::PerIteration);
        });
    }
    // One port that invents addresses, at its limit: each pushes out the one before it that is oldest.
    let limits = Limits { entries: 1 << 17, per_port: 1 << 14 };
    let mut flooded = Switch::new(limits, 7);
    for port in 0..2 {
        flooded.add_port(PortId::new(port), PortMode::Access(vlan()));
    }
    let mut number = 0_u32;
    let mut invent = |switch: &mut Switch| {
        number = number.wrapping_add(1);
        switch.ingress(Instant::default(), PortId::new(0), &least(station(number), station(0)))
    };
    for _ in 0..limits.per_port {
        invent(&mut flooded);
    }
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);
    group.bench_function(BenchmarkId::new("a new source, its port at the limit", "16k"), |b| {
        b.iter(|| invent(&mut flooded));
    });
    group.finish();
}

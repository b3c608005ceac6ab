//! The Internet checksum. Limit: memcpy of the same bytes, as everything but the checksum costs at least one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use vtep::checksum::Sum;

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for len in [64_u16, 1448, 64_000] {
        let bytes = vec![0x5a; usize::from(len)];
        let mut copy = bytes.clone();
        group.throughput(Throughput::Bytes(len.into()));
        group.bench_function(BenchmarkId::new("sum", len), |b| b.iter(|| Sum::of(black_box(&bytes)).complete()));
        group.bench_function(BenchmarkId::new("limit: memcpy", len), |b| {
            b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&bytes)));
        });
    }
    group.finish();
}

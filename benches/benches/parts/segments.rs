//! The tunnel in memory: a super-frame of 62 KiB cut into a train, and a train merged back. Limit: memcpy of it all.

use benches::TCP_HEADERS;
use benches::tunnel::{PAYLOAD, batch, cut, directory, frame, merge, on_the_wire, trains};
use criterion::{Criterion, Throughput};

pub(crate) fn benches(c: &mut Criterion) {
    let directory = directory();
    let frames = [frame()];
    let mut group = c.benchmark_group("segments");
    group.throughput(Throughput::Bytes(u64::from(PAYLOAD)));
    let mut trains = trains();
    group.bench_function("cut", |b| b.iter(|| cut(&mut trains, &frames[0])));

    cut(&mut trains, &frames[0]);
    let (mut bytes, stride) = on_the_wire(&trains, &frames);
    let mut batch = batch();
    group.bench_function("merge", |b| {
        b.iter(|| {
            let len = merge(&mut batch, &directory, &mut bytes, stride);
            assert_eq!(len, TCP_HEADERS + usize::from(PAYLOAD));
        });
    });
    let mut copy = bytes.clone();
    group.bench_function("limit: memcpy", |b| b.iter(|| copy.copy_from_slice(std::hint::black_box(&bytes))));
    group.finish();
}

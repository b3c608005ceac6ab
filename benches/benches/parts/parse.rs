//! The header of a frame. Limit: two words read from memory that a cache holds.

use std::hint::black_box;

use benches::{least, station};
use criterion::{Criterion, Throughput};
use vswitch_core::wire::ethernet::Ethernet;
use vswitch_core::{Frame, Tag};

pub(crate) fn benches(c: &mut Criterion) {
    let frame = Frame::from_bytes(&least(station(1), station(2)));
    let mut tagged = frame.clone();
    tagged.retag(Some(Tag::from_bits(10)));
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    group.bench_function("untagged", |b| b.iter(|| Ethernet::parse(black_box(frame.bytes()))));
    group.bench_function("tagged", |b| b.iter(|| Ethernet::parse(black_box(tagged.bytes()))));
    group.bench_function("limit: read 16 bytes", |b| {
        b.iter(|| black_box(frame.bytes()).first_chunk().map(|bytes| u128::from_ne_bytes(*bytes)));
    });
    group.finish();
}

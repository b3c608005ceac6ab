//! Two workers beside one, each with flows of its own or both with the same, on one FDB of 1M addresses whose stamps are
//! renewed as time passes. Limit: twice the frames in the same time, where there are two cores.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant as Clock};

use benches::stations::{frames, learn, switch};
use criterion::{BenchmarkId, Criterion, Throughput};
use vswitch_core::{Instant, Switch};

use crate::pipeline::run;

const ENTRIES: u32 = 1 << 20;
const FLOWS: u32 = 1 << 14;

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("workers, 16k flows each");
    let mut switch = switch(ENTRIES);
    learn(&mut switch, ENTRIES);
    for (name, firsts) in [("one", vec![0]), ("two", vec![0, FLOWS]), ("two, the same flows", vec![0, 0])] {
        let work: Vec<_> = firsts.iter().map(|&first| frames(ENTRIES, first, FLOWS)).collect();
        let mut workers: Vec<_> = work.iter().map(|_| switch.sibling()).collect();
        let mut now = Instant::default();
        group.throughput(Throughput::Elements(u64::from(FLOWS) * work.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter_custom(|rounds| {
                let (took, then) = together(&mut workers, &work, now, rounds);
                now = then;
                took
            });
        });
    }
    group.finish();
}

/// Lets each worker decide on its frames `rounds` times; returns how long the last took, and when it is then.
fn together(workers: &mut [Switch], work: &[Vec<[u8; 60]>], now: Instant, rounds: u64) -> (Duration, Instant) {
    let start = Barrier::new(workers.len());
    thread::scope(|scope| {
        let started: Vec<_> = workers
            .iter_mut()
            .zip(work)
            .map(|(switch, frames)| {
                scope.spawn(|| {
                    start.wait();
                    let started = Clock::now();
                    let now = run(switch, now, frames, rounds);
                    (started.elapsed(), now)
                })
            })
            .collect();
        started.into_iter().map(|worker| worker.join().unwrap()).max().unwrap()
    })
}

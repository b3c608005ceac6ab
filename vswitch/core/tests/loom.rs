//! The orders in which one worker may change a bucket of the forwarding database while another reads it, with at most
//! two preemptions, and every value that the memory model lets a load give: `cargo test -p vswitch-core --test loom`.
//!
//! The bucket is the one file of hand-written atomics. It is built here a second time, with loom's; a reader gives up
//! after one look behind its first instead of 64, so that there is an end to the orders.
#![allow(clippy::unwrap_used, reason = "a test may stop where it finds itself wrong")]
#![allow(dead_code, unreachable_pub, reason = "what the test leaves out of the bucket")]

mod atomic {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(super) const TRIES: u32 = 1;
}

#[path = "../src/switch/fdb/bucket.rs"]
mod bucket;

use core::num::NonZeroU64;

use bucket::{Bucket, Kind, Place, Sight};
use loom::sync::Arc;
use loom::thread;

const ANNE: NonZeroU64 = NonZeroU64::new(0xa1).unwrap();
const BERT: NonZeroU64 = NonZeroU64::new(0xb1).unwrap();

/// A place whose parts all say whose it is.
fn place(port: u16, kind: Kind) -> Place {
    Place { port, kind, seen: u32::from(port) * 100 }
}

/// Lets one thread make `changes` to a bucket that holds Anne at `place(1)` while another looks for `key`; what it
/// finds must be among `allowed`.
fn race<const N: usize>(
    changes: impl Fn(&Bucket) + Send + Sync + Copy + 'static,
    key: NonZeroU64,
    allowed: [Sight; N],
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let bucket = Bucket::new();
        bucket.set(0, ANNE, place(1, Kind::Learned));
        let bucket = Arc::new(bucket);
        let reader = thread::spawn({
            let bucket = Arc::clone(&bucket);
            // As a frame does it: a glance first.
            move || bucket.hit(key).map_or_else(|| bucket.find(key), |place| Sight::Here(0, place))
        });
        changes(&bucket);
        let sight = reader.join().unwrap();
        assert!(allowed.contains(&sight), "{key:#x}: {sight:?}");
    });
}

#[test]
fn a_slot_that_changes_hands_shows_nobody_the_place_of_another() {
    let hand_over = |bucket: &Bucket| {
        bucket.clear(0);
        bucket.set(0, BERT, place(2, Kind::Static));
    };
    race(hand_over, ANNE, [Sight::Here(0, place(1, Kind::Learned)), Sight::Absent, Sight::Unclear]);
    race(hand_over, BERT, [Sight::Absent, Sight::Here(0, place(2, Kind::Static)), Sight::Unclear]);
}

#[test]
fn a_slot_that_comes_back_shows_no_place_from_between() {
    let there_and_back = |bucket: &Bucket| {
        bucket.set(0, BERT, place(2, Kind::Static));
        bucket.set(0, ANNE, place(3, Kind::Learned));
    };
    let allowed = [
        Sight::Here(0, place(1, Kind::Learned)),
        Sight::Here(0, place(3, Kind::Learned)),
        Sight::Absent,
        Sight::Unclear,
    ];
    race(there_and_back, ANNE, allowed);
}

#[test]
fn a_move_shows_the_old_place_or_the_new_and_never_nothing() {
    let relocate = |bucket: &Bucket| bucket.set(0, ANNE, place(2, Kind::Static));
    let allowed = [Sight::Here(0, place(1, Kind::Learned)), Sight::Here(0, place(2, Kind::Static)), Sight::Unclear];
    race(relocate, ANNE, allowed);
}

#[test]
fn a_hold_and_its_end_are_seen_whole() {
    let hold = |bucket: &Bucket| {
        bucket.set(0, ANNE, place(2, Kind::Held));
        bucket.set(0, ANNE, place(2, Kind::Learned));
    };
    let allowed = [
        Sight::Here(0, place(1, Kind::Learned)),
        Sight::Here(0, place(2, Kind::Held)),
        Sight::Here(0, place(2, Kind::Learned)),
        Sight::Unclear,
    ];
    race(hold, ANNE, allowed);
}

#[test]
fn a_renewed_stamp_stays_with_its_entry() {
    let renew = |bucket: &Bucket| {
        bucket.renew(0, 150);
        bucket.set(0, BERT, place(2, Kind::Static));
    };
    let renewed = Place { seen: 150, ..place(1, Kind::Learned) };
    let before = Sight::Here(0, place(1, Kind::Learned));
    race(renew, ANNE, [before, Sight::Here(0, renewed), Sight::Absent, Sight::Unclear]);
    race(renew, BERT, [Sight::Absent, Sight::Here(0, place(2, Kind::Static)), Sight::Unclear]);
}

#[test]
fn a_neighbour_that_comes_and_goes_is_not_noticed() {
    let neighbour = |bucket: &Bucket| {
        bucket.set(1, BERT, place(2, Kind::Static));
        bucket.clear(1);
    };
    race(neighbour, ANNE, [Sight::Here(0, place(1, Kind::Learned)), Sight::Unclear]);
}

#[test]
fn a_key_that_stands_further_on_is_passed_on_to() {
    // A second entry overflows and leaves again, while the one looked for stands further on all the time.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let bucket = Bucket::new();
        bucket.pass();
        let bucket = Arc::new(bucket);
        let reader = thread::spawn({
            let bucket = Arc::clone(&bucket);
            move || bucket.find(ANNE)
        });
        bucket.pass();
        bucket.unpass();
        let sight = reader.join().unwrap();
        assert!(matches!(sight, Sight::Beyond | Sight::Unclear), "{sight:?}");
    });
}

#[test]
fn a_writer_that_sleeps_keeps_no_reader() {
    // The writer changes the bucket without end as far as the reader can tell: loom stops it in the middle of a change.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let bucket = Arc::new(Bucket::new());
        let writer = thread::spawn({
            let bucket = Arc::clone(&bucket);
            move || bucket.set(0, ANNE, place(1, Kind::Learned))
        });
        // Ends in every order, those among them in which the writer does not run until it has.
        bucket.find(ANNE);
        writer.join().unwrap();
        assert_eq!(bucket.find(ANNE), Sight::Here(0, place(1, Kind::Learned)));
    });
}

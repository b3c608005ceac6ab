//! The orders in which one worker may change a bucket of the forwarding database while another reads it, with at most
//! two preemptions, and every value that the memory model lets a load give: `cargo test -p vswitch-core --test loom`.
//!
//! The same for the budget of a rate limit, which several spend from. These are the files of hand-written atomics. They
//! are built here a second time, with loom's; a reader of a bucket gives up after one look behind its first instead of
//! 64, so that there is an end to the orders.
#![allow(clippy::unwrap_used, reason = "a test may stop where it finds itself wrong")]
#![allow(dead_code, unreachable_pub, reason = "what the test leaves out of the bucket")]

mod atomic {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(super) const TRIES: u32 = 1;
}

#[path = "../src/switch/fdb/bucket.rs"]
mod bucket;
#[path = "../src/limit/budget.rs"]
mod budget;

use core::num::NonZeroU64;

use bucket::{Bucket, Kind, Place, Sight};
use budget::Budget;
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

/// Two who spend at once, a third that looks: nothing is forgotten, and nobody sees more spent than was.
#[test]
fn what_workers_spend_adds_up() {
    const NOW: u64 = 1_000;
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let budget = Arc::new(Budget::new());
        let spenders = [30, 70].map(|amount| {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.spend(NOW, amount))
        });
        // The moment at which all is spent so far: none, one of the two, or both.
        let seen = budget.check(NOW, 0);
        assert!([0, 1_030, 1_070, 1_100].contains(&seen.err().unwrap_or(0)), "{seen:?}");
        spenders.into_iter().for_each(|spender| spender.join().unwrap());
        assert_eq!(budget.check(NOW, 100), Err(NOW));
        assert_eq!(budget.check(NOW, 101), Ok(()));
    });
}

/// A worker pays for each frame that it was let pass: two at one moment pass one frame more than the burst at most.
#[test]
fn no_more_than_a_frame_for_each_worker_is_owed() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let budget = Arc::new(Budget::new());
        let worker = |budget: Arc<Budget>| {
            move || (0..2).filter(|_| budget.check(1_000, 100).map(|()| budget.spend(1_000, 100)).is_ok()).count()
        };
        let other = thread::spawn(worker(Arc::clone(&budget)));
        let passed = worker(Arc::clone(&budget))() + other.join().unwrap();
        assert!((1..=2).contains(&passed), "{passed}");
    });
}

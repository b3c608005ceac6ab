//! What workers share, and how one makes known to the others what it changed.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use spin::{Mutex, MutexGuard};

use super::ledger::Ledger;
use super::table::Table;
use crate::time::Instant;

pub(super) struct Shared {
    pub(super) news: News,
    pub(super) ledger: Mutex<Ledger>,
}

/// What workers look at all the time and nobody writes often: a cache line of its own, so that each keeps a copy.
#[repr(align(128))]
pub(super) struct News {
    /// Buckets of the table published last.
    pub(super) buckets: AtomicUsize,
    /// Nanoseconds since the epoch: when something ages; [`NEVER`] where nothing does.
    pub(super) deadline: AtomicU64,
    /// Whether addresses are held that nobody has told of yet.
    pub(super) flapping: AtomicBool,
    /// Held only as long as a pointer takes to copy, unlike the ledger.
    pub(super) published: Mutex<Arc<Table>>,
}

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

impl Shared {
    pub(super) fn new(ledger: Ledger) -> Self {
        let table = Arc::clone(ledger.store.table());
        let news = News {
            buckets: AtomicUsize::new(table.len()),
            deadline: AtomicU64::new(NEVER),
            flapping: AtomicBool::new(false),
            published: Mutex::new(table),
        };
        Self { news, ledger: Mutex::new(ledger) }
    }
}

/// Does `work` on the ledger, and publishes what changed for others to see.
pub(super) fn change<R>(
    news: &News,
    table: &mut Arc<Table>,
    mut ledger: MutexGuard<Ledger>,
    work: impl FnOnce(&mut Ledger) -> R,
) -> R {
    let flapping = ledger.counters().flapping;
    let done = work(&mut ledger);
    if flapping != ledger.counters().flapping {
        news.flapping.store(true, Ordering::Relaxed);
    }
    if !Arc::ptr_eq(table, ledger.store.table()) {
        *table = Arc::clone(ledger.store.table());
        *news.published.lock() = Arc::clone(table);
        news.buckets.store(table.len(), Ordering::Relaxed);
    }
    let deadline = ledger.deadline().map_or(NEVER, Instant::as_nanos);
    if deadline != news.deadline.load(Ordering::Relaxed) {
        news.deadline.store(deadline, Ordering::Relaxed);
    }
    done
}

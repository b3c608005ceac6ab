//! A bucket of the forwarding database: one cache line, which one worker at a time changes and all may read meanwhile.
//!
//! A reader takes no lock and writes nothing. It reads the control word, the slots, and the control word once more
//! (a sequence lock): where that was the same before and after, and no change was under way, all it read is of one
//! moment. Where it was not it tries again, a bounded number of times, so no reader ever waits for a writer that sleeps.
//!
//! Entries never move to another bucket: a bucket counts those that belong here but stand further on. A reader walks on
//! while there are any, and so misses nothing that was there all the time.
//!
//! This file stands alone, with its atomics from `super::atomic`: the test `loom` builds it with loom's.

use core::num::NonZeroU64;

use super::atomic::{AtomicU32, AtomicU64, Ordering, TRIES, fence, spin_loop};

/// Slots of a bucket.
pub(super) const WAYS: usize = 4;

/// Whether an entry was configured or seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Learned,
    /// Learned, and for now it does not move.
    Held,
    Static,
}

/// Where an address is and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) kind: Kind,
    /// The moment a learned address was last seen, in units that the table knows.
    pub(super) seen: u32,
}

/// What a reader finds of a key in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It stands in this slot.
    Here(usize, Place),
    /// Not here, but keys of this bucket stand further on.
    Beyond,
    /// Not here, and no key of this bucket stands further on.
    Absent,
    /// Another worker changes the bucket right now.
    Unclear,
}

/// Four slots and their control word.
///
/// Bit 0 of that says that a change is under way, bits 1 to 4 that a slot is static, bits 5 to 15 how many entries stand
/// further on for want of room, bits 16 to 19 that a slot is held, and the 44 above count the changes.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Bucket {
    control: AtomicU64,
    /// Zero where a slot is vacant.
    keys: [AtomicU64; WAYS],
    /// 16 bits each.
    ports: AtomicU64,
    seen: [AtomicU32; WAYS],
}

/// What one look at a bucket read.
struct Moment {
    /// Whether all of it is of one moment; if not it means nothing.
    is_whole: bool,
    /// The slots that hold the key, a bit each.
    ways: u32,
    /// The first of them, or any.
    way: usize,
    /// What stands there.
    place: Place,
    control: u64,
}

const CHANGING: u64 = 1;
const STATIC: u64 = 1 << 1;
const BEYOND: u64 = 1 << 5;
const BEYOND_MASK: u64 = 0x7ff << 5;
const HELD: u64 = 1 << 16;
const CHANGE: u64 = 1 << 20;

impl Bucket {
    pub(super) fn new() -> Self {
        Self {
            control: AtomicU64::new(0),
            keys: core::array::from_fn(|_| AtomicU64::new(0)),
            ports: AtomicU64::new(0),
            seen: core::array::from_fn(|_| AtomicU32::new(0)),
        }
    }

    /// Looks for `key`; any thread may, at any time.
    pub(super) fn find(&self, key: NonZeroU64) -> Sight {
        for _ in 0..TRIES {
            if let Some(sight) = self.glance(key) {
                return sight;
            }
            spin_loop();
        }
        // A writer's change takes some ten stores: this one lost its core in the middle of it.
        Sight::Unclear
    }

    /// Looks for `key` once; `None` where it is not here, or another worker changed the bucket meanwhile. What almost
    /// every frame needs, and nothing else.
    #[inline(always)]
    pub(super) fn hit(&self, key: NonZeroU64) -> Option<Place> {
        let Moment { is_whole, ways, place, .. } = self.look(key);
        if is_whole && ways != 0 { Some(place) } else { None }
    }

    /// As [`Self::hit`], telling all; `None` where another worker changed the bucket meanwhile.
    fn glance(&self, key: NonZeroU64) -> Option<Sight> {
        let Moment { is_whole, ways, way, place, control } = self.look(key);
        is_whole.then_some(match (ways, control & BEYOND_MASK) {
            (0, 0) => Sight::Absent,
            (0, _) => Sight::Beyond,
            _ => Sight::Here(way, place),
        })
    }

    #[inline(always)]
    fn look(&self, key: NonZeroU64) -> Moment {
        // Acquire: what the last change wrote before it wrote this is seen below.
        let control = self.control.load(Ordering::Acquire);
        // Without a branch on any of them: no predictor could foresee which.
        let ways = self
            .keys
            .iter()
            .enumerate()
            .fold(0_u32, |ways, (way, slot)| ways | u32::from(slot.load(Ordering::Relaxed) == key.get()) << way);
        let way = usize::try_from(ways.trailing_zeros()).unwrap_or(0) % WAYS;
        let place = self.place(way, control);
        // Had one of the loads above seen a store of a later change, this one would see that change's control word.
        fence(Ordering::Acquire);
        let is_whole = self.control.load(Ordering::Relaxed) == control && control & CHANGING == 0;
        Moment { is_whole, ways, way, place, control }
    }

    /// Reads the line, for the sake of having it near soon.
    #[inline]
    pub(super) fn touch(&self) -> u64 {
        self.control.load(Ordering::Relaxed)
    }

    #[inline]
    fn place(&self, way: usize, control: u64) -> Place {
        let [low, high, ..] = (self.ports.load(Ordering::Relaxed) >> (16 * way)).to_le_bytes();
        Place {
            port: u16::from_le_bytes([low, high]),
            kind: match (control & STATIC << way, control & HELD << way) {
                (0, 0) => Kind::Learned,
                (0, _) => Kind::Held,
                _ => Kind::Static,
            },
            seen: self.seen[way].load(Ordering::Relaxed),
        }
    }

    /// What stands in slot `way`. From here on: only for who alone may write.
    pub(super) fn entry(&self, way: usize) -> Option<(NonZeroU64, Place)> {
        let key = NonZeroU64::new(self.keys[way].load(Ordering::Relaxed))?;
        Some((key, self.place(way, self.control.load(Ordering::Relaxed))))
    }

    /// A slot that holds nothing.
    pub(super) fn vacancy(&self) -> Option<usize> {
        self.keys.iter().position(|key| key.load(Ordering::Relaxed) == 0)
    }

    /// Puts an entry into slot `way`, whatever stood there.
    pub(super) fn set(&self, way: usize, key: NonZeroU64, place: Place) {
        let shift = 16 * way;
        let ports = self.ports.load(Ordering::Relaxed) & !(0xffff << shift) | u64::from(place.port) << shift;
        self.change(|control| {
            self.keys[way].store(key.get(), Ordering::Relaxed);
            self.ports.store(ports, Ordering::Relaxed);
            self.seen[way].store(place.seen, Ordering::Relaxed);
            let bare = control & !((STATIC | HELD) << way);
            match place.kind {
                Kind::Learned => bare,
                Kind::Held => bare | HELD << way,
                Kind::Static => bare | STATIC << way,
            }
        });
    }

    /// Renews the stamp of slot `way`. Readers may see the old or the new one, either with the entry it belongs to.
    pub(super) fn renew(&self, way: usize, seen: u32) {
        self.seen[way].store(seen, Ordering::Relaxed);
    }

    pub(super) fn clear(&self, way: usize) {
        self.change(|control| {
            self.keys[way].store(0, Ordering::Relaxed);
            control
        });
    }

    /// Notes that one more entry of this bucket stands further on.
    pub(super) fn pass(&self) {
        self.change(|control| if control & BEYOND_MASK == BEYOND_MASK { control } else { control + BEYOND });
    }

    /// Notes that one less does. A count at its end has lost count, and stays: it costs walks, nothing else.
    pub(super) fn unpass(&self) {
        self.change(|control| match control & BEYOND_MASK {
            0 | BEYOND_MASK => control,
            _ => control - BEYOND,
        });
    }

    fn change(&self, stores: impl FnOnce(u64) -> u64) {
        let control = self.control.load(Ordering::Relaxed);
        self.control.store(control | CHANGING, Ordering::Relaxed);
        // Release: whoever sees one of the stores below sees the one above as well.
        fence(Ordering::Release);
        let changed = stores(control);
        self.control.store(changed.wrapping_add(CHANGE), Ordering::Release);
    }
}

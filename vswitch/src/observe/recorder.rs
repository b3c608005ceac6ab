//! The flight recorder: the headers of the last frames, in memory that is taken once, for whoever asks afterwards.
//!
//! Each worker has a ring of its own. A frame takes two cache lines of it, whatever its length.

use std::str::FromStr;

use thiserror::Error;
use vswitch_api::record::{Direction, Fate as Told, Sighting};
use vswitch_core::Instant;

use super::names::{GONE, NONE, NameTable, Names};
use super::{Epoch, Fate, Filter, Place, Sight};
use crate::drops::Drop;
use crate::observe::filter::View;

/// Bytes kept of a frame: all headers of most.
const HEAD: usize = 96;
/// The same, as a slot says it.
const KNOWN: u8 = 96;
/// Frames told at once: a worker has no time for more between two batches.
const ONCE: usize = 2048;
/// How far it may look back.
pub(crate) const SECONDS_MAX: u32 = 3600;
/// What it takes of memory, all workers together.
const SIZE: u64 = 16 << 20;
const SIZES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;

/// How far the recorder looks back, and what it may take of memory for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecorderSpec {
    pub(crate) seconds: u32,
    /// In bytes, of all workers together.
    pub(crate) size: u64,
}

/// What was said is no such thing.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no flight recorder: say how many seconds it looks back, 1 to {SECONDS_MAX}, and if need be how much memory \
     it takes, 64k to 1G (16M else), as 30 or 30,64M"
)]
pub(crate) struct NoRecorder(String);

impl FromStr for RecorderSpec {
    type Err = NoRecorder;

    fn from_str(text: &str) -> Result<Self, NoRecorder> {
        let read = || {
            let (seconds, size) = text.split_once(',').map_or((text, None), |(seconds, size)| (seconds, Some(size)));
            let seconds = seconds.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds))?;
            let size = size.map_or(Some(SIZE), bytes).filter(|size| SIZES.contains(size))?;
            Some(Self { seconds, size })
        };
        read().ok_or_else(|| NoRecorder(text.to_owned()))
    }
}

/// The number of bytes that `text` means, as `64k`.
fn bytes(text: &str) -> Option<u64> {
    let shift = match text.as_bytes().last()? {
        b'k' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => 0,
    };
    let digits = if shift > 0 { &text[..text.len() - 1] } else { text };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl RecorderSpec {
    /// The share of one of so many workers.
    pub(crate) const fn share(self, workers: usize) -> Self {
        Self { size: self.size / workers as u64, ..self }
    }
}

/// What is kept of a frame: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Slot {
    at: u64,
    /// Names' numbers.
    place: u32,
    to: u32,
    copies: u32,
    len: u32,
    /// 0 where it is not known.
    vlan: u16,
    /// One more than the index of the reason; 0 where it was not dropped.
    drop: u8,
    is_out: bool,
    /// Bytes kept of it.
    known: u8,
    head: [u8; HEAD],
}

const _: () = assert!(size_of::<Slot>() == 128 && Drop::COUNT < 255 && KNOWN as usize == HEAD);

impl Slot {
    const EMPTY: Self = Self {
        at: 0,
        place: NONE,
        to: NONE,
        copies: 0,
        len: 0,
        vlan: 0,
        drop: 0,
        is_out: false,
        known: 0,
        head: [0; HEAD],
    };

    /// When it was.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Appends it to `out` where `filter` means it.
    pub(crate) fn write(&self, out: &mut Vec<u8>, epoch: &Epoch, names: &NameTable, filter: &Filter) {
        let head = &self.head[..usize::from(self.known)];
        let direction = if self.is_out { Direction::Out } else { Direction::In };
        let vlan = Some(self.vlan).filter(|&vlan| vlan != 0);
        let drop = usize::from(self.drop).checked_sub(1).and_then(|index| Drop::all().nth(index));
        let name = names.get(self.place);
        let fate = drop.map_or(Fate::Left, Fate::Dropped);
        let view = View::of(name, direction, fate, vlan, std::iter::once(head));
        if !filter.wants(&view) {
            return;
        }
        let fate = match drop {
            Some(drop) => Told::Dropped(drop.name()),
            None if self.copies > 0 => Told::Flooded(self.copies),
            None if self.is_out => Told::To(""),
            None => Told::To(names.get(self.to).map_or(GONE, |name| &name.text)),
        };
        let at = epoch.of(Instant::from_nanos(self.at));
        Sighting { at, port: view.port(), direction, fate, vlan, len: self.len }.write(out, [head], HEAD);
    }
}

/// One worker's ring.
#[derive(Debug)]
pub(super) struct Recorder {
    ring: Box<[Slot]>,
    /// Frames recorded so far: the next one's number.
    written: u64,
    /// The next one's place.
    place: usize,
}

/// Some of what was recorded, in order.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) slots: Vec<Slot>,
    /// The number to go on from; `None` where that was all.
    pub(crate) next: Option<u64>,
    /// The moment of the oldest frame that is known; `None` where all that came ever is.
    pub(crate) oldest: Option<Instant>,
}

impl Recorder {
    pub(super) fn new(spec: RecorderSpec) -> Self {
        let slots = usize::try_from(spec.size).unwrap_or(usize::MAX) / size_of::<Slot>();
        Self { ring: vec![Slot::EMPTY; slots.max(1)].into_boxed_slice(), written: 0, place: 0 }
    }

    /// Notes a frame whose bytes lie in one piece.
    #[inline]
    pub(super) fn note_whole(&mut self, now: Instant, names: &Names, sight: &Sight<'_>) {
        let bytes = sight.bytes;
        let slot = self.next(now, names, sight, bytes.len());
        match bytes.first_chunk() {
            Some(head) => {
                slot.head = *head;
                slot.known = KNOWN;
            }
            None => {
                slot.head[..bytes.len()].copy_from_slice(bytes);
                slot.known = u8::try_from(bytes.len()).unwrap_or(0);
            }
        }
    }

    /// The next slot, with all but the bytes.
    #[inline]
    fn next(&mut self, now: Instant, names: &Names, sight: &Sight<'_>, len: usize) -> &mut Slot {
        let place = self.place;
        self.written += 1;
        self.place = if place + 1 == self.ring.len() { 0 } else { place + 1 };
        let slot = &mut self.ring[place];
        slot.at = now.as_nanos();
        slot.place = names.number(sight.place);
        (slot.to, slot.copies, slot.drop) = match sight.fate {
            Fate::To(port) => (names.number(Place::Port(port)), 0, 0),
            Fate::Flood(copies) => (NONE, copies, 0),
            Fate::Left => (NONE, 0, 0),
            Fate::Dropped(drop) => (NONE, 0, u8::try_from(drop.index() + 1).unwrap_or(0)),
        };
        slot.len = u32::try_from(len).unwrap_or(u32::MAX);
        slot.vlan = sight.vlan.map_or(0, |vlan| vlan.get());
        slot.is_out = sight.direction == Direction::Out;
        slot
    }

    /// Notes a frame whose bytes lie in pieces.
    pub(super) fn note<'a>(
        &mut self,
        now: Instant,
        names: &Names,
        sight: &Sight<'_>,
        len: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        let slot = self.next(now, names, sight, len);
        let mut known = 0;
        for piece in pieces {
            let len = piece.len().min(HEAD - known);
            slot.head[known..known + len].copy_from_slice(&piece[..len]);
            known += len;
            if known == HEAD {
                break;
            }
        }
        slot.known = u8::try_from(known).unwrap_or(0);
    }

    /// Some of what was recorded since `since`, from number `from` on.
    pub(super) fn recall(&self, since: Instant, from: Option<u64>) -> Memory {
        let room = self.ring.len() as u64;
        let oldest = self.written.saturating_sub(room);
        let slot = |number: u64| &self.ring[usize::try_from(number % room).unwrap_or(0)];
        // What was overwritten meanwhile is gone.
        let from = from.map_or_else(|| self.first_since(since, oldest, slot), |from| from.max(oldest));
        let until = self.written.min(from + ONCE as u64);
        Memory {
            slots: (from..until).map(|number| *slot(number)).collect(),
            next: (until < self.written).then_some(until),
            oldest: (oldest > 0).then(|| Instant::from_nanos(slot(oldest).at)),
        }
    }

    /// The number of the first frame since `since`.
    fn first_since<'a>(&self, since: Instant, oldest: u64, slot: impl Fn(u64) -> &'a Slot) -> u64 {
        let (mut low, mut high) = (oldest, self.written);
        while low < high {
            let middle = low + (high - low) / 2;
            if slot(middle).at < since.as_nanos() { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::observe;
    use vswitch_api::record::{Item, Record};
    use vswitch_core::VlanId;
    use vswitch_core::switch::PortId;

    #[test]
    fn what_is_said_of_it() {
        let spec = |seconds, size| Ok(RecorderSpec { seconds, size });
        let table = [
            ("30", spec(30, 16 << 20)),
            ("1,64k", spec(1, 64 << 10)),
            ("3600,1G", spec(3600, 1 << 30)),
            ("60,1000000", spec(60, 1_000_000)),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in
            ["", "0", "3601", "-1", "30,", "30,M", "30,63k", "30,2G", "30,99999999999999999999G", "30,1,1", "30s"]
        {
            let error = text.parse::<RecorderSpec>().unwrap_err();
            assert!(error.to_string().contains("30,64M"), "{text}: {error}");
        }
        assert_eq!(RecorderSpec { seconds: 1, size: 1 << 20 }.share(4).size, 1 << 18);
    }

    #[test]
    fn the_last_frames_in_order_however_many_came() {
        const FRAMES: u64 = 6_000;
        let at = |number: u64| Instant::from_nanos(1_000 + number * 10);
        let mut names = Names::default();
        names.set(at(0), PortId::new(1), "a", false);
        for (size, came) in [(1 << 20, 100), (1 << 20, FRAMES), (1 << 20, 8_192), (1 << 20, 20_000), (1 << 16, FRAMES)]
        {
            let mut recorder = Recorder::new(RecorderSpec { seconds: 1, size });
            for number in 0..came {
                let mut bytes = [0; 150];
                bytes[..8].copy_from_slice(&number.to_le_bytes());
                let sight = Sight::arrival(PortId::new(1), VlanId::new(10), Fate::Flood(2), &bytes[..120]);
                recorder.note(at(number), &names, &sight, 150, [&bytes[..20], &bytes[20..]].into_iter());
            }
            let room = size / 128;
            for since in [0, came / 2, came - 1, came + 1] {
                let (mut from, mut seen) = (None, Vec::new());
                loop {
                    let Memory { slots, next, oldest } = recorder.recall(at(since), from);
                    assert_eq!(oldest.is_some(), came > room, "{came} of {room}");
                    assert!(slots.len() <= ONCE);
                    seen.extend(slots);
                    match next {
                        Some(_) => from = next,
                        None => break,
                    }
                }
                let numbers: Vec<_> = seen.iter().map(|slot| (slot.at - 1_000) / 10).collect();
                let first = since.max(came.saturating_sub(room));
                assert_eq!(numbers, (first..came).collect::<Vec<_>>(), "{came} of {room}, since {since}");
            }
            let last = recorder.recall(at(came - 1), None).slots[0];
            let all = Filter::new(&observe::Filter::default()).unwrap();
            let mut out = Vec::new();
            last.write(&mut out, &Epoch::default(), &names.table(), &all);
            let Some((Item::Record(Record { port, vlan, len, head, .. }), _)) = Item::take(&out).unwrap() else {
                panic!()
            };
            assert_eq!((port.as_str(), vlan, len, head.len()), ("a", Some(10), 150, HEAD));
            assert_eq!(head[..8], (came - 1).to_le_bytes());
        }
    }
}

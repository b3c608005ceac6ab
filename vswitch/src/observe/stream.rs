//! Frames for somebody who watches: a worker writes them down, a [`Feed`] sends them.
//!
//! What is under way to him is bounded in bytes; a frame that finds no room is counted, and he is told of it once there is
//! room again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vswitch_api::record::{Fate as Told, Item, MAX_ITEM, Sighting};
use vswitch_core::Instant;

use super::feed::{Feed, Outlet};
use super::filter::View;
use super::names::{GONE, Names};
use super::{Epoch, Fate, Filter, Place};

/// Bytes under way to one who watches: some milliseconds of all that a host carries.
const ROOM: usize = 16 << 20;
/// Room beside, for telling what is lost.
const SPARE: usize = 1 << 16;
/// Bytes of a frame at most: what an item holds beside all else.
pub(crate) const SNAPLEN_MAX: usize = MAX_ITEM - (1 << 12);
/// How long what is lost or skipped waits to be told.
const TELL: Duration = Duration::from_millis(100);

/// What one who watches wants, and how it reaches him.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    filter: Arc<Filter>,
    snaplen: usize,
    rate: Option<Arc<Rate>>,
    outlet: Outlet,
}

/// So many a second, of all workers together; counted by tenths of a second, or by seconds where they are few.
#[derive(Debug)]
struct Rate {
    /// Nanoseconds of a window, and frames in it at most.
    each: (u64, u64),
    /// Which window, and how many were in it (the low 24 bits).
    window: AtomicU64,
}

impl Rate {
    const COUNT: u64 = (1 << 24) - 1;

    fn new(a_second: u32) -> Self {
        let a_second = u64::from(a_second);
        let each = if a_second < 100 { (1_000_000_000, a_second) } else { (100_000_000, a_second / 10) };
        Self { each: (each.0, each.1.min(Self::COUNT)), window: AtomicU64::new(0) }
    }

    fn allows(&self, now: Instant) -> bool {
        let (long, most) = self.each;
        let this = (now.as_nanos() / long) << 24;
        let taken = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
            let used = if window & !Self::COUNT == this { window & Self::COUNT } else { 0 };
            (used < most).then_some(this | (used + 1))
        });
        taken.is_ok()
    }
}

impl Subscription {
    /// One for a reader at the other end of `stream`, which must be a Unix socket; what serves him; and how to end it.
    pub(crate) fn new(
        stream: OwnedFd,
        filter: Filter,
        snaplen: Option<u32>,
        rate: Option<u32>,
    ) -> io::Result<(Self, Feed, Outlet)> {
        let (feed, outlet) = Feed::new(stream, |why, last| Item::End(why).write(last))?;
        let snaplen = snaplen.and_then(|snaplen| usize::try_from(snaplen).ok()).unwrap_or(SNAPLEN_MAX);
        let subscription = Self {
            filter: Arc::new(filter),
            snaplen: snaplen.min(SNAPLEN_MAX),
            rate: rate.map(|rate| Arc::new(Rate::new(rate))),
            outlet: outlet.clone(),
        };
        Ok((subscription, feed, outlet))
    }
}

/// One who watches, as one worker serves him.
#[derive(Debug)]
pub(super) struct Capture {
    to: Subscription,
    chunk: Vec<u8>,
    /// By name's number.
    lost: BTreeMap<u32, u64>,
    skipped: u64,
    /// When he was last told of these.
    told: Instant,
}

impl Capture {
    pub(super) fn new(to: Subscription, now: Instant) -> Self {
        Self { to, chunk: Vec::new(), lost: BTreeMap::new(), skipped: 0, told: now }
    }

    /// Whether it takes a frame's bytes to tell that it is wanted.
    pub(super) fn looks_inside(&self) -> bool {
        self.to.filter.looks_inside()
    }

    /// Writes a frame down, where it is wanted.
    pub(super) fn offer<'a>(
        &mut self,
        now: Instant,
        epoch: &Epoch,
        names: &Names,
        view: &View<'_>,
        len: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        if !self.to.filter.wants(view) {
            return;
        }
        if self.to.rate.as_ref().is_some_and(|rate| !rate.allows(now)) {
            self.skipped += 1;
            return;
        }
        if self.to.outlet.under_way() + self.chunk.len() + len.min(self.to.snaplen) > ROOM {
            let number = view.number;
            *self.lost.entry(number).or_default() += 1;
            return;
        }
        let fate = match view.fate {
            Fate::To(port) => Told::To(names.get(names.number(Place::Port(port))).map_or(GONE, |name| &name.text)),
            Fate::Flood(copies) => Told::Flooded(copies),
            Fate::Left => Told::To(""),
            Fate::Dropped(drop) => Told::Dropped(drop.name()),
        };
        let sighting = Sighting {
            at: epoch.of(now),
            port: view.port(),
            direction: view.direction,
            fate,
            vlan: view.vlan,
            len: u32::try_from(len).unwrap_or(u32::MAX),
        };
        sighting.write(&mut self.chunk, pieces, self.to.snaplen);
    }

    /// When he is to be told of what he does not see.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_due = self.skipped > 0 || !self.lost.is_empty();
        is_due.then(|| self.told + TELL)
    }

    /// Sends what was written down; false where he has gone.
    pub(super) fn flush(&mut self, now: Instant, names: &Names) -> bool {
        if self.to.outlet.is_closed() {
            return false;
        }
        let under_way = self.to.outlet.under_way();
        if self.deadline().is_some_and(|at| at <= now) {
            self.told = now;
            if under_way + self.chunk.len() <= ROOM {
                for (number, frames) in std::mem::take(&mut self.lost) {
                    let port = names.get(number).map_or(GONE, |name| &name.text).to_owned();
                    Item::Lost { port, frames }.write(&mut self.chunk);
                }
                if self.skipped > 0 {
                    Item::Skipped { frames: std::mem::take(&mut self.skipped) }.write(&mut self.chunk);
                }
            }
        }
        if self.chunk.is_empty() {
            return true;
        }
        let room = self.chunk.len().min(SPARE);
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(room));
        self.to.outlet.send(chunk)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::observe::{Observer, Sight};
    use vswitch_api::observe;
    use vswitch_core::switch::PortId;

    const PORT: PortId = PortId::new(3);

    fn at(millis: u64) -> Instant {
        Instant::from_nanos((1 << 40) + millis * 1_000_000)
    }

    fn watched(snaplen: Option<u32>, rate: Option<u32>) -> (Box<Observer>, Feed, Outlet, UnixStream) {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let filter = Filter::new(&observe::Filter::default()).unwrap();
        let (subscription, feed, end) = Subscription::new(ours.into(), filter, snaplen, rate).unwrap();
        let mut observer = Observer::new(at(0), [(PORT, "a", false)].into_iter());
        observer.add(subscription);
        (observer, feed, end, theirs)
    }

    fn see(observer: &mut Observer, len: usize) {
        let bytes = vec![7; len];
        observer.see_whole(Sight::arrival(PORT, None, Fate::To(PORT), &bytes));
    }

    /// All that comes until the end.
    fn read(mut stream: UnixStream) -> Vec<Item> {
        let (mut bytes, mut items) = (Vec::new(), Vec::new());
        stream.read_to_end(&mut bytes).unwrap();
        let mut rest = bytes.as_slice();
        while let Some((item, len)) = Item::take(rest).unwrap() {
            items.push(item);
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        items
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let (mut observer, feed, end, stream) = watched(None, None);
        observer.tend(at(1));
        let fit = ROOM / 60_000;
        for _ in 0..fit + 100 {
            see(&mut observer, 60_000);
            assert!(observer.flush());
        }
        // Nobody reads: nothing more is taken up, and nothing waits.
        assert!(end.under_way() <= ROOM + SPARE);
        let feeding = std::thread::spawn(move || feed.run());
        let reading = std::thread::spawn(move || read(stream));
        // A moment later there is room, and no frame comes.
        let mut now = 200;
        while observer.deadline().is_some() {
            observer.tend(at(now));
            now += 100;
            std::thread::yield_now();
        }
        end.end("that was all");
        feeding.join().unwrap();
        let items = reading.join().unwrap();
        let mut lost = 0;
        let seen = items.iter().filter(|item| matches!(item, Item::Record(record) if record.head.len() == 60_000));
        for item in &items {
            if let Item::Lost { port, frames } = item {
                assert_eq!(port, "a");
                lost += frames;
            }
        }
        assert!(lost >= 100, "{lost}");
        assert_eq!(seen.count() as u64 + lost, fit as u64 + 100);
        assert_eq!(items.last(), Some(&Item::End("that was all".to_owned())));
        assert!(!observer.flush(), "there is nobody to see for");
    }

    #[test]
    fn a_rate_is_kept_and_the_rest_counted() {
        // Frames a second; frames that are told of 50 in each of 20 tenths of a second.
        for (rate, expected) in [(1, 2), (10, 20), (99, 198), (100, 200), (1_000, 1_000), (400, 800)] {
            let (mut observer, feed, end, stream) = watched(Some(14), Some(rate));
            for tenth in 0..20 {
                // Not before the next whole second.
                observer.tend(Instant::from_nanos((2_000_000 + tenth * 100) * 1_000_000));
                (0..50).for_each(|_| see(&mut observer, 60));
                assert!(observer.flush());
            }
            observer.tend(Instant::from_nanos(2_005_000_000_000));
            end.end("");
            feed.run();
            let items = read(stream);
            let told = items.iter().filter(|item| matches!(item, Item::Record(_))).count();
            let skipped = |item: &Item| if let Item::Skipped { frames } = item { *frames } else { 0 };
            assert_eq!(told, expected, "{rate}");
            assert_eq!(items.iter().map(skipped).sum::<u64>(), 1_000 - expected as u64, "{rate}");
            assert!(items.iter().all(|item| !matches!(item, Item::Record(record) if record.head.len() != 14)));
        }
    }

    #[test]
    fn a_reader_who_goes_ends_it() {
        let (mut observer, feed, _end, stream) = watched(None, None);
        let feeding = std::thread::spawn(move || feed.run());
        drop(stream);
        feeding.join().unwrap();
        see(&mut observer, 60);
        assert!(!observer.flush());
        // Anything but a socket is refused.
        let file = std::fs::File::open("/dev/null").unwrap();
        let filter = Filter::new(&observe::Filter::default()).unwrap();
        assert!(Subscription::new(file.into(), filter, None, None).is_err());
    }
}

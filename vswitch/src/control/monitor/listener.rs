//! One who listens: what is under way to him is bounded.

use vswitch_api::monitor::{Event, Listen, What};

use super::write;
use crate::observe::Outlet;

/// Bytes under way to one who listens: as many events as the journal of addresses holds, twice.
const ROOM: usize = 2 << 20;

#[derive(Debug)]
pub(super) struct Listener {
    asks: Listen,
    uid: u32,
    outlet: Outlet,
    /// Lines to send.
    chunk: Vec<u8>,
    /// Events that were not told.
    lost: u64,
}

impl Listener {
    pub(super) const fn new(asks: Listen, uid: u32, outlet: Outlet) -> Self {
        Self { asks, uid, outlet, chunk: Vec::new(), lost: 0 }
    }

    /// What he asked for.
    pub(super) const fn asks(&self) -> &Listen {
        &self.asks
    }

    /// The user.
    pub(super) const fn uid(&self) -> u32 {
        self.uid
    }

    /// Tells him an event of the moment `at`, where there is room.
    pub(super) fn offer(&mut self, at: u64, line: &[u8]) {
        self.tell_lost(at);
        if self.lost == 0 && self.has_room(line.len()) {
            self.chunk.extend_from_slice(line);
        } else {
            self.lost += 1;
        }
    }

    /// So many events were lost before they could be told.
    pub(super) const fn lose(&mut self, events: u64) {
        self.lost += events;
    }

    /// Sends what was told; false where he has gone.
    pub(super) fn flush(&mut self, now: u64) -> bool {
        if self.outlet.is_closed() {
            return false;
        }
        self.tell_lost(now);
        self.chunk.is_empty() || self.outlet.send(std::mem::take(&mut self.chunk))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.outlet.under_way() + self.chunk.len() + bytes <= ROOM
    }

    /// Tells him how many events were lost, where there is room again for more than that.
    fn tell_lost(&mut self, at: u64) {
        if self.lost > 0 && self.has_room(ROOM / 2) {
            write(&mut self.chunk, &Event { at, what: What::Lost { events: std::mem::take(&mut self.lost) } });
        }
    }
}

/// The last line.
pub(super) fn last_words(why: String, line: &mut Vec<u8>) {
    write(line, &Event { at: super::now(), what: What::Disconnected { why } });
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::observe::Feed;

    fn line(at: u64) -> Vec<u8> {
        let mut line = Vec::new();
        write(&mut line, &Event { at, what: What::TakeoverFailed { why: "x".repeat(1000) } });
        line
    }

    #[test]
    fn a_reader_who_does_not_read_loses_events_and_knows_how_many() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let (feed, outlet) = Feed::new(ours.into(), last_words).unwrap();
        let mut listener = Listener::new(Listen::default(), 0, outlet.clone());
        let all = 10_000;
        for at in 0..all {
            listener.offer(at, &line(at));
            assert!(listener.flush(at));
        }
        assert!(outlet.under_way() <= ROOM + ROOM / 10, "{}", outlet.under_way());
        let feeding = std::thread::spawn(move || feed.run());
        let reading = std::thread::spawn(move || {
            let lines = BufReader::new(theirs).lines();
            lines.map(|line| serde_json::from_str::<Event>(&line.unwrap()).unwrap()).collect::<Vec<_>>()
        });
        while listener.lost > 0 {
            assert!(listener.flush(all));
            std::thread::yield_now();
        }
        listener.offer(all, &line(all));
        listener.lose(7);
        assert!(listener.flush(all));
        outlet.end("that was all");
        feeding.join().unwrap();
        let events = reading.join().unwrap();
        assert!(!listener.flush(all), "he has gone");
        let mut lost = Vec::new();
        let mut told = 0;
        for event in &events {
            match &event.what {
                What::Lost { events } => lost.push(*events),
                What::TakeoverFailed { .. } => told += 1,
                what => assert_eq!(*what, What::Disconnected { why: "that was all".to_owned() }),
            }
        }
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert!(lost[0] > 0 && lost[1] == 7, "{lost:?}");
        assert_eq!(told + lost[0], all + 1);
        assert!(matches!(events.last().unwrap().what, What::Disconnected { .. }));
    }
}

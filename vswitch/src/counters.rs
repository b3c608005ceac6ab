//! What a port counted: plain words, one writer each, summed on reading.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vswitch_api::{PeerStats, PortStats};

use crate::drops::Drop;
use crate::port::OamDrop;

/// Frames, bytes and drops of one port in one worker. A super-frame counts as one frame, and one
/// of so many segments that it is handed out in parts, as its parts.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    pub(crate) rx_frames: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_frames: u64,
    pub(crate) tx_bytes: u64,
    drops: [u64; Drop::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self { rx_frames: 0, rx_bytes: 0, tx_frames: 0, tx_bytes: 0, drops: [0; Drop::COUNT] }
    }
}

impl Counters {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.rx_frames += 1;
        self.rx_bytes += bytes as u64;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.tx_frames += 1;
        self.tx_bytes += bytes as u64;
    }

    /// Takes [`Self::sent`] back: the frame did not leave after all.
    pub(crate) fn not_sent(&mut self, bytes: usize) {
        self.tx_frames -= 1;
        self.tx_bytes -= bytes as u64;
    }

    pub(crate) fn dropped(&mut self, why: impl Into<Drop>) {
        self.dropped_many(why, 1);
    }

    pub(crate) fn dropped_many(&mut self, why: impl Into<Drop>, frames: u64) {
        self.drops[why.into().index()] += frames;
    }

    /// Messages between VTEPs among what was received: all of them were dropped.
    pub(crate) fn messages(&self) -> u64 {
        OamDrop::ALL.iter().map(|why| self.drops[Drop::from(*why).index()]).sum()
    }

    /// The reasons that were counted, by name; two stages may share one.
    pub(crate) fn drops(&self) -> BTreeMap<String, u64> {
        let mut named = BTreeMap::new();
        for (drop, &count) in Drop::all().zip(&self.drops) {
            if count > 0 {
                *named.entry(drop.name().to_owned()).or_default() += count;
            }
        }
        named
    }

    /// These counters as they are shown, as those of `port`.
    pub(crate) fn shown(&self, port: &str) -> PortStats {
        PortStats {
            port: port.to_owned(),
            rx_frames: self.rx_frames,
            rx_bytes: self.rx_bytes,
            tx_frames: self.tx_frames,
            tx_bytes: self.tx_bytes,
            drops: self.drops(),
        }
    }

    /// The same, as those of the remote VTEP `peer`.
    pub(crate) fn shown_of(&self, peer: IpAddr) -> PeerStats {
        let &Self { rx_frames, rx_bytes, tx_frames, tx_bytes, .. } = self;
        PeerStats { peer, rx_frames, rx_bytes, tx_frames, tx_bytes, drops: self.drops() }
    }

    /// Counters that go on from what was shown. A reason that two stages share is counted as the first one's.
    pub(crate) fn from_shown(shown: &PortStats) -> Self {
        let &PortStats { port: _, rx_frames, rx_bytes, tx_frames, tx_bytes, ref drops } = shown;
        let mut counters = Self { rx_frames, rx_bytes, tx_frames, tx_bytes, ..Self::default() };
        for (name, &count) in drops {
            // A reason of another version, which is not known here, has no place to be counted.
            if let Some(drop) = Drop::all().find(|drop| drop.name() == name) {
                counters.dropped_many(drop, count);
            }
        }
        counters
    }

    /// Adds what `other` counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.rx_frames += other.rx_frames;
        self.rx_bytes += other.rx_bytes;
        self.tx_frames += other.tx_frames;
        self.tx_bytes += other.tx_bytes;
        for (mine, theirs) in self.drops.iter_mut().zip(&other.drops) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drops::PortDrop;

    #[test]
    fn counters_go_on_from_what_was_shown() {
        let mut counters = Counters::default();
        counters.received(60);
        counters.sent(1514);
        for (drop, count) in Drop::all().zip(1..) {
            counters.dropped_many(drop, count);
        }
        let shown = counters.shown("a");
        assert_eq!(Counters::from_shown(&shown).shown("a"), shown);
        let mut strange = shown.clone();
        strange.drops.insert("of_tomorrow".to_owned(), 7);
        let mut on = Counters::from_shown(&strange);
        assert_eq!(on.shown("a"), shown);
        on.dropped(PortDrop::TooBig);
        assert_eq!(on.shown("a").drops["too_big"], shown.drops["too_big"] + 1);
    }
}

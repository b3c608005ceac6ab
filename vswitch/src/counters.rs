//! What a port counted: plain words, one writer each, summed on reading.

use std::collections::BTreeMap;

use crate::drops::Drop;

/// Frames, bytes and drops of one port in one worker. A super-frame counts as one frame.
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

//! How busy the threads are that move frames.

use serde::{Deserialize, Serialize};

/// How often a value was so great, counted in steps.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Histogram {
    /// The greatest value of each step, ascending; the last step, which has none here, is what exceeds them all.
    pub le: Vec<u64>,
    /// How many values fell into each step and into none below it: one number more than `le` has.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A thread that moves frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its number, from 0.
    pub worker: usize,
    /// The part of the last second or few, 0 to 1, that it moved frames in: at 1 it is saturated. Looking for frames is
    /// not part of it.
    pub busy_share: f64,
    /// Turns that found frames since the start.
    pub turns: u64,
    /// Times it went to sleep, for want of frames.
    pub sleeps: u64,
    /// Frames read at once from one port, or from the tunnel.
    pub batch: Histogram,
    /// What a turn that found frames took, in microseconds.
    pub loop_us: Histogram,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_those_promised() {
        let histogram = json!({"le": [1, 2, 4], "counts": [5, 0, 1, 2], "sum": 30});
        let value = json!({
            "worker": 0, "busy_share": 0.25, "turns": 7, "sleeps": 3, "batch": histogram, "loop_us": histogram,
        });
        let read: WorkerInfo = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
        assert_eq!((read.batch.count(), Histogram::default().count()), (8, 0));
    }
}

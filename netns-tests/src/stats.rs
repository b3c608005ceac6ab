//! Counters, and what moved between two looks.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Context, Result};

/// Drops by port and reason.
pub type Drops = BTreeMap<(String, String), u64>;

/// All counters of a daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// `rx_frames` and its like, by port and name.
    pub counts: BTreeMap<(String, String), u64>,
    /// Drops by port and reason, those that are not zero.
    pub drops: Drops,
}

impl Stats {
    /// Reads what `vsctl --json stats` prints.
    ///
    /// # Errors
    /// Where it has another shape.
    pub fn read(stats: &Value) -> Result<Self> {
        let ports = stats.as_array().or_else(|| stats["ports"].as_array());
        let mut read = Self::default();
        for entry in ports.context(format_args!("no list of ports in {stats}"))? {
            let port = entry["port"].as_str().context(format_args!("no port in {entry}"))?;
            for name in ["rx_frames", "rx_bytes", "tx_frames", "tx_bytes"] {
                let count = entry[name].as_u64().context(format_args!("no {name} in {entry}"))?;
                read.counts.insert((port.to_owned(), name.to_owned()), count);
            }
            for (reason, count) in entry["drops"].as_object().context(format_args!("no drops in {entry}"))? {
                let count = count.as_u64().context(format_args!("{reason} is no number in {entry}"))?;
                if count > 0 {
                    read.drops.insert((port.to_owned(), reason.clone()), count);
                }
            }
        }
        Ok(read)
    }

    /// One of the counters that are no drops.
    #[must_use]
    pub fn count(&self, port: &str, name: &str) -> u64 {
        self.counts.get(&(port.to_owned(), name.to_owned())).copied().unwrap_or(0)
    }

    /// How often `port` dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, port: &str, reason: &str) -> u64 {
        self.drops.get(&(port.to_owned(), reason.to_owned())).copied().unwrap_or(0)
    }

    /// The drops since `before`, those that moved.
    #[must_use]
    pub fn drops_since(&self, before: &Self) -> Drops {
        let grown = |(key, count): (&(String, String), &u64)| {
            let old = before.drops.get(key).copied().unwrap_or(0);
            (key.clone(), count.saturating_sub(old))
        };
        self.drops.iter().map(grown).filter(|&(_, count)| count > 0).collect()
    }
}

/// Drops as a test writes them down.
#[must_use]
pub fn drops<const N: usize>(expected: [(&str, &str, u64); N]) -> Drops {
    expected.into_iter().map(|(port, reason, count)| ((port.to_owned(), reason.to_owned()), count)).collect()
}

//! How much of the switch one port may take: what the daemon is told, what it takes by itself, and what is refused.

use std::num::NonZeroU32;

use clap::Args;
use thiserror::Error;
use vswitch_api::Settings;
use vswitch_core::switch::Limits;

/// Addresses the FDB may hold; at 64 bytes each, 8 MiB where a network is that large.
const FDB: u32 = 131_072;
/// Learned addresses of one port or peer. While a table grows nothing is forwarded: to this size, a millisecond at once.
const FDB_PER_PORT: u32 = 16_384;
/// The most of either: 1 GiB.
const FDB_MOST: u32 = 1 << 24;
/// Frames for many, of each kind, a port may bring in a second: a hundred times what ARP, neighbour discovery, DHCP and
/// mDNS of hundreds of containers come to, and a hundredth of what a container can send.
const STORM: u32 = 10_000;
const STORM_MOST: u32 = 10_000_000;

/// What the command line says.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct BoundArgs {
    /// Broadcasts, multicasts and frames to unknown stations that a port may bring in: of each, N a second; 0 is no limit [default: 10000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(STORM_MOST)))]
    storm_limit: Option<u32>,
    /// Addresses the FDB holds, static ones too, 1 to 16777216; a full one forgets those of the port with most [default: 131072]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FDB_MOST)))]
    fdb_limit: Option<u32>,
    /// Learned addresses of one port or peer, 1 to 16777216; with one more it loses its oldest [default: 16384]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(FDB_MOST)))]
    fdb_limit_per_port: Option<u32>,
}

/// A bound that the config file sets to what none can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{name} = {value} in the config file: say {least} to {most}")]
pub(crate) struct OutOfBounds {
    name: &'static str,
    value: u32,
    least: u32,
    most: u32,
}

/// The bounds that hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) fdb: Limits,
    /// `None` is no limit.
    pub(crate) storm: Option<NonZeroU32>,
}

impl BoundArgs {
    /// What the command line, the config file and the defaults come to.
    pub(crate) fn resolve(self, file: &Settings) -> Result<Bounds, OutOfBounds> {
        let bounded = |name, value: Option<u32>, least, most| match value {
            Some(value) if !(least..=most).contains(&value) => Err(OutOfBounds { name, value, least, most }),
            value => Ok(value),
        };
        let storm = bounded("storm-limit", file.storm_limit, 0, STORM_MOST)?;
        let entries = bounded("fdb-limit", file.fdb_limit, 1, FDB_MOST)?;
        let per_port = bounded("fdb-limit-per-port", file.fdb_limit_per_port, 1, FDB_MOST)?;
        Ok(Bounds {
            fdb: Limits {
                entries: self.fdb_limit.or(entries).unwrap_or(FDB),
                per_port: self.fdb_limit_per_port.or(per_port).unwrap_or(FDB_PER_PORT),
            },
            storm: NonZeroU32::new(self.storm_limit.or(storm).unwrap_or(STORM)),
        })
    }
}

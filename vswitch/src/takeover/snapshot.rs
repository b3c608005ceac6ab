//! What another process needs to know beside the descriptors.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vswitch_api::{Carried, Desired, Offload, PortName, PortStats};
use vswitch_core::switch::{self, FdbEntry, FdbKind, PortId};
use vswitch_core::{Instant, MacAddr, VlanId};

use super::Name;

/// The form of all this. Fields that are added and may be missing leave it as it is; anything else makes it another.
pub(crate) const FORMAT: u32 = 1;

/// The switch as it is, but for what moves all the time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) format: u32,
    pub(crate) workers: u16,
    /// Device and inode of the state directory, whose lock decides who serves.
    pub(crate) state_dir: (u64, u64),
    pub(crate) desired: Desired,
    /// Those that have an interface; all others are lost.
    pub(crate) ports: Vec<PortRecord>,
    pub(crate) vtep: Option<VtepRecord>,
    pub(crate) remotes: BTreeMap<IpAddr, u16>,
    /// What was learned so far.
    pub(crate) learned: Vec<Learned>,
    /// Whether the control socket's file goes with the daemon that ends.
    pub(crate) removes_socket: bool,
    /// What the descriptors are that come along, in their order; of one name in the order of the workers.
    pub(crate) descriptors: Vec<Name>,
}

/// A port with its interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PortRecord {
    pub(crate) name: PortName,
    /// Its number in the switch.
    pub(crate) id: u16,
    /// What the kernel leaves undone there.
    pub(crate) offloads: Vec<Offload>,
}

/// The VTEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VtepRecord {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// The underlay's interface.
    pub(crate) index: u32,
    /// Its MTU as the ports were fitted to it.
    pub(crate) mtu: u16,
    pub(crate) carried: Carried,
}

/// A learned address: itself, its VLAN, its port's number, and nanoseconds on `CLOCK_MONOTONIC` when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Learned(u64, u16, u16, u64);

impl Learned {
    /// `None` for a static address, which follows from the desired state.
    pub(crate) fn new(entry: &FdbEntry) -> Option<Self> {
        let FdbKind::Learned { last_seen } = entry.kind else { return None };
        Some(Self(entry.mac.to_u64(), entry.vlan.get(), entry.port.get(), last_seen.as_nanos()))
    }

    pub(crate) const fn is_seen_since(self, moment: Instant) -> bool {
        self.3 >= moment.as_nanos()
    }

    pub(crate) fn entry(self) -> Option<FdbEntry> {
        let Self(mac, vlan, port, seen) = self;
        let kind = FdbKind::Learned { last_seen: Instant::from_nanos(seen) };
        Some(FdbEntry {
            mac: MacAddr::from_u64(mac),
            vlan: VlanId::new(vlan)?,
            port: PortId::new(port),
            kind,
            flapping: None,
        })
    }
}

/// What moves all the time, at rest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Nanoseconds on `CLOCK_MONOTONIC` since when frames wait.
    pub(crate) paused_at: u64,
    /// By number.
    pub(crate) ports: Vec<(u16, PortStats)>,
    /// What ports counted before they were lost.
    #[serde(default)]
    pub(crate) before: Vec<PortStats>,
    /// Without what the tunnel's descriptors tell themselves.
    pub(crate) tunnel: PortStats,
    pub(crate) fdb: FdbCounters,
    /// Addresses seen since the snapshot.
    pub(crate) seen: Vec<Learned>,
}

/// What happened to addresses so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct FdbCounters {
    learned: u64,
    moved: u64,
    aged: u64,
    evicted: u64,
    limited: u64,
    flapping: u64,
}

impl From<switch::Counters> for FdbCounters {
    fn from(counters: switch::Counters) -> Self {
        let switch::Counters { learned, moved, aged, evicted, limited, flapping } = counters;
        Self { learned, moved, aged, evicted, limited, flapping }
    }
}

impl From<FdbCounters> for switch::Counters {
    fn from(FdbCounters { learned, moved, aged, evicted, limited, flapping }: FdbCounters) -> Self {
        Self { learned, moved, aged, evicted, limited, flapping }
    }
}

/// A switch that nobody runs: what a daemon that ends in peace leaves to the next.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    pub(crate) tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_addresses_come_back() {
        let entry = |kind| FdbEntry {
            mac: MacAddr([2, 0, 0, 0, 0xab, 0xcd]),
            vlan: VlanId::new(4094).unwrap(),
            port: PortId::new(65_535),
            kind,
            flapping: None,
        };
        let learned = entry(FdbKind::Learned { last_seen: Instant::from_nanos(u64::MAX >> 1) });
        let text = serde_json::to_string(&Learned::new(&learned)).unwrap();
        assert_eq!(serde_json::from_str::<Learned>(&text).unwrap().entry(), Some(learned));
        assert_eq!(Learned::new(&entry(FdbKind::Static)), None);
        assert_eq!(serde_json::from_str::<Learned>("[1,4095,0,0]").unwrap().entry(), None);
    }
}

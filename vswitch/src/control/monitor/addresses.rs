//! What happened to addresses, under the names of ports.

use std::collections::BTreeMap;
use std::mem;

use vswitch_api::monitor::{Address, EventKind, Place, What};
use vswitch_api::{FdbTarget, FlappingInfo, Mac, Vid};
use vswitch_core::Instant;
use vswitch_core::switch::{FdbChange, FdbEvent, PortId};

use super::Control;
use crate::clock;
use crate::observe::Epoch;

/// What each number stands for.
type Targets = BTreeMap<PortId, FdbTarget>;

impl Control {
    /// Tells what happened to addresses. To be called before a port's number loses its meaning, too.
    pub(in crate::control) fn tell_addresses(&mut self) {
        if self.monitors.told.is_none() {
            return;
        }
        let mut events = mem::take(&mut self.monitors.events);
        let lost = self.addresses.fdb_take_events(&mut events);
        if !events.is_empty() {
            let (targets, epoch, now) = (self.targets(), Epoch::now(), clock::now());
            for event in events.drain(..) {
                let at = event.at.unwrap_or(now);
                if let Some(what) = told(&event, at, &targets) {
                    self.monitors.tell(epoch.of(at), what, None);
                }
            }
        }
        self.monitors.events = events;
        let hears = self.monitors.listeners.iter_mut().filter(|listener| listener.asks().wants_kind(EventKind::Fdb));
        hears.for_each(|listener| listener.lose(lost));
    }
}

/// The event in words, which was at the moment `at`.
fn told(event: &FdbEvent, at: Instant, targets: &Targets) -> Option<What> {
    let place = |port| targets.get(&port).cloned().map(Place::from).unwrap_or_default();
    let (mac, vlan) = (Mac::new(event.mac.0).ok()?, Vid::new(event.vlan.get()).ok()?);
    let address = Address { mac, vlan, place: place(event.port) };
    Some(match event.change {
        FdbChange::Learned => What::FdbLearned(address),
        FdbChange::Moved { from } => What::FdbMoved { address, from: place(from) },
        FdbChange::Fixed => What::FdbAdded(address),
        FdbChange::Aged => What::FdbAged(address),
        FdbChange::Evicted => What::FdbEvicted(address),
        FdbChange::Removed => What::FdbRemoved(address),
        FdbChange::Limited => What::FdbLimited(address),
        FdbChange::Held { other, until } => {
            let held_s = until.since(at).as_millis().div_ceil(1000);
            let held_s = u64::try_from(held_s).unwrap_or(u64::MAX);
            What::FdbHeld { address, flapping: FlappingInfo::new(targets.get(&other).cloned(), held_s) }
        }
        FdbChange::Released => What::FdbReleased(address),
    })
}

//! The way in from a TAP port: as many frames as one turn takes.

use vswitch_core::Instant;
use vswitch_core::limit::wire_bytes;
use vswitch_core::switch::PortId;

use super::super::batch::Share;
use super::super::datapath::Datapath;
use super::super::limits::Limited;
use crate::drops::PortDrop;
use crate::observe::{Fate, Sight, vlan_of};
use crate::port::tap::Read;

/// What reading once leaves of a port's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// Nothing, until the poll says so.
    Empty,
    /// More may wait.
    More,
    /// What the port's limit keeps there until an alarm goes off: nobody needs to wait on it.
    Held,
}

impl Datapath {
    pub(super) fn read(&mut self, now: Instant, ingress: PortId, waiting: usize) -> Served {
        self.begin(ingress, waiting);
        let Some((tap, counters, limits)) = self.ports.limited_tap_mut(ingress) else { return Served::Empty };
        let rate = match limits {
            Some(Limited { is_held: true, .. }) => return Served::Empty, // an alarm is set
            Some(limits) => limits.rx.as_deref(),
            None => None,
        };
        while let Some(frame) = self.batch.next() {
            if let Some(Err(until)) = rate.map(|rate| rate.check(now)) {
                self.hold(now, ingress, until);
                return Served::Held;
            }
            match tap.read(frame) {
                Read::Frame => {
                    counters.received(frame.len());
                    if let Some(rate) = rate {
                        rate.charge(now, wire_bytes(frame.len(), &frame.offload));
                    }
                    self.batch.keep();
                }
                Read::Malformed => {
                    counters.received(frame.len());
                    counters.dropped(PortDrop::BadOffload);
                    if let Some(observer) = &mut self.observer {
                        let vlan = vlan_of(&self.switch, ingress, frame.bytes());
                        let fate = Fate::Dropped(PortDrop::BadOffload.into());
                        observer.see_whole(Sight::arrival(ingress, vlan, fate, frame.bytes()));
                    }
                }
                Read::Empty => return Served::Empty,
                Read::Lost => {
                    self.switch.remove_port(ingress);
                    self.has_news = true;
                    return Served::Empty;
                }
            }
        }
        Served::More
    }

    fn begin(&mut self, ingress: PortId, waiting: usize) {
        let spread = self.ports.get(ingress).map(|port| port.spread).unwrap_or_default();
        self.batch.begin(Share::new(waiting, spread.group.unwrap_or(self.ports.most()), spread.other));
    }

    /// Takes the parts of the super-frame that a TAP port has begun, as many as one turn takes; false where there are none.
    pub(super) fn read_parts(&mut self, ingress: PortId) -> bool {
        self.begin(ingress, 1);
        let Some((tap, counters)) = self.ports.tap_mut(ingress) else { return false };
        while let Some(frame) = self.batch.next()
            && tap.read_part(frame)
        {
            counters.received(frame.len());
            self.batch.keep();
        }
        !self.batch.frames().is_empty()
    }
}

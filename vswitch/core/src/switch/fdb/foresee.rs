//! What learning an address would do, and where addresses would be then; nothing is done.

use super::Fdb;
use super::ledger::{Lesson, Room};
use super::table::{Key, Probe};
use crate::switch::forward::SourceDrop;
use crate::switch::port::PortId;
use crate::time::Instant;

/// What would come of a source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is known there already.
    Known,
    /// It is static, on this port.
    Static(PortId),
    /// Learning is off.
    Ignored,
    /// It would be learned.
    New,
    /// It would move here from this port.
    Moves(PortId),
    /// It would not be learned, for want of room.
    NoRoom,
}

/// What would come of learning, and where addresses would be then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreseen {
    pub(crate) source: Source,
    /// Where the source address would be.
    place: Option<PortId>,
    /// The address that would make room.
    evicted: Option<Key>,
}

impl Foreseen {
    /// Nothing would change.
    pub(crate) const fn nothing(source: Source) -> Self {
        Self { source, place: None, evicted: None }
    }
}

impl Fdb {
    /// What [`Self::learn`] would do; nothing is done.
    pub(crate) fn foresee(&self, now: Instant, probe: Probe, port: PortId) -> Result<Foreseen, SourceDrop> {
        let ledger = self.shared.ledger.lock();
        let evicted = |room| match room {
            Room::Of(id) => ledger.key(id),
            Room::Free | Room::None => None,
        };
        let fixed = || ledger.store.find(probe.key).map_or(port, |(_, place)| place.port());
        Ok(match ledger.foresee(now, probe.key, port) {
            Lesson::Static => Foreseen::nothing(Source::Static(fixed())),
            Lesson::Seen(..) => Foreseen::nothing(Source::Known),
            Lesson::Held => return Err(SourceDrop::MacFlapping),
            Lesson::Moves { room: Room::None, .. } | Lesson::New(Room::None) => Foreseen::nothing(Source::NoRoom),
            Lesson::Moves { to, .. } if to.port() != port => return Err(SourceDrop::MacFlapping),
            Lesson::Moves { from, room, .. } => {
                Foreseen { source: Source::Moves(from), place: Some(port), evicted: evicted(room) }
            }
            Lesson::New(room) => Foreseen { source: Source::New, place: Some(port), evicted: evicted(room) },
        })
    }

    /// The port of a station, as [`Self::lookup`] would find it after what was `foreseen` of `source`.
    pub(crate) fn lookup_after(&self, foreseen: &Foreseen, source: Probe, probe: Probe) -> Option<PortId> {
        if foreseen.evicted == Some(probe.key) {
            return None;
        }
        foreseen.place.filter(|_| source.key == probe.key).or_else(|| self.lookup(probe))
    }
}

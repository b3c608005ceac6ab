//! What would become of a frame: the way that [`ingress`](super::ingress) takes, step by step, with nothing learned,
//! counted or spent.
//!
//! Each stage is asked by the function that decides on real frames, so that what is told here is what happens. Only
//! learning is foreseen instead of done, and what it would change of the table counts for the destination.

use alloc::vec::Vec;

use super::Switch;
use super::fdb::{Foreseen, Source};
use super::flood::Flood;
use super::forward::SourceDrop;
use super::ingress::{Arrival, SourceKind};
use super::port::PortId;
use super::storm::FloodKind;
use super::verdict::{Reason, Verdict};
use crate::addr::MacAddr;
use crate::time::Instant;
use crate::wire::ethernet::Ethernet;
use crate::wire::vlan::{Tag, VlanId};

/// What one stage found. Stages stand in the order a frame passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The port is there.
    Port(PortId),
    /// The header is whole.
    Ethernet {
        /// Who it is for.
        destination: MacAddr,
        /// Whom it says it is from.
        source: MacAddr,
        /// Its outer 802.1Q tag.
        tag: Option<Tag>,
    },
    /// It belongs to this VLAN.
    Vlan(VlanId),
    /// Its port has a guard, which lets it pass; `false` where it has none.
    Guard(bool),
    /// What is learned of its source.
    Source(Source),
    /// Where its destination is.
    Destination(Destination),
    /// Its port may flood it.
    Storm(FloodKind),
    /// It goes no further.
    Stop(Reason),
}

/// Where a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The table says: behind this port.
    Known(PortId),
    /// Nobody sent from it yet, but it lives on this port, as its guard says, or can be nowhere else.
    Only(PortId),
    /// It is for many.
    Many(FloodKind),
}

/// What would become of a frame, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What each stage found, up to the one that stops it.
    pub steps: Vec<Step>,
    /// What [`Switch::ingress`] would answer.
    pub verdict: Verdict,
}

impl Switch {
    /// What [`Self::ingress`] would do with a frame, and why. Nothing is learned, counted or spent.
    pub fn explain(&mut self, now: Instant, port: PortId, frame: &[u8]) -> Explained {
        self.fdb.refresh();
        let is_guarded = self.guards.has(port);
        let arrival = if is_guarded { self.guarded(port, frame) } else { self.local(port, frame) };
        self.explain_arrival(now, (port, is_guarded), &arrival, frame)
    }

    /// What [`Self::ingress_remote`] would do with a frame, and why. Nothing is learned, counted or spent.
    pub fn explain_remote(&mut self, now: Instant, port: PortId, vlan: VlanId, frame: &[u8]) -> Explained {
        self.fdb.refresh();
        let arrival = self.remote(port, vlan, frame);
        self.explain_arrival(now, (port, false), &arrival, frame)
    }

    fn explain_arrival(
        &self,
        now: Instant,
        (port, is_guarded): (PortId, bool),
        arrival: &Result<Arrival, Reason>,
        frame: &[u8],
    ) -> Explained {
        let mut steps = Vec::new();
        let passed = match arrival {
            Ok(_) | Err(Reason::Guard(_)) => 3,
            Err(Reason::Vlan(_)) => 2,
            Err(Reason::Ethernet(_)) => 1,
            Err(_) => 0,
        };
        let header = Ethernet::parse(frame).ok();
        let ethernet = header.map(|header| Step::Ethernet {
            destination: header.destination(),
            source: header.source(),
            tag: header.tag,
        });
        let vlan = self.vlan_of(port, arrival, header.and_then(|header| header.tag)).map(Step::Vlan);
        steps.extend([Some(Step::Port(port)), ethernet, vlan].into_iter().take(passed).flatten());
        let verdict = match arrival {
            Ok(arrival) => {
                steps.push(Step::Guard(is_guarded));
                self.explain_decision(now, arrival, &mut steps)
            }
            Err(reason) => Err(*reason),
        };
        if let Err(reason) = verdict {
            steps.push(Step::Stop(reason));
        }
        Explained { steps, verdict: verdict.unwrap_or_else(Verdict::Drop) }
    }

    /// The VLAN of a frame, that of one that a guard refuses too.
    fn vlan_of(&self, port: PortId, arrival: &Result<Arrival, Reason>, tag: Option<Tag>) -> Option<VlanId> {
        match arrival {
            Ok(arrival) => Some(arrival.frame.vlan),
            Err(_) => self.port_mode(port)?.classify(tag).ok().map(|frame| frame.vlan),
        }
    }

    fn explain_decision(&self, now: Instant, arrival: &Arrival, steps: &mut Vec<Step>) -> Result<Verdict, Reason> {
        let foreseen = match arrival.source_kind {
            SourceKind::Bad => return Err(SourceDrop::BadSource.into()),
            _ if self.fdb.knows(now, arrival.source, arrival.ingress) => Foreseen::nothing(Source::Known),
            SourceKind::Learned => {
                self.claim(arrival)?;
                self.fdb.foresee(now, arrival.source, arrival.ingress)?
            }
            SourceKind::Ignored => {
                self.claim(arrival)?;
                Foreseen::nothing(Source::Ignored)
            }
        };
        steps.push(Step::Source(foreseen.source));
        let known = self.fdb.lookup_after(&foreseen, arrival.source, arrival.destination);
        let known = known.filter(|&port| self.port_mode(port).is_some_and(|mode| mode.is_member(arrival.frame.vlan)));
        let admit = |flood: &Flood| self.storm.would_admit(now, flood.ingress, flood.kind);
        let verdict = self.route(arrival, known, admit);
        let found = match (known, verdict) {
            (Some(port), _) => Some(Destination::Known(port)),
            (None, Ok(Verdict::Unicast(way))) => Some(Destination::Only(way.port)),
            (None, Ok(Verdict::Flood(_)) | Err(Reason::Storm(_))) => {
                Some(Destination::Many(FloodKind::of(arrival.destination.mac())))
            }
            (None, _) => None,
        };
        steps.extend(found.map(Step::Destination));
        if let Verdict::Flood(flood) = verdict? {
            steps.push(Step::Storm(flood.kind));
        }
        verdict
    }
}

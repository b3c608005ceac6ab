//! What is known of a path: what answers said, what others said of it, and what it all comes to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vswitch_api::{Health, HealthState, Vni};
use vswitch_core::Instant;
use vswitch_sys::{Neighbour, Trouble};
use vtep::oam::Kind;

use super::Path;
use crate::health::Heard;
use crate::health::findings::{Facts, Finding, Verdict};
use crate::health::host::Host;
use crate::health::own::OwnFault;
use crate::health::window::Window;

/// When a self-test without an answer has the host asked.
const DOUBT: Duration = Duration::from_millis(250);
/// Probes in a row that stay unanswered, until it counts as silent.
const SILENCE: u32 = 3;
/// How long what was found once counts: damaged bytes, and what the network said.
const LASTING: Duration = Duration::from_secs(60);
/// How long a peer counts as heard after a frame of it.
const HEARD: Duration = Duration::from_secs(60);
/// From one question to the host to the next.
const HOST_AGAIN: Duration = Duration::from_secs(5);

impl Path {
    /// A message of the peer came.
    pub(crate) fn hear(&mut self, heard: &Heard) {
        self.is_ours = true;
        let message = &heard.read.message;
        let Kind::Answer { was_damaged, is_stranger } = message.kind else { return };
        let Some(open) = self.open.remove(&message.sequence) else { return };
        if self.tested == Some(None) {
            self.tested = None; // it is there now: with an interval, another self-test is due
        }
        if self.recent().lost_in_row() >= SILENCE || self.is_stranger != is_stranger {
            self.searched = None; // it may be another path, or one that was not looked at
        }
        self.is_stranger = is_stranger;
        self.answered_at = Some(heard.at);
        self.complaint = None;
        self.host = None;
        self.own = None;
        if was_damaged {
            self.damaged_there = Some(heard.at);
        }
        if heard.read.is_damaged {
            self.damaged_here = Some(heard.at);
        } else {
            let seen = SocketAddr::new(message.sender, message.port);
            self.seen_as = Some(seen).filter(|seen| seen.ip() != self.ends.own);
        }
        let from = heard.from.ip().to_canonical();
        self.speaks_as = Some(from).filter(|from| *from != self.ends.peer);
        let round_trip = heard.at.since(open.at);
        match open.size {
            Some(size) => {
                match &mut self.search {
                    Some((search, _)) => search.passed(size),
                    None => self.path_mtu = self.path_mtu.map(|found| found.max(size)), // late, and it did get there
                }
            }
            None => {
                self.window.answered(heard.at, round_trip);
                if open.in_test {
                    self.test_window.answered(heard.at, round_trip);
                }
                if let Some(test) = &mut self.test {
                    test.answered(round_trip);
                }
                if !was_damaged && !heard.read.is_damaged {
                    self.known.extend(open.networks.iter().map(|vni| {
                        let has_it = message.networks.iter().any(|other| other.get() == vni.get());
                        (*vni, has_it)
                    }));
                }
            }
        }
    }

    /// Somebody said something of a probe.
    pub(crate) fn complain(&mut self, now: Instant, what: Trouble, by: Option<IpAddr>) {
        if !matches!(what, Trouble::TooBig(_)) {
            self.complaint = Some((what, by, now));
        }
    }

    /// Frames came from the peer.
    pub(crate) fn note_frames(&mut self, now: Instant) {
        self.heard_at = Some(now);
    }

    /// Frames came from the peer, nobody knows when.
    pub(crate) fn note_spoken(&mut self) {
        self.has_spoken = true;
    }

    /// Something keeps this host from asking, or nothing does.
    pub(crate) fn note_own(&mut self, fault: Option<OwnFault>) {
        self.own = fault;
    }

    /// Whether it is time to ask whether its host is there.
    pub(crate) fn doubts_host(&mut self, now: Instant) -> bool {
        let in_test = self.test.is_some_and(|test| test.answered == 0 && now.since(test.started) >= DOUBT);
        let is_silent = self.interval.is_some() && self.recent().lost_in_row() >= SILENCE;
        let due = self.host_asked.is_none_or(|at| now.since(at) >= HOST_AGAIN);
        let doubts = (in_test || is_silent) && due;
        if doubts {
            self.host_asked = Some(now);
        }
        doubts
    }

    /// Its host answered ICMP echo.
    pub(crate) fn note_echo(&mut self) {
        self.host = Some(Host::Answers);
    }

    /// Its host did not answer ICMP echo, or there was no `echo`, and why; and what the kernel knows of it as a neighbour.
    pub(crate) fn note_no_echo(&mut self, now: Instant, echo: Result<(), String>, neighbour: Option<Neighbour>) {
        // Since the first that was due and not answered.
        let silent = self.answered_at.zip(self.interval).map(|(at, interval)| now.since(at + interval));
        let host = Host::without_echo(echo, neighbour, silent);
        // What was found out counts until something else is.
        if !matches!((&self.host, &host), (Some(Host::Answers | Host::Silent), Host::Unknown(_))) {
            self.host = Some(host);
        }
    }

    /// The probes that say how it is now: with an interval the latest, without one those of the last self-test.
    pub(super) const fn recent(&self) -> &Window {
        if self.interval.is_some() { &self.window } else { &self.test_window }
    }

    /// Whether it answers.
    pub(super) fn answers(&self) -> bool {
        self.answered_at.is_some() && self.recent().lost_in_row() < SILENCE && self.tested != Some(None)
    }

    /// Whether it answers that this host is none of its peers.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_stranger && self.answers()
    }

    /// What was last said of probes, since the last answer.
    pub(crate) fn complaint(&self) -> Option<(Trouble, Option<IpAddr>)> {
        self.complaint.map(|(what, by, _)| (what, by))
    }

    /// The networks of which the peer said whether it shares them.
    pub(crate) const fn shared(&self) -> &BTreeMap<Vni, bool> {
        &self.known
    }

    /// The largest packet that gets there, if that is known.
    pub(crate) const fn path_mtu(&self) -> Option<u16> {
        self.path_mtu
    }

    /// What it all comes to; `None` where that is not known yet.
    pub(crate) fn verdict(&self, now: Instant) -> Option<Verdict> {
        self.judge(now, self.recent())
    }

    /// What the last self-test comes to: nothing that was lost before it.
    pub(crate) fn tested_verdict(&self, now: Instant) -> Option<Verdict> {
        self.judge(now, &self.test_window)
    }

    fn judge(&self, now: Instant, window: &Window) -> Option<Verdict> {
        self.tested_at?;
        let lasts = |at: Option<Instant>, time| at.is_some_and(|at| now.since(at) < time);
        let answers = self.answers();
        let facts = Facts {
            answers,
            is_ours: self.is_ours,
            is_heard: lasts(self.heard_at, HEARD),
            has_spoken: self.has_spoken,
            is_stranger: self.is_stranger,
            own: self.own.clone(),
            complaint: self.complaint.filter(|(_, _, at)| now.since(*at) < LASTING).map(|(what, by, _)| (what, by)),
            host: self.host.clone(),
            seen_as: self.seen_as,
            speaks_as: self.speaks_as,
            damaged: (lasts(self.damaged_there, LASTING), lasts(self.damaged_here, LASTING)),
            path_mtu: self.path_mtu,
            networks: self
                .known
                .iter()
                .filter_map(|(vni, has)| Some((*vni, (*self.networks.get(vni)?, *has))))
                .collect(),
            loss: window.loss(now),
        };
        Some(facts.judge(&self.ends))
    }

    /// The same with figures.
    pub(crate) fn health(&self, now: Instant) -> Option<Health> {
        let Verdict { state, findings } = self.verdict(now)?;
        let window = self.recent();
        // Nothing is lost where nothing answers, or is allowed to.
        let counts = state != HealthState::Foreign && !self.is_refused();
        Some(Health {
            round_trip_us: window.round_trip(now),
            loss_share: counts.then(|| window.loss(now).0),
            jitter_us: window.jitter(),
            path_mtu: self.path_mtu.filter(|_| self.answers()).map(u32::from),
            state,
            asked_s: self.tested_at.filter(|_| self.interval.is_none()).map(|at| now.since(at).as_secs()),
            findings: findings.into_iter().map(Finding::shown).collect(),
        })
    }
}

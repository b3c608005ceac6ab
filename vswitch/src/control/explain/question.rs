//! `why` takes a moment, for it asks B in A's name and waits for the answer. The control thread does not: the first
//! request sends the question and gets a ticket, later ones with the ticket look whether the answer came.
//!
//! Asked is first who has the address that A's frames go to, and whether anybody else has A's own; then, of who answers,
//! an ICMP echo, as ping(8) would. All go as frames of A's port would, so that no right in A's container is needed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use vswitch_core::switch::PortId;
use vswitch_core::{Frame, MacAddr, Tag, VlanId};

use super::super::Control;
use super::frames;
use crate::worker::{Answered, Watch};

/// Questions that are remembered; with one more the oldest is forgotten.
const MOST: usize = 16;
/// How long an answer is waited for, and when to ask again: a frame may be lost.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);
const AGAIN: Duration = Duration::from_millis(250);
/// How long others may answer that have the same address.
const OTHERS: Duration = Duration::from_millis(120);
/// Answers of several stations to one question that find room until they are looked at.
const ROOM: usize = 16;

/// The questions that are open.
#[derive(Debug, Default)]
pub(in super::super) struct Questions {
    next: u64,
    open: BTreeMap<u64, Question>,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) started: Instant,
    /// What was asked; `None` where nothing could be.
    ask: Option<Ask>,
    /// Who has the address that A's frames go to.
    has: Option<Asked>,
    /// Who else has A's own.
    own: Option<Asked>,
    /// ICMP echo, of who answered first.
    echo: Option<Asked>,
    /// Frames that were dropped before, by port and reason.
    pub(super) drops: BTreeMap<PortId, BTreeMap<String, u64>>,
    /// The peers that the question goes to, which are probed meanwhile.
    pub(super) peers: Vec<IpAddr>,
}

/// One that waits for answers.
#[derive(Debug)]
struct Asked {
    frame: Frame,
    answers: Receiver<Answered>,
    since: Instant,
    /// By the workers' clock.
    first_sent: vswitch_core::Instant,
    last_sent: vswitch_core::Instant,
    /// One answer of each station, the first one first.
    came: Vec<(Answered, Duration)>,
}

/// Whom to ask for what.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) port: PortId,
    pub(super) vlan: VlanId,
    pub(super) is_tagged: bool,
    pub(super) mac: MacAddr,
    /// The one that A sends from first.
    pub(super) own: Vec<IpAddr>,
    /// B's, or that of the router that is next.
    pub(super) ip: IpAddr,
    /// B's.
    pub(super) target: IpAddr,
}

impl Questions {
    /// Takes back a question that was put before.
    pub(super) fn take(&mut self, ticket: u64) -> Option<Question> {
        self.open.remove(&ticket)
    }

    /// Keeps a question until it is asked for again.
    pub(super) fn keep(&mut self, ticket: u64, question: Question) {
        self.open.insert(ticket, question);
        while self.open.len() > MOST {
            self.open.pop_first();
        }
    }
}

impl Control {
    /// Puts a question; returns its ticket.
    pub(super) fn put(&mut self, ask: Option<Ask>, drops: BTreeMap<PortId, BTreeMap<String, u64>>) -> (u64, Question) {
        self.questions.next += 1;
        let ticket = self.questions.next;
        let (mut has, mut own) = (None, None);
        if let Some(ask) = &ask {
            // As one that probes whether an address is free, which asks without one (RFC 5227 2.1.1).
            let first = ask.own.iter().find(|own| own.is_ipv4() == ask.ip.is_ipv4());
            own = first.and_then(|own| self.send(ticket, ask, *own, None, &frames::who_has(ask.mac, &[], *own)));
            has = self.send(ticket, ask, ask.ip, None, &frames::who_has(ask.mac, &ask.own, ask.ip));
        }
        (ticket, Question { started: Instant::now(), ask, has, own, echo: None, drops, peers: Vec::new() })
    }

    fn send(&self, ticket: u64, ask: &Ask, ip: IpAddr, echo: Option<u16>, bytes: &[u8]) -> Option<Asked> {
        let mut frame = Frame::from_bytes(bytes);
        frame.retag(ask.is_tagged.then(|| Tag::from_bits(0).in_vlan(ask.vlan)));
        let (sender, answers) = crossbeam_channel::bounded(ROOM);
        let until = crate::clock::now() + PATIENCE * 4;
        let watch = Watch { id: ticket, ip, to: ask.mac, echo, until, answers: sender };
        self.workers.each(move |worker| worker.datapath.watch(watch)).ok()?;
        let sent = self.inject(ask.port, &frame)?;
        Some(Asked { frame, answers, since: Instant::now(), first_sent: sent, last_sent: sent, came: Vec::new() })
    }

    fn inject(&self, port: PortId, frame: &Frame) -> Option<vswitch_core::Instant> {
        let frame = frame.clone();
        let inject = move |worker: &mut crate::worker::Worker| {
            let now = worker.now();
            worker.datapath.inject(now, port, &frame);
            now
        };
        self.workers.one(inject).ok()
    }

    /// Looks whether answers came; asks again where they are late. False while there is something to wait for.
    pub(super) fn look(&self, ticket: u64, question: &mut Question) -> bool {
        let Some(ask) = &question.ask else { return true };
        for asked in [&mut question.has, &mut question.own, &mut question.echo].into_iter().flatten() {
            asked.read();
            if asked.came.is_empty()
                && crate::clock::now().since(asked.last_sent) > AGAIN
                && asked.since.elapsed() < PATIENCE
                && let Some(sent) = self.inject(ask.port, &asked.frame)
            {
                asked.last_sent = sent;
            }
        }
        let first = question.answer();
        if let (Some((answered, _)), None, Some(own)) = (first, &question.echo, ask.source()) {
            let ident = u16::try_from(ticket % 0xffff).unwrap_or(0) + 1;
            if let Some(bytes) = frames::echo((ask.mac, own), (answered.mac, ask.target), ident, 1) {
                question.echo = self.send(ticket, ask, ask.target, Some(ident), &bytes);
            }
        }
        let waits = |asked: &Asked| asked.came.is_empty() && asked.since.elapsed() < PATIENCE;
        let is_open = match first {
            None => question.has.as_ref().is_some_and(waits),
            Some((_, trip)) => {
                question.started.elapsed() < OTHERS.max(trip * 2) || question.echo.as_ref().is_some_and(waits)
            }
        };
        if !is_open {
            let _ = self.workers.each(move |worker| worker.datapath.unwatch(ticket)); // they end by themselves too
        }
        !is_open
    }
}

impl Ask {
    /// The address that A's packets to B are from.
    fn source(&self) -> Option<IpAddr> {
        self.own.iter().copied().find(|own| own.is_ipv4() == self.target.is_ipv4())
    }
}

impl Asked {
    fn read(&mut self) {
        while let Ok(answered) = self.answers.try_recv() {
            if self.came.iter().all(|(before, _)| before.mac != answered.mac) && self.came.len() < ROOM {
                let sent = if answered.at >= self.last_sent { self.last_sent } else { self.first_sent };
                self.came.push((answered, answered.at.since(sent)));
            }
        }
    }
}

impl Question {
    /// Whether somebody was asked.
    pub(super) fn was_asked(&self) -> bool {
        self.has.is_some()
    }

    /// Who has the address that A's frames go to, by the first answer, and how long that took.
    pub(super) fn answer(&self) -> Option<(Answered, Duration)> {
        self.answers().first().copied()
    }

    /// All who say that they have it.
    pub(super) fn answers(&self) -> &[(Answered, Duration)] {
        self.has.as_ref().map_or(&[], |asked| &asked.came)
    }

    /// Others who say that they have A's own address.
    pub(super) fn doubles(&self) -> &[(Answered, Duration)] {
        self.own.as_ref().map_or(&[], |asked| &asked.came)
    }

    /// Whether an ICMP echo was asked for, and how long the answer took.
    pub(super) fn echo(&self) -> Option<Option<Duration>> {
        self.echo.as_ref().map(|asked| asked.came.first().map(|(_, trip)| *trip))
    }

    /// The address that was asked for, and B's own.
    pub(super) fn ips(&self) -> Option<(IpAddr, IpAddr)> {
        self.ask.as_ref().map(|ask| (ask.ip, ask.target))
    }
}

//! `why` takes a moment, for it asks B in A's name and waits for the answer. The control thread does not: the first
//! request sends the question and gets a ticket, later ones with the ticket look whether the answer came.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use vswitch_core::switch::PortId;
use vswitch_core::{Frame, MacAddr, Tag, VlanId};

use super::super::Control;
use crate::worker::{Answered, Watch};

/// Questions that are remembered; with one more the oldest is forgotten.
const MOST: usize = 16;
/// How long an answer is waited for, and when to ask again: a frame may be lost.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);
const AGAIN: Duration = Duration::from_millis(250);

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
    /// What was asked, in whose name, and when last; `None` where nothing could be.
    asked: Option<Asked>,
    /// Frames for many that were dropped before, by port.
    pub(super) storms: BTreeMap<PortId, u64>,
    pub(super) answer: Option<(Answered, Duration)>,
    /// The peers that the question goes to, which are probed meanwhile.
    pub(super) peers: Vec<IpAddr>,
}

#[derive(Debug)]
struct Asked {
    port: PortId,
    frame: Frame,
    answers: Receiver<Answered>,
    /// By the workers' clock.
    first_sent: vswitch_core::Instant,
    last_sent: vswitch_core::Instant,
}

/// Whom to ask for what.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) port: PortId,
    pub(super) vlan: VlanId,
    pub(super) is_tagged: bool,
    pub(super) mac: MacAddr,
    pub(super) own: Vec<IpAddr>,
    pub(super) ip: IpAddr,
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
    pub(super) fn put(&mut self, ask: Option<Ask>, storms: BTreeMap<PortId, u64>) -> (u64, Question) {
        self.questions.next += 1;
        let ticket = self.questions.next;
        let asked = ask.and_then(|ask| self.send(ticket, &ask));
        let question = Question { started: Instant::now(), asked, storms, answer: None, peers: Vec::new() };
        (ticket, question)
    }

    fn send(&self, ticket: u64, ask: &Ask) -> Option<Asked> {
        let Ask { port, vlan, is_tagged, mac, ref own, ip } = *ask;
        let mut frame = Frame::from_bytes(&super::frames::who_has(mac, own, ip));
        frame.retag(is_tagged.then(|| Tag::from_bits(0).in_vlan(vlan)));
        let (sender, answers) = crossbeam_channel::bounded(1);
        let until = crate::clock::now() + PATIENCE * 2;
        let watch = Watch { id: ticket, ip, to: mac, until, answers: sender };
        self.workers.each(move |worker| worker.datapath.watch(watch)).ok()?;
        let sent = self.inject(port, &frame)?;
        Some(Asked { port, frame, answers, first_sent: sent, last_sent: sent })
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

    /// Looks whether the answer came; asks again where it is late. False while there is something to wait for.
    pub(super) fn look(&self, ticket: u64, question: &mut Question) -> bool {
        let Some(asked) = question.asked.as_mut().filter(|_| question.answer.is_none()) else { return true };
        if let Ok(answered) = asked.answers.try_recv() {
            let sent = if answered.at >= asked.last_sent { asked.last_sent } else { asked.first_sent };
            question.answer = Some((answered, answered.at.since(sent)));
            return true;
        }
        if question.started.elapsed() > PATIENCE {
            let _ = self.workers.each(move |worker| worker.datapath.unwatch(ticket)); // it ends by itself too
            return true;
        }
        if crate::clock::now().since(asked.last_sent) > AGAIN
            && let Some(sent) = self.inject(asked.port, &asked.frame)
        {
            asked.last_sent = sent;
        }
        false
    }
}

impl Question {
    /// Whether B was asked.
    pub(super) fn was_asked(&self) -> bool {
        self.asked.is_some()
    }
}

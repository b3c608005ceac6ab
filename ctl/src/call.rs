//! What is asked of the daemon, and its answers as text.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use vswitch_api::request::FdbFilter;
use vswitch_api::{
    Change, Client, ClientError, HealthState, Outcome, PortInfo, PortPlan, PortSpec, Probe, ProbeAsk, Query, Request,
    Stats, Status, Why, WhyAsk, socket,
};

use crate::cli::Global;
use crate::condition::{self, Condition, Seen};
use crate::failure::Failure;
use crate::hand_over::{self, HandOverError};
use crate::trace::Trace;
use crate::{attachments, explain, health, hint, render, words};

/// From one look whether the daemon knows an answer to the next: shorter than anyone notices, longer than it takes to look.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection, and how its answers are wanted.
pub(crate) struct Call {
    client: Client,
    path: PathBuf,
    json: bool,
    quiet: bool,
}

impl Call {
    /// Connects to the daemon that the words say.
    ///
    /// # Errors
    /// Where nobody answers there.
    pub(crate) fn connect(Global { socket, json, quiet, timeout }: &Global) -> Result<Self, Failure> {
        let path = socket::to_ask(socket.clone());
        match Client::connect(&path, *timeout) {
            Ok(client) => Ok(Self { client, path, json: *json, quiet: *quiet }),
            Err(error) => Err(Failure::Daemon { error, path }),
        }
    }

    /// What the daemon answers to `request`, as text.
    pub(crate) fn answer(&mut self, request: &Request) -> Result<String, Failure> {
        match request {
            // No word of vsctl asks for these: a container runtime's plugin does.
            Request::Change(Change::AttachmentAdd(_) | Change::AttachmentDel { .. }) => {
                json(&self.ask::<serde_json::Value>(request)?)
            }
            Request::Change(change) => self.show(request, |outcome: &Outcome, out| done(change, outcome, out)),
            Request::Flush(_) => self.show(request, |flushed: &vswitch_api::Flushed, out| {
                out.push_str(&format!("{} learned addresses forgotten\n", flushed.flushed));
            }),
            // No word of vsctl asks for it so: a daemon does, and what shows frames.
            Request::Takeover(_) | Request::Observe(_) => json(&self.ask::<serde_json::Value>(request)?),
            Request::Query(query) => match query {
                Query::PortList {} => self.show(request, render::ports),
                Query::PortShow { .. } => self.show(request, render::port),
                // Only asked on the way to `port add --hand-over`.
                Query::PortPlan(_) => json(&self.ask::<PortPlan>(request)?),
                // Only asked by a container runtime's plugin.
                Query::AttachmentPlan(_) => json(&self.ask::<serde_json::Value>(request)?),
                Query::AttachmentList { .. } => self.show(request, attachments::list),
                Query::PoolShow { .. } => self.show(request, attachments::pools),
                // No word of vsctl asks for it alone: `status` tells of it, and programs ask.
                Query::WorkerList {} => json(&self.ask::<serde_json::Value>(request)?),
                Query::VlanList {} => self.show(request, render::vlans),
                Query::VtepShow {} => self.show(request, render::vtep),
                Query::PeerList {} => self.show(request, health::peers),
                Query::PeerProbe(_) => self.show(request, health::probe),
                Query::FdbList(_) => self.show(request, render::fdb),
                // Nobody waits to read nothing.
                Query::Status {} if self.quiet => json(&self.ask::<Status>(request)?),
                Query::Status {} => self.status(),
                Query::NeighbourList {} => self.show(request, explain::neighbours),
                // No word of vsctl asks for it so: what shows events does.
                Query::Monitor(_) => json(&self.ask::<serde_json::Value>(request)?),
                Query::Trace(_) => self.show(request, explain::journey),
                Query::Why(_) => self.show(request, explain::why),
                // Meanings are for people; programs get the list of counters.
                Query::Stats { .. } if self.json => json(&self.ask::<Stats>(request)?.ports),
                Query::Stats { .. } => self.show(request, render::stats),
            },
        }
    }

    /// How the daemon is.
    fn status(&mut self) -> Result<String, Failure> {
        let stats = Request::from(Query::Stats { port: None });
        let status: Status = self.ask(&Query::Status {}.into())?;
        let before = self.ask(&stats)?;
        let peers = if status.vtep.peers > 0 { self.ask(&Query::PeerList {}.into())? } else { Vec::new() };
        let start = Instant::now();
        let ports = if status.ports_lost > 0 { self.ask(&Query::PortList {}.into())? } else { Vec::new() };
        let addresses = if status.fdb_flapping > 0 && status.fdb_used <= condition::LISTED {
            self.ask(&Query::FdbList(FdbFilter::default()).into())?
        } else {
            Vec::new()
        };
        thread::sleep(condition::LOOK.saturating_sub(start.elapsed()));
        let after = self.ask(&stats)?;
        let condition =
            Condition::of(Seen { status, before, after, between: start.elapsed(), ports, addresses, peers });
        self.told(&condition, render::condition)
    }

    /// The journey of a frame.
    pub(crate) fn trace(&mut self, trace: &Trace) -> Result<String, Failure> {
        let port = match trace.asks_for() {
            Some(name) => Some(self.ask::<PortInfo>(&Query::PortShow { name }.into())?),
            None => None,
        };
        let request = trace.request(port.and_then(|port| port.mac))?;
        self.answer(&request)
    }

    /// Why two stations do or do not reach each other, and whether they do.
    pub(crate) fn why(&mut self, mut ask: WhyAsk) -> Result<(String, bool), Failure> {
        let next = |ticket| {
            ask.ticket = ticket;
            Query::Why(ask.clone())
        };
        let answer: Why = self.ask_until_known(next, |answer: &Why| answer.pending)?;
        Ok((self.told(&answer, explain::why)?, answer.reachable))
    }

    /// How the way to a peer is, and whether anything is at its end.
    pub(crate) fn probe(&mut self, mut ask: ProbeAsk) -> Result<(String, bool), Failure> {
        let next = |ticket| {
            ask.ticket = ticket;
            Query::PeerProbe(ask.clone())
        };
        let answer: Probe = self.ask_until_known(next, |answer: &Probe| answer.pending)?;
        Ok((self.told(&answer, health::probe)?, answer.state != HealthState::Unreachable))
    }

    /// Asks what the daemon does not know at once: it does not wait, and is asked again with the ticket it gave.
    fn ask_until_known<T: DeserializeOwned>(
        &mut self,
        mut query: impl FnMut(Option<u64>) -> Query,
        pending: impl Fn(&T) -> Option<u64>,
    ) -> Result<T, Failure> {
        let mut ticket = None;
        loop {
            let answer = self.ask(&query(ticket).into())?;
            ticket = pending(&answer);
            if ticket.is_none() {
                return Ok(answer);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Makes a port's interface and hands it over.
    pub(crate) fn hand_over(&mut self, spec: PortSpec) -> Result<String, Failure> {
        let answer = hand_over::add(&mut self.client, &spec).map_err(|error| match error {
            HandOverError::Daemon(error) => Failure::Daemon { error, path: self.path.clone() },
            error => Failure::HandOver(error),
        })?;
        let outcome: Outcome = serde_json::from_value(answer)?;
        self.told(&outcome, |outcome, out| done(&Change::PortAdd(spec), outcome, out))
    }

    fn show<T: DeserializeOwned + Serialize>(
        &mut self,
        request: &Request,
        render: impl FnOnce(&T, &mut String),
    ) -> Result<String, Failure> {
        let answer = self.ask(request)?;
        self.told(&answer, render)
    }

    /// `answer` as JSON where that is wanted, else as `render` writes it.
    fn told<T: Serialize>(&self, answer: &T, render: impl FnOnce(&T, &mut String)) -> Result<String, Failure> {
        if self.json {
            return json(answer);
        }
        let mut text = String::new();
        render(answer, &mut text);
        Ok(text)
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, Failure> {
        let answer = self.client.call(request);
        answer.map_err(|error| Failure::Daemon { error: self.hinted(request, error), path: self.path.clone() })
    }

    /// The same error, with the name that was meant where it is for one that is not there.
    fn hinted(&mut self, request: &Request, error: ClientError) -> ClientError {
        let named = hint::ports_named(request);
        match error {
            ClientError::Refused(mut refusal) if !named.is_empty() && hint::may_help(&refusal) => {
                let ports: Vec<PortInfo> = self.client.call(&Query::PortList {}.into()).unwrap_or_default();
                let there: Vec<_> = ports.into_iter().map(|port| port.name).collect();
                if let Some(meant) = hint::did_you_mean(&named, &there) {
                    refusal.message.push_str(&format!("; did you mean {meant}?"));
                }
                ClientError::Refused(refusal)
            }
            error => error,
        }
    }
}

fn done(change: &Change, outcome: &Outcome, out: &mut String) {
    out.push_str(&words::done(change, outcome.changed));
    out.push('\n');
    outcome.notes.iter().for_each(|note| out.extend(["  ", note, "\n"]));
}

pub(crate) fn json(answer: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(answer)? + "\n")
}

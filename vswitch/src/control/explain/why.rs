//! `why A B`: all that lies between two stations, in the order a frame passes it, until something stops it.
//!
//! One of the two must be a port here: the near one. The other, the far one, is a port too or behind the tunnel, or nobody
//! knows. What is there is looked at first, then the containers' routes, which may lead by a router, then the switch is asked
//! what it would do with frames both ways, then the far one is asked for, in the near one's name, by ARP and ICMP echo. Who
//! answers the echo is reached, whatever else was found, but for what comes and goes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vswitch_api::{Code, ExplainStep, PortName, RpcError, StepOutcome, Why, WhyAsk};
use vswitch_core::switch::PortId;
use vswitch_core::{MacAddr, VlanId};

use super::super::Control;
use super::answer::asked;
use super::ends::End;
use super::question::{Ask, Question};
use super::route::{Route, Sends, route};
use super::storms::storm_drops;
use crate::network::PortSetup;

/// Addresses of B's of which the best is chosen.
const MOST_ADDRESSES: usize = 8;

/// How long ports are watched that had frames for many dropped before.
const WATCH: Duration = Duration::from_millis(250);
/// How long probes of peers are waited for.
const PROBED: Duration = Duration::from_millis(2500);

/// One part of the way: `Err` where a frame stops there, which is the last step.
pub(super) type Walked = Result<(), ()>;

/// Parts of the way about which the switch may be wrong: an answer refutes what was found there. Not of what the frames
/// that ask do not meet, such as A's own routes, nor of what the switch does with frames itself.
const REFUTABLE: [&str; 5] = ["tunnel", "fdb", "back", "router", "answer"];

/// The two, as seen from here.
pub(super) struct Pair {
    pub(super) near: End,
    /// Whom the near one's frames go to: B, or the router before it.
    pub(super) far: End,
    /// B, where a router is before it.
    pub(super) beyond: Option<End>,
    /// The near one's.
    pub(super) port: PortName,
    pub(super) setup: Arc<PortSetup>,
    /// The near one's addresses, the one first from which it speaks to B.
    pub(super) own: Vec<IpAddr>,
    /// Of B's addresses the one that the near one speaks to, and how it gets there.
    pub(super) target: Option<IpAddr>,
    pub(super) route: Option<Route>,
}

impl Pair {
    /// B, whether a router is before it or not.
    pub(super) fn end(&self) -> &End {
        self.beyond.as_ref().unwrap_or(&self.far)
    }

    /// The ports here that frames between the two pass.
    pub(super) fn ports(&self) -> impl Iterator<Item = &PortName> {
        let all = [Some(&self.port), self.far.port(), self.end().port().filter(|_| self.beyond.is_some())];
        all.into_iter().flatten()
    }
}

impl Control {
    /// Why A does or does not reach B.
    pub(in super::super) fn why(&mut self, ask: &WhyAsk) -> Result<Why, RpcError> {
        let (a, b) = (self.end(&ask.a)?, self.end(&ask.b)?);
        let (a_words, b_words) = (a.words(), b.words());
        let pair = self.pair(a, b)?;
        let (ticket, mut question) = match ask.ticket {
            None => {
                let question = self.asks(&pair);
                let drops = self.drops(&pair)?;
                let (ticket, mut question) = self.put(question, drops);
                question.peers = self.peers_between(&pair);
                (ticket, question)
            }
            Some(ticket) => {
                let gone = || {
                    RpcError::new(Code::NotFound, format!("there is no question {ticket}: ask anew, without a ticket"))
                };
                (ticket, self.questions.take(ticket).ok_or_else(gone)?)
            }
        };
        let passed = question.started.elapsed();
        let had_storms = question.drops.values().any(|drops| storm_drops(drops) > 0);
        let is_asking = passed < PROBED && self.are_asked(&question.peers);
        let mut why = Why { a: a_words, b: b_words, ..Why::default() };
        if !self.look(ticket, &mut question) || had_storms && passed < WATCH || is_asking {
            self.questions.keep(ticket, question);
            why.pending = Some(ticket);
            return Ok(why);
        }
        why.reachable = self.walk(&pair, &question, &mut why.steps).is_ok();
        if !why.reachable && refuted(&pair, &question, &mut why.steps) {
            why.reachable = self.walk_echo(&pair, &question, &mut why.steps).is_ok();
        }
        if let Some(last) = why.steps.last().filter(|_| !why.reachable) {
            (why.reason, why.mend) = (last.reason.clone(), last.mend.clone());
        }
        why.answered = asked(&question);
        let round_trip = question.echo().flatten().or(question.answer().map(|(_, round_trip)| round_trip));
        why.round_trip_us = round_trip.and_then(|trip| u64::try_from(trip.as_micros()).ok());
        Ok(why)
    }

    /// Which of the two is the near one, A, if it is a port here; and how its container sends to the other.
    pub(super) fn pair(&self, a: End, b: End) -> Result<Pair, RpcError> {
        if a.port().is_some() && a.port() == b.port() {
            let message = format!(
                "{} and {} are the same port: name two stations, of which one is behind a port here",
                a.text, b.text
            );
            return Err(RpcError::new(Code::InvalidParams, message));
        }
        let (near, far) = if a.port().is_some() { (a, b) } else { (b, a) };
        let named = near.port().and_then(|name| Some((name.clone(), self.network.ports.get(name)?.clone())));
        let (port, setup) = named.ok_or_else(|| {
            let message =
                format!("neither {} nor {} is a port of this switch: ask the one where it is", near.text, far.text);
            RpcError::new(Code::NotFound, message)
        })?;
        // The same address may be in several VLANs.
        let mut far = match far.text.parse::<IpAddr>() {
            Ok(ip) => self.end_by_ip(&far.text, ip, Some(&setup.mode))?,
            Err(_) => far,
        };
        let inside = self.inside(&port);
        let routes = far.ips.iter().take(MOST_ADDRESSES).map(|ip| (*ip, route(inside.as_ref(), &setup, *ip)));
        let best = routes.min_by_key(|(_, route)| route.rank());
        let (target, route) = best.unzip();
        // The container may have another port, by which it sends there.
        let elsewhere = route.as_ref().and_then(|route| route.elsewhere.as_ref());
        let elsewhere = inside.as_ref().zip(elsewhere).and_then(|(inside, at)| self.port_at(&inside.netns, &at.ifname));
        if let Some(other) = elsewhere.filter(|other| *other != port && far.port() != Some(other)) {
            return self.pair(self.end(other.as_str())?, far);
        }
        far.ips.sort_by_key(|ip| Some(*ip) != target);
        let source = route.as_ref().and_then(|route| route.source);
        let mut own = near.ips.clone();
        own.retain(|ip| Some(*ip) != source && inside.as_ref().is_none_or(|inside| inside.has(*ip)));
        own.splice(0..0, source);
        let mut pair = Pair { near, far, beyond: None, port, setup, own, target, route };
        if let Some(Route { sends: Sends::By(router), .. }) = &pair.route {
            let router = self.end_by_ip(&router.to_string(), *router, Some(&pair.setup.mode))?;
            pair.beyond = Some(std::mem::replace(&mut pair.far, router));
        }
        Ok(pair)
    }

    /// The peers between the two, which are probed from here on.
    fn peers_between(&mut self, pair: &Pair) -> Vec<IpAddr> {
        match self.shared_vlan(pair) {
            Ok((vlan, _)) if pair.far.port().is_none() && self.vni(vlan).is_some() => {
                self.ask_peers(&self.peers_for(vlan, &pair.far))
            }
            _ => Vec::new(),
        }
    }

    /// What can be asked in the near one's name.
    fn asks(&self, pair: &Pair) -> Option<Ask> {
        // Where the two share no VLAN somebody may still carry frames from one to the other.
        let own = |vlan: VlanId| (vlan, super::ends::untagged(&pair.setup.mode) != Some(vlan));
        let (vlan, is_tagged) = self.shared_vlan(pair).or_else(|first| first.map(own).ok_or(())).ok()?;
        Some(Ask {
            port: self.live_id(&pair.port)?,
            vlan,
            is_tagged,
            mac: self.mac(pair),
            own: pair.own.clone(),
            ip: *pair.far.ips.first()?,
            target: pair.target?,
        })
    }

    /// The address that the near one's container sends from: it may have changed it.
    pub(super) fn mac(&self, pair: &Pair) -> MacAddr {
        self.inside(&pair.port).and_then(|inside| inside.mac).unwrap_or(pair.setup.mac)
    }

    /// All parts of the way, in the order a frame passes them.
    fn walk(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        pair.ports().try_for_each(|name| self.walk_port(name, steps))?;
        self.walk_route(pair, steps)?;
        let (vlan, is_tagged) = self.walk_vlan(pair, steps)?;
        if pair.far.port().is_none() {
            self.walk_tunnel(vlan, &pair.far, steps)?;
            self.walk_peers(vlan, &question.peers, steps);
        }
        let far_mac = pair.far.mac.or(question.answer().map(|(answered, _)| answered.mac));
        let near_mac = self.mac(pair);
        self.walk_address(&pair.near, near_mac, vlan, question, steps)?;
        if let Some(mac) = far_mac {
            self.walk_address(&pair.far, mac, vlan, question, steps)?;
        }
        self.walk_doubles(pair, near_mac, question, steps)?;
        self.walk_switch(pair, (near_mac, far_mac), (vlan, is_tagged), steps)?;
        self.walk_storms(pair, question, steps)?;
        self.walk_answer(pair, vlan, question, steps)?;
        if pair.far.port().is_none() {
            let behind = question.answer().and_then(|(answered, _)| self.remote_at(answered.port));
            let peers = behind.map_or_else(|| self.peers_for(vlan, &pair.far), |peer| vec![peer]);
            self.walk_path(&pair.port, &peers, steps)?;
        }
        self.walk_router(pair, steps)?;
        self.walk_echo(pair, question, steps)
    }

    fn remote_at(&self, id: PortId) -> Option<IpAddr> {
        self.remotes.iter().find(|(_, remote)| **remote == id).map(|(ip, _)| *ip)
    }
}

/// Ends the walk.
pub(super) fn stop(steps: &mut Vec<ExplainStep>, step: ExplainStep) -> Walked {
    steps.push(step);
    Err(())
}

/// Makes what stopped the walk a remark, where the far one answered an ICMP echo all the same: there is a way that was not
/// seen. Not where somebody else answers for it.
fn refuted(pair: &Pair, question: &Question, steps: &mut [ExplainStep]) -> bool {
    let Some(last) = steps.last_mut() else { return false };
    let is_refutable = match last.reason.as_deref() {
        Some("wrong_vlan") => true,
        Some("duplicate_address") => false, // it came now, and may come from the other one the next time
        _ => REFUTABLE.contains(&last.stage.as_str()),
    };
    // Where an address was asked for, it is his who answers.
    let is_anybody = pair.far.text.parse::<IpAddr>().is_ok();
    let is_far = |mac: MacAddr| is_anybody || pair.far.mac.is_none_or(|far| far == mac);
    let is_refuted = question.echo().flatten().is_some()
        && is_refutable
        && question.answers().iter().all(|(answered, _)| is_far(answered.mac));
    if is_refuted {
        *last = ExplainStep { outcome: StepOutcome::Note, mend: None, ..last.clone() };
    }
    is_refuted
}

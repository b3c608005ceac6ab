//! `why A B`: all that lies between two stations, in the order a frame passes it, until something stops it.
//!
//! One of the two must be a port here: the near one. The other, the far one, is a port too or behind the tunnel, or nobody
//! knows. What is there is looked at first, then the switch is asked what it would do with frames both ways, then the far
//! one is asked for, in the near one's name. Who answers is still not reached where frames to it go elsewhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vswitch_api::{Code, ExplainStep, PortName, RpcError, Why, WhyAsk};
use vswitch_core::MacAddr;
use vswitch_core::switch::PortId;

use super::super::Control;
use super::ends::End;
use super::question::{Ask, Question};

/// How long ports are watched that had frames for many dropped before.
const WATCH: Duration = Duration::from_millis(250);
/// How long probes of peers are waited for.
const PROBED: Duration = Duration::from_millis(2500);

/// One part of the way: `Err` where a frame stops there, which is the last step.
pub(super) type Walked = Result<(), ()>;

/// The two, as seen from here.
pub(super) struct Pair {
    pub(super) near: End,
    pub(super) far: End,
    /// The near one's.
    pub(super) port: PortName,
    pub(super) setup: Arc<crate::network::PortSetup>,
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
                let storms = self.storms(&pair)?;
                let (ticket, mut question) = self.put(question, storms);
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
        let had_storms = question.storms.values().any(|count| *count > 0);
        let is_asking = passed < PROBED && self.are_asked(&question.peers);
        if !self.look(ticket, &mut question) || had_storms && passed < WATCH || is_asking {
            self.questions.keep(ticket, question);
            let steps = Vec::new();
            return Ok(Why {
                a: a_words,
                b: b_words,
                steps,
                reachable: false,
                reason: None,
                round_trip_us: None,
                mend: None,
                pending: Some(ticket),
            });
        }
        let mut steps = Vec::new();
        let reachable = self.walk(&pair, &question, &mut steps).is_ok();
        let last = steps.last().filter(|_| !reachable);
        let round_trip = question.answer.map(|(_, round_trip)| round_trip.as_micros());
        Ok(Why {
            a: a_words,
            b: b_words,
            reachable,
            reason: last.and_then(|step| step.reason.clone()),
            mend: last.and_then(|step| step.mend.clone()),
            round_trip_us: round_trip.and_then(|micros| u64::try_from(micros).ok()),
            steps,
            pending: None,
        })
    }

    /// Which of the two is the near one: A, if it is a port here.
    fn pair(&self, a: End, b: End) -> Result<Pair, RpcError> {
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
        Ok(Pair { near, far, port, setup })
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
        let (vlan, is_tagged) = self.shared_vlan(pair).ok()?;
        let ip = *pair.far.ips.first()?;
        Some(Ask {
            port: self.live_id(&pair.port)?,
            vlan,
            is_tagged,
            mac: self.mac(pair),
            own: own_for(&pair.near.ips, ip, &pair.setup),
            ip,
        })
    }

    /// The address that the near one's container sends from: it may have changed it.
    fn mac(&self, pair: &Pair) -> MacAddr {
        self.inside(&pair.port).and_then(|inside| inside.mac).unwrap_or(pair.setup.mac)
    }

    /// All parts of the way, in the order a frame passes them.
    fn walk(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        self.walk_port(&pair.port, steps)?;
        if let Some(name) = pair.far.port() {
            self.walk_port(name, steps)?;
        }
        let (vlan, is_tagged) = self.walk_vlan(pair, steps)?;
        if pair.far.port().is_none() {
            self.walk_tunnel(vlan, &pair.far, steps)?;
            self.walk_peers(vlan, &question.peers, steps);
        }
        let far_mac = pair.far.mac.or(question.answer.map(|(answered, _)| answered.mac));
        let near_mac = self.mac(pair);
        self.walk_address(&pair.near, near_mac, vlan, question, steps)?;
        if let Some(mac) = far_mac {
            self.walk_address(&pair.far, mac, vlan, question, steps)?;
        }
        self.walk_switch(pair, (near_mac, far_mac), (vlan, is_tagged), steps)?;
        self.walk_storms(pair, question, steps)?;
        self.walk_answer(pair, vlan, question, steps)?;
        if pair.far.port().is_none() {
            let behind = question.answer.and_then(|(answered, _)| self.remote_at(answered.port));
            let peers = behind.map_or_else(|| self.peers_for(vlan, &pair.far), |peer| vec![peer]);
            self.walk_path(&pair.port, &peers, steps)?;
        }
        Ok(())
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

/// A station's addresses, the one first from which it would speak to `ip`: one of the same subnet, if there is.
pub(super) fn own_for(ips: &[IpAddr], ip: IpAddr, setup: &crate::network::PortSetup) -> Vec<IpAddr> {
    let near = |own: &IpAddr| setup.addresses.iter().any(|address| address.ip() == *own && address.net().contains(&ip));
    let mut ips = ips.to_vec();
    ips.sort_by_key(|own| !near(own));
    ips
}

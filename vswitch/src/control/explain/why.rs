//! `why A B`: all that lies between two stations, in the order a frame passes it, until something stops it.
//!
//! One of the two must be a port here: the near one. The other, the far one, is a port too or behind the tunnel, or nobody
//! knows. What is there is looked at first, then the switch is asked what it would do with frames both ways, then the far
//! one is asked for, in the near one's name. Who answers is still not reached where frames to it go elsewhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vswitch_api::{Code, ExplainStep, PortMode as Mode, PortName, RpcError, Vid, Why, WhyAsk};
use vswitch_core::switch::{PortId, Verdict};
use vswitch_core::{Frame, MacAddr, Tag, VlanId};

use super::super::Control;
use super::ends::{End, Place, untagged};
use super::frames;
use super::question::{Ask, Question};
use super::tunnel::Walked;

/// How long ports are watched that had frames for many dropped before.
const WATCH: Duration = Duration::from_millis(250);
/// How long probes of peers are waited for.
const PROBED: Duration = Duration::from_millis(2500);

/// The two, as seen from here.
struct Pair {
    near: End,
    far: End,
    port: PortName,
    setup: Arc<crate::network::PortSetup>,
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

    /// Frames for many that ports of the two had dropped.
    fn storms(&self, pair: &Pair) -> Result<BTreeMap<PortId, u64>, RpcError> {
        let counted = self.counted()?;
        let ports = [Some(&pair.port), pair.far.port()].into_iter().flatten().filter_map(|name| self.live_id(name));
        let count = |id: PortId| {
            let drops = counted.ports.get(&id)?.drops();
            Some((id, drops.iter().filter(|(name, _)| name.starts_with("storm_")).map(|(_, count)| count).sum()))
        };
        Ok(ports.filter_map(count).collect())
    }

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

    fn walk_port(&self, name: &PortName, steps: &mut Vec<ExplainStep>) -> Walked {
        if !self.live.contains_key(name) {
            let text = format!("port {name} is lost: its interface or its namespace is gone");
            return stop(steps, ExplainStep::stop("port", "port_lost", text, self.add_again(name)));
        }
        let Some(inside) = self.inside(name) else {
            let text = format!("port {name} is there; its container may not be looked into");
            steps.push(ExplainStep::note("port", text));
            return Ok(());
        };
        let ifname = &inside.ifname;
        if !inside.is_up {
            let text = format!("interface {ifname} of port {name} is down in its container");
            return stop(steps, ExplainStep::stop("interface", "interface_down", text, self.set_up(name, ifname)));
        }
        if !inside.is_running {
            let text = format!("interface {ifname} of port {name} has no carrier in its container");
            return stop(steps, ExplainStep::stop("interface", "no_carrier", text, None));
        }
        steps.push(ExplainStep::ok(
            "port",
            format!("port {name} is up, {ifname} in its container too, MTU {}", inside.mtu),
        ));
        let given = self.network.ports.get(name).map(|setup| setup.mac);
        if let (Some(mac), Some(given)) = (inside.mac.filter(|mac| Some(*mac) != given), given) {
            let text = format!("the container of port {name} changed its address from {given} to {mac}");
            steps.push(ExplainStep::note("interface", text));
        }
        Ok(())
    }

    /// The VLAN that both are in and whether the near one's frames in it are tagged; else the one the far one should be in.
    fn shared_vlan(&self, pair: &Pair) -> Result<(VlanId, bool), Option<VlanId>> {
        let near = &pair.setup.mode;
        let first = untagged(near).or_else(|| near.vlans().next());
        let vlan = match (pair.far.port().and_then(|name| self.network.ports.get(name)), pair.far.vlan) {
            (Some(far), _) => {
                let both = |vlan: &VlanId| near.is_member(*vlan) && far.mode.is_member(*vlan);
                let best = [untagged(near), untagged(&far.mode)].into_iter().flatten().find(both);
                best.or_else(|| near.vlans().find(both))
            }
            (None, Some(vlan)) => Some(vlan).filter(|vlan| near.is_member(*vlan)),
            (None, None) => first,
        };
        vlan.map(|vlan| (vlan, untagged(near) != Some(vlan))).ok_or(first)
    }

    fn walk_vlan(&self, pair: &Pair, steps: &mut Vec<ExplainStep>) -> Result<(VlanId, bool), ()> {
        match self.shared_vlan(pair) {
            Ok((vlan, is_tagged)) => {
                let how = if is_tagged { "tagged" } else { "untagged" };
                steps.push(ExplainStep::ok("vlan", format!("both are in VLAN {vlan}; port {} {how}", pair.port)));
                Ok((vlan, is_tagged))
            }
            Err(wanted) => {
                let (text, mend) = match (pair.far.port(), pair.far.vlan) {
                    (Some(far), _) => (
                        format!(
                            "port {} is in {}, port {far} in {}",
                            pair.port,
                            self.vlans(&pair.port),
                            self.vlans(far)
                        ),
                        wanted.and_then(|vlan| self.join(far, vlan)),
                    ),
                    (None, vlan) => (
                        format!(
                            "port {} is in {}, {} was seen in VLAN {}",
                            pair.port,
                            self.vlans(&pair.port),
                            pair.far.text,
                            vlan.map_or(0, VlanId::get)
                        ),
                        vlan.and_then(|vlan| self.join(&pair.port, vlan)),
                    ),
                };
                steps.push(ExplainStep::stop("vlan", "wrong_vlan", text, mend));
                Err(())
            }
        }
    }

    /// The VLANs of a port, in words.
    fn vlans(&self, name: &PortName) -> String {
        match self.desired.port(name).map(|spec| &spec.mode) {
            Some(Mode::Access(vlan)) => format!("VLAN {vlan}"),
            Some(Mode::Trunk { vlans, native: None }) => format!("VLANs {vlans}, tagged"),
            Some(Mode::Trunk { vlans, native: Some(native) }) => format!("VLANs {vlans}, tagged, and {native}"),
            None => "no VLAN".to_owned(),
        }
    }

    /// The command that puts a port in a VLAN.
    fn join(&self, name: &PortName, vlan: VlanId) -> Option<String> {
        Some(match &self.desired.port(name)?.mode {
            Mode::Access(_) => format!("vsctl port set {name} --access {vlan}"),
            Mode::Trunk { vlans, native } => {
                let vlans = vlans.with(&Vid::new(vlan.get()).ok()?.into());
                let native = native.map(|native| format!(" --native {native}")).unwrap_or_default();
                format!("vsctl port set {name} --trunk {vlans}{native}")
            }
        })
    }

    /// What the switch would do with frames both ways.
    fn walk_switch(
        &self,
        pair: &Pair,
        (near_mac, far_mac): (MacAddr, Option<MacAddr>),
        (vlan, is_tagged): (VlanId, bool),
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let Some(near) = self.live_id(&pair.port) else { return Ok(()) };
        let tagged = |bytes: Vec<u8>, is_tagged: bool| {
            let mut frame = Frame::from_bytes(&bytes);
            frame.retag(is_tagged.then(|| Tag::from_bits(0).in_vlan(vlan)));
            frame.bytes().to_vec()
        };
        let near_ips =
            pair.far.ips.first().map_or_else(|| pair.near.ips.clone(), |ip| own_for(&pair.near.ips, *ip, &pair.setup));
        let question = pair.far.ips.first().map(|ip| tagged(frames::who_has(near_mac, &near_ips, *ip), is_tagged));
        let there = far_mac.map(|mac| tagged(frames::packet((near_mac, &near_ips), (mac, &pair.far.ips)), is_tagged));
        for (bytes, what) in [(question, "asks who has the address"), (there, "sends a packet")] {
            let Some(bytes) = bytes else { continue };
            let way = format!("{} {what}", pair.near.name());
            self.walk_frame((near, None, Some(&pair.port)), bytes, &way, steps)?;
        }
        let (Some(mac), from) = (far_mac, &pair.far) else { return Ok(()) };
        let back = frames::packet((mac, &from.ips), (near_mac, &near_ips));
        let way = format!("{} answers", from.name());
        match &from.place {
            Place::Port(name) => {
                let Some(id) = self.live_id(name) else { return Ok(()) };
                let is_tagged = self.network.ports.get(name).is_some_and(|setup| untagged(&setup.mode) != Some(vlan));
                self.walk_frame((id, None, Some(name)), tagged(back, is_tagged), &way, steps)
            }
            Place::Remote(ip) => {
                let Some(id) = self.remote_id(*ip) else { return Ok(()) };
                self.walk_frame((id, Some(vlan), None), back, &way, steps)
            }
            Place::Unknown => Ok(()),
        }
    }

    /// What the switch would do with one frame: one step where it passes, all of them where it does not.
    fn walk_frame(
        &self,
        (id, vlan, sender): (PortId, Option<VlanId>, Option<&PortName>),
        frame: Vec<u8>,
        way: &str,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let explained = self.ask(move |worker| {
            let now = worker.now();
            worker.datapath.explain(now, id, vlan, &frame).0
        });
        let Ok(explained) = explained else { return Ok(()) };
        let mut told = self.told(&explained, sender);
        match explained.verdict {
            Verdict::Drop(_) => {
                if let Some(last) = told.last_mut() {
                    last.text = format!("{way}: {}", last.text);
                }
                steps.extend(told);
                Err(())
            }
            Verdict::Unicast(egress) => {
                steps.push(ExplainStep::ok("switch", format!("{way}: it leaves on {}", self.title(egress.port))));
                Ok(())
            }
            Verdict::Flood(_) => {
                steps.push(ExplainStep::ok("switch", format!("{way}: all in the VLAN get it")));
                Ok(())
            }
        }
    }

    /// Whether one of the two brings in more frames for many than it may just now: its questions are among them.
    fn walk_storms(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        let Ok(counted) = self.counted() else { return Ok(()) };
        for name in [Some(&pair.port), pair.far.port()].into_iter().flatten() {
            let Some(id) = self.live_id(name) else { continue };
            let drops = counted.ports.get(&id).map(crate::counters::Counters::drops).unwrap_or_default();
            let storms = || drops.iter().filter(|(reason, _)| reason.starts_with("storm_"));
            let all: u64 = storms().map(|(_, count)| count).sum();
            let before = question.storms.get(&id).copied().unwrap_or(0);
            if all > before
                && let Some((reason, _)) = storms().max_by_key(|(_, count)| **count)
            {
                let text = format!(
                    "port {name} floods: {} frames for many were dropped while this was looked at, and its own questions may \
                     be among them",
                    all - before
                );
                return stop(steps, ExplainStep::stop("storm", reason, text, self.calm(name)));
            }
        }
        Ok(())
    }

    fn walk_answer(&self, pair: &Pair, vlan: VlanId, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        let far = &pair.far;
        if !question.was_asked() {
            let text = format!("no IP address of {} is known: it was not asked", far.name());
            steps.push(ExplainStep::note("answer", text));
            return Ok(());
        }
        let ip = far.ips.first().map(ToString::to_string).unwrap_or_default();
        let Some((answered, round_trip)) = question.answer else {
            return stop(steps, self.silence(pair, vlan, &ip));
        };
        let at = self.title(answered.port);
        let expected = match &far.place {
            Place::Port(name) => self.live_id(name),
            Place::Remote(remote) => self.remote_id(*remote),
            Place::Unknown => None,
        };
        if expected.is_some_and(|expected| expected != answered.port) && far.port().is_some() {
            let text = format!("{ip} is answered for by {}, behind {at}: two stations have it", answered.mac);
            return stop(steps, ExplainStep::stop("answer", "duplicate_ip", text, None));
        }
        let text = format!("{ip} answers, from {} behind {at}, after {} us", answered.mac, round_trip.as_micros());
        steps.push(ExplainStep::ok("answer", text));
        Ok(())
    }

    /// Why nobody answered.
    fn silence(&self, pair: &Pair, vlan: VlanId, ip: &str) -> ExplainStep {
        let Some(name) = pair.far.port() else { return self.judge_silence(vlan, &pair.far) };
        let inside = self.inside(name);
        let wanted: Option<IpAddr> = pair.far.ips.first().copied();
        match inside {
            Some(inside) if wanted.is_some_and(|ip| !inside.addresses.contains(&ip)) => {
                let text = format!("the container of port {name} does not have {ip}: nobody answers for it");
                ExplainStep::stop("answer", "no_address", text, None)
            }
            _ => {
                let text = format!("the container of port {name} got the question who has {ip} and does not answer");
                ExplainStep::stop("answer", "no_answer", text, None)
            }
        }
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
fn own_for(ips: &[IpAddr], ip: IpAddr, setup: &crate::network::PortSetup) -> Vec<IpAddr> {
    let near = |own: &IpAddr| setup.addresses.iter().any(|address| address.ip() == *own && address.net().contains(&ip));
    let mut ips = ips.to_vec();
    ips.sort_by_key(|own| !near(own));
    ips
}

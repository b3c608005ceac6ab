//! The part of `why` about the answer of the far station: who gave it, or why nobody did.

use std::net::IpAddr;

use vswitch_api::{ExplainStep, FdbTarget};
use vswitch_core::{MacAddr, VlanId};

use super::super::Control;
use super::ends::Place;
use super::question::Question;
use super::why::{Pair, Walked, stop};
use crate::worker::Answered;

impl Control {
    /// Whether somebody else has the address that the near one sends from.
    pub(super) fn walk_doubles(
        &self,
        pair: &Pair,
        near: MacAddr,
        question: &Question,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let other = question.doubles().iter().map(|(answered, _)| answered).find(|answered| answered.mac != near);
        let (Some(other), Some(own)) = (other, pair.own.first()) else { return Ok(()) };
        stop(steps, self.duplicate(*own, &format!("port {}, {near},", pair.port), other))
    }

    pub(super) fn walk_answer(
        &self,
        pair: &Pair,
        vlan: VlanId,
        question: &Question,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let far = &pair.far;
        let Some((ip, _)) = question.ips().filter(|_| question.was_asked()) else {
            let text = format!("no IP address of {} is known: it was not asked", far.name());
            steps.push(ExplainStep::note("answer", text));
            return Ok(());
        };
        let Some((answered, round_trip)) = question.answer() else {
            return stop(steps, self.silence(pair, vlan, ip));
        };
        let expected = match &far.place {
            Place::Port(name) => self.live_id(name),
            Place::Remote(remote) => self.remote_id(*remote),
            Place::Unknown => None,
        };
        let is_far = |answered: &Answered| {
            expected.is_none_or(|expected| expected == answered.port) && far.mac.is_none_or(|mac| mac == answered.mac)
        };
        if let [_, _, ..] = question.answers() {
            let all = || question.answers().iter().map(|(answered, _)| answered);
            let far = all().find(|answered| is_far(answered)).unwrap_or(&answered);
            if let Some(other) = all().find(|other| other.mac != far.mac) {
                let owner = format!("{}, {},", self.title(far.port), far.mac);
                return stop(steps, self.duplicate(ip, &owner, other));
            }
        }
        if expected.is_some_and(|expected| expected != answered.port) && far.port().is_some() {
            let owner = format!("{}, which does not answer for it,", far.words());
            return stop(steps, self.duplicate(ip, &owner, &answered));
        }
        let (kind, at) = (kind(ip), self.title(answered.port));
        let text =
            format!("{ip} answers by {kind}, from {} behind {at}, after {} us", answered.mac, round_trip.as_micros());
        steps.push(ExplainStep::ok("answer", text));
        Ok(())
    }

    /// Two stations have `ip`: `owner`, in words, and who answers for it too.
    fn duplicate(&self, ip: IpAddr, owner: &str, other: &Answered) -> ExplainStep {
        let at = self.title(other.port);
        let text = format!(
            "{ip} is the address of {owner} and of {}, behind {at}: who asks finds now one, now the other",
            other.mac
        );
        let mend = match self.targets().remove(&other.port) {
            Some(FdbTarget::Port(name)) => self.inside(&name).and_then(|inside| {
                let net = inside.nets.iter().find(|net| net.addr() == ip)?;
                self.ip_in(&name, &format!("address delete {net} dev {}", inside.ifname))
            }),
            _ => None,
        };
        ExplainStep::stop("answer", "duplicate_address", text, mend)
    }

    /// What an ICMP echo in the near one's name comes to, after the question who has the address was answered.
    pub(super) fn walk_echo(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        let Some((ip, target)) = question.ips().filter(|_| question.was_asked()) else { return Ok(()) };
        match question.echo() {
            Some(Some(trip)) => {
                let text = format!("{target} answers an ICMP echo, after {} us", trip.as_micros());
                steps.push(ExplainStep::ok("echo", text));
                Ok(())
            }
            Some(None) => {
                if let Some((name, reason, count)) = self.dropped(pair, question) {
                    let text = format!(
                        "{target} does not answer an ICMP echo, and {count} frames at port {name} were dropped meanwhile"
                    );
                    return stop(steps, ExplainStep::stop("echo", &reason, text, None));
                }
                let text = match &pair.beyond {
                    Some(_) => format!(
                        "the router {ip} answers by {}; {target} behind it does not answer an ICMP echo, and what lies behind \
                         the router is its affair: `vsctl why` of the router's port, or the router itself, says more",
                        kind(ip)
                    ),
                    None => format!(
                        "{target} answers by {}, and not an ICMP echo: a packet filter in its container drops it (`nft list \
                         ruleset` there), or it has no way back",
                        kind(ip)
                    ),
                };
                let reason = if pair.beyond.is_some() { "behind_router" } else { "echo_unanswered" };
                stop(steps, ExplainStep::stop("echo", reason, text, None))
            }
            None if pair.beyond.is_some() => {
                let text = format!("{target} was not asked: what lies behind the router {ip} is its affair");
                steps.push(ExplainStep::note("echo", text));
                Err(())
            }
            None => {
                let text = format!("no ICMP echo was asked for: port {} has no such address known here", pair.port);
                steps.push(ExplainStep::note("echo", text));
                Ok(())
            }
        }
    }

    /// Why nobody answered.
    fn silence(&self, pair: &Pair, vlan: VlanId, ip: IpAddr) -> ExplainStep {
        let Some(name) = pair.far.port() else { return self.judge_silence(vlan, &pair.far) };
        let text = format!("the container of port {name} got the question who has {ip} and does not answer");
        ExplainStep::stop("answer", "no_answer", text, None)
    }
}

/// What was asked and answered, in words.
pub(super) fn asked(question: &Question) -> Vec<String> {
    let mut asked = Vec::new();
    if let (Some(_), Some((ip, _))) = (question.answer(), question.ips()) {
        asked.push(kind(ip).to_owned());
    }
    if question.echo().flatten().is_some() {
        asked.push("ICMP echo".to_owned());
    }
    asked
}

/// What asks who has an address.
pub(super) const fn kind(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "ARP" } else { "neighbour discovery" }
}

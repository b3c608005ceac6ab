//! The part of `why` about the answer of the far station: who gave it, or why nobody did.

use std::net::IpAddr;

use vswitch_api::ExplainStep;
use vswitch_core::VlanId;

use super::super::Control;
use super::ends::Place;
use super::question::Question;
use super::why::{Pair, Walked, stop};

impl Control {
    pub(super) fn walk_answer(
        &self,
        pair: &Pair,
        vlan: VlanId,
        question: &Question,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
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
}

//! The part of `why` about MAC addresses: whether each is where its station is, there alone, and what the FDB remembers.

use std::time::Duration;

use vswitch_api::ExplainStep;
use vswitch_core::switch::{FdbKind, PortId};
use vswitch_core::{MacAddr, VlanId};

use super::super::Control;
use super::ends::{End, Place};
use super::question::Question;
use super::why::{Walked, stop};

/// Moves in [`RESTLESS`] that no station makes that is in one place.
const MOVES: u32 = 3;
const RESTLESS: Duration = Duration::from_secs(10);

impl Control {
    /// Whether the address of one of the two is where it is, there alone.
    pub(super) fn walk_address(
        &self,
        end: &End,
        mac: MacAddr,
        vlan: VlanId,
        question: &Question,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let own = end.port().and_then(|name| self.live_id(name));
        let place = match &end.place {
            Place::Port(_) => own,
            Place::Remote(ip) => self.remote_id(*ip),
            Place::Unknown => question.answer().map(|(answered, _)| answered.port),
        };
        if let Some(other) = self.other_owner(end, mac, vlan) {
            let text = format!("{mac} is the address of {} and of {other}: frames go now here, now there", end.name());
            let mend = end.port().map(|name| format!("vsctl port set {name} --allow-mac {mac}"));
            return stop(steps, ExplainStep::stop("address", "duplicate_mac", text, mend));
        }
        let Some(entry) = self.addresses.fdb_get(vlan, mac) else {
            steps.push(ExplainStep::note(
                "fdb",
                format!("{mac} is not in the FDB of VLAN {vlan}: frames to it go to all"),
            ));
            return Ok(());
        };
        let at = self.title(entry.port);
        let is_elsewhere = place.is_some_and(|place| place != entry.port);
        let forget = || Some(format!("vsctl fdb del {mac} --vlan {vlan}"));
        match entry.kind {
            FdbKind::Static if is_elsewhere => {
                let text = format!("a static entry sends frames for {mac} to {at}, and {} is not there", end.name());
                return stop(steps, ExplainStep::stop("fdb", "static_elsewhere", text, forget()));
            }
            FdbKind::Static => steps.push(ExplainStep::ok("fdb", format!("{mac}: static, behind {at}"))),
            FdbKind::Learned { .. } if is_elsewhere => {
                let text = format!("{mac} was learned behind {at}, and {} is not there", end.name());
                return stop(steps, ExplainStep::stop("fdb", "learned_elsewhere", text, forget()));
            }
            FdbKind::Learned { .. } => {
                let text = format!("{mac}: behind {at}{}", self.history(vlan, mac));
                steps.push(ExplainStep::ok("fdb", text));
            }
        }
        Ok(())
    }

    /// What is remembered of a learned address, in words.
    fn history(&self, vlan: VlanId, mac: MacAddr) -> String {
        let now = crate::clock::now();
        let Some(history) = self.addresses.fdb_history(vlan, mac) else { return String::new() };
        let learned = format!(", learned {} s ago", now.since(history.learned).as_secs());
        let moved = history.moved.map(|moved| {
            let ago = now.since(moved.at).as_secs();
            format!(", moved {} times, last {ago} s ago from {}", moved.times, self.title(moved.from))
        });
        learned + &moved.unwrap_or_default()
    }

    /// Who else has the address, in words; nobody has what a guard keeps for one port alone.
    fn other_owner(&self, end: &End, mac: MacAddr, vlan: VlanId) -> Option<String> {
        let others =
            || self.network.ports.iter().filter(|(name, _)| Some(*name) != end.port() && self.live.contains_key(*name));
        let keeps = |setup: &crate::network::PortSetup| {
            setup.allow_macs.iter().flatten().any(|allowed| allowed.octets() == mac.0)
        };
        let own = end.port().and_then(|name| self.network.ports.get(name));
        if own.is_some_and(|setup| keeps(setup)) && !others().any(|(_, setup)| keeps(setup)) {
            return None;
        }
        if let Some((name, _)) = others().find(|(_, setup)| setup.mac == mac && setup.mode.is_member(vlan)) {
            return Some(format!("port {name}"));
        }
        let own = end.port().and_then(|name| self.live_id(name));
        let entry = self.addresses.fdb_get(vlan, mac)?;
        let elsewhere = |one: PortId, other: PortId| if Some(one) == own { other } else { one };
        // One that is gone takes nothing any more.
        let there = |id: PortId| self.targets().get(&id).map(ToString::to_string);
        if let Some(flapping) = entry.flapping {
            return there(elsewhere(flapping.port, flapping.other));
        }
        let moved = self.addresses.fdb_history(vlan, mac)?.moved?;
        let is_restless = moved.times >= MOVES && crate::clock::now().since(moved.at) < RESTLESS;
        is_restless.then(|| there(elsewhere(moved.from, entry.port))).flatten()
    }
}

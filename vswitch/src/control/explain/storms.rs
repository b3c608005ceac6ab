//! The part of `why` about storms: frames for many that a port brings in beyond its share, while this is looked at.

use std::collections::BTreeMap;

use vswitch_api::{ExplainStep, PortName, RpcError};
use vswitch_core::switch::PortId;

use super::super::Control;
use super::question::Question;
use super::why::{Pair, Walked, stop};

impl Control {
    /// What ports of the two had dropped, by reason.
    pub(super) fn drops(&self, pair: &Pair) -> Result<BTreeMap<PortId, BTreeMap<String, u64>>, RpcError> {
        let counted = self.counted()?;
        let drops = |id: PortId| {
            let drops = counted.ports.get(&id)?.drops();
            Some((id, drops.into_iter().map(|(reason, count)| (reason.to_string(), count)).collect()))
        };
        Ok(pair.ports().filter_map(|name| self.live_id(name)).filter_map(drops).collect())
    }

    /// The port of the two, and the reason, that most frames were dropped for while this is looked at.
    pub(super) fn dropped(&self, pair: &Pair, question: &Question) -> Option<(PortName, String, u64)> {
        let mut grown = Vec::new();
        let drops = self.drops(pair).ok()?;
        for name in pair.ports() {
            let Some((id, now)) = self.live_id(name).and_then(|id| Some((id, drops.get(&id)?))) else { continue };
            let before = |reason: &String| question.drops.get(&id).and_then(|drops| drops.get(reason)).copied();
            grown.extend(now.iter().map(|(reason, count)| {
                (name.clone(), reason.clone(), count.saturating_sub(before(reason).unwrap_or(0)))
            }));
        }
        grown.into_iter().filter(|(_, _, count)| *count > 0).max_by_key(|(_, _, count)| *count)
    }

    /// Whether one of the two brings in more frames for many than it may just now: its questions are among them.
    pub(super) fn walk_storms(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
        let Ok(counted) = self.counted() else { return Ok(()) };
        for name in pair.ports() {
            let Some(id) = self.live_id(name) else { continue };
            let drops = counted.ports.get(&id).map(crate::counters::Counters::drops).unwrap_or_default();
            let storms = || drops.iter().filter(|(reason, _)| reason.starts_with("storm_"));
            let all: u64 = storms().map(|(_, count)| count).sum();
            let before: u64 = question.drops.get(&id).map_or(0, storm_drops);
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
}

/// Frames for many among those that were dropped.
pub(super) fn storm_drops(drops: &BTreeMap<String, u64>) -> u64 {
    drops.iter().filter(|(reason, _)| reason.starts_with("storm_")).map(|(_, count)| count).sum()
}

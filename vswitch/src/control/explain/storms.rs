//! The part of `why` about storms: frames for many that a port brings in beyond its share, while this is looked at.

use std::collections::BTreeMap;

use vswitch_api::{ExplainStep, RpcError};
use vswitch_core::switch::PortId;

use super::super::Control;
use super::question::Question;
use super::why::{Pair, Walked, stop};

impl Control {
    /// Frames for many that ports of the two had dropped.
    pub(super) fn storms(&self, pair: &Pair) -> Result<BTreeMap<PortId, u64>, RpcError> {
        let counted = self.counted()?;
        let ports = [Some(&pair.port), pair.far.port()].into_iter().flatten().filter_map(|name| self.live_id(name));
        let count = |id: PortId| {
            let drops = counted.ports.get(&id)?.drops();
            Some((id, drops.iter().filter(|(name, _)| name.starts_with("storm_")).map(|(_, count)| count).sum()))
        };
        Ok(ports.filter_map(count).collect())
    }

    /// Whether one of the two brings in more frames for many than it may just now: its questions are among them.
    pub(super) fn walk_storms(&self, pair: &Pair, question: &Question, steps: &mut Vec<ExplainStep>) -> Walked {
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
}

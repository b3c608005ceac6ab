//! What is said of peers without being asked: once in the log, and to who monitors.

use std::collections::BTreeSet;
use std::mem;

use vswitch_api::monitor::What;
use vswitch_core::Instant;

use super::super::Control;

impl Control {
    /// Says once in the log what changed.
    pub(super) fn say_health(&mut self, now: Instant) {
        for ip in &mem::take(&mut self.probes.news) {
            let Some(path) = self.probes.paths.get(ip).filter(|path| !path.is_busy()) else { continue };
            let Some(verdict) = path.verdict(now) else { continue };
            let names: BTreeSet<_> = verdict.findings.iter().map(|finding| finding.fault.name()).collect();
            let before = self.probes.said.get(ip);
            if before.is_some_and(|(state, said)| *state == verdict.state && *said == names) {
                continue;
            }
            let state = verdict.state.name();
            let is_new = |name| before.is_none_or(|(_, said)| !said.contains(name));
            for finding in verdict.findings.iter().filter(|finding| is_new(finding.fault.name())) {
                let mend = finding.mend.as_deref().unwrap_or("none known");
                tracing::warn!(peer = %ip, state, finding = finding.fault.name(), mend, "{}", finding.text);
            }
            if verdict.findings.is_empty() {
                tracing::info!(peer = %ip, state, "the way to a peer");
            }
            self.probes.said.insert(*ip, (verdict.state, names));
            let peer = self.desired.peers().find(|peer| peer.ip == *ip).map(|peer| self.peer_info(peer));
            peer.into_iter().for_each(|peer| self.tell(What::PeerHealth(peer)));
        }
    }
}

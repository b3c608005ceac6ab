//! The part of `why` on the other host: what its switch says of itself when it is asked, or why it does not.

use std::net::IpAddr;

use vswitch_api::{ExplainStep, HealthState, Vni};
use vswitch_core::VlanId;
use vswitch_sys::Trouble;

use super::super::Control;
use super::ends::End;
use crate::health::{Fault, Path};

/// Peers that are asked at once.
const MOST: usize = 8;

impl Control {
    /// Has peers probed; returns those that are.
    pub(super) fn ask_peers(&mut self, peers: &[IpAddr]) -> Vec<IpAddr> {
        let asked: Vec<_> = peers.iter().copied().take(MOST).collect();
        asked.iter().for_each(|peer| self.test_peer(*peer));
        asked
    }

    /// Whether what `peers` were asked is still open.
    pub(super) fn are_asked(&self, peers: &[IpAddr]) -> bool {
        peers.iter().any(|peer| self.path(*peer).is_some_and(|path| path.is_busy()))
    }

    /// What the peers said of themselves.
    pub(super) fn walk_peers(&self, vlan: VlanId, peers: &[IpAddr], steps: &mut Vec<ExplainStep>) {
        let now = crate::clock::now();
        let vni = self.vni(vlan);
        for &peer in peers {
            let Some(path) = self.path(peer) else { continue };
            let Some(trip) = path.tested().flatten() else {
                let verdict = path.tested_verdict(now);
                if verdict.as_ref().is_some_and(|verdict| verdict.state == HealthState::Foreign) {
                    let trip = self.host_trip(peer).map(|trip| format!(", after {} us", trip.as_micros()));
                    let text =
                        format!("the host {peer} is there{}; its VTEP answers no probes", trip.unwrap_or_default());
                    steps.push(ExplainStep::note("peer", text));
                } else if let Some(finding) = verdict.and_then(|verdict| verdict.found(Fault::PeerSilent)) {
                    steps.push(ExplainStep::note("peer", finding.text));
                }
                continue;
            };
            let carries = path.path_mtu().map(|mtu| format!(", the path carries {mtu} bytes"));
            if path.is_refused() {
                let text = format!("the switch at {peer} answers that this host is none of its peers");
                steps.push(ExplainStep::note("peer", text));
                continue;
            }
            let has_it = match vni.and_then(|vni| path.shared().get(&vni).map(|has_it| (vni, *has_it))) {
                Some((vni, true)) => format!(", it has VNI {vni} and this host as a peer in it"),
                Some((vni, false)) => format!(", it does not have VNI {vni} with this host as a peer"),
                None => String::new(),
            };
            let micros = trip.as_micros();
            let text =
                format!("the switch at {peer} answers: round trip {micros} us{}{has_it}", carries.unwrap_or_default());
            steps.push(ExplainStep::ok("peer", text));
        }
    }

    /// Why what was sent to `peers` for `far` was not answered, by what they say, or what is said of them.
    pub(super) fn judge_peers(&self, vlan: VlanId, far: &End, peers: &[IpAddr]) -> Option<ExplainStep> {
        let asked = peers.iter().filter_map(|peer| Some((*peer, self.path(*peer)?)));
        let asked: Vec<_> = asked.collect();
        if let Some(step) = asked.iter().find_map(|(peer, path)| self.told_by_underlay(*peer, path.complaint()?)) {
            return Some(step);
        }
        let now = crate::clock::now();
        // Any, and not all: the far one may be behind that one.
        let refusal = |(_, path): &(IpAddr, &Path)| path.tested_verdict(now)?.found(Fault::NotAPeer);
        if let Some(finding) = asked.iter().find_map(refusal) {
            let own = self.vtep_ip().map(|ip| ip.to_string()).unwrap_or_default();
            let mend = Some(format!("vsctl vtep peer add {own} --vlan {vlan}"));
            let text = format!("nobody answers: {} (there, this mends it)", finding.text);
            return Some(ExplainStep::stop("peer", Fault::NotAPeer.name(), text, mend));
        }
        let vni = self.vni(vlan)?;
        let lacks =
            asked.iter().find(|(_, path)| path.tested().flatten().is_some() && path.shared().get(&vni) == Some(&false));
        if let Some((peer, _)) = lacks {
            return Some(self.lacks_vni(*peer, vlan, vni));
        }
        let found = |fault: Fault| {
            asked.iter().find_map(|(peer, path)| {
                let verdict = path.tested_verdict(now).filter(|_| path.tested().flatten().is_none())?;
                verdict.found(fault).map(|finding| (*peer, finding))
            })
        };
        if let Some((_, finding)) = found(Fault::PortBlocked) {
            return Some(ExplainStep::stop("underlay", "udp_blocked", finding.text, None));
        }
        if let Some((_, finding)) = found(Fault::HostUnreachable) {
            return Some(ExplainStep::stop("underlay", "peer_unreachable", finding.text, None));
        }
        let all_answer = !asked.is_empty()
            && asked.len() == peers.len()
            && asked
                .iter()
                .all(|(_, path)| path.tested().flatten().is_some() && path.shared().get(&vni) == Some(&true));
        all_answer.then(|| {
            let list: Vec<_> = peers.iter().map(ToString::to_string).collect();
            let text = format!(
                "the switches at {} answer, and have VNI {vni} and this host as a peer in it; {} does not answer, or is not \
                 there (`vsctl why` there says)",
                list.join(", "),
                far.text
            );
            ExplainStep::stop("answer", "no_answer", text, None)
        })
    }

    fn lacks_vni(&self, peer: IpAddr, vlan: VlanId, vni: Vni) -> ExplainStep {
        let own = self.vtep_ip().map(|ip| ip.to_string()).unwrap_or_default();
        let sent = self.other_vni(peer).map(|other| format!("; it sends frames in VNI {other}")).unwrap_or_default();
        let text = format!(
            "the switch at {peer} has no VLAN with VNI {vni}, or does not have {own} as a peer in it (there, this mends it){sent}"
        );
        let mend = format!("vsctl vlan add {vlan} --vni {vni} && vsctl vtep peer add {own} --vlan {vlan}");
        ExplainStep::stop("peer", "vni_missing", text, Some(mend))
    }

    /// What the underlay said of a peer's VXLAN port.
    fn told_by_underlay(&self, peer: IpAddr, (what, by): (Trouble, Option<IpAddr>)) -> Option<ExplainStep> {
        let port = self.vtep_port;
        match what {
            Trouble::PortUnreachable => {
                let text = format!(
                    "the host {peer} is there, and refuses UDP port {port}: no VTEP listens, or a firewall rejects it (`vsctl \
                     doctor` there tells which)"
                );
                Some(ExplainStep::stop("peer", "peer_refuses", text, None))
            }
            Trouble::Prohibited => {
                let who = by.map_or_else(|| "this host".to_owned(), |by| by.to_string());
                let text = format!(
                    "a firewall at {who} refuses UDP port {port} to {peer} (`vsctl doctor` there names the rule)"
                );
                Some(ExplainStep::stop("underlay", "udp_blocked", text, None))
            }
            Trouble::HostUnreachable => {
                let who = by.map(|by| format!(", says {by}")).unwrap_or_default();
                let text = format!("the host {peer} cannot be reached on the underlay{who}");
                Some(ExplainStep::stop("underlay", "peer_unreachable", text, None))
            }
            Trouble::TooBig(_) | Trouble::Other(_) => None,
        }
    }
}

//! What is wrong with the way to a peer, in names, words and advice; and how it is in one word.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use vswitch_api::{HealthState, Vid, VlanList, Vni};
use vswitch_sys::Trouble;

use super::host::Host;
use super::own::OwnFault;
use super::path::Ends;

/// Lost probes below which loss is no finding: one may be lost anywhere.
const LOST: usize = 2;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This host cannot send; under the name of what it is.
    Own(&'static str),
    /// Something keeps datagrams from the VTEP of a host that is there.
    PortBlocked,
    /// No probe is answered, and no reason is known.
    PeerSilent,
    /// The host is not there, or there is no way to it.
    HostUnreachable,
    ChecksumCorrupted,
    SourceRewritten,
    MtuSmaller,
    /// The other side says that this host is none of its peers.
    NotAPeer,
    /// The other side lacks this network, or this host as a peer in it.
    VniMissing(Vni),
    Loss,
}

impl Fault {
    /// What it is called where users see it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Own(name) => name,
            Self::PortBlocked => "port_blocked",
            Self::PeerSilent => "peer_silent",
            Self::HostUnreachable => "host_unreachable",
            Self::ChecksumCorrupted => "checksum_corrupted",
            Self::SourceRewritten => "source_rewritten",
            Self::MtuSmaller => "mtu_smaller",
            Self::NotAPeer => "not_a_peer",
            Self::VniMissing(_) => "vni_missing",
            Self::Loss => "loss",
        }
    }
}

/// A fault, in words and with advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) fault: Fault,
    pub(crate) text: String,
    pub(crate) mend: Option<String>,
}

impl Finding {
    const fn new(fault: Fault, text: String, mend: Option<String>) -> Self {
        Self { fault, text, mend }
    }

    /// As users see it.
    pub(crate) fn shown(self) -> vswitch_api::Finding {
        vswitch_api::Finding { name: self.fault.name().to_owned(), text: self.text, mend: self.mend }
    }
}

/// All that was found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// It answers probes now.
    pub(super) answers: bool,
    /// It answered or asked, once: it is a vswitch.
    pub(super) is_ours: bool,
    /// VXLAN came from it of late.
    pub(super) is_heard: bool,
    /// VXLAN came from it, once.
    pub(super) has_spoken: bool,
    /// It says that this host is none of its peers.
    pub(super) is_stranger: bool,
    /// What keeps this host from asking.
    pub(super) own: Option<OwnFault>,
    /// What the network said of probes.
    pub(super) complaint: Option<(Trouble, Option<IpAddr>)>,
    pub(super) host: Option<Host>,
    /// Where probes seem to come from, there, where that is not from here.
    pub(super) seen_as: Option<SocketAddr>,
    /// Where its answers come from, where that is not from it.
    pub(super) speaks_as: Option<IpAddr>,
    /// Messages came damaged: there, here.
    pub(super) damaged: (bool, bool),
    /// The largest packet that gets there.
    pub(super) path_mtu: Option<u16>,
    /// Whether it has a network, and this host as a peer in it.
    pub(super) networks: BTreeMap<Vni, (Vid, bool)>,
    /// The part of probes that was lost, and how many.
    pub(super) loss: (f64, usize),
}

/// What it all comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) state: HealthState,
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    /// The finding of `fault`, if there is one.
    pub(crate) fn found(self, fault: Fault) -> Option<Finding> {
        self.findings.into_iter().find(|finding| finding.fault == fault)
    }

    /// Without what is wrong in other networks than `vni` alone.
    pub(crate) fn within(mut self, vni: Vni) -> Self {
        self.findings.retain(|finding| !matches!(finding.fault, Fault::VniMissing(other) if other != vni));
        if self.state == HealthState::Degraded && self.findings.is_empty() {
            self.state = HealthState::Healthy;
        }
        self
    }
}

impl Facts {
    /// What they come to between `ends`.
    pub(super) fn judge(&self, ends: &Ends) -> Verdict {
        if self.answers {
            let findings = self.flaws(ends);
            let state = if findings.is_empty() { HealthState::Healthy } else { HealthState::Degraded };
            return Verdict { state, findings };
        }
        let (state, finding) = self.silence(ends);
        Verdict { state, findings: finding.into_iter().collect() }
    }

    /// What is wrong although it answers.
    fn flaws(&self, ends: &Ends) -> Vec<Finding> {
        let Ends { own, peer, port, mtu, overhead } = *ends;
        if self.is_stranger {
            // All else would follow from that.
            let vlans = VlanList::new(self.networks.values().map(|(vlan, _)| *vlan));
            let vlans = vlans.map_or_else(|| "--all-vlans".to_owned(), |vlans| format!("--vlan {vlans}"));
            let text = format!(
                "the switch at {peer} answers, and does not have {own} as a peer: it drops frames from here as unknown_vtep \
                 and sends none"
            );
            let mend = format!("there: vsctl vtep peer add {own} {vlans}");
            return vec![Finding::new(Fault::NotAPeer, text, Some(mend))];
        }
        let mut findings = Vec::new();
        if let Some(seen) = self.seen_as {
            let text = format!(
                "what {own} sends arrives at {peer} from {}: the source address is rewritten on the way (NAT), and the switch \
                 there drops frames from strangers as unknown_vtep",
                seen.ip()
            );
            let mend = format!("where it is rewritten, leave UDP port {port} out of it");
            findings.push(Finding::new(Fault::SourceRewritten, text, Some(mend)));
        }
        if let Some(other) = self.speaks_as {
            let text = format!(
                "what {peer} sends arrives from {other}: its source address is rewritten on the way (NAT), and frames from it are \
                 dropped as unknown_vtep"
            );
            let mend = format!("where it is rewritten, leave UDP port {port} out of it");
            findings.push(Finding::new(Fault::SourceRewritten, text, Some(mend)));
        }
        for (is_damaged, way) in [(self.damaged.0, format!("to {peer}")), (self.damaged.1, format!("from {peer}"))] {
            if is_damaged {
                let text = format!(
                    "bytes of datagrams {way} change on the way, and nobody noticed but for the checksum inside: a device, a driver \
                     or a middlebox writes where it must not"
                );
                let mend =
                    "turn off checksum offload on the way, one interface at a time: ethtool -K IFACE rx off tx off";
                findings.push(Finding::new(Fault::ChecksumCorrupted, text, Some(mend.to_owned())));
            }
        }
        if let Some(carries) = self.path_mtu.filter(|&carries| carries < mtu) {
            let fits = carries.saturating_sub(overhead);
            let text = format!(
                "the path to {peer} carries packets of {carries} bytes, where the interface here carries {mtu}: of what containers \
                 send, packets of more than {fits} bytes do not get there"
            );
            let mend = format!("raise the MTU on the way to {mtu}, or here: vsctl port set PORT --mtu {fits}");
            findings.push(Finding::new(Fault::MtuSmaller, text, Some(mend)));
        }
        for (vni, (vlan, _)) in self.networks.iter().filter(|(_, (_, has_it))| !has_it) {
            let text = format!(
                "the switch at {peer} has no VLAN with VNI {vni} (VLAN {vlan} here), or does not have {own} as a peer in it"
            );
            let mend = format!("there: vsctl vlan add {vlan} --vni {vni} && vsctl vtep peer add {own} --vlan {vlan}");
            findings.push(Finding::new(Fault::VniMissing(*vni), text, Some(mend)));
        }
        let (share, lost) = self.loss;
        if lost >= LOST {
            let text = format!("{:.0} % of probes to {peer} stay unanswered", share * 100.0);
            findings.push(Finding::new(Fault::Loss, text, None));
        }
        findings
    }

    /// Why it does not answer, as far as that can be told from here.
    fn silence(&self, ends: &Ends) -> (HealthState, Option<Finding>) {
        use HealthState::{Foreign, Unreachable};
        let Ends { own, peer, port, .. } = *ends;
        if let Some(fault) = &self.own {
            let finding = Finding::new(Fault::Own(fault.name()), fault.text(own), fault.mend(own));
            return (Unreachable, Some(finding));
        }
        let blocked = |text: String| (Unreachable, Some(Finding::new(Fault::PortBlocked, text, None)));
        let gone = |text: String| (Unreachable, Some(Finding::new(Fault::HostUnreachable, text, None)));
        match self.complaint {
            Some((Trouble::PortUnreachable, by)) => {
                let by = by.unwrap_or(peer);
                let text = format!(
                    "{by} says that nobody listens on UDP port {port}: no VTEP runs there, or a firewall rejects it (`vsctl doctor` \
                     on that host tells which)"
                );
                return blocked(text);
            }
            Some((Trouble::Prohibited, Some(by))) => {
                return blocked(format!(
                    "a firewall at {by} forbids UDP port {port} to {peer} (`vsctl doctor` on that host names the rule)"
                ));
            }
            Some((Trouble::Prohibited, None)) => {
                return blocked(format!(
                    "a firewall on this host forbids UDP port {port} to {peer} (`vsctl doctor` names the rule)"
                ));
            }
            Some((Trouble::HostUnreachable, Some(by))) => {
                return gone(format!("{by} says that {peer} cannot be reached"));
            }
            Some((Trouble::HostUnreachable, None)) => {
                return gone(format!("{peer} cannot be reached: there is no way to it, or no such host"));
            }
            Some((Trouble::TooBig(_) | Trouble::Other(_), _)) | None => {}
        }
        let is_there = self.is_heard || self.host == Some(Host::Answers);
        match &self.host {
            _ if is_there && self.is_ours => {
                let text = format!(
                    "the host {peer} is there, its switch is a vswitch, and of what is sent from {own} to its UDP port {port} \
                     nothing is answered: a firewall on the way or on either host drops it, or what comes back (`vsctl doctor` \
                     names the rule), or its switch does not have {own} as a peer and is too old to say so"
                );
                blocked(text)
            }
            _ if self.is_heard => (Foreign, None),
            Some(Host::Answers) if self.has_spoken => {
                let text = format!(
                    "the host {peer} is there; its VTEP answers no probes, as another maker's does not. Frames have come from it, \
                     none just now: a ping to a station behind it tells whether the way is open"
                );
                (Foreign, Some(Finding::new(Fault::PeerSilent, text, None)))
            }
            Some(Host::Answers) => {
                let text = format!(
                    "the host {peer} is there, its VTEP answers no probes, and no frame has come from it: it is another maker's \
                     or an older one, which answer none, or a firewall drops UDP port {port}"
                );
                (Foreign, Some(Finding::new(Fault::PeerSilent, text, None)))
            }
            Some(Host::Silent) => gone(format!("the host {peer} answers neither probes nor ICMP echo")),
            Some(Host::Unknown(why)) => {
                let text = format!("{peer} answers no probes, and whether its host is there is not known: {why}");
                (Unreachable, Some(Finding::new(Fault::PeerSilent, text, None)))
            }
            None => (Unreachable, Some(Finding::new(Fault::PeerSilent, format!("{peer} answers no probes"), None))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        Ends { own: [192, 0, 2, 1].into(), peer: [192, 0, 2, 2].into(), port: 4789, mtu: 1500, overhead: 50 }
    }

    fn judged(facts: &Facts) -> (HealthState, Vec<&'static str>) {
        let Verdict { state, findings } = facts.judge(&ends());
        (state, findings.iter().map(|finding| finding.fault.name()).collect())
    }

    #[test]
    fn flaws_of_one_that_answers() {
        let fine = Facts { answers: true, is_ours: true, path_mtu: Some(1500), ..Facts::default() };
        let vni = Vni::new(100).unwrap();
        let other = IpAddr::from([198, 51, 100, 9]);
        let table = [
            (fine.clone(), None),
            (Facts { loss: (0.01, 1), ..fine.clone() }, None),
            (Facts { networks: [(vni, (Vid::MIN, true))].into(), ..fine.clone() }, None),
            (Facts { loss: (0.02, 2), ..fine.clone() }, Some("loss")),
            (Facts { path_mtu: Some(1499), ..fine.clone() }, Some("mtu_smaller")),
            (Facts { networks: [(vni, (Vid::MIN, false))].into(), ..fine.clone() }, Some("vni_missing")),
            (Facts { seen_as: Some((other, 5).into()), ..fine.clone() }, Some("source_rewritten")),
            (Facts { speaks_as: Some(other), ..fine.clone() }, Some("source_rewritten")),
            (Facts { damaged: (true, false), ..fine.clone() }, Some("checksum_corrupted")),
            (Facts { damaged: (false, true), ..fine }, Some("checksum_corrupted")),
        ];
        for (facts, name) in table {
            let state = if name.is_some() { HealthState::Degraded } else { HealthState::Healthy };
            assert_eq!(judged(&facts), (state, name.into_iter().collect()), "{facts:?}");
        }
    }

    #[test]
    fn what_another_network_lacks_is_of_no_interest() {
        use HealthState::{Degraded, Healthy};
        let [vni, longer] = [20, 200].map(|vni| Vni::new(vni).unwrap());
        let lacks = |lacking: &[Vni], mtu| Facts {
            answers: true,
            path_mtu: Some(mtu),
            networks: [vni, longer].map(|vni| (vni, (Vid::MIN, !lacking.contains(&vni)))).into(),
            ..Facts::default()
        };
        let table = [
            (lacks(&[], 1500), Healthy, vec![]),
            (lacks(&[longer], 1500), Healthy, vec![]),
            (lacks(&[longer], 1400), Degraded, vec![Fault::MtuSmaller]),
            (lacks(&[vni], 1500), Degraded, vec![Fault::VniMissing(vni)]),
            (lacks(&[vni, longer], 1500), Degraded, vec![Fault::VniMissing(vni)]),
        ];
        for (facts, state, faults) in table {
            let verdict = facts.judge(&ends()).within(vni);
            let found: Vec<_> = verdict.findings.iter().map(|finding| finding.fault).collect();
            assert_eq!((verdict.state, found), (state, faults), "{facts:?}");
        }
    }

    #[test]
    fn silence_has_a_reason() {
        use HealthState::{Foreign, Unreachable};
        let by = Some(IpAddr::from([192, 0, 2, 254]));
        let silent = |host: Option<Host>, is_ours, is_heard, complaint| Facts {
            host,
            is_ours,
            is_heard,
            complaint,
            ..Facts::default()
        };
        let table = [
            (silent(None, false, false, None), Unreachable, Some("peer_silent")),
            (silent(Some(Host::Unknown("x".to_owned())), false, false, None), Unreachable, Some("peer_silent")),
            (silent(Some(Host::Silent), false, false, None), Unreachable, Some("host_unreachable")),
            (silent(Some(Host::Answers), false, false, None), Foreign, Some("peer_silent")),
            (silent(Some(Host::Answers), true, false, None), Unreachable, Some("port_blocked")),
            (silent(Some(Host::Silent), true, true, None), Unreachable, Some("port_blocked")),
            (silent(Some(Host::Silent), false, true, None), Foreign, None),
            (silent(None, false, true, Some((Trouble::PortUnreachable, by))), Unreachable, Some("port_blocked")),
            (silent(None, false, false, Some((Trouble::Prohibited, by))), Unreachable, Some("port_blocked")),
            (silent(None, false, false, Some((Trouble::Prohibited, None))), Unreachable, Some("port_blocked")),
            (silent(None, false, false, Some((Trouble::HostUnreachable, by))), Unreachable, Some("host_unreachable")),
            (silent(Some(Host::Answers), false, false, Some((Trouble::TooBig(9), by))), Foreign, Some("peer_silent")),
            (
                Facts { has_spoken: true, ..silent(Some(Host::Answers), false, false, None) },
                Foreign,
                Some("peer_silent"),
            ),
            (
                Facts { has_spoken: true, ..silent(Some(Host::Silent), false, false, None) },
                Unreachable,
                Some("host_unreachable"),
            ),
        ];
        for (facts, state, name) in table {
            assert_eq!(judged(&facts), (state, name.into_iter().collect()), "{facts:?}");
        }
    }

    #[test]
    fn own_faults_first() {
        let link = || "eth0".to_owned();
        let table = [
            (OwnFault::LinkGone, "own_link_gone", None),
            (
                OwnFault::AddressGone { link: link(), prefix: Some(24) },
                "own_address_gone",
                Some("ip address add 192.0.2.1/24 dev eth0"),
            ),
            (OwnFault::LinkDown { link: link() }, "own_link_down", Some("ip link set eth0 up")),
            (OwnFault::NoCarrier { link: link() }, "own_no_carrier", None),
        ];
        for (own, name, mend) in table {
            let complaint = Some((Trouble::HostUnreachable, None));
            let facts = Facts { own: Some(own), complaint, host: Some(Host::Silent), ..Facts::default() };
            assert_eq!(judged(&facts), (HealthState::Unreachable, vec![name]));
            let finding = facts.judge(&ends()).findings.remove(0);
            assert_eq!(finding.mend.as_deref(), mend, "{name}");
            let answers = Facts { answers: true, ..facts };
            assert_eq!(judged(&answers), (HealthState::Healthy, vec![]), "who answers was asked");
        }
    }

    #[test]
    fn a_stranger_is_told_how_to_become_a_peer() {
        let vni = Vni::new(100).unwrap();
        let networks = [(vni, (Vid::new(10).unwrap(), false))].into();
        let facts = Facts { answers: true, is_stranger: true, networks, loss: (0.5, 50), ..Facts::default() };
        let Verdict { state, findings } = facts.judge(&ends());
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((state, finding.fault), (HealthState::Degraded, Fault::NotAPeer));
        assert_eq!(finding.mend.as_deref(), Some("there: vsctl vtep peer add 192.0.2.1 --vlan 10"));
    }

    /// What mends one fault must not make another, and what is printed is done on any host.
    #[test]
    fn nobody_is_told_to_delete_a_peer_or_to_guess_a_table() {
        let by = Some(IpAddr::from([192, 0, 2, 254]));
        for complaint in [
            None,
            Some((Trouble::PortUnreachable, by)),
            Some((Trouble::Prohibited, by)),
            Some((Trouble::Prohibited, None)),
            Some((Trouble::HostUnreachable, by)),
            Some((Trouble::HostUnreachable, None)),
        ] {
            for (host, is_ours) in [(None, false), (Some(Host::Answers), true), (Some(Host::Silent), true)] {
                let facts = Facts { complaint, host, is_ours, ..Facts::default() };
                for Finding { text, mend, .. } in facts.judge(&ends()).findings {
                    assert!(mend.is_none() && !text.contains("peer del") && !text.contains("nft"), "{text}; {mend:?}");
                }
            }
        }
    }
}

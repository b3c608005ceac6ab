//! The part of `why` between this host and another: the VNI, the peers, the way to them, and who spoke of late.

use std::net::IpAddr;
use std::time::Duration;

use vswitch_api::{ExplainStep, Vid};
use vswitch_core::VlanId;
use vswitch_sys::Netlink;

use super::super::Control;
use super::ends::{End, Place};
use super::why::{Walked, stop};
use crate::port::tunnel::Stranger;

/// How long a stranger's word counts.
const FRESH: Duration = Duration::from_secs(60);
/// How long ago who was heard is still there.
const JUST_NOW: Duration = Duration::from_secs(10);

impl Control {
    /// The peers that `far` is behind, or may be.
    pub(super) fn peers_for(&self, vlan: VlanId, far: &End) -> Vec<IpAddr> {
        let all = self.network.remotes.iter().filter(|(_, setup)| setup.vlans.contains(vlan)).map(|(ip, _)| *ip);
        match &far.place {
            Place::Remote(ip) => all.filter(|peer| peer == ip).collect(),
            Place::Port(_) | Place::Unknown => all.collect(),
        }
    }

    /// Whether what lies before the underlay is as it must be.
    pub(super) fn walk_tunnel(&self, vlan: VlanId, far: &End, steps: &mut Vec<ExplainStep>) -> Walked {
        let is_unknown = far.place == Place::Unknown;
        let Some(underlay) = self.site.underlay else {
            let text = format!("nobody in VLAN {vlan} here is {}, and this switch has no VTEP", far.text);
            return stop(steps, ExplainStep::stop("tunnel", "unknown_address", text, None));
        };
        let strangers = self.strangers();
        let Some(vni) = self.vni(vlan) else {
            // A VNI that is nobody's here, and that somebody sends.
            let sent = strangers.iter().filter(|stranger| !stranger.knows_vni);
            let sent = sent.max_by_key(|stranger| (self.remotes.contains_key(&stranger.from), stranger.at));
            let text = format!("VLAN {vlan} has no VNI here: it ends at this host");
            return stop(
                steps,
                match sent {
                    Some(Stranger { from, vni, .. }) => ExplainStep::stop(
                        "tunnel",
                        "no_vni",
                        format!("{text}, and {from} sends frames in VNI {vni}, which no VLAN here has"),
                        Some(format!("vsctl vlan add {vlan} --vni {vni}")),
                    ),
                    None => ExplainStep::stop(
                        "tunnel",
                        "no_vni",
                        format!("{text}; `vsctl vlan add {vlan} --vni N` with the number it has on the other hosts"),
                        None,
                    ),
                },
            );
        };
        steps.push(ExplainStep::ok("tunnel", format!("VLAN {vlan} is VNI {vni}, sent from {}", underlay.address)));
        let peers = self.peers_for(vlan, far);
        if peers.is_empty() {
            let caller = strangers.iter().filter(|stranger| stranger.knows_vni && stranger.vni.get() == vni.get());
            let caller = caller.max_by_key(|stranger| stranger.at).map(|stranger| stranger.from);
            let mut others = self.network.remotes.keys().copied();
            let only = others.next().filter(|_| others.next().is_none());
            let candidate = match far.place {
                Place::Remote(ip) => Some(ip),
                Place::Port(_) | Place::Unknown => caller.or(only),
            };
            let said = caller.map(|ip| format!("; {ip} sends frames in it and is not one")).unwrap_or_default();
            let text = format!("VLAN {vlan} has no peer{}{said}", if is_unknown { "" } else { " there" });
            let mend = candidate.map(|ip| format!("vsctl vtep peer add {ip} --vlan {vlan}"));
            return stop(steps, ExplainStep::stop("tunnel", "no_peer", text, mend));
        }
        let list: Vec<_> = peers.iter().map(ToString::to_string).collect();
        steps.push(ExplainStep::ok("tunnel", format!("its peers: {}", list.join(" "))));
        // Whoever answered was reached.
        let is_mute = !peers.iter().any(|peer| self.path(*peer).is_some_and(|path| path.tested().flatten().is_some()));
        if let Some(fault) = self.own_fault().filter(|_| is_mute) {
            let (text, mend) = (fault.text(underlay.address), fault.mend(underlay.address));
            return stop(steps, ExplainStep::stop("underlay", fault.name(), text, mend));
        }
        for &peer in &peers {
            if let Err(error) = Netlink::open().and_then(|netlink| netlink.route_from(underlay.address, peer)) {
                let text = format!("this host has no way to {peer}: {error}");
                return stop(steps, ExplainStep::stop("underlay", "no_route", text, None));
            }
        }
        Ok(())
    }

    /// Why no answer came through the tunnel.
    pub(super) fn judge_silence(&self, vlan: VlanId, far: &End) -> ExplainStep {
        let peers = self.peers_for(vlan, far);
        let vni = self.vni(vlan).map_or(0, vswitch_api::Vni::get);
        let strangers = self.strangers();
        let is_lost = far.place == Place::Unknown;
        let is_ours = |stranger: &&Stranger| is_lost && stranger.knows_vni && stranger.vni.get() == vni;
        // Somebody who uses the VNI and is no peer: the address of the peer that there is may be wrong.
        if let Some(caller) = strangers.iter().filter(is_ours).max_by_key(|stranger| stranger.at) {
            let ip = caller.from;
            let text = format!("nobody answers, and {ip}, which is no peer in VLAN {vlan}, sends frames in its VNI");
            let mend = Some(format!("vsctl vtep peer add {ip} --vlan {vlan}"));
            return ExplainStep::stop("peer", "wrong_peer", text, mend);
        }
        // What the peers say themselves is newer than any frame of theirs.
        if let Some(step) = self.judge_peers(vlan, far, &peers) {
            return step;
        }
        let is_other =
            |peer: &IpAddr| Some((*peer, self.other_vni(*peer).filter(|_| !self.spoke_within(*peer, vlan, FRESH))?));
        if let Some((peer, theirs)) = peers.iter().find_map(is_other) {
            let text = format!(
                "nobody answers, and of late {peer} sent frames in VNI {theirs}, which no VLAN here has, and none in VNI {vni}, \
                 which VLAN {vlan} is here"
            );
            return ExplainStep::stop("peer", "other_vni", text, None);
        }
        if let Some(peer) = peers.iter().copied().find(|&peer| self.spoke_within(peer, vlan, JUST_NOW)) {
            let port = self.vtep_port;
            let text = format!(
                "{peer} sends frames in VNI {vni}, so it has that VNI and this switch as a peer, and nothing that is sent to it is \
                 answered: a firewall on that host drops UDP port {port} (look there with `nft list ruleset`, or `vsctl doctor` \
                 where it has that), or {} fell silent just now",
                far.text
            );
            return ExplainStep::stop("underlay", "udp_blocked", text, None);
        }
        let list: Vec<_> = peers.iter().map(ToString::to_string).collect();
        let list = list.join(", ");
        let text = format!(
            "no answer came through the tunnel, and the hosts of {list} do not complain: a firewall there drops UDP port {}, \
             or their switches do not have VNI {vni} or do not have {} as a peer in it (`vsctl why` there says), or {} is \
             not there",
            self.vtep_port,
            self.vtep_ip().map(|ip| ip.to_string()).unwrap_or_default(),
            far.text,
        );
        ExplainStep::stop("peer", "peer_silent", text, None)
    }

    /// The VNI that no VLAN here has and in which a peer sent frames last, of late.
    pub(super) fn other_vni(&self, peer: IpAddr) -> Option<u32> {
        let strangers = self.strangers();
        let of_peer = strangers.iter().filter(|stranger| stranger.from == peer && !stranger.knows_vni);
        of_peer.max_by_key(|stranger| stranger.at).map(|stranger| stranger.vni.get())
    }

    /// Whether stations behind a peer were heard in a VLAN so lately.
    fn spoke_within(&self, peer: IpAddr, vlan: VlanId, lately: Duration) -> bool {
        let (Some(id), Ok(remembered)) = (self.remote_id(peer), self.remembered()) else { return false };
        let now = crate::clock::now();
        remembered.heard.iter().any(|(port, heard)| *port == id && heard.vlan == vlan && now.since(heard.at) < lately)
    }

    /// Whether the paths to the peers carry what port `near` may send.
    pub(super) fn walk_path(
        &self,
        near: &vswitch_api::PortName,
        peers: &[IpAddr],
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let (Some(underlay), Some(setup)) = (self.site.underlay, self.network.ports.get(near)) else { return Ok(()) };
        for &peer in peers {
            let Some((known, by)) = path_mtu(underlay.address, peer) else { continue };
            // What got through, where that was tried: a path may swallow what is too long and say nothing.
            let tried = self.path(peer).and_then(|path| path.path_mtu()).map(u32::from);
            let mtu = known.min(tried.unwrap_or(known));
            let fits = mtu.saturating_sub(u32::from(underlay.overhead()));
            if u32::from(setup.mtu) > fits {
                let text = format!(
                    "the path to {peer} ({by}) carries {mtu} bytes, {fits} of them inside VXLAN, and port {near} sends packets of \
                     {}: small ones pass, large ones do not",
                    setup.mtu
                );
                let mend = Some(format!("vsctl port set {near} --mtu {fits}"));
                steps.push(ExplainStep::stop("underlay", "path_mtu", text, mend));
                return Err(());
            }
            let text = format!("the path to {peer} ({by}) carries {mtu} bytes, enough for {}", setup.mtu);
            steps.push(ExplainStep::ok("underlay", text));
        }
        Ok(())
    }

    fn strangers(&self) -> Vec<Stranger> {
        let now = crate::clock::now();
        let all = self.remembered().map(|remembered| remembered.strangers).unwrap_or_default();
        // What was refused before a change may be welcome now.
        let refused = |stranger: &Stranger| {
            let vlan = self
                .network
                .vlans
                .iter()
                .find(|(_, setup)| setup.vni.is_some_and(|vni| vni.get() == stranger.vni.get()));
            let is_peer = |(vlan, _): (&Vid, &crate::network::VlanSetup)| {
                let vlan = crate::network::vlan_id(*vlan);
                self.network.remotes.get(&stranger.from).is_some_and(|setup| setup.vlans.contains(vlan))
            };
            vlan.is_some() == stranger.knows_vni && !vlan.is_some_and(is_peer)
        };
        all.into_iter().filter(|stranger| now.since(stranger.at) < FRESH && refused(stranger)).collect()
    }
}

/// What the way to a peer carries, and what it is called.
fn path_mtu(own: IpAddr, peer: IpAddr) -> Option<(u32, String)> {
    let netlink = Netlink::open().ok()?;
    let route = netlink.route_from(own, peer).ok()?;
    let link = netlink.link_by_index(route.index).ok()??;
    Some((route.mtu.unwrap_or(link.mtu).min(link.mtu), link.name))
}

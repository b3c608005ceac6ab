//! What the switch should be, worked out from the desired state and the underlay; and the steps from one to another.
//!
//! [`plan`] is a pure diff: the datapath never sees configuration, only changes. Each change holds what was and what
//! shall be, so its inverse is itself turned round, and a half-made plan can be taken back.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use vswitch_api::{
    Allowed, Attachment, BootId, Cidr, Desired, FdbTarget, IfName, Limits, Mac, Net, NetnsRef, PortName, PortSpec, Vid,
    Vni,
};
use vswitch_core::switch::{Guard, PortMode, VlanSet};
use vswitch_core::{MacAddr, Prefix, VlanId};

use crate::underlay::Underlay;

/// MTU of a port whose VLANs are all local: Ethernet's own.
const LOCAL_MTU: u16 = 1500;

/// The least MTU of a link that carries IPv6 (RFC 8200 5); below it the kernel takes all IPv6 from an interface.
const IPV6_MTU: u16 = 1280;

/// Why a port cannot be as it would come out.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "port {port} would get MTU {mtu} beside VXLAN, and its IPv6 address {address} needs {IPV6_MTU}: raise the underlay's \
     MTU by {} and restart vswitchd, or take the address from the port with `vsctl port set`", IPV6_MTU - .mtu
)]
pub(crate) struct TooNarrowForIpv6 {
    port: PortName,
    address: Cidr,
    mtu: u16,
}

/// What is this host's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Site {
    pub(crate) underlay: Option<Underlay>,
    /// A random number, the same over restarts.
    pub(crate) identity: u64,
    /// Whether ports that do not say otherwise send from their own addresses only.
    pub(crate) source_guard: bool,
    /// The boot of the host, where that is told.
    pub(crate) boot: Option<BootId>,
}

impl Site {
    /// What the interface of a port bears, so that this host's daemons, and they alone, know it again.
    pub(crate) fn mark(&self, port: &PortName) -> String {
        format!("vswitch {:016x} port {port}", self.identity)
    }

    /// The address of a port that was given none: the same at every start, so that neighbours need not learn another,
    /// and another on every host. Locally administered (IEEE 802-2014 8.4).
    fn mac(&self, port: &PortName) -> MacAddr {
        // FNV-1a: the standard library promises no hash that stays the same from version to version.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.identity.to_be_bytes().into_iter().chain(port.as_str().bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let [_, _, a, b, c, d, e, f] = (hash ^ (hash >> 32)).to_be_bytes();
        MacAddr([a & 0xfc | 0x02, b, c, d, e, f])
    }
}

/// The whole of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) vlans: BTreeMap<Vid, VlanSetup>,
    pub(crate) remotes: BTreeMap<IpAddr, RemoteSetup>,
    /// Shared with the network before and after it.
    pub(crate) ports: BTreeMap<PortName, Arc<PortSetup>>,
    pub(crate) statics: BTreeMap<(Vid, Mac), FdbTarget>,
    /// Until a learned address ages; `None` is never.
    pub(crate) ageing: Option<Duration>,
}

/// A VLAN with settings of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VlanSetup {
    pub(crate) vni: Option<Vni>,
    pub(crate) learning: bool,
}

/// A remote VTEP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteSetup {
    /// The VLANs it is a peer of, those with a VNI only: elsewhere nothing could be sent to it.
    pub(crate) vlans: VlanSet,
}

/// A port with its interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSetup {
    pub(crate) netns: NetnsRef,
    pub(crate) ifname: IfName,
    pub(crate) mac: MacAddr,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateways: Vec<IpAddr>,
    /// As asked for, or what fits the underlay.
    pub(crate) mtu: u16,
    pub(crate) mode: PortMode,
    /// What it may send from; `None` is everything.
    pub(crate) allow_macs: Option<Vec<Mac>>,
    pub(crate) allow_ips: Option<Vec<Net>>,
    /// What it may carry.
    pub(crate) limits: Limits,
    /// Whose it is, where a container runtime asked for it.
    pub(crate) attachment: Option<Attachment>,
}

impl Network {
    /// What `desired` comes to on this host.
    pub(crate) fn derive(desired: &Desired, host: &Site) -> Self {
        let vlans = desired.vlans().map(|spec| (spec.vlan, VlanSetup { vni: spec.vni, learning: spec.learning }));
        let remotes = desired.peers().map(|peer| {
            let members = desired.vlans().map(|spec| spec.vlan).filter(|&vlan| desired.is_peer_in(peer.ip, vlan));
            (peer.ip, RemoteSetup { vlans: members.map(vlan_id).collect() })
        });
        let ports = desired.ports().map(|spec| (spec.name.clone(), Arc::new(PortSetup::derive(spec, desired, host))));
        Self {
            vlans: vlans.collect(),
            remotes: remotes.collect(),
            ports: ports.collect(),
            statics: desired.statics().map(|entry| ((entry.vlan, entry.mac), entry.target.clone())).collect(),
            ageing: desired.ageing().duration(),
        }
    }

    /// Refuses IPv6 on ports that what fits the underlay makes too narrow. Those that were so in `before` stay: an
    /// underlay may have changed over a restart.
    pub(crate) fn carries_ipv6(&self, before: &Self) -> Result<(), TooNarrowForIpv6> {
        let changed = self.ports.iter().filter(|(name, setup)| before.ports.get(*name) != Some(setup));
        for (port, setup) in changed.filter(|(_, setup)| setup.mtu < IPV6_MTU) {
            if let Some(address) = setup.addresses.iter().find(|address| address.ip().is_ipv6()) {
                return Err(TooNarrowForIpv6 { port: port.clone(), address: *address, mtu: setup.mtu });
            }
        }
        Ok(())
    }
}

impl PortSetup {
    fn derive(spec: &PortSpec, desired: &Desired, host: &Site) -> Self {
        let tunnelled = desired.vlans().any(|vlan| vlan.vni.is_some() && spec.mode.contains(vlan.vlan));
        let fitting = host.underlay.as_ref().filter(|_| tunnelled).map_or(LOCAL_MTU, Underlay::inner_mtu);
        let mode = match &spec.mode {
            vswitch_api::PortMode::Access(vlan) => PortMode::Access(vlan_id(*vlan)),
            vswitch_api::PortMode::Trunk { vlans, native } => {
                PortMode::Trunk { vlans: vlans.iter().map(vlan_id).collect(), native: native.map(vlan_id) }
            }
        };
        let mac = spec.mac.map_or_else(|| host.mac(&spec.name), |mac| MacAddr(mac.octets()));
        let own_ips = || spec.addresses.iter().map(|address| Net::host(address.ip())).collect::<Vec<_>>();
        let allow_macs = match &spec.allow_mac {
            Allowed::Only(macs) => Some(macs.clone()),
            Allowed::Unsaid if host.source_guard => Some(Mac::new(mac.0).into_iter().collect()),
            Allowed::Unsaid | Allowed::Any => None,
        };
        let allow_ips = match &spec.allow_ip {
            Allowed::Only(ips) => Some(ips.clone()),
            Allowed::Unsaid if host.source_guard && !spec.addresses.is_empty() => Some(own_ips()),
            Allowed::Unsaid | Allowed::Any => None,
        };
        Self {
            netns: spec.netns.clone(),
            ifname: spec.ifname.clone(),
            mac,
            addresses: spec.addresses.clone(),
            gateways: spec.gateways.clone(),
            mtu: spec.mtu.map_or(fitting, vswitch_api::Mtu::get),
            mode,
            allow_macs,
            allow_ips,
            limits: spec.limits,
            attachment: spec.attachment.clone(),
        }
    }

    /// Whether its namespace's name may lead this daemon there: for what somebody else opened, it may mean another, or
    /// nothing.
    pub(crate) fn is_named(&self) -> bool {
        self.attachment.as_ref().is_none_or(|attachment| attachment.seen)
    }

    /// What it may send from, in core's words. The link-local address of the interface needs no mention.
    pub(crate) fn guard(&self) -> Guard {
        let macs = self.allow_macs.as_ref().map(|macs| macs.iter().map(|mac| MacAddr(mac.octets())).collect());
        let prefixes = self.allow_ips.as_ref().map(|nets| {
            let nets = nets.iter().map(|net| Prefix::new(net.net().addr(), net.net().prefix_len()));
            nets.chain(self.allow_macs.is_none().then_some(Prefix::link_local(self.mac))).collect()
        });
        Guard::new(macs, prefixes)
    }
}

/// The same VLAN in core's words. Both hold 1 to 4094 only.
pub(crate) fn vlan_id(vlan: Vid) -> VlanId {
    VlanId::new(vlan.get()).unwrap_or(VlanId::MIN)
}

/// One thing that is to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Diff<K, V> {
    pub(crate) key: K,
    pub(crate) before: Option<V>,
    pub(crate) after: Option<V>,
}

/// A step from one network to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Ageing { before: Option<Duration>, after: Option<Duration> },
    Vlan(Diff<Vid, VlanSetup>),
    Remote(Diff<IpAddr, RemoteSetup>),
    Port(Box<Diff<PortName, Arc<PortSetup>>>),
    Static(Diff<(Vid, Mac), FdbTarget>),
}

impl Change {
    /// The step back.
    pub(crate) fn inverse(self) -> Self {
        fn turn<K, V>(diff: Diff<K, V>) -> Diff<K, V> {
            Diff { key: diff.key, before: diff.after, after: diff.before }
        }
        match self {
            Self::Ageing { before, after } => Self::Ageing { before: after, after: before },
            Self::Vlan(diff) => Self::Vlan(turn(diff)),
            Self::Remote(diff) => Self::Remote(turn(diff)),
            Self::Port(diff) => Self::Port(Box::new(turn(*diff))),
            Self::Static(diff) => Self::Static(turn(diff)),
        }
    }

    /// Where in a plan it stands. Static addresses go before what they point to and come after it; what the host may
    /// refuse comes before what cannot fail.
    fn rank(&self) -> u8 {
        match self {
            Self::Static(Diff { after: None, .. }) => 0,
            Self::Port(diff) if diff.after.is_none() => 1,
            Self::Remote(Diff { after: None, .. }) => 2,
            Self::Port(_) => 3,
            Self::Remote(_) => 4,
            Self::Vlan(_) => 5,
            Self::Ageing { .. } => 6,
            Self::Static(_) => 7,
        }
    }
}

/// The steps that make `old` into `new`, in the order to take them.
pub(crate) fn plan(old: &Network, new: &Network) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(diff(&old.vlans, &new.vlans).map(Change::Vlan));
    changes.extend(diff(&old.remotes, &new.remotes).map(Change::Remote));
    changes.extend(diff(&old.ports, &new.ports).map(|diff| Change::Port(Box::new(diff))));
    changes.extend(diff(&old.statics, &new.statics).map(Change::Static));
    if old.ageing != new.ageing {
        changes.push(Change::Ageing { before: old.ageing, after: new.ageing });
    }
    changes.sort_by_key(Change::rank);
    changes
}

fn diff<'a, K: Ord + Clone, V: PartialEq + Clone>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = Diff<K, V>> + 'a {
    let gone_or_changed = old.iter().filter(|(key, was)| new.get(key) != Some(was));
    let gone_or_changed = gone_or_changed.map(|(key, was)| (key, Some(was), new.get(key)));
    let added = new.iter().filter(|(key, _)| !old.contains_key(key)).map(|(key, is)| (key, None, Some(is)));
    gone_or_changed.chain(added).map(|(key, before, after)| Diff {
        key: key.clone(),
        before: before.cloned(),
        after: after.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn desired(value: serde_json::Value) -> Desired {
        serde_json::from_value(value).unwrap()
    }

    fn site() -> Site {
        let address = "192.0.2.1".parse().unwrap();
        Site {
            underlay: Some(Underlay { address, index: 2, prefix: None, mtu: 1500 }),
            identity: 7,
            source_guard: false,
            boot: None,
        }
    }

    fn two_ports() -> serde_json::Value {
        json!({
            "vlan": [{"vlan": 10, "vni": 1000}],
            "port": [
                {"name": "a", "netns": "a", "access": 10},
                {"name": "b", "netns": "b", "access": 20},
                {"name": "c", "netns": "c", "trunk": "10-20", "mtu": 9000},
            ],
            "peer": [{"ip": "192.0.2.2", "all-vlans": true}],
            "fdb": [{"mac": "02:00:00:00:00:01", "vlan": 10, "port": "a"}],
        })
    }

    #[test]
    fn mtu_is_as_said_or_what_fits() {
        let network = Network::derive(&desired(two_ports()), &site());
        let mtus: Vec<_> = network.ports.values().map(|port| port.mtu).collect();
        assert_eq!(mtus, [1450, 1500, 9000]);
        let v6 = Underlay { address: "fd00::1".parse().unwrap(), index: 2, prefix: None, mtu: 9000 };
        assert_eq!(v6.inner_mtu(), 8930);
    }

    #[test]
    fn an_underlay_too_narrow_for_ipv6() {
        let underlay = |mtu| Site { underlay: Some(Underlay { mtu, ..site().underlay.unwrap() }), ..site() };
        let mut state = two_ports();
        state["port"][0]["address"] = json!(["10.0.0.2/24", "fd00::2/64"]);
        let network = |mtu| Network::derive(&desired(state.clone()), &underlay(mtu));
        let (nothing, narrow) = (Network::default(), network(1329));
        assert_eq!(network(1330).carries_ipv6(&nothing), Ok(()));
        let message = narrow.carries_ipv6(&nothing).unwrap_err().to_string();
        for part in ["port a ", "1279", "fd00::2/64", "1280", "by 1 "] {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
        assert_eq!(narrow.carries_ipv6(&narrow), Ok(()), "it was so before");
        let v4_only = Network::derive(&desired(two_ports()), &underlay(1329));
        assert_eq!(v4_only.carries_ipv6(&nothing), Ok(()));
    }

    #[test]
    fn an_address_of_its_own_on_each_port_and_host() {
        let network = |host: &Site| Network::derive(&desired(two_ports()), host);
        let macs = |host: Site| network(&host).ports.values().map(|port| port.mac).collect::<Vec<_>>();
        let (here, there) = (macs(site()), macs(Site { identity: 8, ..site() }));
        assert_eq!(here, macs(site()));
        let mut all = [here, there].concat();
        assert!(all.iter().all(|mac| mac.is_station() && mac.0[0] & 2 != 0), "{all:?}");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn a_source_guard_goes_by_what_the_port_says_and_then_by_its_own_addresses() {
        let mac = "02:00:00:00:00:07";
        let state = json!({"port": [
            {"name": "a", "netns": "a", "mac": mac, "address": ["10.0.0.2/24", "fd00::2/64"]},
            {"name": "b", "netns": "b", "mac": mac},
            {"name": "c", "netns": "c", "mac": mac, "address": "10.0.0.2/24", "allow-mac": "any", "allow-ip": "fd00::/8"},
            {"name": "d", "netns": "d", "mac": mac, "address": "10.0.0.2/24", "allow-mac": "02:00:00:00:00:09", "allow-ip": "any"},
        ]});
        let said = |source_guard| {
            let network = Network::derive(&desired(state.clone()), &Site { source_guard, ..site() });
            let text = |port: &PortSetup| {
                let macs =
                    port.allow_macs.as_ref().map(|macs| macs.iter().map(Mac::to_string).collect::<Vec<_>>().join(" "));
                let ips =
                    port.allow_ips.as_ref().map(|ips| ips.iter().map(Net::to_string).collect::<Vec<_>>().join(" "));
                format!("{} {}", macs.unwrap_or_default(), ips.unwrap_or_default())
            };
            network.ports.values().map(|port| text(port)).collect::<Vec<_>>()
        };
        assert_eq!(said(false), [" ", " ", " fd00::/8", "02:00:00:00:00:09 "]);
        let own = [format!("{mac} 10.0.0.2/32 fd00::2/128"), format!("{mac} ")];
        assert_eq!(said(true)[..2], own);
        assert_eq!(said(true)[2..], said(false)[2..]);
        let network = Network::derive(&desired(state.clone()), &site());
        let own_link_local = Prefix::link_local(MacAddr([2, 0, 0, 0, 0, 7]));
        let wanted = Guard::new(None, Some(vec![Prefix::new("fd00::".parse().unwrap(), 8), own_link_local]));
        let c: PortName = "c".parse().unwrap();
        assert_eq!(network.ports[&c].guard(), wanted);
    }

    #[test]
    fn a_remote_is_in_vlans_with_a_vni_only() {
        let mut state = two_ports();
        state["vlan"] = json!([{"vlan": 10, "vni": 1000}, {"vlan": 20}]);
        let network = Network::derive(&desired(state), &site());
        let vlans: Vec<_> = network.remotes.values().flat_map(|remote| remote.vlans.iter()).map(VlanId::get).collect();
        assert_eq!(vlans, [10]);
    }

    #[test]
    fn a_plan_points_at_nothing_that_is_not_there() {
        let network = Network::derive(&desired(two_ports()), &site());
        let nothing = Network::derive(&Desired::default(), &Site::default());
        let there = plan(&nothing, &network);
        assert_eq!(there.len(), 6);
        assert!(matches!(there.last(), Some(Change::Static(_))));
        let back = plan(&network, &nothing);
        assert!(matches!(back.first(), Some(Change::Static(Diff { after: None, .. }))));
        assert_eq!(plan(&network, &network), []);
        let mut undone: Vec<_> = there.into_iter().map(Change::inverse).collect();
        undone.sort_by_key(Change::rank);
        assert_eq!(undone, back);
    }

    #[test]
    fn a_vni_changes_the_mtu_of_its_ports() {
        let mut local = two_ports();
        local["vlan"] = json!([]);
        let before = Network::derive(&desired(local), &site());
        let after = Network::derive(&desired(two_ports()), &site());
        let ports: Vec<_> = plan(&before, &after)
            .into_iter()
            .filter_map(|change| if let Change::Port(diff) = change { Some(diff.key.to_string()) } else { None })
            .collect();
        assert_eq!(ports, ["a"]);
    }
}

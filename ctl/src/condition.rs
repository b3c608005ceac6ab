//! How the daemon is, and what of it is not as it should be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use vswitch_api::monitor::Place;
use vswitch_api::{FdbInfo, HealthState, PeerInfo, PortInfo, PortName, PortState, SharedAddress, Stats, Status};

/// How long counters are watched to see which of them rise.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// Frames that may be dropped in that time before it is worth a word: a few always are.
const FEW: u64 = 3;

/// Drops of every network: frames that belong to the link, that come back or have no one to go to; and those that an
/// operator's own limit drops.
const USUAL: [&str; 5] = ["reserved_address", "same_port", "split_horizon", "no_member", "rate_limited"];

/// How full a table may be before it is worth a word, in hundredths.
const NEARLY_FULL: u64 = 90;

/// Addresses that are listed to find those that flap; of more the counters tell.
pub(crate) const LISTED: u64 = 20_000;

/// The daemon's status, and what is wrong.
#[derive(Debug, Serialize)]
pub(crate) struct Condition {
    #[serde(flatten)]
    pub(crate) status: Status,
    pub(crate) healthy: bool,
    pub(crate) findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// For programs.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// The command that tells more, or mends it.
    pub(crate) look: String,
}

/// What was asked.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    /// Counters, and the same a while later.
    pub(crate) before: Stats,
    pub(crate) after: Stats,
    pub(crate) between: Duration,
    /// Left empty where none is lost.
    pub(crate) ports: Vec<PortInfo>,
    /// Left empty where none can flap.
    pub(crate) addresses: Vec<FdbInfo>,
    pub(crate) peers: Vec<PeerInfo>,
}

impl Condition {
    /// What `seen` means.
    pub(crate) fn of(seen: Seen) -> Self {
        let Seen { status, before, after, between, ports, addresses, peers } = seen;
        let mut findings = Vec::new();
        findings.extend(refused(&status));
        findings.extend(lost(&status, &ports));
        findings.extend(shared(&status));
        findings.extend(peers.iter().filter_map(unhealthy_peer));
        findings.extend(flapping(&addresses));
        findings.extend(full(&status));
        findings.extend(full_ports(&status));
        findings.extend(drops(&before, &after, between));
        Self { healthy: findings.is_empty(), status, findings }
    }
}

/// Why every change is refused, where it is.
fn refused(status: &Status) -> Option<Finding> {
    let text = format!("changes are refused: {}", status.refuses_changes.as_ref()?);
    Some(Finding { name: "changes_refused", text, look: "vsctl doctor".to_owned() })
}

/// Addresses that ports share: by a protocol such as VRRP, or by mistake.
fn shared(status: &Status) -> Option<Finding> {
    let said = |SharedAddress { vlan, address, ports }: &SharedAddress| {
        let ports: Vec<_> = ports.iter().map(PortName::as_str).collect();
        format!("{address} in VLAN {vlan} is that of ports {}", few(&ports))
    };
    let shared: Vec<_> = status.shared.iter().map(said).collect();
    let text = format!("shared addresses: {}", few(&shared));
    (!shared.is_empty()).then(|| Finding { name: "address_shared", text, look: "vsctl port list".to_owned() })
}

fn lost(status: &Status, ports: &[PortInfo]) -> Option<Finding> {
    let lost: Vec<_> =
        ports.iter().filter(|port| port.state == PortState::Lost).map(|port| port.name.as_str()).collect();
    // They may come back while they are asked for.
    if status.ports_lost == 0 || lost.is_empty() {
        return None;
    }
    let text = format!("{} of {} ports lost: {}", lost.len(), status.ports, few(&lost));
    Some(Finding { name: "port_lost", text, look: "vsctl port list".to_owned() })
}

/// A peer whose probes tell that something is wrong; without probes, or asked once, nothing is known of the present.
fn unhealthy_peer(peer: &PeerInfo) -> Option<Finding> {
    let health = peer.health.as_ref().filter(|health| health.is_present())?;
    let (name, what) = match health.state {
        HealthState::Unreachable => ("peer_unreachable", "is unreachable"),
        HealthState::Degraded => ("peer_degraded", "is degraded"),
        // A foreign one answers no probes, and may be well.
        HealthState::Healthy | HealthState::Foreign => return None,
    };
    let why = health.findings.first().map(|finding| format!(": {}", finding.name)).unwrap_or_default();
    Some(Finding { name, text: format!("peer {} {what}{why}", peer.ip), look: "vsctl vtep peer list".to_owned() })
}

fn flapping(addresses: &[FdbInfo]) -> Option<Finding> {
    let held: Vec<_> = addresses.iter().filter(|entry| entry.flapping.is_some()).collect();
    let names: Vec<_> = held.iter().map(|entry| format!("{} in VLAN {}", entry.mac, entry.vlan)).collect();
    let text = format!("flapping addresses: {}", few(&names));
    (!held.is_empty()).then(|| Finding { name: "mac_flapping", text, look: "vsctl fdb list".to_owned() })
}

fn full(status: &Status) -> Option<Finding> {
    let Status { fdb_used, fdb_limit, .. } = status;
    let text = format!("{fdb_used} of {fdb_limit} addresses: old ones make room for new ones");
    (fdb_used.saturating_mul(100) >= fdb_limit.saturating_mul(NEARLY_FULL)).then(|| Finding {
        name: "fdb_full",
        text,
        look: "vswitchd --fdb-limit".to_owned(),
    })
}

/// Ports and peers that send from more addresses than one may have.
fn full_ports(status: &Status) -> Option<Finding> {
    let Status { fdb_limit_per_port: limit, fdb_full_ports, .. } = status;
    let name = |place: &Place| match place {
        Place { port: Some(name), .. } => format!("port {name}"),
        Place { remote, .. } => format!("peer {}", remote.map_or_else(String::new, |ip| ip.to_string())),
    };
    let names: Vec<_> = fdb_full_ports.iter().map(name).collect();
    let verb = if names.len() == 1 { "has" } else { "have" };
    let text = format!("{} {verb} more than {limit} addresses: old ones make room for new ones", few(&names));
    let look = "vswitchd --fdb-limit-per-port".to_owned();
    (!names.is_empty()).then_some(Finding { name: "fdb_port_full", text, look })
}

/// Drops that rise, the fastest first.
fn drops(before: &Stats, after: &Stats, between: Duration) -> Vec<Finding> {
    let counts = |stats: &Stats| -> BTreeMap<(String, String), u64> {
        let each = |port: &vswitch_api::PortStats| {
            let name = port.port.clone();
            port.drops.iter().map(move |(reason, count)| ((name.clone(), reason.clone()), *count)).collect::<Vec<_>>()
        };
        stats.ports.iter().flat_map(each).collect()
    };
    let before = counts(before);
    let mut rising: Vec<_> = counts(after)
        .into_iter()
        .map(|(key, count)| {
            // One that is new counts from zero.
            let rise = count.saturating_sub(before.get(&key).copied().unwrap_or(0));
            (rise, key)
        })
        .filter(|(rise, (_, reason))| *rise > FEW && !USUAL.contains(&reason.as_str()))
        .collect();
    rising.sort_by_key(|(rise, _)| std::cmp::Reverse(*rise));
    let millis = u64::try_from(between.as_millis()).unwrap_or(u64::MAX).max(1);
    let finding = |(rise, (port, reason)): (u64, (String, String))| {
        let rate = rise.saturating_mul(1_000) / millis;
        let place = if port == vswitch_api::reply::TUNNEL { "the tunnel".to_owned() } else { format!("port {port}") };
        let (name, what, place) = match reason.as_str() {
            reason if reason.starts_with("storm_") => ("storm", "a storm", place),
            "mac_flapping" => ("mac_flapping", "addresses that flap", place),
            "underlay_unreachable" => ("peer_unreachable", "a peer that is unreachable", "the tunnel".to_owned()),
            _ => ("drops", "drops", place),
        };
        let text = format!("{what} at {place}: {rate}/s {reason}");
        Finding { name, text, look: format!("vsctl stats {port}") }
    };
    rising.into_iter().map(finding).collect()
}

/// Some of `names`.
fn few(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<_> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &more
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(crate) fn status(more: Value) -> Status {
        let mut status = json!({
            "version": "0.1.0", "pid": 42,
            "user": "vswitch", "capabilities": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"], "sandbox": "workers",
            "uptime_s": 3700, "workers": 1, "workers_busy": [0.125], "ports": 3, "ports_lost": 0,
            "fdb_used": 12, "fdb_limit": 131072, "fdb_limit_per_port": 65536, "storm_limit": 10000,
            "fdb_learned": 20, "fdb_moved": 3, "fdb_aged": 8, "fdb_evicted": 0, "fdb_limited": 0, "fdb_flapping": 2,
            "vtep": {"ip": "192.0.2.1", "port": 4789, "underlay_mtu": 1500, "overlay_mtu": 1450,
                "underlay": "uplink", "peers": 2},
        });
        for (key, value) in more.as_object().unwrap() {
            status[key] = value.clone();
        }
        serde_json::from_value(status).unwrap()
    }

    fn stats(port: &str, drops: Value) -> Stats {
        let port = json!({"port": port, "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0, "drops": drops});
        serde_json::from_value(json!({"ports": [port], "reasons": {}})).unwrap()
    }

    fn port(name: &str, state: &str) -> PortInfo {
        let port = json!({"name": name, "netns": "a", "ifname": "eth0", "mac": null, "addresses": [], "mtu": 1500,
            "mode": "access", "vlan": 1, "vlans": [], "native": null, "state": state, "offloads": []});
        serde_json::from_value(port).unwrap()
    }

    fn seen(status: Status) -> Seen {
        let (before, after) = (Stats::default(), Stats::default());
        Seen { status, before, after, between: LOOK, ports: Vec::new(), addresses: Vec::new(), peers: Vec::new() }
    }

    fn texts(seen: Seen) -> Vec<String> {
        let condition = Condition::of(seen);
        assert_eq!(condition.healthy, condition.findings.is_empty());
        condition.findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn nothing_is_wrong() {
        let usual = json!({"reserved_address": 500, "vlan_not_allowed": 7, "rate_limited": 900});
        let quiet = Seen {
            before: stats("web", json!({"vlan_not_allowed": 5})),
            after: stats("web", usual),
            ports: vec![port("web", "up")],
            ..seen(status(json!({})))
        };
        assert_eq!(texts(quiet), Vec::<String>::new());
        // It came back meanwhile.
        let back = Seen { ports: vec![port("web", "up")], ..seen(status(json!({"ports_lost": 1}))) };
        assert_eq!(texts(back), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong() {
        let lost = ["a", "b", "c", "d"].map(|name| port(name, "lost")).to_vec();
        let lost = Seen { ports: lost, ..seen(status(json!({"ports_lost": 4, "ports": 5}))) };
        assert_eq!(texts(lost), ["4 of 5 ports lost: a, b, c and 1 more"]);

        let refusing = seen(status(json!({"refuses_changes": "cannot write /a: no space"})));
        assert_eq!(texts(refusing), ["changes are refused: cannot write /a: no space"]);

        let shared = json!([
            {"vlan": 10, "address": "10.0.0.2", "ports": ["blue", "dup"]},
            {"vlan": 20, "address": "02:00:00:00:00:01", "ports": ["a", "b", "c", "d"]},
        ]);
        let expected = "shared addresses: 10.0.0.2 in VLAN 10 is that of ports blue, dup, 02:00:00:00:00:01 in VLAN 20 is that \
            of ports a, b, c and 1 more";
        assert_eq!(texts(seen(status(json!({"shared": shared})))), [expected]);

        let full = seen(status(json!({"fdb_used": 90, "fdb_limit": 100})));
        assert_eq!(texts(full), ["90 of 100 addresses: old ones make room for new ones"]);

        let at_limit = |places: Value| seen(status(json!({"fdb_full_ports": places, "fdb_limit_per_port": 2})));
        let port = |name: &str| json!({"port": name, "remote": null});
        let peer = json!({"port": null, "remote": "192.0.2.2"});
        for (places, who) in [
            (json!([port("web")]), "port web has"),
            (json!([peer]), "peer 192.0.2.2 has"),
            (json!([port("web"), peer]), "port web, peer 192.0.2.2 have"),
            (json!([port("a"), port("b"), port("c"), port("d")]), "port a, port b, port c and 1 more have"),
        ] {
            let expected = format!("{who} more than 2 addresses: old ones make room for new ones");
            assert_eq!(texts(at_limit(places)), [expected]);
        }

        let entry = json!({"mac": "02:00:00:00:00:01", "vlan": 10, "kind": "learned", "port": "web", "remote": null,
            "age_s": 0, "flapping": {"port": "db", "remote": null, "held_s": 9}});
        let flapping = Seen { addresses: vec![serde_json::from_value(entry).unwrap()], ..seen(status(json!({}))) };
        assert_eq!(texts(flapping), ["flapping addresses: 02:00:00:00:00:01 in VLAN 10"]);

        let dropping = Seen {
            before: stats("web", json!({"vlan_not_allowed": 5})),
            after: stats("web", json!({"vlan_not_allowed": 105, "storm_broadcast": 1000, "queue_full": 3})),
            ..seen(status(json!({})))
        };
        let expected = ["a storm at port web: 4000/s storm_broadcast", "drops at port web: 400/s vlan_not_allowed"];
        assert_eq!(texts(dropping), expected);

        let peer = |ip: &str, state: &str, findings: Value| {
            let health = json!({"round_trip_us": null, "loss_share": 1.0, "jitter_us": null, "path_mtu": null, "asked_s": null,
                "state": state, "findings": findings});
            let peer = json!({"ip": ip, "all_vlans": true, "vlans": [], "health": health});
            serde_json::from_value::<PeerInfo>(peer).unwrap()
        };
        let small = json!([{"name": "mtu_smaller", "text": "...", "mend": null}]);
        let peers = vec![
            peer("192.0.2.2", "unreachable", json!([])),
            peer("192.0.2.3", "degraded", small),
            peer("192.0.2.4", "healthy", json!([])),
            peer("192.0.2.5", "foreign", json!([])),
        ];
        let probed = Seen { peers, ..seen(status(json!({}))) };
        assert_eq!(texts(probed), ["peer 192.0.2.2 is unreachable", "peer 192.0.2.3 is degraded: mtu_smaller"]);

        let unreachable =
            Seen { after: stats("tunnel", json!({"underlay_unreachable": 10})), ..seen(status(json!({}))) };
        assert_eq!(texts(unreachable), ["a peer that is unreachable at the tunnel: 40/s underlay_unreachable"]);
    }

    #[test]
    fn programs_get_the_status_and_what_is_wrong() {
        let condition = Condition::of(seen(status(json!({"fdb_used": 131_072}))));
        let value = serde_json::to_value(&condition).unwrap();
        assert_eq!(
            (&value["pid"], &value["healthy"], &value["findings"][0]["name"]),
            (&json!(42), &json!(false), &json!("fdb_full"))
        );
    }
}

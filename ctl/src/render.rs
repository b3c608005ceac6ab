//! Answers for people.

use std::fmt::Write;

use vswitch_api::{
    Attachment, Carried, FdbInfo, FdbKind, FlappingInfo, ModeInfo, ModeKind, Offload, PortInfo, PortState, PortStats,
    RateInfo, RateLimit, Sandbox, Stats, Status, Vid, VlanInfo, VlanList, VtepInfo,
};

use crate::table::{Table, fields};

pub(crate) fn ports(ports: &Vec<PortInfo>, out: &mut String) {
    if ports.is_empty() {
        out.push_str("no ports\n");
        return;
    }
    let head = ["NAME", "NETNS", "IFNAME", "MAC", "ADDRESSES", ">MTU", "VLANS", "STATE"];
    let row = |port: &PortInfo| {
        [
            port.name.to_string(),
            port.netns.to_string(),
            port.ifname.to_string(),
            option(port.mac),
            words(&port.addresses),
            port.mtu.to_string(),
            mode(&port.mode),
            state(port.state).to_owned(),
        ]
    };
    // Most switches have ports of one kind only: made by hand, or for a container runtime.
    if ports.iter().all(|port| port.attachment.is_none()) {
        let mut table = Table::new(head);
        ports.iter().for_each(|port| table.row(row(port)));
        return table.write(out);
    }
    let [a, b, c, d, e, f, g, h] = head;
    let mut table = Table::new([a, b, c, d, e, f, g, h, "CONTAINER"]);
    for port in ports {
        let [a, b, c, d, e, f, g, h] = row(port);
        let container = port.attachment.as_ref().map(|attachment| {
            let Attachment { network, container, .. } = attachment;
            format!("{} in {network}", short(container.as_str()))
        });
        table.row([a, b, c, d, e, f, g, h, option(container)]);
    }
    table.write(out);
}

/// A container's ID as runtimes list it: the first 12 of 64 hexadecimal digits.
fn short(container: &str) -> &str {
    let is_hash = container.len() == 64 && container.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { &container[..12] } else { container }
}

pub(crate) fn port(port: &PortInfo, out: &mut String) {
    let offloads = port.offloads.iter().map(|&offload| offload_name(offload)).collect::<Vec<_>>();
    let mut rows = vec![
        ("name", port.name.to_string()),
        ("state", state(port.state).to_owned()),
        ("netns", port.netns.to_string()),
        ("ifname", port.ifname.to_string()),
        ("mac", option(port.mac)),
        ("addresses", words(&port.addresses)),
        ("mtu", port.mtu.to_string()),
        ("vlans", mode(&port.mode)),
        ("offloads", offloads.join(" ")),
        ("allow mac", allowed(port.allow_mac.as_deref())),
        ("allow ip", allowed(port.allow_ip.as_deref())),
        ("limit rx", limit(port.limits.and_then(|limits| limits.rx))),
        ("limit tx", limit(port.limits.and_then(|limits| limits.tx))),
    ];
    if let Some(Attachment { network, container, delegated, seen: _, sight: _ }) = &port.attachment {
        rows.push(("container", container.to_string()));
        rows.push(("network", network.to_string()));
        let whose =
            if *delegated { "the network's IPAM plugin, which has to be told to free them" } else { "vswitchd" };
        rows.push(("addresses by", whose.to_owned()));
    }
    fields(&rows, out);
}

/// What a port may carry one way.
fn limit(info: Option<RateInfo>) -> String {
    // What a daemon has is in range.
    let text = info.and_then(|RateInfo { rate, burst }| Some((RateLimit::new(rate, None).ok()?, bytes(burst))));
    text.map_or_else(|| "none".to_owned(), |(rate, burst)| format!("{rate}bit/s, {burst} at once"))
}

/// What a port may send from.
fn allowed<T: ToString>(values: Option<&[T]>) -> String {
    values
        .map_or_else(|| "any".to_owned(), |values| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

pub(crate) fn vlans(vlans: &Vec<VlanInfo>, out: &mut String) {
    if vlans.is_empty() {
        out.push_str("no VLANs\n");
        return;
    }
    let mut table = Table::new([">VLAN", ">VNI", "NAME", "LEARNING", "PORTS", "PEERS"]);
    for vlan in vlans {
        table.row([
            vlan.vlan.to_string(),
            option(vlan.vni),
            option(vlan.name.as_ref()),
            if vlan.learning { "on" } else { "off" }.to_owned(),
            words(&vlan.ports),
            words(&vlan.peers),
        ]);
    }
    table.write(out);
}

pub(crate) fn vtep(vtep: &VtepInfo, out: &mut String) {
    fields(&vtep_fields(vtep), out);
}

fn vtep_fields(vtep: &VtepInfo) -> Vec<(&'static str, String)> {
    let Some(ip) = vtep.ip else {
        return vec![("vtep", "none: all VLANs are local (vswitchd --vtep-ip IP gives one)".to_owned())];
    };
    vec![
        ("vtep", format!("{ip}, UDP port {}", vtep.port)),
        ("carried by", option(vtep.underlay.map(carried))),
        ("underlay mtu", option(vtep.underlay_mtu)),
        ("container mtu", option(vtep.overlay_mtu)),
        ("peers", vtep.peers.to_string()),
    ]
}

fn carried(by: Carried) -> &'static str {
    match by {
        Carried::Udp => "udp: super-frames are cut here and merged there",
        Carried::Uplink => "uplink: super-frames leave and enter uncut",
    }
}

pub(crate) fn fdb(entries: &Vec<FdbInfo>, out: &mut String) {
    if entries.is_empty() {
        out.push_str("no addresses\n");
        return;
    }
    let mut table = Table::new([">VLAN", "MAC", "KIND", "BEHIND", ">AGE", ">LEARNED", ">MOVES"]);
    for entry in entries {
        let behind = match (&entry.port, entry.remote) {
            (Some(port), _) => format!("port {port}"),
            (None, Some(ip)) => format!("remote {ip}"),
            (None, None) => String::new(),
        };
        let behind = match &entry.flapping {
            Some(FlappingInfo { port, remote, held_s }) => {
                let other = match (port, remote) {
                    (Some(port), _) => format!("port {port}"),
                    (None, Some(ip)) => format!("remote {ip}"),
                    (None, None) => "a port that is gone".to_owned(),
                };
                format!("{behind} (flaps to {other}; held for {})", duration(*held_s))
            }
            None => behind,
        };
        let kind = match entry.kind {
            FdbKind::Static => "static",
            FdbKind::Learned => "learned",
        };
        let age = entry.age_s.map(duration);
        let moves = match &entry.moved_from {
            Some(from) => format!("{} (from {from})", entry.moves),
            None if entry.moves > 0 => entry.moves.to_string(),
            None => String::new(),
        };
        let learned = entry.learned_s.map(duration);
        let (age, learned) = (option(age), option(learned));
        table.row([entry.vlan.to_string(), entry.mac.to_string(), kind.to_owned(), behind, age, learned, moves]);
    }
    table.write(out);
}

pub(crate) fn stats(stats: &Stats, out: &mut String) {
    let mut table = Table::new(["PORT", ">RX FRAMES", ">RX BYTES", ">TX FRAMES", ">TX BYTES", ">DROPPED"]);
    let row = |port: &PortStats| {
        let dropped = port.drops.values().fold(0u64, |sum, count| sum.saturating_add(*count));
        [port.rx_frames, port.rx_bytes, port.tx_frames, port.tx_bytes, dropped]
    };
    let mut total = [0u64; 5];
    for port in &stats.ports {
        let counts = row(port);
        total = std::array::from_fn(|at| total[at].saturating_add(counts[at]));
        table.row(counters(&port.port, counts));
    }
    if stats.ports.len() != 1 {
        table.row(counters("total", total));
    }
    table.write(out);

    let mut drops = Table::new(["PORT", "REASON", ">FRAMES", "MEANING"]);
    let mut any = false;
    for port in &stats.ports {
        for (reason, count) in port.drops.iter().filter(|(_, count)| **count > 0) {
            any = true;
            let meaning = stats.reasons.get(reason).map_or("", |text| text.trim());
            drops.row([port.port.clone(), reason.clone(), count.to_string(), meaning.to_owned()]);
        }
    }
    if any {
        out.push('\n');
        drops.write(out);
    } else {
        out.push_str("\nno frame was dropped\n");
    }
}

fn counters(name: &str, [rx_frames, rx_bytes, tx_frames, tx_bytes, dropped]: [u64; 5]) -> [String; 6] {
    let [rx, tx, dropped] = [rx_frames, tx_frames, dropped].map(|count| count.to_string());
    [name.to_owned(), rx, bytes(rx_bytes), tx, bytes(tx_bytes), dropped]
}

pub(crate) fn status(status: &Status, out: &mut String) {
    let Status { version, pid, uptime_s, workers, ports, ports_lost, fdb_used, fdb_limit, vtep, .. } = status;
    let Status { user, capabilities, sandbox, .. } = status;
    let Status { fdb_learned, fdb_moved, fdb_aged, fdb_evicted, fdb_limited, fdb_flapping, storm_limit, .. } = status;
    let history = format!("{fdb_learned} learned, {fdb_moved} moved, {fdb_aged} aged, {fdb_evicted} evicted");
    let history = match fdb_limited {
        0 => history,
        frames => format!("{history}; no room for the senders of {frames} frames"),
    };
    let history = match fdb_flapping {
        0 => history,
        times => format!("{history}; held {times} times for flapping (`vsctl fdb list`)"),
    };
    let storm = match storm_limit {
        0 => "no limit to broadcasts, multicasts and frames to unknown stations".to_owned(),
        limit => format!("{limit} broadcasts, multicasts and frames to unknown stations a second and port"),
    };
    let lost = if *ports_lost > 0 { format!(", {ports_lost} lost (`vsctl port list`)") } else { String::new() };
    let mut rows = vec![
        ("vswitchd", format!("{version}, process {pid}")),
        (
            "runs as",
            format!(
                "{user}, with {}",
                if capabilities.is_empty() { "no capability".to_owned() } else { capabilities.join(" ") }
            ),
        ),
        ("sandbox", sandbox.map_or("none", confined).to_owned()),
        ("uptime", duration(*uptime_s)),
        ("workers", format!("{workers}{}", busy(&status.workers_busy))),
        ("ports", format!("{ports}{lost}")),
        ("addresses", format!("{fdb_used} of {fdb_limit}; {history}")),
        ("storm limit", storm),
    ];
    rows.extend(vtep_fields(vtep));
    fields(&rows, out);
}

/// How busy the workers are, behind their number.
fn busy(shares: &[f64]) -> String {
    let percent = |share: f64| format!("{:.0} % busy", share * 100.0);
    let most = shares.iter().copied().max_by(f64::total_cmp);
    match (shares, most) {
        (_, None) => String::new(),
        ([share], _) => format!(", {}", percent(*share)),
        (shares, Some(most)) => {
            let number = u32::try_from(shares.len()).unwrap_or(u32::MAX);
            let all = percent(shares.iter().sum::<f64>() / f64::from(number));
            format!(", {all} on average, the busiest {:.0} %", most * 100.0)
        }
    }
}

const fn confined(sandbox: Sandbox) -> &'static str {
    match sandbox {
        Sandbox::Daemon => "Landlock: it can write its state and no other file",
        Sandbox::Workers => "Landlock for the workers: they can open no file",
    }
}

pub(crate) fn mode(mode: &ModeInfo) -> String {
    match mode.mode {
        ModeKind::Access => option(mode.vlan),
        ModeKind::Trunk => {
            let mut text = format!("trunk {}", vlan_list(&mode.vlans));
            if let Some(native) = mode.native {
                let _ = write!(text, " native {native}");
            }
            text
        }
    }
}

pub(crate) fn vlan_list(vlans: &[Vid]) -> String {
    option(VlanList::new(vlans.iter().copied()))
}

const fn state(state: PortState) -> &'static str {
    match state {
        PortState::Up => "up",
        PortState::Lost => "lost",
    }
}

const fn offload_name(offload: Offload) -> &'static str {
    match offload {
        Offload::Checksum => "checksum",
        Offload::Tso4 => "tso4",
        Offload::Tso6 => "tso6",
        Offload::TsoEcn => "tso_ecn",
        Offload::Uso => "uso",
    }
}

pub(crate) fn option<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Seconds as people say them, in the two greatest units that matter.
pub(crate) fn duration(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let mut left = seconds;
    let mut text = Vec::new();
    for (at, (unit, size)) in units.iter().enumerate().skip(first).take(2) {
        if left >= *size || at == first {
            text.push(format!("{} {unit}", left / size));
        }
        left %= size;
    }
    text.join(" ")
}

/// Bytes in binary units with one decimal; exact below 1 KiB.
fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "";
    // Tenths of the unit, so that no float is needed.
    let mut tenths = u128::from(count) * 10;
    for name in units {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = name;
    }
    if unit.is_empty() { format!("{count} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn rendered<T: DeserializeOwned>(render: impl Fn(&T, &mut String), value: Value) -> String {
        let mut out = String::new();
        render(&serde_json::from_value(value).unwrap(), &mut out);
        out
    }

    fn web() -> Value {
        json!({
            "name": "web", "netns": "blue", "ifname": "eth0", "mac": "02:00:00:00:00:01",
            "addresses": ["10.0.0.2/24", "fd00::2/64"], "mtu": 1450, "mode": "access", "vlan": 10, "vlans": [],
            "native": null, "state": "up", "offloads": ["checksum", "tso4"],
        })
    }

    fn router() -> Value {
        json!({
            "name": "router", "netns": "pid:7", "ifname": "lan0", "mac": null, "addresses": [], "mtu": 1500,
            "mode": "trunk", "vlan": null, "vlans": [10, 11, 12, 30], "native": 5, "state": "lost", "offloads": [],
        })
    }

    #[test]
    fn ports_in_a_table() {
        let expected = "\
NAME    NETNS  IFNAME  MAC                ADDRESSES                MTU  VLANS                    STATE
web     blue   eth0    02:00:00:00:00:01  10.0.0.2/24 fd00::2/64  1450  10                       up
router  pid:7  lan0    -                  -                       1500  trunk 10-12,30 native 5  lost
";
        assert_eq!(rendered(ports, json!([web(), router()])), expected);
        assert_eq!(rendered(ports, json!([])), "no ports\n");
    }

    #[test]
    fn ports_of_containers() {
        let mut c1 = web();
        c1["attachment"] = json!({"network": "podman", "container": "0123456789ab".repeat(6)[..64], "seen": true});
        let expected = "\
NAME    NETNS  IFNAME  MAC                ADDRESSES                MTU  VLANS                    STATE  CONTAINER
web     blue   eth0    02:00:00:00:00:01  10.0.0.2/24 fd00::2/64  1450  10                       up     0123456789ab in podman
router  pid:7  lan0    -                  -                       1500  trunk 10-12,30 native 5  lost   -
";
        assert_eq!(rendered(ports, json!([c1.clone(), router()])), expected);
        let said = |port_: Value| rendered(port, port_).lines().skip(13).map(str::to_owned).collect::<Vec<_>>();
        let id = format!("container     {}", &"0123456789ab".repeat(6)[..64]);
        assert_eq!(said(c1.clone()), [id.as_str(), "network       podman", "addresses by  vswitchd"]);
        c1["attachment"]["delegated"] = json!(true);
        assert!(said(c1)[2].contains("IPAM plugin"));
    }

    #[test]
    fn one_port() {
        let expected = "\
name       web
state      up
netns      blue
ifname     eth0
mac        02:00:00:00:00:01
addresses  10.0.0.2/24 fd00::2/64
mtu        1450
vlans      10
offloads   checksum tso4
allow mac  any
allow ip   10.0.0.2/32 fd00::/64
limit rx   1.5Gbit/s, 64.0 KiB at once
limit tx   none
";
        let mut web = web();
        web["allow_ip"] = json!(["10.0.0.2/32", "fd00::/64"]);
        web["limits"] = json!({"rx": {"rate": 1_500_000_000_u64, "burst": 65_536}, "tx": null});
        assert_eq!(rendered(port, web), expected);
    }

    #[test]
    fn vlans_and_peers() {
        let list = json!([
            {"vlan": 1, "vni": null, "name": null, "learning": true, "ports": ["a", "b"], "peers": []},
            {"vlan": 10, "vni": 5010, "name": "lab", "learning": false, "ports": [], "peers": ["192.0.2.2", "192.0.2.3"]},
        ]);
        let expected = "\
VLAN   VNI  NAME  LEARNING  PORTS  PEERS
   1     -  -     on        a b    -
  10  5010  lab   off       -      192.0.2.2 192.0.2.3
";
        assert_eq!(rendered(vlans, list), expected);

        let list = json!([
            {"ip": "192.0.2.2", "all_vlans": false, "vlans": [10, 11]},
            {"ip": "192.0.2.3", "all_vlans": true, "vlans": [10]},
            {"ip": "192.0.2.40", "all_vlans": true, "vlans": []},
        ]);
        let expected = "\
PEER        VLANS
192.0.2.2   10-11
192.0.2.3   all (10)
192.0.2.40  all (none has a VNI yet)
";
        assert_eq!(rendered(crate::health::peers, list), expected);
    }

    #[test]
    fn addresses_and_their_age() {
        let entry = |vlan: u16, kind: &str, port: Value, remote: Value, age: Value| json!({"mac": "02:00:00:00:00:01", "vlan": vlan, "kind": kind, "port": port, "remote": remote, "age_s": age, "flapping": null});
        let mut flapping = entry(20, "learned", json!("web"), json!(null), json!(0));
        flapping["flapping"] = json!({"port": "db", "remote": null, "held_s": 9});
        (flapping["moves"], flapping["moved_from"], flapping["learned_s"]) = (json!(5), json!("port db"), json!(60));
        let list = json!([
            entry(1, "learned", json!("web"), json!(null), json!(12)),
            entry(10, "learned", json!(null), json!("192.0.2.2"), json!(250)),
            entry(10, "static", json!("web"), json!(null), json!(null)),
            flapping,
        ]);
        let expected = "\
VLAN  MAC                KIND     BEHIND                                            AGE  LEARNED             MOVES
   1  02:00:00:00:00:01  learned  port web                                         12 s        -                 -
  10  02:00:00:00:00:01  learned  remote 192.0.2.2                           4 min 10 s        -                 -
  10  02:00:00:00:00:01  static   port web                                            -        -                 -
  20  02:00:00:00:00:01  learned  port web (flaps to port db; held for 9 s)         0 s    1 min  5 (from port db)
";
        assert_eq!(rendered(fdb, list), expected);
    }

    #[test]
    fn counters_with_drops_and_what_they_mean() {
        let counts = |port: &str, rx: u64, drops: Value| json!({"port": port, "rx_frames": rx, "rx_bytes": rx * 1000, "tx_frames": 1, "tx_bytes": 60, "drops": drops});
        let answer = json!({
            "ports": [
                counts("web", 2_000_000, json!({"vlan_not_allowed": 3, "bad_source": 0})),
                counts("tunnel", 7, json!({"unknown_vni": 40})),
            ],
            "reasons": {"vlan_not_allowed": " The port is not in that VLAN.", "bad_source": " Never shown."},
        });
        let expected = "\
PORT    RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPPED
web       2000000   1.8 GiB          1      60 B        3
tunnel          7   6.8 KiB          1      60 B       40
total     2000007   1.8 GiB          2     120 B       43

PORT    REASON            FRAMES  MEANING
web     vlan_not_allowed       3  The port is not in that VLAN.
tunnel  unknown_vni           40  -
";
        assert_eq!(rendered(stats, answer), expected);

        let quiet = json!({"ports": [counts("web", 0, json!({}))], "reasons": {}});
        let expected = "\
PORT  RX FRAMES  RX BYTES  TX FRAMES  TX BYTES  DROPPED
web           0       0 B          1      60 B        0

no frame was dropped
";
        assert_eq!(rendered(stats, quiet), expected);
    }

    #[test]
    fn status_and_vtep() {
        let answer = json!({
            "version": "0.1.0", "pid": 42,
            "user": "vswitch", "capabilities": ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"], "sandbox": "workers",
            "uptime_s": 3700, "workers": 1, "workers_busy": [0.125], "ports": 3, "ports_lost": 1,
            "fdb_used": 12, "fdb_limit": 131072, "fdb_limit_per_port": 65536, "storm_limit": 10000,
            "fdb_learned": 20, "fdb_moved": 3, "fdb_aged": 8, "fdb_evicted": 0, "fdb_limited": 0, "fdb_flapping": 2,
            "vtep": {"ip": "192.0.2.1", "port": 4789, "underlay_mtu": 1500, "overlay_mtu": 1450,
                "underlay": "uplink", "peers": 2},
        });
        let expected = "\
vswitchd       0.1.0, process 42
runs as        vswitch, with CAP_NET_ADMIN CAP_SYS_ADMIN
sandbox        Landlock for the workers: they can open no file
uptime         1 h 1 min
workers        1, 12 % busy
ports          3, 1 lost (`vsctl port list`)
addresses      12 of 131072; 20 learned, 3 moved, 8 aged, 0 evicted; held 2 times for flapping (`vsctl fdb list`)
storm limit    10000 broadcasts, multicasts and frames to unknown stations a second and port
vtep           192.0.2.1, UDP port 4789
carried by     uplink: super-frames leave and enter uncut
underlay mtu   1500
container mtu  1450
peers          2
";
        assert_eq!(rendered(status, answer), expected);
        let none =
            json!({"ip": null, "port": 4789, "underlay_mtu": null, "overlay_mtu": null, "underlay": null, "peers": 0});
        assert!(rendered(vtep, none).contains("none: all VLANs are local"));
    }

    #[test]
    fn how_busy_workers_are() {
        for (shares, text) in [
            (vec![], ""),
            (vec![0.0], ", 0 % busy"),
            (vec![0.996], ", 100 % busy"),
            (vec![0.1, 0.9], ", 50 % busy on average, the busiest 90 %"),
        ] {
            assert_eq!(busy(&shares), text);
        }
    }

    #[test]
    fn spans_and_sizes() {
        let spans = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_600, "1 h"),
            (3_659, "1 h"),
            (90_000, "1 d 1 h"),
            (86_400 * 400, "400 d"),
        ];
        for (seconds, text) in spans {
            assert_eq!(duration(seconds), text);
        }
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (count, text) in sizes {
            assert_eq!(bytes(count), text);
        }
    }
}

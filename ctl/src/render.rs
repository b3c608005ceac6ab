//! Answers for people.

use std::fmt::Write;

use vswitch_api::{
    FdbInfo, FdbKind, ModeInfo, ModeKind, Offload, PeerInfo, PortInfo, PortState, PortStats, Stats, Status, Vid,
    VlanInfo, VlanList, VtepInfo,
};

use crate::table::{Table, fields};

pub(crate) fn ports(ports: &Vec<PortInfo>, out: &mut String) {
    if ports.is_empty() {
        out.push_str("no ports\n");
        return;
    }
    let mut table = Table::new(["NAME", "NETNS", "IFNAME", "MAC", "ADDRESSES", ">MTU", "VLANS", "STATE"]);
    for port in ports {
        table.row([
            port.name.to_string(),
            port.netns.to_string(),
            port.ifname.to_string(),
            option(port.mac),
            words(&port.addresses),
            port.mtu.to_string(),
            mode(&port.mode),
            state(port.state).to_owned(),
        ]);
    }
    table.write(out);
}

pub(crate) fn port(port: &PortInfo, out: &mut String) {
    let offloads = port.offloads.iter().map(|&offload| offload_name(offload)).collect::<Vec<_>>();
    let rows = [
        ("name", port.name.to_string()),
        ("state", state(port.state).to_owned()),
        ("netns", port.netns.to_string()),
        ("ifname", port.ifname.to_string()),
        ("mac", option(port.mac)),
        ("addresses", words(&port.addresses)),
        ("mtu", port.mtu.to_string()),
        ("vlans", mode(&port.mode)),
        ("offloads", offloads.join(" ")),
    ];
    fields(&rows, out);
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

pub(crate) fn peers(peers: &Vec<PeerInfo>, out: &mut String) {
    if peers.is_empty() {
        out.push_str("no peers\n");
        return;
    }
    let mut table = Table::new(["PEER", "VLANS"]);
    for peer in peers {
        let vlans = match (peer.all_vlans, vlan_list(&peer.vlans)) {
            (false, vlans) => vlans,
            (true, vlans) if vlans.is_empty() => "all (none has a VNI yet)".to_owned(),
            (true, vlans) => format!("all ({vlans})"),
        };
        table.row([peer.ip.to_string(), vlans]);
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
        ("underlay mtu", option(vtep.underlay_mtu)),
        ("container mtu", option(vtep.overlay_mtu)),
        ("peers", vtep.peers.to_string()),
    ]
}

pub(crate) fn fdb(entries: &Vec<FdbInfo>, out: &mut String) {
    if entries.is_empty() {
        out.push_str("no addresses\n");
        return;
    }
    let mut table = Table::new([">VLAN", "MAC", "KIND", "BEHIND", ">AGE"]);
    for entry in entries {
        let behind = match (&entry.port, entry.remote) {
            (Some(port), _) => format!("port {port}"),
            (None, Some(ip)) => format!("remote {ip}"),
            (None, None) => String::new(),
        };
        let kind = match entry.kind {
            FdbKind::Static => "static",
            FdbKind::Learned => "learned",
        };
        let age = entry.age_s.map(duration);
        table.row([entry.vlan.to_string(), entry.mac.to_string(), kind.to_owned(), behind, option(age)]);
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
    let Status { version, pid, uptime_s, workers, ports, ports_lost, fdb_used, fdb_limit, vtep } = status;
    let lost = if *ports_lost > 0 { format!(", {ports_lost} lost (`vsctl port list`)") } else { String::new() };
    let mut rows = vec![
        ("vswitchd", format!("{version}, process {pid}")),
        ("uptime", duration(*uptime_s)),
        ("workers", workers.to_string()),
        ("ports", format!("{ports}{lost}")),
        ("addresses", format!("{fdb_used} of {fdb_limit}")),
    ];
    rows.extend(vtep_fields(vtep));
    fields(&rows, out);
}

fn mode(mode: &ModeInfo) -> String {
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

fn vlan_list(vlans: &[Vid]) -> String {
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

fn option<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn words<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Seconds as people say them, in the two greatest units that matter.
fn duration(seconds: u64) -> String {
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

//! Names that the daemon and the host know, for completion.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vswitch_api::request::FdbFilter;
use vswitch_api::{
    AttachmentInfo, Client, FdbInfo, ModeKind, NeighbourInfo, PeerInfo, PortInfo, PortState, Query, Stats, VlanInfo,
    socket,
};

/// Whoever presses a key waits no longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// So many MAC addresses are proposed; of more none.
const MACS: u64 = 1_000;

/// The words of conditions.
pub(crate) const CONDITIONS: [(&str, &str); 6] = [
    ("port=", "at this port, peer, tunnel or drops"),
    ("mac=", "from or to this MAC address"),
    ("ip=", "from or to this IP address"),
    ("vlan=", "in this VLAN"),
    ("reason=", "dropped for this reason"),
    ("direction=", "into the switch, or out of it"),
];

/// Where `ip netns` keeps namespaces.
const NETNS: &str = "/run/netns";

thread_local! {
    /// What `--socket` says on the line that is completed: the engine tells those it asks for values only what stands
    /// in their place.
    static SOCKET: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Has the daemon asked that `words` name.
pub(super) fn ask_at(words: &[OsString]) {
    let named = words.iter().enumerate().rev().find_map(|(at, word)| {
        let follows = (word == "--socket").then(|| words.get(at + 1).cloned()).flatten();
        follows.or_else(|| word.to_str()?.strip_prefix("--socket=").map(OsString::from))
    });
    SOCKET.set(named.map(PathBuf::from));
}

/// What the daemon answers; nothing where it does not.
fn ask<T: DeserializeOwned + Default>(query: Query) -> T {
    let path = socket::to_ask(SOCKET.with_borrow(Clone::clone));
    let answer = Client::connect(&path, PATIENCE).and_then(|mut client| client.call(&query.into()));
    answer.unwrap_or_default()
}

fn candidate(value: impl ToString, help: String) -> CompletionCandidate {
    CompletionCandidate::new(value.to_string()).help((!help.is_empty()).then(|| help.into()))
}

/// Words, each with what it means.
fn told(words: &[(&str, &str)]) -> Vec<CompletionCandidate> {
    words.iter().map(|(word, help)| candidate(word, (*help).to_owned())).collect()
}

/// The ports.
pub(crate) fn ports() -> ArgValueCandidates {
    ArgValueCandidates::new(all_ports)
}

/// The ports, and these words.
pub(crate) fn ports_and(words: &'static [(&'static str, &'static str)]) -> ArgValueCandidates {
    ArgValueCandidates::new(move || all_ports().into_iter().chain(told(words)).collect())
}

fn all_ports() -> Vec<CompletionCandidate> {
    ask::<Vec<PortInfo>>(Query::PortList {}).iter().map(|port| candidate(&port.name, about(port))).collect()
}

fn about(port: &PortInfo) -> String {
    let vlans = match port.mode.mode {
        ModeKind::Access => port.mode.vlan.map(|vlan| format!("VLAN {vlan}")).unwrap_or_default(),
        ModeKind::Trunk => "trunk".to_owned(),
    };
    let lost = if port.state == PortState::Lost { ", lost" } else { "" };
    let addresses: String = port.addresses.iter().map(|address| format!(", {address}")).collect();
    format!("{vlans}{addresses}{lost}")
}

/// Who can be asked about: ports, and addresses that were heard.
pub(crate) fn stations() -> ArgValueCandidates {
    ArgValueCandidates::new(|| all_ports().into_iter().chain(all_heard()).collect())
}

/// IP addresses that were heard.
pub(crate) fn addresses() -> ArgValueCandidates {
    ArgValueCandidates::new(all_heard)
}

fn all_heard() -> Vec<CompletionCandidate> {
    let about = |NeighbourInfo { ip, mac, vlan, port, remote, .. }: &NeighbourInfo| {
        let behind = port.as_ref().map(|port| format!(", behind port {port}"));
        let behind = behind.or_else(|| remote.map(|ip| format!(", behind remote {ip}"))).unwrap_or_default();
        candidate(ip, format!("{mac} in VLAN {vlan}{behind}"))
    };
    ask::<Vec<NeighbourInfo>>(Query::NeighbourList {}).iter().map(about).collect()
}

/// The VLANs that have settings or ports.
pub(crate) fn vlans() -> ArgValueCandidates {
    ArgValueCandidates::new(all_vlans)
}

fn all_vlans() -> Vec<CompletionCandidate> {
    ask::<Vec<VlanInfo>>(Query::VlanList {}).iter().map(|vlan| in_list("", vlan)).collect()
}

fn in_list(before: &str, vlan: &VlanInfo) -> CompletionCandidate {
    let VlanInfo { vlan, vni, name, ports, .. } = vlan;
    let name = name.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    let vni = vni.map(|vni| format!("VNI {vni}, ")).unwrap_or_default();
    candidate(format!("{before}{vlan}"), format!("{name}{vni}{} ports", ports.len()))
}

/// Lists of VLANs: the last of them is completed, with those that the list has not yet.
pub(crate) fn vlan_lists() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let (before, last) = current.rfind([',', '-']).map_or(("", current), |end| current.split_at(end + 1));
        let listed: Vec<_> = before.split([',', '-']).collect();
        let vlans = ask::<Vec<VlanInfo>>(Query::VlanList {});
        let new = vlans.iter().filter(|vlan| {
            let text = vlan.vlan.to_string();
            text.starts_with(last) && !listed.contains(&text.as_str())
        });
        new.map(|vlan| in_list(before, vlan)).collect()
    })
}

/// The peers.
pub(crate) fn peers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| all_peers("").collect())
}

fn all_peers(before: &'static str) -> impl Iterator<Item = CompletionCandidate> {
    ask::<Vec<PeerInfo>>(Query::PeerList {}).into_iter().map(move |PeerInfo { ip, all_vlans, vlans, .. }| {
        let vlans = if all_vlans { "all VLANs".to_owned() } else { format!("{} VLANs", vlans.len()) };
        candidate(format!("{before}{ip}"), format!("peer in {vlans}"))
    })
}

/// Where frames are captured.
pub(crate) fn places() -> ArgValueCandidates {
    ArgValueCandidates::new(all_places)
}

fn all_places() -> Vec<CompletionCandidate> {
    let words = told(&[("tunnel", "at all peers"), ("drops", "where frames are dropped")]);
    all_ports().into_iter().chain(all_peers("")).chain(words).collect()
}

/// Where a frame may come in.
pub(crate) fn origins() -> ArgValueCandidates {
    ArgValueCandidates::new(|| all_ports().into_iter().chain(all_peers("remote:")).collect())
}

/// The addresses in the FDB.
pub(crate) fn macs() -> ArgValueCandidates {
    ArgValueCandidates::new(all_macs)
}

fn all_macs() -> Vec<CompletionCandidate> {
    /// Of a status.
    #[derive(Default, Deserialize)]
    struct Used {
        fdb_used: u64,
    }
    // More are not worth the wait, and nobody reads them.
    if ask::<Used>(Query::Status {}).fdb_used > MACS {
        return Vec::new();
    }
    let about = |FdbInfo { mac, vlan, port, remote, .. }: &FdbInfo| {
        let behind = port.as_ref().map(|port| format!(", port {port}"));
        let behind = behind.or_else(|| remote.map(|ip| format!(", remote {ip}"))).unwrap_or_default();
        candidate(mac, format!("VLAN {vlan}{behind}"))
    };
    ask::<Vec<FdbInfo>>(Query::FdbList(FdbFilter::default())).iter().map(about).collect()
}

/// Reasons for which frames were dropped.
pub(crate) fn reasons() -> ArgValueCandidates {
    ArgValueCandidates::new(all_reasons)
}

fn all_reasons() -> Vec<CompletionCandidate> {
    let reasons = ask::<Stats>(Query::Stats { port: None }).reasons;
    reasons.into_iter().map(|(reason, meaning)| candidate(reason, meaning.trim().to_owned())).collect()
}

/// The networks of container runtimes.
pub(crate) fn networks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let attachments = ask::<Vec<AttachmentInfo>>(Query::AttachmentList { network: None });
        let networks: BTreeSet<_> = attachments.into_iter().map(|attachment| attachment.network.to_string()).collect();
        networks.into_iter().map(|network| candidate(network, String::new())).collect()
    })
}

/// Conditions like `vlan=10`: their words, and behind one what it may be.
pub(crate) fn conditions() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let (before, typed, all) = match current.split_once('=') {
            None => ("", current, told(&CONDITIONS)),
            Some((word, value)) => (&current[..=word.len()], value, values_of(word)),
        };
        let fitting = all.into_iter().filter(|value| value.get_value().to_string_lossy().starts_with(typed));
        fitting.map(|value| value.add_prefix(before)).collect()
    })
}

/// What may stand behind the word of a condition.
fn values_of(word: &str) -> Vec<CompletionCandidate> {
    match word {
        "port" => all_places(),
        "mac" => all_macs(),
        "ip" => all_heard(),
        "vlan" => all_vlans(),
        "reason" => all_reasons(),
        "direction" => told(&[("in", "into the switch"), ("out", "out of it"), ("both", "either")]),
        _ => Vec::new(),
    }
}

/// Network namespaces: names, `pid:`, and paths.
pub(crate) fn namespaces() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| namespaces_in(Path::new(NETNS), current))
}

fn namespaces_in(folder: &Path, current: &OsStr) -> Vec<CompletionCandidate> {
    use clap_complete::engine::{PathCompleter, ValueCompleter as _};
    let Some(text) = current.to_str() else { return Vec::new() };
    if text.starts_with('/') {
        return PathCompleter::any().complete(current);
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let names = names.into_iter().map(|name| candidate(name, "namespace".to_owned()));
    let pid = candidate("pid:", "of the process with this number".to_owned());
    names.chain([pid]).filter(|name| name.get_value().to_string_lossy().starts_with(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_by_name_number_and_path() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["blue", "black", "red"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let said = |current: &str| -> Vec<_> {
            let all = namespaces_in(folder.path(), OsStr::new(current));
            all.iter().map(|name| name.get_value().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(said(""), ["black", "blue", "red", "pid:"]);
        assert_eq!(said("bl"), ["black", "blue"]);
        assert_eq!(said("p"), ["pid:"]);
        assert_eq!(said(&format!("{}/r", folder.path().display())), [format!("{}/red", folder.path().display())]);
        assert_eq!(namespaces_in(Path::new("/nonexistent"), OsStr::new("x")).len(), 0);
    }

    #[test]
    fn the_socket_on_the_line() {
        for (line, path) in [
            ("vsctl port show", None),
            ("vsctl --socket /a port show", Some("/a")),
            ("vsctl port --socket=/b show", Some("/b")),
            ("vsctl --socket /a port --socket /b show", Some("/b")),
            ("vsctl port show --socket", None),
        ] {
            ask_at(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
            assert_eq!(SOCKET.with_borrow(Clone::clone), path.map(PathBuf::from), "{line}");
        }
        ask_at(&[]);
    }
}

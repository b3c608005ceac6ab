//! Names that the daemon and the host know, for completion.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use serde::de::DeserializeOwned;
use vswitch_api::request::FdbFilter;
use vswitch_api::{Client, FdbInfo, ModeKind, NeighbourInfo, PeerInfo, PortInfo, PortState, Query, VlanInfo, socket};

/// Whoever presses a key waits no longer.
const PATIENCE: Duration = Duration::from_millis(500);

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
fn ask<T: DeserializeOwned>(query: Query) -> Vec<T> {
    let path = socket::to_ask(SOCKET.with_borrow(Clone::clone));
    let answer = Client::connect(&path, PATIENCE).and_then(|mut client| client.call(&query.into()));
    answer.unwrap_or_default()
}

fn candidate(value: impl ToString, help: String) -> CompletionCandidate {
    CompletionCandidate::new(value.to_string()).help((!help.is_empty()).then(|| help.into()))
}

/// The ports.
pub(crate) fn ports() -> ArgValueCandidates {
    ArgValueCandidates::new(all_ports)
}

/// The ports, and these words.
pub(crate) fn ports_and(words: &'static [(&'static str, &'static str)]) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let words = words.iter().map(|(word, help)| candidate(word, (*help).to_owned()));
        all_ports().into_iter().chain(words).collect()
    })
}

fn all_ports() -> Vec<CompletionCandidate> {
    ask::<PortInfo>(Query::PortList {}).iter().map(|port| candidate(&port.name, about(port))).collect()
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
    ArgValueCandidates::new(|| {
        let heard = ask::<NeighbourInfo>(Query::NeighbourList {});
        let heard = heard.iter().map(|NeighbourInfo { ip, mac, vlan, port, remote, .. }| {
            let behind = port.as_ref().map(|port| format!(", behind port {port}"));
            let behind = behind.or_else(|| remote.map(|ip| format!(", behind remote {ip}"))).unwrap_or_default();
            candidate(ip, format!("{mac} in VLAN {vlan}{behind}"))
        });
        all_ports().into_iter().chain(heard).collect()
    })
}

/// The VLANs that have settings or ports.
pub(crate) fn vlans() -> ArgValueCandidates {
    ArgValueCandidates::new(|| ask(Query::VlanList {}).iter().map(|vlan| in_list("", vlan)).collect())
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
        let vlans = ask::<VlanInfo>(Query::VlanList {});
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
    ask::<PeerInfo>(Query::PeerList {}).into_iter().map(move |PeerInfo { ip, all_vlans, vlans, .. }| {
        let vlans = if all_vlans { "all VLANs".to_owned() } else { format!("{} VLANs", vlans.len()) };
        candidate(format!("{before}{ip}"), format!("peer in {vlans}"))
    })
}

/// Where frames are captured.
pub(crate) fn places() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let words = [("tunnel", "at all peers"), ("drops", "where frames are dropped")];
        let words = words.map(|(word, help)| candidate(word, help.to_owned()));
        all_ports().into_iter().chain(all_peers("")).chain(words).collect()
    })
}

/// Where a frame may come in.
pub(crate) fn origins() -> ArgValueCandidates {
    ArgValueCandidates::new(|| all_ports().into_iter().chain(all_peers("remote:")).collect())
}

/// The addresses in the FDB.
pub(crate) fn macs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let entries = ask::<FdbInfo>(Query::FdbList(FdbFilter::default()));
        let about = |FdbInfo { mac, vlan, port, remote, .. }: &FdbInfo| {
            let behind = port.as_ref().map(|port| format!(", port {port}"));
            let behind = behind.or_else(|| remote.map(|ip| format!(", remote {ip}"))).unwrap_or_default();
            candidate(mac, format!("VLAN {vlan}{behind}"))
        };
        entries.iter().map(about).collect()
    })
}

/// Reasons for which frames were dropped.
pub(crate) fn reasons() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let path = socket::to_ask(SOCKET.with_borrow(Clone::clone));
        let stats = Client::connect(&path, PATIENCE)
            .and_then(|mut client| client.call::<vswitch_api::Stats>(&Query::Stats { port: None }.into()));
        let reasons = stats.map(|stats| stats.reasons).unwrap_or_default();
        reasons.into_iter().map(|(reason, meaning)| candidate(reason, meaning.trim().to_owned())).collect()
    })
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

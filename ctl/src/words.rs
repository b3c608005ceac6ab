//! From the words of the command line to the daemon's requests, and from changes done to a sentence.

use std::ffi::OsString;
use std::path::PathBuf;

use vswitch_api::request::FdbFilter;
use vswitch_api::{
    Allowed, AllowedWord, BadValue, Change, FdbTarget, LimitWord, Limits, PeerSpec, PeerVlans, PortMode, PortSet,
    PortSpec, ProbeAsk, Query, Refusal, Request, StaticEntry, VlanSpec,
};

use crate::attachments::Attachments;
use crate::capture::{CaptureArgs, LiveArgs};
use crate::cli;
use crate::complete;
use crate::doctor::Doctor;
use crate::repeat::Watch;

/// What a command is for us.
#[derive(Debug)]
pub(crate) enum Task {
    /// To ask the daemon, again and again where that is wanted.
    Ask(Request, Watch),
    /// To make a port's interface, and hand it to the daemon.
    HandOver(PortSpec),
    /// To capture frames.
    Capture(Box<CaptureArgs>),
    /// To show frames as they pass.
    Follow(LiveArgs),
    /// To tell what happens.
    Monitor(crate::monitor::MonitorArgs),
    /// To tell why two stations do or do not reach each other.
    Why(vswitch_api::WhyAsk),
    /// To tell how the way to a peer is.
    Probe(ProbeAsk),
    /// To tell the journey of a frame.
    Trace(Box<crate::trace::Trace>),
    /// To write the reference of all words.
    Reference,
    /// To show what passes now.
    #[cfg(feature = "top")]
    Top(crate::top::TopArgs),
    /// To write a completion script.
    Complete(complete::Shell),
    /// To say what the word of this number may be.
    Propose(usize, Vec<OsString>),
    /// To write the manual pages into this folder.
    Man(PathBuf),
    /// To look at the host.
    Examine(Doctor),
    /// To show it all.
    Demo(cli::Demo),
}

/// Why words that the command line's grammar takes make no sense.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Value(#[from] BadValue),
    #[error("--match says {0}= twice, and takes it once: say each word once")]
    Twice(&'static str),
}

impl Task {
    /// To ask the daemon once.
    fn once(request: impl Into<Request>) -> Self {
        Self::Ask(request.into(), Watch::default())
    }
}

/// What `command` asks for.
///
/// # Errors
/// Where its words contradict each other in a way the command line's grammar does not see.
pub(crate) fn task(command: cli::Command) -> Result<Task, Wrong> {
    use cli::Command;
    Ok(match command {
        Command::Port(command) => return port(command),
        Command::Vlan(command) => vlan(command),
        Command::Vtep(command) => vtep(command)?,
        Command::Fdb(command) => fdb(command)?,
        Command::Neighbour(cli::Neighbour::List(watch)) => Task::Ask(Query::NeighbourList {}.into(), watch),
        Command::Attachment(Attachments::List { network, watch }) => {
            Task::Ask(Query::AttachmentList { network }.into(), watch)
        }
        Command::Pool(command) => Task::once(Query::from(command)),
        Command::Why { a, b } => Task::Why(vswitch_api::WhyAsk { a, b, ticket: None }),
        Command::Stats { port, watch } => Task::Ask(Query::Stats { port }.into(), watch),
        Command::Status(watch) => Task::Ask(Query::Status {}.into(), watch),
        Command::Capture(args) => Task::Capture(args),
        Command::Trace { live: true, follow, .. } => match follow.twice() {
            Some(word) => return Err(Wrong::Twice(word)),
            None => Task::Follow(follow),
        },
        Command::Trace { trace, .. } => Task::Trace(trace),
        Command::Doctor(words) => Task::Examine(words),
        #[cfg(feature = "top")]
        Command::Top(args) => Task::Top(args),
        Command::Monitor(args) => Task::Monitor(args),
        Command::Demo(demo) => Task::Demo(demo),
        Command::Reference => Task::Reference,
        Command::Completions { shell } => Task::Complete(shell),
        Command::Complete { index, words } => Task::Propose(index, words),
        Command::Man { dir } => Task::Man(dir),
    })
}

fn port_add(add: cli::PortAdd) -> Result<Task, Wrong> {
    let cli::PortAdd { name, netns, ifname, mac, addresses, gateways, mtu, .. } = add;
    let mode = PortMode::from_words(add.access, add.trunk, add.native)?.unwrap_or_default();
    let allow_mac = allowed(add.guard.macs)?.unwrap_or_default();
    let allow_ip = allowed(add.guard.ips)?.unwrap_or_default();
    let limit = |word: Option<LimitWord>| word.and_then(|word| word.0);
    let limits = Limits { rx: limit(add.limits.rx), tx: limit(add.limits.tx) };
    let spec = PortSpec {
        ifname,
        mac,
        addresses,
        gateways,
        mtu,
        mode,
        allow_mac,
        allow_ip,
        limits,
        ..PortSpec::new(name, netns)
    };
    Ok(if add.hand_over { Task::HandOver(spec) } else { Task::once(Change::PortAdd(spec)) })
}

fn port(command: cli::Port) -> Result<Task, Wrong> {
    Ok(match command {
        cli::Port::Add(add) => return port_add(*add),
        cli::Port::List(watch) => Task::Ask(Query::PortList {}.into(), watch),
        cli::Port::Show { name } => Task::once(Query::PortShow { name }),
        cli::Port::Set(set) => {
            let cli::PortSet { name, mtu, access, trunk, native, guard, limits, .. } = set;
            let (address, gateway) = (set.addresses, set.gateways);
            let (allow_mac, allow_ip) = (allowed(guard.macs)?, allowed(guard.ips)?);
            let (rx_limit, tx_limit) = (limits.rx, limits.tx);
            let set =
                PortSet { name, mtu, access, trunk, native, address, gateway, allow_mac, allow_ip, rx_limit, tx_limit };
            if set.is_empty() {
                return Err(Refusal::NothingToSet { name: set.name }.into());
            }
            Task::once(Change::PortSet(set))
        }
        cli::Port::Del { name } => Task::once(Change::PortDel { name }),
    })
}

/// The list that `words` mean, if any were given.
fn allowed<T: Ord>(words: Option<Vec<AllowedWord<T>>>) -> Result<Option<Allowed<T>>, BadValue> {
    words.map(Allowed::from_words).transpose()
}

fn vlan(command: cli::Vlan) -> Task {
    match command {
        cli::Vlan::Add { vlan, vni, name, no_learning } => {
            Task::once(Change::VlanAdd(VlanSpec { vlan, vni, name, learning: !no_learning }))
        }
        cli::Vlan::List(watch) => Task::Ask(Query::VlanList {}.into(), watch),
        cli::Vlan::Del { vlan } => Task::once(Change::VlanDel { vlan }),
    }
}

fn vtep(command: cli::Vtep) -> Result<Task, Refusal> {
    Ok(match command {
        cli::Vtep::Show => Task::once(Query::VtepShow {}),
        cli::Vtep::Peer(cli::Peer::Add { ip, vlan, all_vlans }) => {
            let vlans = match (vlan, all_vlans) {
                (Some(vlans), false) => PeerVlans::Listed(vlans),
                (None, true) => PeerVlans::All,
                _ => return Err(Refusal::PeerVlansUnclear { ip }),
            };
            Task::once(Change::PeerAdd(PeerSpec { ip, vlans }))
        }
        cli::Vtep::Peer(cli::Peer::List(watch)) => Task::Ask(Query::PeerList {}.into(), watch),
        cli::Vtep::Peer(cli::Peer::Probe { ip, vlan }) => Task::Probe(ProbeAsk { ip, vlan, ticket: None }),
        cli::Vtep::Peer(cli::Peer::Del { ip, vlan }) => Task::once(Change::PeerDel { ip, vlan }),
    })
}

fn fdb(command: cli::Fdb) -> Result<Task, Refusal> {
    let filter = |cli::FdbFilter { vlan, port }| FdbFilter { vlan, port };
    Ok(match command {
        cli::Fdb::List { which, watch } => Task::Ask(Query::FdbList(filter(which)).into(), watch),
        cli::Fdb::Add { mac, vlan, port, remote } => {
            let target = match (port, remote) {
                (Some(port), None) => FdbTarget::Port(port),
                (None, Some(ip)) => FdbTarget::Remote(ip),
                _ => return Err(Refusal::TargetUnclear { mac, vlan }),
            };
            Task::once(Change::FdbAdd(StaticEntry { mac, vlan, target }))
        }
        cli::Fdb::Del { mac, vlan } => Task::once(Change::FdbDel { mac, vlan }),
        cli::Fdb::Flush(which) => Task::once(Request::Flush(filter(which))),
    })
}

/// What a change did, in a sentence.
pub(crate) fn done(change: &Change, changed: bool) -> String {
    let (what, verb) = match change {
        Change::PortAdd(spec) => (format!("port {}", spec.name), "added"),
        Change::PortSet(set) => (format!("port {}", set.name), "changed"),
        Change::PortDel { name } => (format!("port {name}"), "deleted"),
        Change::VlanAdd(spec) => (format!("VLAN {}", spec.vlan), "added"),
        Change::VlanDel { vlan } => (format!("VLAN {vlan}"), "deleted"),
        Change::PeerAdd(PeerSpec { ip, vlans }) => (format!("peer {ip} in {vlans}"), "added"),
        Change::PeerDel { ip, vlan: Some(vlan) } => (format!("peer {ip} in VLAN {vlan}"), "deleted"),
        Change::PeerDel { ip, vlan: None } => (format!("peer {ip}"), "deleted"),
        Change::FdbAdd(StaticEntry { mac, vlan, target }) => {
            (format!("static address {mac} in VLAN {vlan} behind {target}"), "added")
        }
        Change::FdbDel { mac, vlan } => (format!("address {mac} in VLAN {vlan}"), "deleted"),
        Change::AttachmentAdd(attach) => (format!("port {}", attach.port.name), "added"),
        Change::AttachmentDel { container, ifname, .. } => {
            (format!("interface {ifname} of container {container}"), "deleted")
        }
    };
    if changed { format!("{what} {verb}") } else { format!("{what} is so already: nothing changed") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};
    use serde_json::{Value, json};

    fn encoded(line: &str) -> Result<(String, Value), String> {
        let args = ["vsctl"].into_iter().chain(line.split_whitespace());
        let cli = cli::Cli::try_parse_from(args).map_err(|error| error.to_string())?;
        match task(cli.command).map_err(|error| error.to_string())? {
            Task::Ask(request, _) => Ok(request.encode().unwrap()),
            Task::HandOver(spec) => Ok(("hand over".to_owned(), json!(spec))),
            Task::Why(ask) => Ok(("why".to_owned(), json!(ask))),
            Task::Probe(ask) => Ok(("peer.probe".to_owned(), json!(ask))),
            Task::Trace(trace) => {
                trace.request(None).map(|request| request.encode().unwrap()).map_err(|e| e.to_string())
            }
            Task::Complete(shell) => Ok(("completions".to_owned(), json!(format!("{shell:?}")))),
            Task::Propose(index, words) => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                Ok(("complete".to_owned(), json!([index, words])))
            }
            Task::Examine(words) => Ok(("doctor".to_owned(), json!(format!("{words:?}")))),
            Task::Man(dir) => Ok(("man".to_owned(), json!(dir))),
            Task::Capture(args) => Ok(Request::from(args.request()).encode().unwrap()),
            Task::Follow(args) => Ok(Request::from(args.request()).encode().unwrap()),
            Task::Reference => Ok(("reference".to_owned(), json!(null))),
            #[cfg(feature = "top")]
            Task::Top(args) => Ok(("top".to_owned(), json!([args.interval.as_secs_f64(), args.once]))),
            Task::Monitor(args) => Ok(args.request().encode().unwrap()),
            Task::Demo(cli::Demo { keep, remove }) => Ok(("demo".to_owned(), json!([keep, remove.is_some(), remove]))),
        }
    }

    #[test]
    fn words_and_their_requests() {
        let mac = "02:00:00:00:00:01";
        let table = [
            (
                "port add web --netns blue",
                "port.add",
                json!({"name": "web", "netns": "blue", "ifname": "eth0", "access": 1}),
            ),
            (
                "port add web --netns pid:7 --ifname lan0 --mac 02:00:00:00:00:01 --address 10.0.0.2/24 \
                 --address fd00::2/64 --gateway 10.0.0.1 --mtu 1400 --access 10",
                "port.add",
                json!({
                    "name": "web", "netns": "pid:7", "ifname": "lan0", "mac": mac,
                    "address": ["10.0.0.2/24", "fd00::2/64"], "gateway": ["10.0.0.1"], "mtu": 1400, "access": 10,
                }),
            ),
            (
                "port add web --netns blue --hand-over",
                "hand over",
                json!({"name": "web", "netns": "blue", "ifname": "eth0", "access": 1}),
            ),
            (
                "port add r --netns /proc/1/ns/net --trunk 10-20,30 --native 5",
                "port.add",
                json!({"name": "r", "netns": "/proc/1/ns/net", "ifname": "eth0", "trunk": "10-20,30", "native": 5}),
            ),
            ("capture web -w f", "capture.start", json!({"filter": {"where": {"port": "web"}}})),
            (
                "trace --live --match vlan=10",
                "capture.start",
                json!({"filter": {"where": "all", "vlan": 10}, "snaplen": 192, "rate": 1000}),
            ),
            ("port list", "port.list", json!({})),
            ("port show web", "port.show", json!({"name": "web"})),
            ("port set web --mtu 1300", "port.set", json!({"name": "web", "mtu": 1300})),
            ("port set web --trunk 7 --native 8", "port.set", json!({"name": "web", "trunk": "7", "native": 8})),
            ("port set web --native 8", "port.set", json!({"name": "web", "native": 8})),
            (
                "port set web --access 3 --address 10.0.0.2/24 --gateway 10.0.0.1",
                "port.set",
                json!({"name": "web", "access": 3, "address": ["10.0.0.2/24"], "gateway": ["10.0.0.1"]}),
            ),
            (
                "port add web --netns a --allow-mac 02:00:00:00:00:01 --allow-mac 02:00:00:00:00:02 --allow-ip 10.0.0.2 fd00::/64",
                "port.add",
                json!({
                    "name": "web", "netns": "a", "ifname": "eth0", "access": 1,
                    "allow-mac": [mac, "02:00:00:00:00:02"], "allow-ip": ["10.0.0.2/32", "fd00::/64"],
                }),
            ),
            (
                "port set web --allow-mac any --allow-ip default",
                "port.set",
                json!({"name": "web", "allow-mac": "any", "allow-ip": "default"}),
            ),
            (
                "port add web --netns a --rx-limit 10M --tx-limit 1.5G,64k",
                "port.add",
                json!({"name": "web", "netns": "a", "ifname": "eth0", "access": 1, "rx-limit": "10M", "tx-limit": "1.5G,64k"}),
            ),
            (
                "port add web --netns a --rx-limit none",
                "port.add",
                json!({"name": "web", "netns": "a", "ifname": "eth0", "access": 1}),
            ),
            (
                "port set web --rx-limit none --tx-limit 10M",
                "port.set",
                json!({"name": "web", "rx-limit": "none", "tx-limit": "10M"}),
            ),
            ("port del web", "port.del", json!({"name": "web"})),
            ("vlan add 10", "vlan.add", json!({"vlan": 10, "learning": true})),
            (
                "vlan add 10 --vni 5010 --name lab --no-learning",
                "vlan.add",
                json!({"vlan": 10, "vni": 5010, "name": "lab", "learning": false}),
            ),
            ("vlan list", "vlan.list", json!({})),
            ("vlan del 10", "vlan.del", json!({"vlan": 10})),
            ("vtep show", "vtep.show", json!({})),
            ("vtep peer add 192.0.2.2 --vlan 10", "peer.add", json!({"ip": "192.0.2.2", "vlan": "10"})),
            ("vtep peer add fd00::2 --all-vlans", "peer.add", json!({"ip": "fd00::2", "all-vlans": true})),
            ("vtep peer list", "peer.list", json!({})),
            ("vtep peer probe fd00::2", "peer.probe", json!({"ip": "fd00::2"})),
            ("vtep peer probe 192.0.2.2 --vlan 10", "peer.probe", json!({"ip": "192.0.2.2", "vlan": 10})),
            ("vtep peer del 192.0.2.2", "peer.del", json!({"ip": "192.0.2.2"})),
            ("vtep peer del 192.0.2.2 --vlan 10", "peer.del", json!({"ip": "192.0.2.2", "vlan": 10})),
            ("fdb list", "fdb.list", json!({})),
            ("fdb list --vlan 10 --port web", "fdb.list", json!({"vlan": 10, "port": "web"})),
            (
                "fdb add 02:00:00:00:00:01 --vlan 10 --port web",
                "fdb.add",
                json!({"mac": mac, "vlan": 10, "port": "web"}),
            ),
            (
                "fdb add 02:00:00:00:00:01 --vlan 10 --remote 192.0.2.2",
                "fdb.add",
                json!({"mac": mac, "vlan": 10, "remote": "192.0.2.2"}),
            ),
            ("fdb del 02:00:00:00:00:01 --vlan 10", "fdb.del", json!({"mac": mac, "vlan": 10})),
            ("fdb flush", "fdb.flush", json!({})),
            ("fdb flush --port web", "fdb.flush", json!({"port": "web"})),
            ("neighbour list", "neighbour.list", json!({})),
            ("attachment list", "attachment.list", json!({})),
            ("attachment list --network net", "attachment.list", json!({"network": "net"})),
            ("pool show 10.0.0.0/24 --vlan 10", "pool.show", json!({"vlan": 10, "pools": [{"subnet": "10.0.0.0/24"}]})),
            (
                "pool show fd00::/64 --vlan 10 --first fd00::10 --last fd00::20 --gateway fd00::1",
                "pool.show",
                json!({"vlan": 10, "pools": [
                    {"subnet": "fd00::/64", "first": "fd00::10", "last": "fd00::20", "gateway": "fd00::1"},
                ]}),
            ),
            ("why a 10.0.0.2", "why", json!({"a": "a", "b": "10.0.0.2"})),
            (
                "trace a ffffffffffff0200000000010806",
                "trace",
                json!({"port": "a", "frame": "ffffffffffff0200000000010806"}),
            ),
            (
                "trace remote:192.0.2.2 --vlan 7 ff:ff:ff:ff:ff:ff:02:00:00:00:00:01:08:06",
                "trace",
                json!({"remote": "192.0.2.2", "vlan": 7, "frame": "ffffffffffff0200000000010806"}),
            ),
            ("stats", "stats", json!({})),
            ("port list --watch", "port.list", json!({})),
            ("fdb list --vlan 10 --watch 0.5", "fdb.list", json!({"vlan": 10})),
            ("stats tunnel --watch", "stats", json!({"port": "tunnel"})),
            ("stats tunnel", "stats", json!({"port": "tunnel"})),
            ("status", "status", json!({})),
            ("--json status --timeout 0.5 -q --socket /s", "status", json!({})),
            #[cfg(feature = "top")]
            ("top", "top", json!([1.0, false])),
            #[cfg(feature = "top")]
            ("top --once --interval 250ms", "top", json!([0.25, true])),
            ("monitor", "monitor.start", json!({})),
            (
                "monitor --port a --vlan 10 --kind fdb,drops --kind port --no-reconnect",
                "monitor.start",
                json!({"port": "a", "vlan": 10, "kinds": ["fdb", "drops", "port"]}),
            ),
            ("demo", "demo", json!([false, false, null])),
            ("demo --keep", "demo", json!([true, false, null])),
            ("demo --remove", "demo", json!([false, true, null])),
            ("demo --remove vsdemo-7", "demo", json!([false, true, "vsdemo-7"])),
            ("completions bash", "completions", json!("Bash")),
            ("completions powershell", "completions", json!("Powershell")),
            ("complete 2 -- vsctl port --json", "complete", json!([2, ["vsctl", "port", "--json"]])),
            ("man /tmp/x", "man", json!("/tmp/x")),
        ];
        for (line, method, params) in table {
            assert_eq!(encoded(line), Ok((method.to_owned(), params)), "{line}");
        }
    }

    #[test]
    fn words_that_are_refused() {
        let table = [
            ("", "Usage"),
            ("port", "Usage"),
            ("fly", "fly"),
            ("port add web", "--netns"),
            ("port add web --netns a --access 0", "1 to 4094"),
            ("port add web --netns a --access 4095", "1 to 4094"),
            ("port add web --netns a --trunk 10-4095", "1 to 4094"),
            ("port add web --netns a --access 10 --trunk 20", "--trunk"),
            ("port add web --netns a --access 10 --native 20", "--native"),
            ("port add web --netns a --native 20", "--trunk"),
            ("port add web --netns a --mac 01:00:00:00:00:01", "multicast"),
            ("port add web --netns a --address 10.0.0.1", "no prefix length"),
            ("port add web --netns a --ifname abcdefghijklmnop", "1 to 15"),
            ("port add web --netns a --mtu 67", "68 to 65521"),
            ("port add web --netns ./a", "absolute path"),
            ("port add tunnel --netns a", "tunnel"),
            ("port set web", "nothing to set on port web: give mtu"),
            ("port set web --ifname eth1", "--ifname"),
            ("port set web --rx-limit 10", "1k to 1T"),
            ("port set web --tx-limit 10M,x", "64k"),
            ("port set web --access 10 --native 20", "--native"),
            ("port set web --allow-mac any 02:00:00:00:00:01", "stand alone"),
            ("port set web --allow-mac 01:00:5e:00:00:01", "multicast"),
            ("port set web --allow-ip 10.0.0.5/24", "10.0.0.0/24"),
            ("vlan add 10 --vni 16777216", "1 to 16777215"),
            ("vlan add 10 --vni 0", "1 to 16777215"),
            ("vtep peer add 192.0.2.2", "--all-vlans"),
            ("vtep peer add 192.0.2.2 --vlan 1 --all-vlans", "--all-vlans"),
            ("vtep peer add example.org --all-vlans", "example.org"),
            ("fdb add 02:00:00:00:00:01 --vlan 10", "--remote"),
            ("fdb add 02:00:00:00:00:01 --vlan 10 --port a --remote 192.0.2.2", "--remote"),
            ("fdb add 02:00:00:00:00:01 --port a", "--vlan"),
            ("fdb add ff:ff:ff:ff:ff:ff --vlan 10 --port a", "multicast"),
            ("trace a", "--dst"),
            ("trace a 0g", "hexadecimal"),
            ("trace a --dst ff:ff:ff:ff:ff:ff", "--src"),
            ("trace remote:x --dst ff:ff:ff:ff:ff:ff", "remote:x"),
            ("trace a 00 --dst ff:ff:ff:ff:ff:ff", "--dst"),
            ("trace a --src 02:00:00:00:00:01 --dst 02:00:00:00:00:02 --ip-src 10.0.0.1 --ip-dst fd00::1", "same IP"),
            ("trace a 0g", "two hexadecimal digits for each byte, like ffffffffffff"),
            ("trace a --dst 02:00:00:00:00:01 --len 59", "\"59\" is not a whole number from 60 to 65549"),
            ("trace a --dst 02:00:00:00:00:01 --ip-src x --ip-dst 10.0.0.1", "\"x\" is not an IP address: write one"),
            ("trace a --dst 02:00:00:00:00:01 --ip-src 10.0.0.2 --ip-dst 10.0.0.1 --dport x", "from 0 to 65535"),
            ("trace --live --match web", "\"web\" is no condition: say port=, mac="),
            ("trace --live --match reason=", "\"reason=\" is no condition"),
            ("trace --live --match colour=red", "\"colour=red\" is no condition"),
            ("trace --live --match ip=x", "\"x\" is not an IP address"),
            ("trace --live --match direction=up", "\"up\" is no direction: say in, out or both"),
            ("trace --live --match vlan=10,vlan=11", "vlan= twice"),
            ("trace --live --match port=a --match port=b", "port= twice"),
            ("trace --live --rate 0", "\"0\" is not a whole number from 1 to 1000000"),
            ("capture --count 0", "\"0\" is not a whole number of 1 or more"),
            ("capture --snaplen 13", "\"13\" is not a whole number of 14 or more"),
            ("capture --last 2d", "2d is no time: say one up to a day"),
            ("capture --ip 10.0.0.0/24", "without a prefix length"),
            ("capture --direction up", "in, out, both"),
            ("capture a/b", "is not a port name"),
            ("port add web --netns a --gateway x", "\"x\" is not an IP address: write one"),
            ("port set web --gateway 10.0.0.1/24", "without a prefix length"),
            ("vtep peer del x", "like 192.0.2.1 or fd00::1"),
            ("vtep peer probe x", "like 192.0.2.1 or fd00::1"),
            ("fdb add 02:00:00:00:00:01 --vlan 10 --remote x", "like 192.0.2.1 or fd00::1"),
            ("pool show 10.0.0.0/24 --vlan 10 --first x", "like 192.0.2.1 or fd00::1"),
            ("doctor --vtep-port x", "\"x\" is not a whole number from 1 to 65535"),
            ("doctor --vtep-ip x", "like 192.0.2.1 or fd00::1"),
            ("monitor --port a/b", "is not a port name"),
            ("why a", "B"),
            ("attachment list --network ../x", "--network"),
            ("pool show 10.0.0.0/24", "--vlan"),
            ("pool show 10.0.0.1/24 --vlan 10", "10.0.0.0/24"),
            ("monitor --kind frames", "attachment"),
            ("status --timeout 0", "0.001 to 86400"),
            ("status --timeout NaN", "0.001 to 86400"),
            ("status --timeout inf", "0.001 to 86400"),
            ("port list --watch 0", "0.1 to 3600"),
            ("vlan list --watch 0", "0.1 to 3600"),
            ("vlan add 10 --watch", "--watch"),
            ("doctor --vtep-port 65536", "--vtep-port"),
            #[cfg(feature = "top")]
            ("top --interval 0", "0.1 s to an hour"),
            ("demo --keep --remove", "--remove"),
            ("completions tcl", "tcl"),
        ];
        for (line, part) in table {
            let error = encoded(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn every_list_can_be_watched() {
        fn lists(command: &clap::Command, line: &str, found: &mut Vec<String>) {
            for word in command.get_subcommands() {
                let line = format!("{line}{}", word.get_name());
                if word.get_name() == "list" {
                    found.push(line.clone());
                }
                lists(word, &format!("{line} "), found);
            }
        }
        let mut lines = vec!["stats".to_owned(), "status".to_owned()];
        lists(&cli::Cli::command(), "", &mut lines);
        assert!(lines.len() > 7, "{lines:?}");
        let paused = |line: &str| {
            let cli = cli::Cli::try_parse_from(["vsctl"].into_iter().chain(line.split_whitespace()));
            let Task::Ask(_, watch) = task(cli.unwrap_or_else(|error| panic!("{line}: {error}")).command).unwrap()
            else {
                panic!("{line} asks for no list");
            };
            watch.pause.map(|pause| pause.as_millis())
        };
        for line in lines {
            assert_eq!(paused(&line), None, "{line}");
            assert_eq!(paused(&format!("{line} --watch")), Some(2_000), "{line}");
            assert_eq!(paused(&format!("{line} --watch 0.5")), Some(500), "{line}");
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        cli::Cli::command().debug_assert();
    }
}

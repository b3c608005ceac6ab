//! From the words of the command line to the daemon's requests, and from changes done to a sentence.

use vswitch_api::request::FdbFilter;
use vswitch_api::{
    Change, FdbTarget, PeerSpec, PeerVlans, PortMode, PortSet, PortSpec, Query, Refusal, Request, StaticEntry, VlanSpec,
};

use crate::cli;

/// What a command is for us.
#[derive(Debug)]
pub(crate) enum Task {
    /// To ask the daemon.
    Ask(Request),
    /// To write a completion script.
    Complete(clap_complete::Shell),
}

/// What `command` asks for.
///
/// # Errors
/// Where its words contradict each other in a way the command line's grammar does not see.
pub(crate) fn task(command: cli::Command) -> Result<Task, Refusal> {
    use cli::Command;
    Ok(Task::Ask(match command {
        Command::Port(command) => port(command)?,
        Command::Vlan(command) => vlan(command),
        Command::Vtep(command) => vtep(command)?,
        Command::Fdb(command) => fdb(command)?,
        Command::Stats { port } => Query::Stats { port }.into(),
        Command::Status => Query::Status {}.into(),
        Command::Completions { shell } => return Ok(Task::Complete(shell)),
    }))
}

fn port(command: cli::Port) -> Result<Request, Refusal> {
    Ok(match command {
        cli::Port::Add(add) => {
            let cli::PortAdd { name, netns, ifname, mac, addresses, gateways, mtu, access, trunk, native } = *add;
            let mode = PortMode::from_words(access, trunk, native)?.unwrap_or_default();
            Change::PortAdd(PortSpec { name, netns, ifname, mac, addresses, gateways, mtu, mode }).into()
        }
        cli::Port::List => Query::PortList {}.into(),
        cli::Port::Show { name } => Query::PortShow { name }.into(),
        cli::Port::Set(cli::PortSet { name, mtu, access, trunk, native, addresses: address, gateways: gateway }) => {
            Change::PortSet(PortSet { name, mtu, access, trunk, native, address, gateway }).into()
        }
        cli::Port::Del { name } => Change::PortDel { name }.into(),
    })
}

fn vlan(command: cli::Vlan) -> Request {
    match command {
        cli::Vlan::Add { vlan, vni, name, no_learning } => {
            Change::VlanAdd(VlanSpec { vlan, vni, name, learning: !no_learning }).into()
        }
        cli::Vlan::List => Query::VlanList {}.into(),
        cli::Vlan::Del { vlan } => Change::VlanDel { vlan }.into(),
    }
}

fn vtep(command: cli::Vtep) -> Result<Request, Refusal> {
    Ok(match command {
        cli::Vtep::Show => Query::VtepShow {}.into(),
        cli::Vtep::Peer(cli::Peer::Add { ip, vlan, all_vlans }) => {
            let vlans = match (vlan, all_vlans) {
                (Some(vlans), false) => PeerVlans::Listed(vlans),
                (None, true) => PeerVlans::All,
                _ => return Err(Refusal::PeerVlansUnclear { ip }),
            };
            Change::PeerAdd(PeerSpec { ip, vlans }).into()
        }
        cli::Vtep::Peer(cli::Peer::List) => Query::PeerList {}.into(),
        cli::Vtep::Peer(cli::Peer::Del { ip, vlan }) => Change::PeerDel { ip, vlan }.into(),
    })
}

fn fdb(command: cli::Fdb) -> Result<Request, Refusal> {
    let filter = |cli::FdbFilter { vlan, port }| FdbFilter { vlan, port };
    Ok(match command {
        cli::Fdb::List(which) => Query::FdbList(filter(which)).into(),
        cli::Fdb::Add { mac, vlan, port, remote } => {
            let target = match (port, remote) {
                (Some(port), None) => FdbTarget::Port(port),
                (None, Some(ip)) => FdbTarget::Remote(ip),
                _ => return Err(Refusal::TargetUnclear { mac, vlan }),
            };
            Change::FdbAdd(StaticEntry { mac, vlan, target }).into()
        }
        cli::Fdb::Del { mac, vlan } => Change::FdbDel { mac, vlan }.into(),
        cli::Fdb::Flush(which) => Request::Flush(filter(which)),
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
    };
    if changed { format!("{what} {verb}") } else { format!("{what}: all is so already, nothing changed") }
}

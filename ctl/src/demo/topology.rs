//! Two hosts joined by a cable, a container on each, and a vswitchd that runs on each host.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use serde::de::DeserializeOwned;
use vswitch_api::Client;
use vswitch_sys::{Netlink, Netns};

use super::DemoError;
use super::daemon::{Daemon, Files};
use super::folder::Folder;
use super::report::Report;
use super::stop::Stop;
use crate::cli::Cli;
use crate::words::{self, Task};

/// The interface of a host to the cable.
const UPLINK: &str = "uplink";
/// Length of the prefix of both networks.
const PREFIX: u8 = 24;
/// How long the kernel may take to see a cable plugged in.
const CARRIER: Duration = Duration::from_secs(5);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(5);

/// A host and its container, as planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) host: &'static str,
    /// The host's address on the underlay.
    pub(super) vtep: Ipv4Addr,
    pub(super) container: &'static str,
    /// The container's address.
    pub(super) address: Ipv4Addr,
}

/// Both hosts. The addresses of the underlay are for documentation (RFC 5737): they meet no real ones.
pub(super) const PLANS: [Plan; 2] = [
    Plan { host: "host-a", vtep: Ipv4Addr::new(192, 0, 2, 1), container: "web", address: Ipv4Addr::new(10, 0, 0, 1) },
    Plan { host: "host-b", vtep: Ipv4Addr::new(192, 0, 2, 2), container: "db", address: Ipv4Addr::new(10, 0, 0, 2) },
];

impl Plan {
    /// What tells the switch of this host about its network, its container and the `peer`.
    fn commands(&self, container: &str, peer: Ipv4Addr) -> [String; 3] {
        let Self { container: port, address, .. } = self;
        [
            "vlan add 10 --vni 1000".to_owned(),
            format!("vtep peer add {peer} --vlan 10"),
            format!("port add {port} --netns {container} --access 10 --address {address}/{PREFIX}"),
        ]
    }
}

/// A namespace with a name, which is removed with this unless it is kept.
#[derive(Debug)]
pub(super) struct Named {
    name: String,
    netns: Netns,
    kept: bool,
}

impl Named {
    fn create(name: String) -> Result<Self, DemoError> {
        let named = Self { netns: Netns::create_named(&name)?, name, kept: false };
        let netlink = Netlink::open_in(&named.netns)?;
        set_up(&netlink, "lo")?;
        Ok(named)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if !self.kept {
            // An error says that it is gone already.
            let _ = Netns::delete_named(&self.name);
        }
    }
}

/// A host with all that belongs to it. What it is made of ends in this order.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) plan: Plan,
    pub(super) files: Files,
    client: Client,
    daemon: Daemon,
    pub(super) container: Named,
    pub(super) netns: Named,
}

impl Host {
    pub(super) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Has the daemon do what `vsctl` with these words has it do.
    pub(super) fn vsctl<T: DeserializeOwned>(&mut self, words: &str, report: &mut Report<'_>) -> Result<T, DemoError> {
        let command = format!("vsctl --socket {} {words}", self.files.socket.display());
        report.command(self.plan.host, &command);
        self.ask(words)
    }

    /// The same, unreported.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, words: &str) -> Result<T, DemoError> {
        let refused = |why: String| DemoError::Command { host: self.plan.host, words: words.to_owned(), why };
        // What is shown is what is done: the same words go the way of those that a user types.
        let cli = Cli::try_parse_from(["vsctl"].into_iter().chain(words.split_whitespace()));
        let task = words::task(cli.map_err(|error| refused(error.to_string()))?.command);
        match task.map_err(|error| refused(error.to_string()))? {
            Task::Ask(request, _) => self.client.call(&request).map_err(|error| refused(error.to_string())),
            _ => Err(refused("it asks nothing of a daemon".to_owned())),
        }
    }
}

/// The whole demo. What it is made of is removed with it.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) hosts: [Host; 2],
    pub(super) folder: Folder,
}

impl Topology {
    /// Builds it in a new folder in `base`, with `program` as the daemon; if `keep`, the daemons may go on after this
    /// process.
    pub(super) fn build(
        base: &Path,
        program: &Path,
        keep: bool,
        timeout: Duration,
        stop: &Stop,
        report: &mut Report<'_>,
    ) -> Result<Self, DemoError> {
        let folder = Folder::create(base)?;
        report.plan(folder.name(), &PLANS);
        let name = |part: &str| Named::create(format!("{}-{part}", folder.name()));
        let netns = [name(PLANS[0].host)?, name(PLANS[1].host)?];
        let containers = [name(PLANS[0].container)?, name(PLANS[1].container)?];
        plug(&netns, stop)?;
        stop.pause(Duration::ZERO)?;

        report.step("A vswitchd on each host");
        let [netns_a, netns_b] = netns;
        let [web, db] = containers;
        let mut start = |plan: Plan, netns: Named, container: Named| {
            let files = Files::new(folder.path(), plan.host);
            let arguments = Daemon::arguments(&files, plan.vtep);
            report.command(plan.host, &format!("vswitchd {} &", arguments.join(" ")));
            let mut daemon = Daemon::start(program, &arguments, &files, netns.netns(), keep)?;
            let client = daemon.connect(&files, timeout, stop)?;
            Ok::<_, DemoError>(Host { plan, files, client, daemon, container, netns })
        };
        let mut hosts = [start(PLANS[0], netns_a, web)?, start(PLANS[1], netns_b, db)?];

        report.step("On each the network, the other host, and the container");
        let vteps = [PLANS[1].vtep, PLANS[0].vtep];
        for (host, peer) in hosts.iter_mut().zip(vteps) {
            for words in host.plan.commands(host.container.name(), peer) {
                stop.pause(Duration::ZERO)?;
                let _: vswitch_api::Outcome = host.vsctl(&words, report)?;
            }
        }
        Ok(Self { hosts, folder })
    }

    /// Leaves it all running.
    pub(super) fn keep(&mut self) -> Result<(), DemoError> {
        self.folder.keep()?;
        for host in &mut self.hosts {
            host.daemon.keep();
            host.netns.kept = true;
            host.container.kept = true;
        }
        Ok(())
    }
}

/// Joins both hosts by a cable and gives its ends addresses.
fn plug(hosts: &[Named; 2], stop: &Stop) -> Result<(), DemoError> {
    let netlinks = [Netlink::open_in(&hosts[0].netns)?, Netlink::open_in(&hosts[1].netns)?];
    netlinks[0].add_veth(UPLINK, UPLINK, Some(&hosts[1].netns))?;
    let mut ends = Vec::new();
    for (netlink, plan) in netlinks.iter().zip(PLANS) {
        let index = set_up(netlink, UPLINK)?;
        let address = Ipv4Net::new(plan.vtep, PREFIX).map_err(|_| DemoError::NoInterface(UPLINK))?;
        netlink.add_address(index, IpNet::V4(address))?;
        ends.push((netlink, index));
    }
    for (netlink, index) in ends {
        let deadline = std::time::Instant::now() + CARRIER;
        while !netlink.wait_running(index, PAUSE)? {
            stop.pause(Duration::ZERO)?;
            if std::time::Instant::now() >= deadline {
                return Err(DemoError::NoCarrier(UPLINK));
            }
        }
    }
    Ok(())
}

/// Sets an interface up; its number.
fn set_up(netlink: &Netlink, interface: &'static str) -> Result<u32, DemoError> {
    let link = netlink.link(interface)?.ok_or(DemoError::NoInterface(interface))?;
    netlink.set_up(link.index, true)?;
    Ok(link.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_understood() {
        let [a, b] = PLANS;
        for (plan, peer) in [(a, b), (b, a)] {
            let commands = plan.commands(&format!("vsdemo-4194304-9-{}", plan.container), peer.vtep);
            for words in commands.iter().map(String::as_str).chain(["fdb list", "vtep show", "stats"]) {
                let cli = Cli::try_parse_from(["vsctl"].into_iter().chain(words.split_whitespace())).unwrap();
                assert!(matches!(words::task(cli.command), Ok(Task::Ask(..))), "{words}");
            }
        }
        assert_ne!((a.host, a.container, a.vtep, a.address), (b.host, b.container, b.vtep, b.address));
    }
}

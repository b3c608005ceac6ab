//! A network of one plugin: its host, its daemon where it has one, its containers.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use netns_tests::{Context as _, Daemon, DaemonSpec, Host, Lab, Result, ensure};
use serde_json::Value;
use vswitch_sys::{Netlink, Netns};

use crate::peer::{Peer, Task};
use crate::plugin::Plugin;

/// A network; it ends with this.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) peer: Peer,
    plugin: Plugin,
    // Before the host: the daemon ends first.
    _daemon: Option<Daemon>,
    host: Host,
    lab: Lab,
    containers: HashMap<String, IpNet>,
    taken: HashSet<IpNet>,
}

impl Network {
    pub(crate) fn new(peer: Peer, task: Task, stock: &Path) -> Result<Self> {
        let lab = Lab::new(0, None)?;
        let host = lab.quiet_host("host")?;
        let daemon = match peer {
            Peer::Bridge => None,
            Peer::Vswitch | Peer::Delegated => Some(Daemon::start(&lab, &host, &DaemonSpec::default())?),
        };
        let configuration = peer.configuration(task, &lab.folder("host")?);
        let plugin = Plugin::new(peer.program(stock)?, stock, &configuration)?;
        let (containers, taken) = Default::default();
        Ok(Self { peer, plugin, _daemon: daemon, host, lab, containers, taken })
    }

    /// Makes a container and adds it.
    pub(crate) fn add(&mut self, container: &str) -> Result<Duration> {
        // Networks have one folder of names, and containers of the same number.
        let name = self.name(container)?;
        let netns = Netns::create_named(&name)?;
        let netlink = Netlink::open_in(&netns)?;
        let (answer, took) = self.plugin.call(&self.host, "ADD", &name).context(self.peer)?;
        let address: IpNet = answer["ips"][0]["address"].as_str().context("a result without an address")?.parse()?;
        ensure!(self.taken.insert(address), "{}: {address} was given to two containers", self.peer);
        let link = netlink.link("eth0")?.context("no eth0 after ADD")?;
        let is_there = netlink.addresses()?.contains(&(link.index, address));
        ensure!(is_there, "{}: eth0 of {name} lacks {address}", self.peer);
        self.containers.insert(name, address);
        Ok(took)
    }

    /// Deletes a container's interface, and then the container.
    pub(crate) fn del(&mut self, container: &str) -> Result<Duration> {
        let name = self.name(container)?;
        let (answer, took) = self.plugin.call(&self.host, "DEL", &name).context(self.peer)?;
        ensure!(answer == Value::Null, "{}: DEL answered {answer}", self.peer);
        let address = self.containers.remove(&name).context("deleted, but never added")?;
        self.taken.remove(&address);
        let netlink = Netlink::open_in(&Netns::open_name(&name)?)?;
        ensure!(netlink.link("eth0")?.is_none(), "{}: eth0 of {name} is there after DEL", self.peer);
        Netns::delete_named(&name)?;
        Ok(took)
    }

    fn name(&self, container: &str) -> Result<String> {
        let folder = self.lab.folder("")?;
        let lab = folder.file_name().and_then(|name| name.to_str()).context("a lab without a folder")?;
        Ok(format!("{}-{container}", lab.trim_start_matches('.')))
    }
}

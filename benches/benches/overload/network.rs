//! Four containers on a switch: two that talk, one that floods, and one that known frames of the flood are for.

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netns_tests::traffic::ping::ping;
use netns_tests::{Daemon, DaemonSpec, Host, Lab, Result};

/// What is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The kernel's bridge, on veth.
    Bridge,
    /// `vswitchd`.
    Vswitch,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "kernel",
            Self::Vswitch => "vswitch",
        })
    }
}

/// A switch with its containers; it ends with this.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) peer: Peer,
    // Before the hosts: the daemon ends first.
    daemon: Option<Daemon>,
    _host: Host,
    pub(crate) client: Host,
    pub(crate) server: Host,
    pub(crate) flooder: Host,
    pub(crate) sink: Host,
    _lab: Lab,
}

impl Network {
    pub(crate) fn new(peer: Peer) -> Result<Self> {
        let lab = Lab::new(0, None)?;
        let host = lab.quiet_host("host")?;
        let daemon = match peer {
            Peer::Vswitch => Some(Daemon::start(&lab, &host, &DaemonSpec::default())?),
            Peer::Bridge => {
                host.bridge_without_netfilter()?;
                host.netlink().add_bridge("br0")?;
                host.up("br0")?;
                None
            }
        };
        let attach = |number: u8, name: &str| match &daemon {
            Some(daemon) => on_switch(&lab, daemon, name, ip(number)),
            None => on_bridge(&lab, &host, name, ip(number)),
        };
        let (client, server, flooder, sink) =
            (attach(1, "client")?, attach(2, "server")?, attach(3, "flooder")?, attach(4, "sink")?);
        // All addresses are known from here on.
        for host in [&server, &flooder, &sink] {
            ping(host, ip(1), 0)?;
        }
        Ok(Self { peer, daemon, _host: host, client, server, flooder, sink, _lab: lab })
    }

    /// CPU time that the switch took so far; zero where that is the kernel's, which takes it from whoever runs.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let Some(daemon) = &self.daemon else { return Ok(Duration::ZERO) };
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    pub(crate) fn client_ip(&self) -> IpAddr {
        ip(1)
    }

    pub(crate) fn server_ip(&self) -> IpAddr {
        ip(2)
    }
}

fn ip(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn on_bridge(lab: &Lab, host: &Host, name: &str, ip: IpAddr) -> Result<Host> {
    let container = lab.quiet_host(name)?;
    host.netlink().add_veth(name, "eth0", Some(container.netns()))?;
    host.netlink().set_master(host.link(name)?.index, Some(host.link("br0")?.index))?;
    host.up(name)?;
    container.address("eth0", &[IpNet::new(ip, 24)?])?;
    container.up("eth0")?;
    Ok(container)
}

fn on_switch(lab: &Lab, daemon: &Daemon, name: &str, ip: IpAddr) -> Result<Host> {
    let container = lab.quiet_host(name)?;
    let netns = container.path();
    daemon.vsctl().ok(&format!("port add {name} --netns {} --address {ip}/24", netns.display()))?;
    Ok(container)
}

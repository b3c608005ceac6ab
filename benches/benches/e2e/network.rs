//! The networks that are compared: two containers, and what lies between them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netns_tests::{Context as _, Daemon, DaemonSpec, Host, KernelSwitch, Lab, Result, UPLINK};

/// What a container may send where its network crosses VXLAN over an underlay of 1500 bytes.
const INNER_MTU: u32 = 1450;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const VNI: u32 = 100;

/// Where the two containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On one host.
    Local,
    /// On two hosts, joined by VXLAN over a veth pair of MTU 1500.
    Across,
}

/// What carries frames between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A veth pair and nothing else: what any switch is held against.
    Veth,
    /// The kernel: bridge and veth, and VXLAN where there are two hosts.
    Kernel,
    /// `vswitchd`.
    Vswitch,
}

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::Local, Self::Across];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Across => "across",
        }
    }

    /// In the order of their turns.
    pub(crate) const fn peers(self) -> &'static [Peer] {
        match self {
            Self::Local => &[Peer::Veth, Peer::Kernel, Peer::Vswitch],
            Self::Across => &[Peer::Kernel, Peer::Vswitch],
        }
    }

    /// Who should be here and is not, and why.
    pub(crate) fn skipped(self) -> Option<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = std::env::split_paths(&path).any(|folder| folder.join("ovs-vswitchd").is_file());
        let why = if installed { "installed, but not driven by this program yet" } else { "not installed" };
        Some(format!("{}: Open vSwitch (netdev) is {why}", self.name()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Veth => "veth, no switch",
            Self::Kernel => "kernel",
            Self::Vswitch => "vswitch",
        })
    }
}

/// A network that stands. It ends with this.
#[derive(Debug)]
pub(crate) struct Network {
    // Before the hosts: the daemons end first.
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) client: Host,
    pub(crate) server: Host,
    /// The hosts between them.
    _hosts: Vec<Host>,
    _switches: Vec<KernelSwitch>,
    _lab: Lab,
}

impl Network {
    /// The server's address.
    pub(crate) const SERVER: IpAddr = IpAddr::V4(SERVER);
    /// The client's address.
    pub(crate) const CLIENT: IpAddr = IpAddr::V4(CLIENT);

    pub(crate) fn build(place: Place, peer: Peer) -> Result<Self> {
        let lab = Lab::new(0, None)?;
        let mut daemons = Vec::new();
        let (mut hosts, mut switches) = (Vec::new(), Vec::new());
        let (client, server) = match (place, peer) {
            (_, Peer::Veth) => direct(&lab)?,
            (Place::Local, Peer::Kernel) => {
                let host = bridge(&lab)?;
                let ends = (on_bridge(&lab, &host, "client", CLIENT)?, on_bridge(&lab, &host, "server", SERVER)?);
                hosts.push(host);
                ends
            }
            (Place::Local, Peer::Vswitch) => {
                let host = lab.quiet_host("host")?;
                let daemon = Daemon::start(&lab, &host, &DaemonSpec::default())?;
                let ends = (on_switch(&lab, &daemon, "client", CLIENT)?, on_switch(&lab, &daemon, "server", SERVER)?);
                daemons.push(daemon);
                hosts.push(host);
                ends
            }
            (Place::Across, Peer::Kernel) => {
                let [(a, a_ip), (b, b_ip)] = underlay(&lab)?;
                let a = KernelSwitch::new(a, VNI, a_ip, &[b_ip], INNER_MTU)?;
                let b = KernelSwitch::new(b, VNI, b_ip, &[a_ip], INNER_MTU)?;
                let ends = (
                    a.attach(&lab, "client", &[IpNet::new(CLIENT.into(), 24)?])?,
                    b.attach(&lab, "server", &[IpNet::new(SERVER.into(), 24)?])?,
                );
                switches.extend([a, b]);
                ends
            }
            (Place::Across, Peer::Vswitch) => {
                let [(a, a_ip), (b, b_ip)] = underlay(&lab)?;
                let mut start = |host: Host, ip, other, name, address| -> Result<Host> {
                    let daemon = Daemon::start(&lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..Default::default() })?;
                    daemon.vsctl().ok(&format!("vlan add 1 --vni {VNI}"))?;
                    daemon.vsctl().ok(&format!("vtep peer add {other} --vlan 1"))?;
                    let end = on_switch(&lab, &daemon, name, address)?;
                    daemons.push(daemon);
                    hosts.push(host);
                    Ok(end)
                };
                (start(a, a_ip, b_ip, "client", CLIENT)?, start(b, b_ip, a_ip, "server", SERVER)?)
            }
        };
        Ok(Self { daemons, client, server, _hosts: hosts, _switches: switches, _lab: lab })
    }
}

/// Two containers and a wire.
fn direct(lab: &Lab) -> Result<(Host, Host)> {
    let (client, server) = (lab.quiet_host("client")?, lab.quiet_host("server")?);
    client.netlink().add_veth("eth0", "eth0", Some(server.netns()))?;
    for (host, ip) in [(&client, CLIENT), (&server, SERVER)] {
        host.address("eth0", &[IpNet::new(ip.into(), 24)?])?;
        host.up("eth0")?;
    }
    Ok((client, server))
}

fn bridge(lab: &Lab) -> Result<Host> {
    let host = lab.quiet_host("host")?;
    host.bridge_without_netfilter()?;
    host.netlink().add_bridge("br0")?;
    host.up("br0")?;
    Ok(host)
}

fn on_bridge(lab: &Lab, host: &Host, name: &str, ip: Ipv4Addr) -> Result<Host> {
    let container = lab.quiet_host(name)?;
    host.netlink().add_veth(name, "eth0", Some(container.netns()))?;
    host.netlink().set_master(host.link(name)?.index, Some(host.link("br0")?.index))?;
    host.up(name)?;
    container.address("eth0", &[IpNet::new(ip.into(), 24)?])?;
    container.up("eth0")?;
    Ok(container)
}

fn on_switch(lab: &Lab, daemon: &Daemon, name: &str, ip: Ipv4Addr) -> Result<Host> {
    let container = lab.quiet_host(name)?;
    let netns = container.path();
    daemon.vsctl().ok(&format!("port add {name} --netns {} --address {ip}/24", netns.display())).context(name)?;
    Ok(container)
}

/// Two hosts and a wire between them, with their addresses.
fn underlay(lab: &Lab) -> Result<[(Host, IpAddr); 2]> {
    let (a, b) = (lab.quiet_host("a")?, lab.quiet_host("b")?);
    a.netlink().add_veth(UPLINK, UPLINK, Some(b.netns()))?;
    let with_address = |host: Host, number| -> Result<(Host, IpAddr)> {
        let ip = IpAddr::from([192, 0, 2, number]);
        host.address(UPLINK, &[IpNet::new(ip, 24)?])?;
        host.up(UPLINK)?;
        Ok((host, ip))
    };
    Ok([with_address(a, 1)?, with_address(b, 2)?])
}

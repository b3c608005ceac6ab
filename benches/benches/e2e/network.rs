//! The networks that are compared: two containers, and what lies between them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use netns_tests::{
    Context as _, Daemon, DaemonSpec, Host, KernelSwitch, Lab, OpenVswitch, Result, SuperFrames, UPLINK,
};

use crate::peer::{Peer, Place, Variant};

/// What a container may send where its network crosses VXLAN over an underlay of 1500 bytes.
const INNER_MTU: u32 = 1450;
const LOCAL_MTU: u32 = 1500;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const VNI: u32 = 100;

/// What stands between the containers.
#[derive(Debug, Default)]
struct Parts {
    // Before the hosts: the daemons end first.
    daemons: Vec<Daemon>,
    open_vswitches: Vec<OpenVswitch>,
    hosts: Vec<Host>,
    switches: Vec<KernelSwitch>,
}

/// Two containers, and what lies between them. It ends with this.
#[derive(Debug)]
pub(crate) struct Network {
    /// The processes that move frames.
    pub(crate) daemons: Vec<u32>,
    parts: Parts,
    pub(crate) client: Host,
    pub(crate) server: Host,
    _lab: Lab,
}

impl Network {
    /// The server's address.
    pub(crate) const SERVER: IpAddr = IpAddr::V4(SERVER);
    /// The client's address.
    pub(crate) const CLIENT: IpAddr = IpAddr::V4(CLIENT);

    /// The first daemon of ours.
    pub(crate) fn daemon(&self) -> Option<&Daemon> {
        self.parts.daemons.first()
    }

    /// Where it runs.
    pub(crate) fn host(&self) -> Option<&Host> {
        self.parts.hosts.first()
    }

    /// Where `congestion` is given, the containers' TCP uses it.
    pub(crate) fn build(place: Place, peer: Peer, congestion: Option<&str>) -> Result<Self> {
        let lab = Lab::new(0, None)?;
        let mut parts = Parts::default();
        let (client, server) = match (place, peer) {
            (_, Peer::Veth) => direct(&lab)?,
            (Place::Across, Peer::Kernel) => kernel_across(&lab, &mut parts)?,
            (Place::Across, Peer::OpenVswitch(super_frames)) => ovs_across(&lab, &mut parts, super_frames)?,
            (Place::Across, Peer::Vswitch(variant)) => vswitch_across(&lab, &mut parts, variant)?,
            (Place::Local | Place::Poll | Place::Watched, Peer::Kernel) => {
                let host = bridge(&lab)?;
                let ends = (on_bridge(&lab, &host, "client", CLIENT)?, on_bridge(&lab, &host, "server", SERVER)?);
                parts.hosts.push(host);
                ends
            }
            (Place::Local | Place::Poll | Place::Watched, Peer::OpenVswitch(super_frames)) => {
                let switch = OpenVswitch::start(&lab, lab.quiet_host("host")?, super_frames)?;
                let attach =
                    |name, ip: Ipv4Addr| switch.attach(lab.quiet_host(name)?, &[IpNet::new(ip.into(), 24)?], LOCAL_MTU);
                let ends = (attach("client", CLIENT)?, attach("server", SERVER)?);
                parts.open_vswitches.push(switch);
                ends
            }
            (Place::Local | Place::Poll | Place::Watched, Peer::Vswitch(variant)) => {
                let host = lab.quiet_host("host")?;
                let spec = DaemonSpec { config: variant.config(), ..Default::default() };
                let daemon = Daemon::start(&lab, &host, &spec)?;
                let ends = (on_switch(&lab, &daemon, "client", CLIENT)?, on_switch(&lab, &daemon, "server", SERVER)?);
                parts.daemons.push(daemon);
                parts.hosts.push(host);
                ends
            }
        };
        for end in [&client, &server] {
            if let Some(name) = congestion {
                end.netns().set_sysctl("ipv4/tcp_congestion_control", name).context(name)?;
            }
        }
        let daemons = parts.daemons.iter().map(Daemon::pid).chain(parts.open_vswitches.iter().map(OpenVswitch::pid));
        Ok(Self { daemons: daemons.collect(), parts, client, server, _lab: lab })
    }
}

fn kernel_across(lab: &Lab, parts: &mut Parts) -> Result<(Host, Host)> {
    let [(a, a_ip), (b, b_ip)] = underlay(lab)?;
    let a = KernelSwitch::new(a, VNI, a_ip, &[b_ip], INNER_MTU)?;
    let b = KernelSwitch::new(b, VNI, b_ip, &[a_ip], INNER_MTU)?;
    let ends = (
        a.attach(lab, "client", &[IpNet::new(CLIENT.into(), 24)?])?,
        b.attach(lab, "server", &[IpNet::new(SERVER.into(), 24)?])?,
    );
    parts.switches.extend([a, b]);
    Ok(ends)
}

fn ovs_across(lab: &Lab, parts: &mut Parts, super_frames: SuperFrames) -> Result<(Host, Host)> {
    let [a, b] = wire(lab)?;
    let mut start = |host: Host, ip: u8, other: u8, name, address: Ipv4Addr| -> Result<Host> {
        let switch = OpenVswitch::start(lab, host, super_frames)?;
        switch.join(IpNet::new(underlay_ip(ip), 24)?, underlay_ip(other), VNI)?;
        let end = switch.attach(lab.quiet_host(name)?, &[IpNet::new(address.into(), 24)?], INNER_MTU)?;
        parts.open_vswitches.push(switch);
        Ok(end)
    };
    Ok((start(a, 1, 2, "client", CLIENT)?, start(b, 2, 1, "server", SERVER)?))
}

fn vswitch_across(lab: &Lab, parts: &mut Parts, variant: Variant) -> Result<(Host, Host)> {
    let [(a, a_ip), (b, b_ip)] = underlay(lab)?;
    let mut start = |host: Host, ip, other, name, address| -> Result<Host> {
        let daemon = Daemon::start(
            lab,
            &host,
            &DaemonSpec { vtep_ip: Some(ip), config: variant.config(), ..Default::default() },
        )?;
        daemon.vsctl().ok(&format!("vlan add 1 --vni {VNI}"))?;
        daemon.vsctl().ok(&format!("vtep peer add {other} --vlan 1"))?;
        let end = on_switch(lab, &daemon, name, address)?;
        parts.daemons.push(daemon);
        parts.hosts.push(host);
        Ok(end)
    };
    Ok((start(a, a_ip, b_ip, "client", CLIENT)?, start(b, b_ip, a_ip, "server", SERVER)?))
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

/// Two hosts and a wire between them.
fn wire(lab: &Lab) -> Result<[Host; 2]> {
    let (a, b) = (lab.quiet_host("a")?, lab.quiet_host("b")?);
    a.netlink().add_veth(UPLINK, UPLINK, Some(b.netns()))?;
    Ok([a, b])
}

/// As [`wire`], with their addresses.
fn underlay(lab: &Lab) -> Result<[(Host, IpAddr); 2]> {
    let [a, b] = wire(lab)?;
    let with_address = |host: Host, number| -> Result<(Host, IpAddr)> {
        let ip = underlay_ip(number);
        host.address(UPLINK, &[IpNet::new(ip, 24)?])?;
        host.up(UPLINK)?;
        Ok((host, ip))
    };
    Ok([with_address(a, 1)?, with_address(b, 2)?])
}

fn underlay_ip(number: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, number])
}

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

use netns_tests::traffic::{self, tcp::Connection};
use netns_tests::{
    Capture, Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually,
};
use nix::sys::signal::Signal;
use vswitch_sys::{Inbox, Train, UdpEndpoint, UdpOptions};

use crate::{Tests, UDP, UPLINK};

pub(crate) const TESTS: Tests = &[
    ("uplink_and_udp_over_ipv4", |lab| uplink_and_udp(lab, true)),
    ("uplink_and_udp_over_ipv6", |lab| uplink_and_udp(lab, false)),
    ("super_frames_stay_uncut", super_frames_stay_uncut),
    ("nothing_stays_after_sigterm", |lab| nothing_stays(lab, Signal::SIGTERM)),
    ("nothing_stays_after_sigkill", |lab| nothing_stays(lab, Signal::SIGKILL)),
    ("an_uplink_that_is_deleted", |lab| {
        an_uplink_that_goes(lab, |host, index| Ok(host.netlink().delete_link(index)?))
    }),
    ("an_uplink_that_is_set_down", |lab| {
        an_uplink_that_goes(lab, |host, index| Ok(host.netlink().set_up(index, false)?))
    }),
    ("two_daemons_of_one_host", two_daemons_of_one_host),
    ("a_remote_behind_another_interface", a_remote_behind_another_interface),
    ("where_there_can_be_no_uplink", where_there_can_be_no_uplink),
];

fn by(underlay: &'static str) -> DaemonSpec {
    DaemonSpec { underlay: Some(underlay), ..DaemonSpec::default() }
}

fn carried(node: &Node) -> Result<String> {
    Ok(node.ok("vtep show")?["underlay"].as_str().context("underlay of the VTEP")?.to_owned())
}

fn uplink_and_udp(lab: &Lab, v4: bool) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let join =
        |name, mode| Node::with(lab, &underlay, name, if v4 { |vtep| vtep.v4 } else { |vtep| vtep.v6 }, by(mode));
    let (h1, h2) = (join("h1", UPLINK)?, join("h2", UDP)?);
    ensure_eq!((carried(&h1)?, carried(&h2)?), (UPLINK.to_owned(), UDP.to_owned()), "the ways");
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --address fd00::1/64 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --address fd00::2/64 --access 10")?;
    let seed = lab.random().next_u64();
    let mtu = u16::try_from(c1.link("eth0")?.mtu)?;
    for (a, b) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        traffic::everything((&c1, a.parse()?), (&c2, b.parse()?), mtu, 32 << 20, seed)?;
    }
    Ok(())
}

/// What crosses the underlay is one packet with one packet inside, far longer than the underlay's MTU.
fn super_frames_stay_uncut(lab: &Lab) -> Result {
    /// Where the length of the IPv4 packet inside stands: Ethernet, IP, UDP, VXLAN, Ethernet before it.
    const INNER_LEN: usize = 14 + 20 + 8 + 8 + 14 + 2;
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let wire = Capture::open(&h2.host, netns_tests::UPLINK)?;
    let connection = Connection::open(&c1, &c2, "10.0.0.2".parse()?)?;
    connection.forth(8 << 20, 128 << 10, lab.random().next_u64())?;
    let inside = |packet: &[u8]| {
        let len = packet.get(INNER_LEN..)?.first_chunk::<2>().copied().map(u16::from_be_bytes)?;
        (packet.len() > 10_000).then_some(len)
    };
    let len = wire.find("a super-frame on the underlay", inside)?;
    ensure!(len > 10_000, "the packet inside has {len} bytes: it was cut");
    Ok(())
}

/// All that the daemon could leave on its host.
fn left(host: &Host) -> Result<String> {
    let netlink = host.netlink();
    let mut addresses = netlink.addresses()?;
    addresses.sort();
    let links: Vec<_> = netlink.links()?.into_iter().map(|link| (link.index, link.name, link.mtu)).collect();
    Ok(format!("{links:?} {addresses:?}"))
}

/// Whether a datagram from host `from` reaches a socket on the VXLAN port of host `to`.
fn port_is_free(from: &Host, to: (&Host, IpAddr)) -> Result {
    let at = SocketAddr::new(to.1, 4789);
    let mut socket = to.0.call(move || UdpEndpoint::open(at, &UdpOptions::default()))?;
    let mut sender = traffic::udp::sender((from, "192.0.2.9".parse()?))?;
    let said = [IoSlice::new(b"anybody there?")];
    let mut inbox = Inbox::new(1, 100);
    eventually(SOON, "the datagram arrives", || {
        let sent = sender.send(&[Train { to: at, tos: 0, segment: None, slices: &said }]);
        ensure!(sent.error.is_none(), "sending: {:?}", sent.error);
        ensure_eq!(socket.recv(&mut inbox)?, 1, "datagrams received");
        ensure_eq!(inbox.bytes(0), b"anybody there?", "the datagram");
        Ok(())
    })
}

fn nothing_stays(lab: &Lab, signal: Signal) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let (host, other) = (lab.host("h1")?, lab.host("other")?);
    let ip = underlay.join(&host)?.v4;
    underlay.join(&other)?;
    other.address(netns_tests::UPLINK, &["192.0.2.9/24".parse()?])?;
    let before = left(&host)?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..by(UPLINK) })?;
    daemon.vsctl().ok("vtep show")?; // answered once all is set up
    let during = left(&host)?;
    ensure!(during.contains("vswitch-up"), "the uplink is there: {during}");
    daemon.end(signal)?;
    eventually(SOON, "all is as before", || {
        ensure_eq!(left(&host)?, before, "links and addresses after {signal}");
        Ok(())
    })?;
    port_is_free(&other, (&host, ip))
}

/// A network manager that takes the uplink's interface away: the sockets carry on, and the status says so.
fn an_uplink_that_goes(lab: &Lab, away: fn(&Host, u32) -> Result) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let (a, b) = ((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?));
    let seed = lab.random().next_u64();
    traffic::everything(a, b, 1450, 4 << 20, seed)?;
    let links = h1.host.netlink().links()?;
    let uplink = links.iter().find(|link| link.name.starts_with("vswitch-up")).context("the uplink's interface")?;
    away(&h1.host, uplink.index)?;
    eventually(SOON, "traffic goes on", || traffic::everything(a, b, 1450, 4 << 20, seed))?;
    ensure_eq!((carried(&h1)?, carried(&h2)?), (UDP.to_owned(), UPLINK.to_owned()), "the ways after that");
    ensure!(h1.daemon.log()?.contains("deleted or set down"), "the log says why: {}", h1.daemon.log()?);
    Ok(())
}

/// Each on an address of its own.
fn two_daemons_of_one_host(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::v4(lab, &underlay, "h1")?;
    let (here, there): (IpAddr, IpAddr) = ("192.0.2.101".parse()?, "192.0.2.102".parse()?);
    let host = lab.host("h2")?;
    underlay.join(&host)?;
    host.address(netns_tests::UPLINK, &["192.0.2.101/24".parse()?, "192.0.2.102/24".parse()?])?;
    // The second has files of its own, so it needs a host of another name in the same namespace.
    let second = host.twin("h2-second")?;
    let start = |host: &Host, ip| Daemon::start(lab, host, &DaemonSpec { vtep_ip: Some(ip), ..by(UPLINK) });
    let (one, two) = (start(&host, here)?, start(&second, there)?);
    let nodes = [Node { daemon: one, host, ip: here }, Node { daemon: two, host: second, ip: there }];
    h1.join(10, 100, &[here, there])?;
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    for (node, name, net, ip) in
        [(&nodes[0], "c2", "10.0.0.2/24", "10.0.0.2"), (&nodes[1], "c3", "10.0.0.3/24", "10.0.0.3")]
    {
        ensure_eq!(carried(node)?, UPLINK, "the way of {name}");
        node.join(10, 100, &[h1.ip])?;
        let container = node.attach(lab, name, &format!("--address {net} --access 10"))?;
        traffic::everything(
            (&c1, "10.0.0.1".parse()?),
            (&container, ip.parse()?),
            1450,
            4 << 20,
            lab.random().next_u64(),
        )?;
    }
    Ok(())
}

/// Its datagrams neither leave nor enter by the interface that holds the VTEP's address: the sockets carry them.
fn a_remote_behind_another_interface(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::v4(lab, &underlay, "h1")?;
    let host = lab.host("h2")?;
    h1.host.netlink().add_veth("side", "side", Some(host.netns()))?;
    h1.host.address("side", &["198.51.100.1/24".parse()?])?;
    host.address("side", &["198.51.100.2/24".parse()?])?;
    h1.host.up("side")?;
    host.up("side")?;
    host.netlink().add_route(None, Some("198.51.100.1".parse()?), host.link("side")?.index)?;
    let ip = "198.51.100.2".parse()?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..by(UPLINK) })?;
    let h2 = Node { daemon, host, ip };
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 100, &[h1.ip])?;
    ensure_eq!(carried(&h1)?, UPLINK, "the way for other remotes");
    let c1 = h1.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let seed = lab.random().next_u64();
    traffic::everything((&c1, "10.0.0.1".parse()?), (&c2, "10.0.0.2".parse()?), 1450, 8 << 20, seed)
}

fn where_there_can_be_no_uplink(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    host.address("lo", &["192.0.2.1/32".parse()?])?;
    let vtep_ip = Some("192.0.2.1".parse()?);
    let ended = Daemon::refused(lab, &host, &DaemonSpec { vtep_ip, ..by(UPLINK) })?;
    ensure_eq!(ended.status.code(), Some(1), "exit code");
    for said in ["--underlay uplink", "Ethernet", "--underlay udp works"] {
        ensure!(ended.output.contains(said), "{said:?} in {}", ended.output);
    }
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip, ..by("auto") })?;
    ensure_eq!(daemon.vsctl().ok("vtep show")?["underlay"], "udp", "the way that is left");
    ensure!(daemon.log()?.contains("Ethernet"), "the log says why: {}", daemon.log()?);
    Ok(())
}

use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::{Command, Stdio};

use etherparse::PacketBuilder;
use netns_tests::cni::{Attachment, Cni, addresses, finish};
use netns_tests::traffic::{ping::ping, tcp::Connection};
use netns_tests::{Daemon, DaemonSpec, Host, Lab, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("a_server_behind_the_host_sees_the_host", masqueraded),
    ("without_masquerading_it_sees_the_container", routed),
    ("only_a_gateway_makes_a_router", no_router),
    ("the_last_takes_the_gateway_along", last),
    ("a_container_is_no_router_of_the_host", advertised),
    ("nor_where_the_daemon_makes_the_gateway_anew", advertised_anew),
    ("the_gateway_goes_with_a_container_that_nobody_deletes", vanished),
    ("sixty_four_at_once", crowd),
    ("a_network_may_grow", growth),
    ("check_finds_what_is_missing_and_add_mends_it", mended),
    ("the_gateway_outlives_the_daemon", restart),
    ("a_daemon_that_enters_no_namespace", handed_over),
    ("the_lock_is_ours", lock),
    ("who_comes_while_the_last_goes", overtaken),
    ("a_network_is_in_one_vlan", one_vlan),
];

/// Why the area cannot be tested here.
pub(crate) fn hindrance() -> Option<String> {
    let found = Command::new("nft").arg("--version").output();
    found.err().map(|error| format!("nft (package nftables): {error}"))
}

/// A host with a switch, and a server that it is joined to by something else.
struct Site {
    // Before the host: the daemon ends first.
    daemon: Daemon,
    host: Host,
    server: Host,
}

/// Where the server is, and where the server finds the host.
const SERVER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const FORWARDING: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

impl Site {
    fn new(lab: &Lab) -> Result<Self> {
        Self::with(lab, &DaemonSpec::default())
    }

    fn with(lab: &Lab, spec: &DaemonSpec) -> Result<Self> {
        let (host, server) = (lab.host("host")?, lab.host("server")?);
        host.netlink().add_veth("up0", "up0", Some(server.netns()))?;
        for (end, addresses) in [(&host, HOST), (&server, SERVER)] {
            end.address("up0", &[format!("{}/24", addresses[0]).parse()?, format!("{}/64", addresses[1]).parse()?])?;
            end.up("up0")?;
        }
        for end in [&host, &server] {
            ensure!(end.netlink().wait_running(end.link("up0")?.index, SOON)?, "up0 of {} runs", end.name());
        }
        for key in FORWARDING {
            host.netns().set_sysctl(key, "0")?;
        }
        let daemon = Daemon::start(lab, &host, spec)?;
        Ok(Self { daemon, host, server })
    }

    /// A network of the host's, with two subnets by the number of its VLAN.
    fn network(&self, name: &str, vlan: u16, keys: Value) -> Cni<'_> {
        let subnets = json!([{"subnet": format!("10.{vlan}.0.0/24")}, {"subnet": format!("fd00:{vlan}::/64")}]);
        let own = json!({"vlan": vlan, "subnets": subnets});
        Cni::new(&self.host, self.daemon.socket(), name, own).with(keys)
    }

    /// Whom the server sees when `container` connects to it, over IPv4 and over IPv6.
    fn seen(&self, container: &Host) -> Result<[IpAddr; 2]> {
        let peer = |ip: &str| -> Result<IpAddr> {
            let connection = Connection::open(container, &self.server, ip.parse()?)?;
            connection.echo(1, 7)?;
            Ok(connection.server.peer_addr()?.ip())
        };
        Ok([peer(SERVER[0])?, peer(SERVER[1])?])
    }

    fn nft(&self, words: &str) -> Result<String> {
        let mut command = Command::new("nft");
        command.args(words.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self.host.spawn(command)?.wait_with_output()?;
        ensure!(output.status.success(), "nft {words}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The gateways there are, in the switch, on the host, and in nftables.
    fn gateways(&self) -> Result<[Vec<String>; 3]> {
        let ports = self.daemon.vsctl().ok("port list")?;
        let ports = ports.as_array().into_iter().flatten().filter_map(|port| port["name"].as_str());
        let ports = ports.filter_map(|name| name.strip_prefix("gateway:")).map(str::to_owned).collect();
        let links = self.host.netlink().links()?;
        let links = links.iter().filter_map(|link| link.name.strip_prefix("vsw-")).map(str::to_owned).collect();
        let tables = self.nft("list tables")?;
        let tables = tables.lines().filter_map(|line| line.strip_prefix("table inet vswitch-"));
        let mut found = [ports, links, tables.map(str::to_owned).collect()];
        found.iter_mut().for_each(|names: &mut Vec<String>| names.sort());
        Ok(found)
    }

    /// Waits until these networks have gateways, and no others: interfaces go a moment after their ports.
    fn expect(&self, networks: &[&str]) -> Result {
        eventually(SOON, "gateways come and go", || {
            let expected: Vec<_> = networks.iter().map(|&network| network.to_owned()).collect();
            ensure_eq!(self.gateways()?, [expected.clone(), expected.clone(), expected], "ports, interfaces, tables");
            Ok(())
        })
    }

    fn setting(&self, key: &str) -> Result<String> {
        let path = format!("/proc/sys/net/{key}");
        Ok(self.host.call(move || fs::read_to_string(path))?.trim().to_owned())
    }
}

/// A container in `network`, and what ADD answered.
fn attach(lab: &Lab, name: &str, network: &Cni<'_>) -> Result<(Host, Value)> {
    let container = lab.host(name)?;
    let result = network.add(&Attachment::of(&container))?;
    Ok((container, result))
}

fn detach(network: &Cni<'_>, container: &Host) -> Result {
    network.del(&Attachment::of(container))
}

fn ips(texts: [&str; 2]) -> Result<[IpAddr; 2]> {
    Ok([texts[0].parse()?, texts[1].parse()?])
}

/// What most configurations say.
fn masquerading() -> Value {
    json!({"isDefaultGateway": true, "ipMasq": true})
}

fn masqueraded(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, masquerading());
    let (a, result) = attach(lab, "a", &red)?;
    let (b, neighbour) = attach(lab, "b", &red)?;
    site.expect(&["red"])?;
    for container in [&a, &b] {
        for gateway in ["10.10.0.1", "fd00:10::1"] {
            ping(container, gateway.parse()?, 56)?;
        }
        ensure_eq!(site.seen(container)?, ips(HOST)?, "whom the server sees");
    }
    // Between neighbours nobody steps in.
    for (ip, neighbour) in addresses(&result)?.into_iter().zip(addresses(&neighbour)?) {
        let connection = Connection::open(&b, &a, ip)?;
        ensure_eq!(connection.server.peer_addr()?.ip(), neighbour, "whom {ip} sees");
    }

    let port = site.daemon.vsctl().ok("port show gateway:red")?;
    let link = site.host.link("vsw-red")?;
    ensure_eq!(port["addresses"], json!(["10.10.0.1/24", "fd00:10::1/64"]), "the gateway's addresses");
    ensure_eq!(port["allow_mac"], json!([port["mac"]]), "who lives on the gateway's port");
    ensure_eq!(port["allow_ip"], Value::Null, "a router sends what others sent");
    ensure_eq!(site.setting("ipv6/conf/vsw-red/accept_ra")?, "0", "whether the host listens to containers");
    let interface = &result["interfaces"][0];
    ensure_eq!(interface["name"], "vsw-red", "the interface on the host");
    ensure_eq!(interface["mac"], port["mac"], "its address");
    ensure_eq!(interface.get("sandbox"), None, "its namespace");
    ensure_eq!(result["interfaces"][1]["name"], "eth0", "the interface in the container");
    ensure_eq!(result["ips"][0]["interface"], 1, "whose the address is");
    ensure_eq!(u64::from(link.mtu), port["mtu"].as_u64().unwrap_or(0), "its MTU");
    Ok(())
}

fn routed(lab: &Lab) -> Result {
    // Whatever holds for containers: a router sends what others sent.
    let args = vec!["--source-guard".to_owned()];
    let site = Site::with(lab, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let red = site.network("red", 10, json!({"isDefaultGateway": true}));
    let (a, result) = attach(lab, "a", &red)?;
    let up = site.server.link("up0")?.index;
    for (subnet, gateway) in [("10.10.0.0/24", HOST[0]), ("fd00:10::/64", HOST[1])] {
        site.server.netlink().add_route(Some(subnet.parse()?), Some(gateway.parse()?), up)?;
    }
    ensure_eq!(site.seen(&a)?.to_vec(), addresses(&result)?, "whom the server sees");
    ensure_eq!(site.gateways()?, [vec!["red".to_owned()], vec!["red".to_owned()], vec![]], "gateways");
    detach(&red, &a)?;
    site.expect(&[])
}

fn no_router(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, json!({}));
    let (a, _) = attach(lab, "a", &red)?;
    site.expect(&[])?;
    for key in FORWARDING {
        ensure_eq!(site.setting(key)?, "0", "{key}");
    }
    detach(&red, &a)?;
    // One version only.
    let only = json!({"isGateway": true, "subnets": [{"subnet": "fd00:10::/64"}]});
    let (b, _) = attach(lab, "b", &site.network("red", 10, only))?;
    ping(&b, "fd00:10::1".parse()?, 56)?;
    ensure_eq!([site.setting(FORWARDING[0])?, site.setting(FORWARDING[1])?], ["0", "1"], "forwarding");
    Ok(())
}

fn last(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let (red, blue) = (site.network("red", 10, masquerading()), site.network("blue", 20, masquerading()));
    let (a, _) = attach(lab, "a", &red)?;
    let (b, _) = attach(lab, "b", &red)?;
    let (c, _) = attach(lab, "c", &blue)?;
    site.expect(&["blue", "red"])?;
    // From one network to the other by the host: it is the host that asks.
    let connection = Connection::open(&c, &b, "10.10.0.3".parse()?)?;
    ensure_eq!(connection.server.peer_addr()?.ip(), "10.10.0.1".parse::<IpAddr>()?, "whom b sees");
    drop(connection);
    detach(&red, &a)?;
    site.expect(&["blue", "red"])?;
    ensure_eq!(site.seen(&b)?, ips(HOST)?, "whom the server sees");
    detach(&red, &b)?;
    site.expect(&["blue"])?;
    ensure_eq!(site.seen(&c)?, ips(HOST)?, "whom the server sees");
    // Once more, as runtimes do.
    detach(&red, &b)?;
    // By a configuration that somebody edited meanwhile: the gateway goes all the same, and so it does by GC.
    let bare = site.network("blue", 20, json!({}));
    detach(&bare, &c)?;
    site.expect(&[])?;
    attach(lab, "d", &blue)?;
    site.expect(&["blue"])?;
    bare.gc(&[])?;
    site.expect(&[])
}

fn advertised(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    // Without IPv6, for which the host does not forward then: who forwards listens to no router anyway.
    let red = site.network("red", 10, json!({"isGateway": true, "subnets": [{"subnet": "10.10.0.0/24"}]}));
    let (a, _) = attach(lab, "a", &red)?;
    let listens = "ipv6/conf/vsw-red/accept_ra";
    ensure_eq!(site.setting(listens)?, "0", "whether the host listens to containers");
    // As in the moment between the interface and its setting.
    site.host.netns().set_sysctl(listens, "1")?;
    let router = "fe80::1".parse::<Ipv6Addr>()?;
    let groups = ("ff02::1".parse::<Ipv6Addr>()?, [0x33, 0x33, 0, 0, 0, 1]);
    // Hop limit 64, for 1800 s (RFC 4861 4.2).
    let builder = PacketBuilder::ethernet2(a.mac("eth0")?, groups.1).ipv6(router.octets(), groups.0.octets(), 255);
    let mut frame = Vec::new();
    builder.icmpv6_raw(134, 0, [64, 0, 0x07, 0x08]).write(&mut frame, &[0; 8])?;
    let advertised = || -> Result<bool> { Ok(site.host.netlink().routes()?.iter().any(|route| route.advertised)) };
    let socket = a.packet_socket("eth0")?;
    eventually(SOON, "the host takes the container for a router", || {
        socket.send(&frame)?;
        ensure!(advertised()?, "no such route");
        Ok(())
    })?;
    attach(lab, "b", &red)?;
    ensure_eq!(site.setting(listens)?, "0", "whether the host listens to containers");
    ensure!(!advertised()?, "the container is a router of the host");
    Ok(())
}

fn advertised_anew(lab: &Lab) -> Result {
    let mut site = Site::new(lab)?;
    for key in ["accept_ra", "autoconf", "accept_redirects"] {
        site.host.netns().set_sysctl(&format!("ipv6/conf/default/{key}"), "1")?;
    }
    let config = json!({"isGateway": true, "subnets": [{"subnet": "10.10.0.0/24"}]});
    let (a, _) = attach(lab, "a", &site.network("red", 10, config))?;
    let groups = ("ff02::1".parse::<Ipv6Addr>()?, [0x33, 0x33, 0, 0, 0, 1]);
    let router = "fe80::1".parse::<Ipv6Addr>()?;
    let builder = PacketBuilder::ethernet2(a.mac("eth0")?, groups.1).ipv6(router.octets(), groups.0.octets(), 255);
    // No timers; a prefix (RFC 4861 4.6.2) of 64 bits, on the link and to make addresses of, for an hour.
    let mut payload = [&[0; 8][..], &[3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0]].concat();
    payload.extend("2001:db8:bad::".parse::<Ipv6Addr>()?.octets());
    let mut frame = Vec::new();
    builder.icmpv6_raw(134, 0, [64, 0, 0x07, 0x08]).write(&mut frame, &payload)?;
    let believed = |site: &Site| -> Result<(bool, bool)> {
        let own = site.host.netlink().addresses()?;
        let own = own.iter().any(|(_, net)| net.to_string().starts_with("2001:db8:bad:"));
        Ok((site.host.netlink().routes()?.iter().any(|route| route.advertised), own))
    };
    let socket = a.packet_socket("eth0")?;
    for restarted in [false, true] {
        let index = site.host.link("vsw-red")?.index;
        if restarted {
            site.daemon.end(Signal::SIGTERM)?;
            site.host.netlink().delete_link(index)?;
            site.daemon = Daemon::start(lab, &site.host, &DaemonSpec::default())?;
        } else {
            site.host.netlink().delete_link(index)?;
        }
        eventually(SOON, "the gateway is back", || {
            ensure!(site.host.link("vsw-red")?.index != index, "it is the old one");
            ping(&a, "10.10.0.1".parse()?, 56)
        })?;
        for key in ["accept_ra", "autoconf", "accept_redirects"] {
            ensure_eq!(site.setting(&format!("ipv6/conf/vsw-red/{key}"))?, "0", "{key}, restarted: {restarted}");
        }
        socket.send(&frame)?;
        // Behind it in the same queues.
        ping(&a, "10.10.0.1".parse()?, 56)?;
        ensure_eq!(believed(&site)?, (false, false), "a route and an address of a container's making");
    }
    // It is one that a host would believe.
    for key in ["accept_ra", "autoconf"] {
        site.host.netns().set_sysctl(&format!("ipv6/conf/vsw-red/{key}"), "1")?;
    }
    eventually(SOON, "the host takes the container for a router", || {
        socket.send(&frame)?;
        ensure_eq!(believed(&site)?, (true, true), "a route and an address");
        Ok(())
    })
}

/// As of `ctr run -d`, and of a host that starts anew.
fn vanished(lab: &Lab) -> Result {
    let mut site = Site::new(lab)?;
    let ports = |site: &Site| -> Result<Vec<String>> {
        let ports = site.daemon.vsctl().ok("port list")?;
        let names = ports.as_array().into_iter().flatten().filter_map(|port| port["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    };
    for restarted in [false, true] {
        let (red, blue) = (site.network("red", 10, masquerading()), site.network("blue", 20, masquerading()));
        let (a, _) = attach(lab, "a", &red)?;
        let (b, _) = attach(lab, "b", &red)?;
        let (c, _) = attach(lab, "c", &blue)?;
        site.expect(&["blue", "red"])?;
        ensure_eq!(site.daemon.vsctl().ok("port show gateway:red")?["gateway_of"], "red", "whose gateway it is");
        drop(a);
        eventually(SOON, "the first goes alone", || {
            ensure_eq!(ports(&site)?, ["b:eth0", "c:eth0", "gateway:blue", "gateway:red"], "ports");
            Ok(())
        })?;
        if restarted {
            site.daemon.end(Signal::SIGTERM)?;
            for name in ["vsw-red", "vsw-blue"] {
                site.host.netlink().delete_link(site.host.link(name)?.index)?;
            }
            drop(b);
            site.daemon = Daemon::start(lab, &site.host, &DaemonSpec::default())?;
        } else {
            drop(b);
        }
        eventually(SOON, "the gateway goes with the last", || {
            ensure_eq!(ports(&site)?, ["c:eth0", "gateway:blue"], "ports");
            ensure_eq!(site.gateways()?[1], ["blue"], "interfaces");
            Ok(())
        })?;
        ensure_eq!(site.seen(&c)?, ips(HOST)?, "whom the server sees");
        // Who comes next has a gateway again, and a DEL that comes late tidies up the rest.
        let (red, blue) = (site.network("red", 10, masquerading()), site.network("blue", 20, masquerading()));
        let (d, _) = attach(lab, "d", &red)?;
        ensure_eq!(site.seen(&d)?, ips(HOST)?, "whom the server sees");
        site.expect(&["blue", "red"])?;
        detach(&red, &d)?;
        site.expect(&["blue"])?;
        detach(&blue, &c)?;
        site.expect(&[])?;
    }
    Ok(())
}

fn crowd(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, masquerading());
    let containers: Vec<_> = (0..64).map(|n| lab.host(&format!("c{n}"))).collect::<Result<_>>()?;
    let all = |verbs: &[(&str, &[Host])]| -> Result {
        let runs = verbs.iter().flat_map(|(verb, some)| some.iter().map(move |container| (*verb, container)));
        let start = |(verb, container): (_, &Host)| {
            Ok((format!("{verb} of {}", container.name()), red.start(verb, Some(&Attachment::of(container)))?))
        };
        let started: Vec<_> = runs.map(start).collect::<Result<_>>()?;
        for (what, child) in started {
            let outcome = finish(child)?;
            ensure_eq!(outcome.code, Some(0), "{what}: {}", outcome.json);
        }
        Ok(())
    };
    let (left, right) = containers.split_at(32);
    all(&[("ADD", &containers)])?;
    site.expect(&["red"])?;
    all(&[("DEL", &containers)])?;
    site.expect(&[])?;
    for _ in 0..2 {
        // The last of some and the first of others, in any order.
        all(&[("ADD", left)])?;
        all(&[("DEL", left), ("ADD", right)])?;
        site.expect(&["red"])?;
        ensure_eq!(site.seen(&right[0])?, ips(HOST)?, "whom the server sees");
        all(&[("DEL", right)])?;
        site.expect(&[])?;
    }
    Ok(())
}

fn growth(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let subnets = |subnets: [&str; 2]| {
        let subnets: Vec<_> = subnets.iter().map(|subnet| json!({ "subnet": subnet })).collect();
        json!({"isDefaultGateway": true, "ipMasq": true, "subnets": subnets})
    };
    let before = site.network("red", 10, subnets(["10.10.0.0/24", "fd00:10::/64"]));
    let after = site.network("red", 10, subnets(["10.11.0.0/24", "fd00:11::/64"]));
    let (a, _) = attach(lab, "a", &before)?;
    let mac = site.host.mac("vsw-red")?;
    let (b, _) = attach(lab, "b", &after)?;
    let (c, _) = attach(lab, "c", &before)?;
    for container in [&a, &b, &c] {
        ensure_eq!(site.seen(container)?, ips(HOST)?, "whom the server sees");
    }
    ensure_eq!(site.host.mac("vsw-red")?, mac, "the gateway's address");
    let port = site.daemon.vsctl().ok("port show gateway:red")?;
    let expected = json!(["10.10.0.1/24", "fd00:10::1/64", "10.11.0.1/24", "fd00:11::1/64"]);
    ensure_eq!(port["addresses"], expected, "the gateway's addresses");
    for (container, network) in [(&a, &before), (&c, &before), (&b, &after)] {
        detach(network, container)?;
    }
    site.expect(&[])
}

fn mended(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, masquerading());
    let (a, result) = attach(lab, "a", &red)?;
    let other = lab.host("other")?;
    let asked = red.with(json!({"prevResult": result}));
    let index = || -> Result<u32> { Ok(site.host.link("vsw-red")?.index) };
    let breaks: [(&dyn Fn() -> Result, &str); 6] = [
        (&|| site.nft("flush ruleset").map(drop), "the nftables table inet vswitch-red is missing or altered"),
        (&|| site.nft("flush table inet vswitch-red").map(drop), "inet vswitch-red is missing or altered"),
        (&|| Ok(site.host.netns().set_sysctl(FORWARDING[0], "0")?), "the host does not forward IPv4"),
        (
            &|| Ok(site.host.netlink().delete_address(index()?, "10.10.0.1/24".parse()?)?),
            "interface vsw-red lacks the address 10.10.0.1/24",
        ),
        (&|| Ok(site.host.netlink().set_up(index()?, false)?), "interface vsw-red is down"),
        (&|| site.daemon.vsctl().ok("port del gateway:red").map(drop), "network red has no gateway"),
    ];
    for (break_it, text) in breaks {
        asked.ok("CHECK", Some(&Attachment::of(&a)))?;
        ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
        break_it()?;
        let said = asked.refused(103, "CHECK", Some(&Attachment::of(&a)))?;
        ensure!(said.contains(text), "{text}: {said}");
        red.add(&Attachment::of(&other))?;
        detach(&red, &other)?;
    }
    asked.ok("CHECK", Some(&Attachment::of(&a)))?;
    ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
    Ok(())
}

fn restart(lab: &Lab) -> Result {
    let mut site = Site::new(lab)?;
    let (a, _) = attach(lab, "a", &site.network("red", 10, masquerading()))?;
    site.daemon.end(Signal::SIGKILL)?;
    site.daemon = Daemon::start(lab, &site.host, &DaemonSpec::default())?;
    ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
    // As after a boot, which takes interfaces along.
    site.daemon.end(Signal::SIGTERM)?;
    site.host.netlink().delete_link(site.host.link("vsw-red")?.index)?;
    site.daemon = Daemon::start(lab, &site.host, &DaemonSpec::default())?;
    eventually(SOON, "the gateway is back", || {
        ensure_eq!(site.daemon.vsctl().ok("port show gateway:red")?["state"], "up", "its state");
        Ok(())
    })?;
    ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
    detach(&site.network("red", 10, masquerading()), &a)?;
    site.expect(&[])
}

fn handed_over(lab: &Lab) -> Result {
    let args = vec!["--no-enter-namespaces".to_owned()];
    let site = Site::with(lab, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let red = site.network("red", 10, masquerading());
    let (a, _) = attach(lab, "a", &red)?;
    ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
    let wider = red.with(json!({"subnets": [{"subnet": "10.11.0.0/24"}, {"subnet": "fd00:11::/64"}]}));
    let (b, _) = attach(lab, "b", &wider)?;
    for container in [&a, &b] {
        ensure_eq!(site.seen(container)?, ips(HOST)?, "whom the server sees");
        detach(&red, container)?;
    }
    site.expect(&[])
}

fn lock(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, masquerading());
    let path = site.daemon.socket().with_file_name("cni-red.lock");
    let (a, _) = attach(lab, "a", &red)?;
    ensure_eq!(fs::symlink_metadata(&path)?.mode() & 0o7777, 0o600, "mode of the lock file");
    detach(&red, &a)?;
    ensure!(path.exists(), "the lock file stays");

    let elsewhere = path.with_file_name("elsewhere");
    fs::remove_file(&path)?;
    symlink(&elsewhere, &path)?;
    let said = red.refused(103, "ADD", Some(&Attachment::of(&a)))?;
    ensure!(said.contains("cannot lock") && said.contains("cni-red.lock"), "what is wrong: {said}");
    ensure!(!elsewhere.exists(), "nobody follows the link");
    ensure_eq!(site.daemon.vsctl().ok("port list")?, json!([]), "ports after an ADD that failed");
    site.expect(&[])
}

fn overtaken(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let red = site.network("red", 10, masquerading());
    let (a, _) = attach(lab, "a", &red)?;
    let held = File::open(site.daemon.socket().with_file_name("cni-red.lock"))?;
    held.lock()?;
    // It finds nobody attached, and waits for its turn to remove the gateway.
    let del = red.start("DEL", Some(&Attachment::of(&a)))?;
    let files = format!("/proc/{}/fd", del.id());
    eventually(SOON, "DEL waits for the lock", || {
        let open: Vec<_> = fs::read_dir(&files)?.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).collect();
        ensure!(open.iter().any(|path| path.ends_with("cni-red.lock")), "it has {open:?}");
        Ok(())
    })?;
    // Meanwhile somebody comes, who makes no gateway and so waits for nobody.
    let (b, _) = attach(lab, "b", &site.network("red", 10, json!({})))?;
    drop(held);
    let outcome = finish(del)?;
    ensure_eq!(outcome.code, Some(0), "DEL: {}", outcome.json);
    site.expect(&["red"])?;
    ping(&b, "10.10.0.1".parse()?, 56)?;
    detach(&red, &b)?;
    site.expect(&[])
}

fn one_vlan(lab: &Lab) -> Result {
    let site = Site::new(lab)?;
    let (here, there) = (site.network("red", 10, masquerading()), site.network("red", 20, masquerading()));
    let (a, _) = attach(lab, "a", &here)?;
    let b = lab.host("b")?;
    let said = there.refused(103, "ADD", Some(&Attachment::of(&b)))?;
    let text = "network red has its gateway in VLAN 10 by another configuration, and this one says VLAN 20";
    ensure!(said.contains(text), "what is wrong: {said}");
    let ports = site.daemon.vsctl().ok("port list")?;
    ensure_eq!(ports.as_array().map(Vec::len), Some(2), "a and the gateway");
    ensure_eq!(site.seen(&a)?, ips(HOST)?, "whom the server sees");
    Ok(())
}

//! Attachments that work: what they are made of, and what CHECK says of them.

use std::fs;

use ipnet::IpNet;
use netns_tests::cni::{Attachment, addresses};
use netns_tests::{Account, Context as _, DaemonSpec, Lab, Node, Result, SOON, ensure, ensure_eq, eventually, traffic};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{address, alone, has, network, nothing_left};

pub(super) fn two_containers(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/24", "dns": {"nameservers": ["10.1.0.53"]}}));
    net.ok("STATUS", None)?;
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let (one, two) = (net.add(&first)?, net.add(&second)?);
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": netns_tests::frames::text(a.mac("eth0")?), "mtu": 1500, "sandbox": a.path()}],
        "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0}],
        "routes": [],
        "dns": {"nameservers": ["10.1.0.53"]},
    });
    ensure_eq!(one, expected, "result of ADD");
    ensure!(has(&a, "eth0", "10.1.0.2/24")?, "the container has its address");
    traffic::everything((&a, address(&one)?), (&b, address(&two)?), 1500, 1 << 20, lab.random().next_u64())?;
    net.check(&first, &one)?;
    net.check(&second, &two)?;

    let port = node.ok("port show a:eth0")?;
    ensure_eq!(port["attachment"]["network"], "net", "network of the port");
    net.del(&first)?;
    net.del(&first)?;
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(1), "ports after one DEL");
    net.del(&second)?;
    nothing_left(&node, &[&a, &b])?;
    // Round robin: an address that was freed is not given at once again.
    let again = net.add(&first)?;
    ensure_eq!(address(&again)?.to_string(), "10.1.0.4", "the next address");
    // Without its name, and after its end.
    net.del(&Attachment { netns: None, ..first.clone() })?;
    net.add(&first)?;
    drop(a);
    net.del(&first)?;
    nothing_left(&node, &[&b])
}

pub(super) fn each_version_has_its_result(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let keys =
            json!({"cniVersion": version, "subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.0/16", "mtu": 1400}]});
        let net = network(&node, keys);
        let result = net.add(&attachment)?;
        let old = version < "1.0.0";
        ensure_eq!(result["cniVersion"], version, "version of the result");
        ensure_eq!(result["ips"][0]["version"], if old { json!("4") } else { Value::Null }, "version of an address");
        let latest = version == "1.1.0";
        ensure_eq!(result["interfaces"][0]["mtu"], if latest { json!(1500) } else { Value::Null }, "mtu in {version}");
        ensure_eq!(result["routes"][0]["mtu"], if latest { json!(1400) } else { Value::Null }, "metric in {version}");
        if version >= "0.4.0" {
            net.check(&attachment, &result)?;
        }
        net.del(&attachment)?;
    }
    nothing_left(&node, &[&a])
}

/// Two hosts with disjoint ranges of one subnet; the VLAN gets its VNI by the plugin.
pub(super) fn across_vxlan(lab: &Lab) -> Result {
    let underlay = netns_tests::Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    h1.ok(&format!("vtep peer add {} --all-vlans", h2.ip))?;
    h2.ok(&format!("vtep peer add {} --all-vlans", h1.ip))?;
    let keys = |from: &str, to: &str| json!({"vlan": 10, "vni": 100, "subnet": "10.1.0.0/16", "rangeStart": from, "rangeEnd": to});
    let one = network(&h1, keys("10.1.1.0", "10.1.1.255"));
    let two = network(&h2, keys("10.1.2.0", "10.1.2.255"));
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let (here, there) = (one.add(&first)?, two.add(&second)?);
    ensure_eq!(address(&here)?.to_string(), "10.1.1.0", "address on the first host");
    ensure_eq!(address(&there)?.to_string(), "10.1.2.0", "address on the second host");
    ensure_eq!(here["interfaces"][0]["mtu"], 1450, "MTU behind VXLAN");
    let vlans = h1.ok("vlan list")?;
    ensure_eq!((&vlans[0]["vlan"], &vlans[0]["vni"]), (&json!(10), &json!(100)), "VLAN and VNI");
    traffic::everything((&a, address(&here)?), (&b, address(&there)?), 1450, 4 << 20, lab.random().next_u64())?;
    one.check(&first, &here)?;

    let c = lab.host("c")?;
    let other = one.with(json!({"vni": 101}));
    let refused = other.refused(100, "ADD", Some(&Attachment::of(&c)))?;
    ensure!(refused.contains("VNI 100") && refused.contains("101"), "refused: {refused}");
    other.with(json!({"prevResult": here})).refused(105, "CHECK", Some(&first))?;
    one.del(&first)?;
    two.del(&second)?;
    nothing_left(&h1, &[&a, &c])
}

pub(super) fn trunk(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let router = lab.host("router")?;
    let attachment = Attachment::of(&router);
    let net = network(&node, json!({"trunk": "10-11,20", "native": 5, "mtu": 1400, "subnet": "10.5.0.0/24"}));
    let result = net.add(&attachment)?;
    let port = node.ok("port show router:eth0")?;
    ensure_eq!(port["mode"], "trunk", "mode");
    ensure_eq!((&port["vlans"], &port["native"]), (&json!([10, 11, 20]), &json!(5)), "VLANs of the port");
    ensure_eq!(result["interfaces"][0]["mtu"], 1400, "MTU");
    // Untagged frames are in the native VLAN.
    let (a, native) = (lab.host("a")?, network(&node, json!({"vlan": 5, "subnet": "10.5.0.0/24"})));
    native.add(&Attachment::of(&a))?;
    traffic::ping::ping(&a, address(&result)?, 56)?;
    net.check(&attachment, &result)?;
    let other = net.with(json!({"trunk": [10, 20], "prevResult": result}));
    let found = other.refused(105, "CHECK", Some(&attachment))?;
    ensure!(found.contains("trunk 10,20"), "found: {found}");
    // Without addresses a trunk needs no native VLAN.
    let bare = lab.host("bare")?;
    let result = network(&node, json!({"trunk": 30})).add(&Attachment::of(&bare))?;
    ensure_eq!(result["ips"], json!([]), "addresses of a trunk");
    Ok(())
}

/// Addresses, MAC addresses, rates, lists of sources, by each of the ways there are.
pub(super) fn what_is_asked_for(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/24"}));
    let ways = [
        (json!({"runtimeConfig": {"ips": ["10.1.0.50"], "mac": "02:00:00:00:00:50"}}), "", 50),
        (json!({"args": {"cni": {"ips": ["10.1.0.51/24"], "mac": "02:00:00:00:00:51"}}}), "", 51),
        (json!({}), "IgnoreUnknown=1;IP=10.1.0.52;MAC=02:00:00:00:00:52;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod", 52),
        (json!({"subnet": null, "mac": "02:00:00:00:00:53", "runtimeConfig": {"ips": ["10.1.0.53/24"]}}), "", 53),
    ];
    let mut hosts = Vec::new();
    for (keys, args, number) in ways {
        let host = lab.host(&format!("c{number}"))?;
        let result = net.with(keys).add(&Attachment::of(&host).args(args))?;
        ensure_eq!(address(&result)?.to_string(), format!("10.1.0.{number}"), "address");
        ensure_eq!(result["interfaces"][0]["mac"], format!("02:00:00:00:00:{number}"), "MAC address in the result");
        ensure_eq!(host.mac("eth0")?, [2, 0, 0, 0, 0, u8::from_str_radix(&number.to_string(), 16)?], "MAC address");
        hosts.push(host);
    }
    node.ok("port show ns.pod:eth0")?;
    let taken = net.with(json!({"runtimeConfig": {"ips": ["10.1.0.50"]}}));
    let other = lab.host("other")?;
    let refused = taken.refused(100, "ADD", Some(&Attachment::of(&other)))?;
    ensure!(refused.contains("10.1.0.50") && refused.contains("c50:eth0"), "refused: {refused}");

    let rates = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 1_000_000, "egressBurst": 0});
    let limited = net.with(json!({"runtimeConfig": {"bandwidth": rates}, "sourceGuard": true}));
    limited.add(&Attachment::of(&other))?;
    let port = node.ok("port show other:eth0")?;
    ensure_eq!(
        (&port["limits"]["rx"]["rate"], &port["limits"]["tx"]["rate"]),
        (&json!(1_000_000), &json!(8_000_000)),
        "limits"
    );
    ensure_eq!(port["limits"]["tx"]["burst"], 100_000, "burst in bytes");
    ensure_eq!(port["allow_mac"], json!([port["mac"]]), "MAC addresses it may send from");
    let own = port["addresses"][0].as_str().context("an address")?.parse::<IpNet>()?.addr();
    ensure_eq!(port["allow_ip"], json!([format!("{own}/32")]), "addresses it may send from");
    traffic::ping::ping(&other, "10.1.0.50".parse()?, 56)
}

pub(super) fn dual_stack(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let subnets = json!([{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64", "rangeStart": "fd00:1::100"}]);
    let net = network(&node, json!({"subnets": subnets}));
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let one = net.add(&Attachment::of(&a))?;
    let two = net.with(json!({"runtimeConfig": {"ips": ["fd00:1::7"]}})).add(&Attachment::of(&b));
    ensure!(two.is_err(), "an address out of the range was given");
    let two = net.with(json!({"runtimeConfig": {"ips": ["fd00:1::777"]}})).add(&Attachment::of(&b))?;
    let texts =
        |result: &Value| Ok::<_, netns_tests::Failure>(addresses(result)?.iter().map(ToString::to_string).collect());
    let (one, two): (Vec<String>, Vec<String>) = (texts(&one)?, texts(&two)?);
    ensure!(one.contains(&"10.1.0.2".to_owned()) && one.contains(&"fd00:1::100".to_owned()), "addresses: {one:?}");
    ensure!(two.contains(&"10.1.0.3".to_owned()) && two.contains(&"fd00:1::777".to_owned()), "addresses: {two:?}");
    for ip in two {
        traffic::ping::ping(&a, ip.parse()?, 1000)?;
    }
    Ok(())
}

/// What the container's administrator, or a fault, can take away, each by itself; and what a later plugin changed and said.
pub(super) fn check_finds_what_is_missing(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let keys = json!({"vlan": 7, "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]});
    let net = network(&node, keys);
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    ensure_eq!(result["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]), "routes");
    net.check(&attachment, &result)?;
    let (netlink, index) = (a.netlink(), a.link("eth0")?.index);
    let differs = |result: &Value, text: &str| -> Result {
        let found = net.with(json!({"prevResult": result})).refused(105, "CHECK", Some(&attachment))?;
        ensure!(found.contains(text), "CHECK says {found:?}, not {text:?}");
        Ok(())
    };
    let (to, by) = (Some("10.9.0.0/16".parse()?), Some("10.1.0.9".parse()?));
    netlink.delete_route(to, by, index)?;
    differs(&result, "10.9.0.0/16")?;
    netlink.add_route(to, by, index)?;
    net.check(&attachment, &result)?;

    netlink.delete_route(None, Some("10.1.0.1".parse()?), index)?;
    differs(&result, "0.0.0.0/0")?;
    let mut changed = result.clone();
    changed["routes"] = json!([{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}]);
    net.check(&attachment, &changed)?;

    netlink.set_mac(index, [2, 0, 0, 0, 0, 9])?;
    differs(&changed, "02:00:00:00:00:09")?;
    changed["interfaces"][0]["mac"] = json!("02:00:00:00:00:09");
    net.check(&attachment, &changed)?;

    netlink.add_address(index, "10.1.0.77/24".parse()?)?;
    net.check(&attachment, &changed)?;
    let mut other = changed.clone();
    other["ips"][0]["address"] = json!("10.1.0.78/24");
    differs(&other, "10.1.0.78/24")?;

    let mut bare = changed.clone();
    bare["routes"] = json!([]);
    netlink.set_up(index, false)?;
    differs(&bare, "down")?;
    netlink.set_up(index, true)?;
    net.check(&attachment, &bare)?;
    let elsewhere = net.with(json!({"vlan": 8, "prevResult": bare}));
    let found = elsewhere.refused(105, "CHECK", Some(&attachment))?;
    ensure!(found.contains("access 8"), "found: {found}");
    node.ok("port del a:eth0")?;
    differs(&bare, "no port")
}

/// The host has an address in the network for as long as a container is in it.
pub(super) fn gateway(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let net = network(&node, json!({"subnet": "10.1.0.0/24", "isDefaultGateway": true}));
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let result = net.add(&first)?;
    net.add(&second)?;
    ensure_eq!(result["interfaces"][0]["name"], "vsw-net", "the host's interface");
    ensure_eq!(result["interfaces"][0].get("sandbox"), None, "sandbox of the host's interface");
    ensure_eq!(result["ips"][0]["interface"], 1, "whose the address is");
    ensure_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]), "routes");
    ensure!(has(&node.host, "vsw-net", "10.1.0.1/24")?, "the host has the gateway's address");
    traffic::ping::ping(&a, "10.1.0.1".parse()?, 56)?;
    traffic::ping::ping(&node.host, address(&result)?, 56)?;
    net.check(&first, &result)?;
    node.ok("port del gateway:net")?;
    net.with(json!({"prevResult": result})).refused(103, "CHECK", Some(&first))?;
    let c = lab.host("c")?;
    net.add(&Attachment::of(&c))?;
    net.check(&first, &result)?;
    for attachment in [&first, &second, &Attachment::of(&c)] {
        net.del(attachment)?;
    }
    nothing_left(&node, &[&a, &b, &c])
}

/// A container in two networks, both with a default route: it has that of the first, and each CHECK finds what its ADD said.
pub(super) fn two_networks(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let keys = |number: u8| {
        let subnets = json!([{"subnet": format!("10.{number}.0.0/24")}, {"subnet": format!("fd00:{number}::/64")}]);
        json!({"vlan": number, "subnets": subnets, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]})
    };
    let (one, two) = (network(&node, keys(1)), network(&node, keys(2)).with(json!({"name": "other"})));
    let a = lab.host("a")?;
    let (first, second) = (Attachment::of(&a), Attachment { ifname: "eth1".to_owned(), ..Attachment::of(&a) });
    let here = one.add(&first)?;
    ensure_eq!(here["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]), "routes by the first network");
    let there = two.add(&second)?;
    ensure_eq!(there["routes"], json!([]), "routes by the second network");
    let defaults = a.netlink().routes()?.into_iter().filter(|route| route.dst.prefix_len() == 0);
    let by: Vec<_> = defaults.map(|route| route.index).collect();
    ensure_eq!(by, vec![a.link("eth0")?.index; 2], "interfaces of the default routes");
    one.check(&first, &here)?;
    two.check(&second, &there)?;
    two.del(&second)?;
    one.check(&first, &here)?;
    one.del(&first)?;
    nothing_left(&node, &[&a])
}

/// "MUST handle prevResult by either passing it through, or modifying it appropriately."
pub(super) fn chained_after_another(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let a = lab.host("a")?;
    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "br0", "mac": "02:00:00:00:00:aa"}, {"name": "eth9", "sandbox": a.path(), "later": 1}],
        "ips": [{"address": "10.7.0.2/24", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"nameservers": ["10.7.0.1"]},
    });
    let net = network(&node, json!({"subnet": "10.1.0.0/24", "prevResult": before}));
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    let mut rest = result.clone();
    ensure_eq!(rest["interfaces"].as_array().map(Vec::len), Some(3), "interfaces of {result}");
    ensure_eq!(result["interfaces"][2]["name"], "eth0", "our interface");
    ensure_eq!(
        result["ips"][1],
        json!({"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 2}),
        "our address"
    );
    for key in ["interfaces", "ips"] {
        rest[key].as_array_mut().context("a list")?.pop();
    }
    ensure_eq!(rest, before, "what was there before");
    net.check(&attachment, &result)?;
    net.del(&attachment)
}

/// A daemon that may not enter namespaces: the plugin makes the interface.
pub(super) fn handed_over(lab: &Lab) -> Result {
    Account::possible().map_err(netns_tests::Failure::new)?;
    let host = lab.host("h1")?;
    let args = vec!["--no-enter-namespaces".to_owned()];
    let spec = DaemonSpec { underlay: Some("udp"), args, ..DaemonSpec::default() };
    let daemon = netns_tests::Daemon::start(lab, &host, &spec)?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let net = network(&node, json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}));
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let (one, two) = (net.add(&first)?, net.add(&second)?);
    traffic::everything((&a, address(&one)?), (&b, address(&two)?), 1500, 1 << 20, lab.random().next_u64())?;
    net.check(&first, &one)?;
    let refused = net.refused(100, "ADD", Some(&first))?;
    ensure!(refused.contains("there already"), "refused: {refused}");
    net.check(&first, &one)?;
    net.del(&first)?;
    net.del(&second)?;
    nothing_left(&node, &[&a, &b])?;

    // A container that goes without a DEL: the daemon follows a name that is in nobody's /proc.
    let (names, c) = (lab.folder("names")?, lab.host("c")?);
    let name = names.join("c");
    fs::write(&name, "")?;
    let (target, source) = (name.clone(), c.path());
    let mounted = node.host.call(move || {
        unshare(CloneFlags::CLONE_NEWNS)?; // of the thread that starts programs there
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    });
    mounted.context("mount a namespace")?;
    node.daemon.end(Signal::SIGTERM)?;
    let daemon = netns_tests::Daemon::start(lab, &node.host, &spec)?;
    let node = Node { daemon, ..node };
    let net = network(&node, json!({"subnet": "10.1.0.0/24"}));
    net.add(&Attachment::named("c", "eth0", Some(name.clone())))?;
    ensure_eq!(node.ok("port show c:eth0")?["attachment"]["seen"], true, "whether the daemon follows the name");
    drop(c);
    let unmounted = name.clone();
    node.host.call(move || umount2(&unmounted, MntFlags::MNT_DETACH)).context("unmount a namespace")?;
    fs::remove_file(name)?;
    eventually(SOON, "its port goes", || nothing_left(&node, &[]))
}

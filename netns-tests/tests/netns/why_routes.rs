//! `why` where containers' own IP stacks decide: routes, routers, addresses that are missing, filters; and the verdict held
//! against a real ping.

use std::time::Duration;

use ipnet::IpNet;
use netns_tests::frames::text;
use netns_tests::{
    Context, DaemonSpec, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually, traffic,
};
use serde_json::Value;

use crate::why::{A, B, broken, has_tools, mend, nothing, one_host, reachable, why};

/// How long an echo is waited for that may not be answered.
const PING: Duration = Duration::from_millis(1500);

pub(super) const TESTS: super::Tests = &[
    ("routed", routed),
    ("behind_a_router", behind_a_router),
    ("other_subnet", other_subnet),
    ("no_way_back", no_way_back),
    ("no_address", no_address),
    ("echo_unanswered", echo_unanswered),
    ("handed_over", handed_over),
    ("verdicts_hold_against_ping", verdicts_hold_against_ping),
];

/// Does what is printed, and then they reach each other, by ping too.
fn mended(node: &Node, command: &str, (a, b): (&str, &str), from: &Host, ip: &str) -> Result {
    if !has_tools(node)? {
        return Ok(());
    }
    command.split(" && ").try_for_each(|command| mend(node, command))?;
    traffic::ping::ping(from, ip.parse()?, 10)?;
    reachable(node, a, b).map(drop)
}

/// A step of an answer in which all of `parts` are said.
fn says(answer: &Value, parts: &[&str]) -> Result {
    let steps = answer["steps"].as_array().context("steps")?;
    let mut texts = steps.iter().filter_map(|step| step["text"].as_str());
    ensure!(texts.any(|text| parts.iter().all(|part| text.contains(part))), "{parts:?} in {answer}");
    Ok(())
}

/// A host with red in VLAN 10 and blue in VLAN 20, and a container with a port in each that forwards.
fn with_a_router(lab: &Lab) -> Result<(Node, [Host; 3])> {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let red = node.attach(lab, "red", "--access 10 --address 10.0.10.1/24 --gateway 10.0.10.254")?;
    let blue = node.attach(lab, "blue", "--access 20 --address 10.0.20.1/24 --gateway 10.0.20.254")?;
    let router = node.attach(lab, "router", "--access 10 --address 10.0.10.254/24")?;
    let words = "--ifname eth1 --access 20 --address 10.0.20.254/24";
    node.ok(&format!("port add router-20 --netns {} {words}", router.path().display()))?;
    router.netns().set_sysctl("ipv4/ip_forward", "1")?;
    Ok((node, [red, blue, router]))
}

fn routed(lab: &Lab) -> Result {
    let (node, [red, blue, router]) = with_a_router(lab)?;
    traffic::ping::ping(&red, "10.0.20.1".parse()?, 10)?;
    for (a, b) in [("red", "blue"), ("red", "10.0.20.1"), ("10.0.10.1", "blue")] {
        let answer = why(&node, a, b)?;
        ensure_eq!(answer["reachable"], true, "why {a} {b}: {answer}");
        ensure_eq!(answer["answered"], serde_json::json!(["ARP", "ICMP echo"]), "what was asked");
        says(&answer, &["10.0.20.1 is routed by 10.0.10.254, port router"])?;
        says(&answer, &["the router sends on to 10.0.20.1, by port router-20"])?;
    }
    ensure_eq!(why(&node, "blue", "red")?["reachable"], true, "the other way");
    router.netns().set_sysctl("ipv4/ip_forward", "0")?;
    let command = broken(&node, "red", "blue", "no_forwarding", nothing)?;
    ensure!(command.ends_with("sysctl -w net.ipv4.ip_forward=1"), "command: {command}");
    router.netns().set_sysctl("ipv4/ip_forward", "1")?;
    // Behind the router, in another VLAN than it is.
    node.ok("port set blue --access 30")?;
    let command = broken(&node, "red", "blue", "wrong_vlan", nothing)?;
    mended(&node, &command, ("red", "blue"), &red, "10.0.20.1")?;
    let gateway = blue.netlink().routes()?.into_iter().find(|route| route.gateway.is_some()).context("a route")?;
    blue.netlink().delete_route(None, gateway.gateway, gateway.index)?;
    let command = broken(&node, "red", "blue", "no_route_back", nothing)?;
    mended(&node, &command, ("red", "blue"), &red, "10.0.20.1")
}

/// Of what is no port here nothing is claimed but what it answers.
fn behind_a_router(lab: &Lab) -> Result {
    let (node, [red, _blue, router]) = with_a_router(lab)?;
    let answer = why(&node, "red", "203.0.113.1")?;
    ensure_eq!(answer["reason"], "no_route", "the router has none: {answer}");
    router.netlink().add_route(Some("203.0.113.0/24".parse()?), None, router.link("eth1")?.index)?;
    let answer = why(&node, "red", "203.0.113.1")?;
    ensure_eq!(answer["reason"], "behind_router", "nobody is there: {answer}");
    router.address("lo", &["203.0.113.1/32".parse()?])?;
    traffic::ping::ping(&red, "203.0.113.1".parse()?, 10)?;
    let answer = reachable(&node, "red", "203.0.113.1")?;
    says(&answer, &["203.0.113.1 is routed by 10.0.10.254, port router"])
}

fn other_subnet(lab: &Lab) -> Result {
    let (node, a, _b) = one_host(lab, "--access 10 --address 10.0.0.1/24", "--access 10 --address 10.1.0.2/24")?;
    let command = broken(&node, "a", "b", "no_route", nothing)?;
    mended(&node, &command, ("a", "b"), &a, "10.1.0.2")
}

/// A's subnet covers B, and B's does not cover A.
fn no_way_back(lab: &Lab) -> Result {
    let (node, a, _b) = one_host(lab, "--access 10 --address 10.0.0.1/24", "--access 10 --address 10.0.0.200/25")?;
    let command = broken(&node, "a", "b", "no_route_back", nothing)?;
    ensure!(broken(&node, "b", "a", "no_route", nothing)?.contains(" route add 10.0.0.1 "), "asked from b");
    mended(&node, &command, ("a", "b"), &a, "10.0.0.200")
}

fn no_address(lab: &Lab) -> Result {
    let (node, a, b) = one_host(lab, "--access 10 --address 10.0.0.1/24", "--access 10 --address 10.0.0.2/24")?;
    for (host, ip) in [(&a, "10.0.0.1/24"), (&b, "10.0.0.2/24")] {
        host.netlink().delete_address(host.link("eth0")?.index, ip.parse()?)?;
        let command = broken(&node, "a", "b", "no_address", nothing)?;
        ensure!(command.contains(&format!("address add {ip} dev eth0")), "command: {command}");
        if !has_tools(&node)? {
            return Ok(());
        }
        mended(&node, &command, ("a", "b"), &a, "10.0.0.2")?;
    }
    Ok(())
}

/// The kernel answers ARP for a container that lets nothing else in.
fn echo_unanswered(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let _a = h1.attach(lab, "a", A)?;
    let b = h1.attach(lab, "b", B)?;
    let c = h2.attach(lab, "c", "--access 10 --address 10.0.0.3/24")?;
    for (host, name) in [(&b, "b"), (&c, "10.0.0.3")] {
        reachable(&h1, "a", name)?;
        host.netns().set_sysctl("ipv4/icmp_echo_ignore_all", "1")?;
        let answer = why(&h1, "a", name)?;
        ensure_eq!(answer["reason"], "echo_unanswered", "why a {name}: {answer}");
        ensure_eq!(answer["answered"], serde_json::json!(["ARP"]), "what was answered: {answer}");
        host.netns().set_sysctl("ipv4/icmp_echo_ignore_all", "0")?;
        reachable(&h1, "a", name)?;
    }
    Ok(())
}

/// A daemon that may not look into containers says what it assumed, and asks all the same.
fn handed_over(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let spec = DaemonSpec { args: vec!["--no-enter-namespaces".to_owned()], ..DaemonSpec::default() };
    let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec)?;
    let attach = |name: &str, words: &str| node.attach(lab, name, &format!("{words} --hand-over --access 10"));
    let _a = attach("a", "--address 10.0.0.1/24 --gateway 10.0.0.254")?;
    let b = attach("b", "--address 10.0.0.2/24")?;
    let _c = attach("c", "--address 10.1.0.2/24")?;
    let answer = reachable(&node, "a", "b")?;
    says(&answer, &["port a sends to 10.0.0.2 on its link", "may not be looked into"])?;
    ensure_eq!(answer["answered"], serde_json::json!(["ARP", "ICMP echo"]), "what was asked: {answer}");
    ensure_eq!(why(&node, "b", "c")?["reason"], "no_route", "another subnet, without a gateway");
    ensure_eq!(why(&node, "a", "c")?["reachable"], false, "by a gateway that is not there");
    b.netns().set_sysctl("ipv4/icmp_echo_ignore_all", "1")?;
    ensure_eq!(why(&node, "a", "b")?["reason"], "echo_unanswered", "b answers ARP alone");
    Ok(())
}

/// One layout: what A and B are given, B's VLAN and host, and what is wrong.
type Layout = [&'static str; 5];

/// Layouts that are always tried; the others are thrown from what is in them and below.
const SURE: [Layout; 3] = [
    ["10.0.0.1/24", "10.0.0.2/24", "10", "h1", "none"],
    ["10.0.0.1/24 --gateway 10.0.0.254", "10.1.0.2/24 --gateway 10.1.0.254", "20", "h1", "none"],
    ["10.0.0.1/24", "10.0.0.2/24", "10", "h2", "silent"],
];
const DICE: [&[&str]; 5] = [
    &["10.0.0.1/24", "10.0.0.1/24 --gateway 10.0.0.254", "10.0.0.1/16", "10.0.0.1/32"],
    &["10.0.0.2/24", "10.0.0.200/25", "10.0.9.2/16", "10.1.0.2/24", "10.1.0.2/24 --gateway 10.1.0.254"],
    &["10", "10", "20"],
    &["h1", "h1", "h2"],
    &["none", "none", "none", "down", "silent", "flushed", "guarded", "static"],
];
const LAYOUTS: usize = 16;

/// Layouts by dice, with a router between VLANs 10 and 20: where ping gets through `why` says so, and where it does not `why`
/// has a reason.
fn verdicts_hold_against_ping(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let router = h1.attach(lab, "router", "--access 10 --address 10.0.0.254/24")?;
    let words = "--ifname eth1 --access 20 --address 10.1.0.254/24";
    h1.ok(&format!("port add router-20 --netns {} {words}", router.path().display()))?;
    router.netns().set_sysctl("ipv4/ip_forward", "1")?;
    let mut random = lab.random();
    let thrown = std::iter::repeat_with(|| DICE.map(|die| die[random.below(die.len())]));
    let layouts: Vec<Layout> = SURE.into_iter().chain(thrown).take(LAYOUTS).collect();
    let mut verdicts = Vec::new();
    for (round, layout) in layouts.into_iter().enumerate() {
        let node = if layout[3] == "h1" { &h1 } else { &h2 };
        let reached = agreed(lab, &h1, node, round, layout)?;
        lab.note(format!("{layout:?}: {reached}"));
        verdicts.push(reached);
    }
    ensure_eq!(verdicts[..SURE.len()], [true, true, false], "what is known");
    Ok(())
}

/// Makes a layout; whether ping gets through, and `why` says the same.
fn agreed(lab: &Lab, near: &Node, far: &Node, round: usize, layout: Layout) -> Result<bool> {
    let [a_words, b_words, vlan, place, fault] = layout;
    let (a, b) = (format!("a{round}"), format!("b{round}"));
    let from = near.attach(lab, &a, &format!("--access 10 --address {a_words}"))?;
    let guard = if fault == "guarded" { " --allow-ip 10.9.9.9" } else { "" };
    let to = far.attach(lab, &b, &format!("--access {vlan} --address {b_words}{guard}"))?;
    let (link, mac) = (to.link("eth0")?, text(to.mac("eth0")?));
    let net: IpNet = b_words.split(' ').next().unwrap_or_default().parse()?;
    match fault {
        "down" => to.netlink().set_up(link.index, false)?,
        "silent" => to.netns().set_sysctl("ipv4/icmp_echo_ignore_all", "1")?,
        "flushed" => to.netlink().delete_address(link.index, net)?,
        "static" if vlan == "10" => near.ok(&format!("fdb add {mac} --vlan 10 --port {a}")).map(drop)?,
        _ => {}
    }
    let asked = if place == "h1" { b.clone() } else { net.addr().to_string() };
    let reached = eventually(SOON, "why and ping agree", || {
        let reached = traffic::ping::ping_within(&from, net.addr(), 10, PING).is_ok();
        let answer = why(near, &a, &asked)?;
        ensure_eq!(answer["reachable"], reached, "{layout:?}: {answer}");
        ensure_eq!(answer["reason"].is_null(), reached, "a reason where they do not: {answer}");
        Ok(reached)
    })?;
    near.ok(&format!("port del {a}"))?; // its static addresses go with it
    far.ok(&format!("port del {b}"))?;
    Ok(reached)
}

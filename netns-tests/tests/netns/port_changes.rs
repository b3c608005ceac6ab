use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use netns_tests::traffic::ping::ping;
use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually,
};
use nix::sys::signal::Signal;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("an_address_for_another", an_address_for_another),
    ("a_first_address_gone", a_first_address_gone),
    ("what_the_container_did_already", what_the_container_did_already),
    ("a_default_route_of_the_containers_own", a_default_route_of_the_containers_own),
    ("a_refused_change_is_taken_back", a_refused_change_is_taken_back),
    ("a_dead_container_stands_in_nobodys_way", a_dead_container_stands_in_nobodys_way),
    ("a_name_that_leads_elsewhere", a_name_that_leads_elsewhere),
    ("a_lost_port_added_again", a_lost_port_added_again),
    ("a_process_number_used_again", a_process_number_used_again),
    ("a_change_that_cannot_be_saved", a_change_that_cannot_be_saved),
    ("an_address_of_two_ports", an_address_of_two_ports),
    ("more_than_vxlan_leaves", more_than_vxlan_leaves),
];

/// A host without VXLAN.
fn node(lab: &Lab) -> Result<Node> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    Ok(Node { daemon, host, ip: [127, 0, 0, 1].into() })
}

/// The IPv4 addresses of `eth0`, in order.
fn addresses(host: &Host) -> Result<Vec<String>> {
    let index = host.link("eth0")?.index;
    let all = host.netlink().addresses()?.into_iter();
    let mut own: Vec<_> = all.filter(|(at, net)| *at == index && net.addr().is_ipv4()).collect();
    own.sort();
    Ok(own.into_iter().map(|(_, net)| net.to_string()).collect())
}

/// The gateway to everywhere.
fn gateway(host: &Host) -> Result<String> {
    let route = host.netlink().route_to("198.51.100.1".parse()?).context("default route")?;
    Ok(route.gateway.context("a default route without gateway")?.to_string())
}

fn an_address_for_another(lab: &Lab) -> Result {
    let node = node(lab)?;
    let c1 =
        node.attach(lab, "c1", "--address 10.0.0.2/24 --address fd00::2/64 --gateway 10.0.0.1 --gateway fd00::1")?;
    let c2 = node.attach(lab, "c2", "--address 10.0.0.9/24 --address fd00::9/64")?;
    node.ok("port set c1 --address 10.0.0.3/24 --address fd00::3/64")?;
    ensure_eq!(addresses(&c1)?, ["10.0.0.3/24"], "addresses");
    ensure_eq!(gateway(&c1)?, "10.0.0.1", "the gateway that nobody changed");
    let v6 = c1.netlink().route_to("2001:db8::1".parse()?).context("IPv6 default route")?;
    ensure_eq!(v6.gateway, Some("fd00::1".parse()?), "the IPv6 gateway that nobody changed");
    ping(&c2, "10.0.0.3".parse()?, 56)?;
    ping(&c2, "fd00::3".parse()?, 56)
}

fn a_first_address_gone(lab: &Lab) -> Result {
    let node = node(lab)?;
    let c1 = node.attach_quiet(lab, "c1", "--address 10.0.0.2/24 --address 10.0.0.3/24 --gateway 10.0.0.1")?;
    node.ok("port set c1 --address 10.0.0.3/24")?;
    ensure_eq!(addresses(&c1)?, ["10.0.0.3/24"], "addresses");
    ensure_eq!(gateway(&c1)?, "10.0.0.1", "gateway");
    Ok(())
}

fn what_the_container_did_already(lab: &Lab) -> Result {
    let node = node(lab)?;
    let c1 = node.attach_quiet(lab, "c1", "--address 10.0.0.2/24 --gateway 10.0.0.1")?;
    // What the daemon is about to add is there, and what it is about to remove is not.
    c1.address("eth0", &["10.9.9.9/24".parse()?])?;
    let (netlink, index) = (c1.netlink(), c1.link("eth0")?.index);
    netlink.delete_route(None, Some("10.0.0.1".parse()?), index)?;
    netlink.delete_address(index, "10.0.0.2/24".parse()?)?;
    netlink.add_route(None, Some("10.9.9.1".parse()?), index)?;
    node.ok("port set c1 --address 10.9.9.9/24 --gateway 10.9.9.1")?;
    ensure_eq!(addresses(&c1)?, ["10.9.9.9/24"], "addresses");
    ensure_eq!(gateway(&c1)?, "10.9.9.1", "gateway");
    // A route is removed whoever made it: this one is the kernel's.
    netlink.delete_route(Some("10.9.9.0/24".parse()?), None, index).context("remove a route of another protocol")
}

fn a_default_route_of_the_containers_own(lab: &Lab) -> Result {
    let node = node(lab)?;
    let c1 = node.attach_quiet(lab, "c1", "--address 10.0.0.2/24 --gateway 10.0.0.1")?;
    let (netlink, index) = (c1.netlink(), c1.link("eth0")?.index);
    netlink.delete_route(None, Some("10.0.0.1".parse()?), index)?;
    netlink.add_route(None, Some("10.0.0.99".parse()?), index)?;
    // It is not taken for the one asked for, nor replaced, and the addresses are taken back.
    let said = node.vsctl().refused(1, "port set c1 --address 10.0.0.2/24 --address 10.1.0.2/24 --gateway 10.1.0.1")?;
    ensure!(said.contains("via 10.1.0.1"), "the gateway is not named: {said}");
    ensure_eq!(addresses(&c1)?, ["10.0.0.2/24"], "addresses");
    ensure_eq!(node.ok("port show c1")?["addresses"][0], "10.0.0.2/24", "address as the daemon says");
    ensure_eq!(gateway(&c1)?, "10.0.0.99", "gateway");
    Ok(())
}

fn a_refused_change_is_taken_back(lab: &Lab) -> Result {
    let node = node(lab)?;
    // Without IPv6 the second address is refused, after the first and the route were changed.
    let c1 = node.attach_quiet(lab, "c1", "--address 10.0.0.2/24 --gateway 10.0.0.1 --mtu 1400")?;
    let before = node.vsctl().everything()?;
    node.vsctl().refused(1, "port set c1 --mtu 1300 --address 10.9.9.9/24 --address fd00::9/64 --gateway 10.9.9.1")?;
    ensure_eq!(node.vsctl().everything()?, before, "everything after a refusal");
    ensure_eq!(addresses(&c1)?, ["10.0.0.2/24"], "addresses");
    ensure_eq!((gateway(&c1)?, c1.link("eth0")?.mtu), ("10.0.0.1".to_owned(), 1400), "gateway and MTU");
    ensure!(!node.daemon.log()?.contains("ERROR"), "something was not taken back: {}", node.daemon.log()?);
    Ok(())
}

fn a_dead_container_stands_in_nobodys_way(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let dead = node.attach_quiet(lab, "dead", "--access 20")?;
    let alive = node.attach_quiet(lab, "alive", "--access 20")?;
    drop(dead);
    // The VNI changes the MTU of both; whether the first is known to be lost by now does not matter.
    node.ok("vlan add 20 --vni 200")?;
    ensure_eq!(alive.link("eth0")?.mtu, 1450, "MTU of the port beside the dead one");
    eventually(SOON, "the port is lost", || {
        ensure_eq!(node.ok("port show dead")?["state"], "lost", "state");
        Ok(())
    })?;
    node.ok("vlan del 20")?;
    ensure_eq!(alive.link("eth0")?.mtu, 1500, "MTU of the port beside the lost one");
    // What is lost may be changed; it takes effect where the port comes back.
    node.ok("port set dead --mtu 1400")?;
    ensure_eq!(node.ok("port show dead")?["mtu"], 1400, "MTU of the lost port");
    ensure_eq!(node.ok("status")?["ports_lost"], 1, "lost ports");
    node.ok("port del dead").map(drop)
}

/// The interface is known by its descriptor: what its namespace was once called may be another's now.
fn a_name_that_leads_elsewhere(lab: &Lab) -> Result {
    let node = node(lab)?;
    let (c1, other) = (lab.quiet_host("c1")?, lab.quiet_host("other")?);
    let name = lab.folder("names")?.join("c1");
    symlink(c1.path(), &name)?;
    node.ok(&format!("port add c1 --netns {} --address 10.0.0.2/24", name.display()))?;
    node.ok(&format!("port add other --netns {} --address 10.0.0.2/24", other.path().display()))?;
    fs::remove_file(&name)?;
    symlink(other.path(), &name)?;
    node.ok("port set c1 --mtu 1400 --address 10.0.0.3/24")?;
    ensure_eq!((addresses(&c1)?, c1.link("eth0")?.mtu), (vec!["10.0.0.3/24".to_owned()], 1400), "the port's interface");
    ensure_eq!((addresses(&other)?, other.link("eth0")?.mtu), (vec!["10.0.0.2/24".to_owned()], 1500), "the other one");
    Ok(())
}

fn a_lost_port_added_again(lab: &Lab) -> Result {
    let node = node(lab)?;
    let (c1, c2) = (lab.quiet_host("c1")?, node.attach_quiet(lab, "c2", "--address 10.0.0.2/24")?);
    let name = lab.folder("names")?.join("c1");
    symlink(c1.path(), &name)?;
    let add = format!("port add c1 --netns {} --address 10.0.0.1/24", name.display());
    node.ok(&add)?;
    node.ok("fdb add 02:00:00:00:00:99 --vlan 1 --port c1")?;
    let before = node.vsctl().everything()?;
    fs::remove_file(&name)?;
    drop(c1);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(node.ok("port show c1")?["state"], "lost", "state");
        Ok(())
    })?;
    let said = node.vsctl().refused(1, &add)?;
    ensure!(said.contains("no network namespace"), "adding it again without a namespace: {said}");
    ensure_eq!(node.ok("port show c1")?["state"], "lost", "state");
    let again = lab.quiet_host("again")?;
    symlink(again.path(), &name)?;
    eventually(SOON, "the port comes back with its namespace", || {
        ensure_eq!(node.vsctl().everything()?, before, "everything, static address and all");
        Ok(())
    })?;
    ensure_eq!(node.ok(&add)?["changed"], false, "adding it again");
    ping(&again, "10.0.0.2".parse()?, 56)?;
    ping(&c2, "10.0.0.1".parse()?, 56)
}

/// After a restart the process that a port names may be another one, and must not be taken for a container.
fn a_process_number_used_again(lab: &Lab) -> Result {
    let Node { daemon, host, ip } = node(lab)?;
    let (container, names) = (lab.quiet_host("c1")?, ["c1", "own"]);
    let idle = || {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped());
        command
    };
    let (mut inside, mut outside) = (container.spawn(idle())?, host.spawn(idle())?);
    for (name, process) in names.into_iter().zip([&inside, &outside]) {
        daemon.vsctl().ok(&format!("port add {name} --netns pid:{} --ifname {name}", process.id()))?;
    }
    daemon.end(Signal::SIGTERM)?;
    host.netlink().delete_link(host.link("own")?.index)?; // as if it had gone with a container
    let node = Node { daemon: Daemon::start(lab, &host, &DaemonSpec::default())?, host, ip };
    let state = |name| Ok::<_, Failure>(node.ok(&format!("port show {name}"))?["state"].clone());
    ensure_eq!(
        (state("c1")?, state("own")?),
        ("up".into(), "lost".into()),
        "states of the container's port and of the host's"
    );
    ensure!(node.host.netlink().link("own")?.is_none(), "the host's own namespace was touched");
    for process in [&mut inside, &mut outside] {
        process.kill()?;
        process.wait()?;
    }
    Ok(())
}

/// The last step of a change is to save it: all is taken back where that fails.
fn a_change_that_cannot_be_saved(lab: &Lab) -> Result {
    let node = node(lab)?;
    let c1 = node.attach_quiet(lab, "c1", "--address 10.0.0.2/24 --gateway 10.0.0.1")?;
    // By a name of its own: the number of a closed descriptor is soon another test's, and taking `port del` back would
    // make the port there.
    let (dead, name) = (lab.quiet_host("dead")?, lab.folder("names")?.join("dead"));
    symlink(dead.path(), &name)?;
    node.ok(&format!("port add dead --netns {}", name.display()))?;
    node.ok("fdb add 02:00:00:00:00:99 --vlan 1 --port c1")?;
    fs::remove_file(&name)?;
    drop(dead);
    eventually(SOON, "the port is lost", || {
        ensure_eq!(node.ok("port show dead")?["state"], "lost", "state");
        Ok(())
    })?;
    let before = node.vsctl().settings()?;
    // A folder in the state's place cannot be replaced by a file.
    let state = lab.folder("h1")?.join("state/state.json");
    fs::remove_file(&state)?;
    fs::create_dir(&state)?;
    for words in ["port set c1 --address 10.9.9.9/24 --gateway 10.9.9.1", "port del c1", "port del dead", "vlan add 20"]
    {
        let said = node.vsctl().refused(1, words)?;
        ensure!(said.contains("state.json") && said.contains("--state-dir"), "{words}: {said}");
        ensure_eq!(node.vsctl().settings()?, before, "everything after {words}");
        ensure_eq!(addresses(&c1)?, ["10.0.0.2/24"], "addresses after {words}");
        ensure_eq!(gateway(&c1)?, "10.0.0.1", "gateway after {words}");
    }
    fs::remove_dir(&state)?;
    node.ok("port set dead --mtu 1400")?;
    node.ok("port del dead").map(drop)
}

/// The notes of a change that is made.
fn notes(node: &Node, words: &str) -> Result<Vec<String>> {
    let outcome = node.ok(words)?;
    ensure_eq!(outcome["changed"], true, "whether {words} changed anything");
    let notes = outcome["notes"].as_array().into_iter().flatten();
    Ok(notes.filter_map(|note| note.as_str().map(str::to_owned)).collect())
}

/// What `status` finds of addresses that ports share.
fn shared(node: &Node) -> Result<Vec<String>> {
    let status = node.ok("status")?;
    let findings = status["findings"].as_array().into_iter().flatten();
    let shared = findings.filter(|finding| finding["name"] == "address_shared");
    Ok(shared.map(|finding| finding["text"].to_string()).collect())
}

/// It may be meant, so it is made; and it is said, then and while it lasts.
fn an_address_of_two_ports(lab: &Lab) -> Result {
    const MAC: &str = "02:00:00:00:00:01";
    let node = node(lab)?;
    let _blue = node.attach_quiet(lab, "blue", &format!("--mac {MAC} --address 10.0.0.2/24 --access 10"))?;
    let dup = lab.quiet_host("dup")?;
    let add = format!("port add dup --netns {}", dup.path().display());
    ensure_eq!(shared(&node)?, Vec::<String>::new(), "with one");
    // In another VLAN it is another's.
    for words in
        ["--address 10.0.0.2/24 --access 11", "--address 10.0.0.3/24 --access 10", "--address 10.0.0.2/24 --trunk 10"]
    {
        ensure_eq!(notes(&node, &format!("{add} {words}"))?, Vec::<String>::new(), "notes with {words}");
        ensure_eq!(shared(&node)?, Vec::<String>::new(), "findings with {words}");
        node.ok("port del dup")?;
    }
    for (words, address, cure) in [
        ("--address 10.0.0.2/24 --access 10", "10.0.0.2", "--address 10.0.0.3/24"),
        ("--address 10.0.0.2/24 --trunk 11-12 --native 10", "10.0.0.2", "--trunk 11-12 --native 9"),
        (&format!("--mac {MAC} --trunk 9-11"), MAC, "--access 11"),
    ] {
        let said = notes(&node, &format!("{add} {words}"))?;
        ensure!(said.len() == 1, "notes with {words}: {said:?}");
        for part in [address, "port blue", "VLAN 10"] {
            ensure!(said[0].contains(part), "{words}: {part:?} is not in: {said:?}");
        }
        let found = shared(&node)?;
        ensure!(
            found.len() == 1 && [address, "blue, dup", "VLAN 10"].iter().all(|part| found[0].contains(part)),
            "{found:?}"
        );
        ensure_eq!(node.ok("status")?["healthy"], false, "health with {words}");
        ensure_eq!(notes(&node, &format!("port set dup {cure}"))?, Vec::<String>::new(), "notes with {cure}");
        ensure_eq!(shared(&node)?, Vec::<String>::new(), "findings with {cure}");
        node.ok("port del dup")?;
    }
    node.ok(&format!("{add} --address 10.0.0.3/24 --access 10"))?;
    ensure_eq!(notes(&node, "port set dup --address 10.0.0.2/24")?.len(), 1, "notes of a change");
    ensure_eq!(notes(&node, "port set dup --mtu 1400")?, Vec::<String>::new(), "notes of one of another kind");
    Ok(())
}

fn more_than_vxlan_leaves(lab: &Lab) -> Result {
    let (_underlay, h1, _h2) = Node::pair(lab, 1500)?;
    let wide = lab.quiet_host("wide")?;
    let add = |words: &str| format!("port add wide --netns {} {words}", wide.path().display());
    for (words, is_noted) in [
        (add("--access 10 --mtu 1450"), false),
        ("port set wide --mtu 9000".to_owned(), true),
        ("port set wide --access 11".to_owned(), false),
        ("port set wide --trunk 9-10".to_owned(), true),
        ("port del wide".to_owned(), false),
        (add("--access 10 --mtu 1451"), true),
    ] {
        let said = notes(&h1, &words)?;
        ensure_eq!(said.len(), usize::from(is_noted), "notes of {words}: {said:?}");
        ensure!(said.iter().all(|note| note.contains("1450") && note.contains("VLAN 10")), "{words}: {said:?}");
    }
    Ok(())
}

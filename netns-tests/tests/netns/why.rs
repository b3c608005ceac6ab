//! Each test breaks one thing, expects its name, does what is printed, and then they reach each other.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use netns_tests::capture::Capture;
use netns_tests::frames::{self, BROADCAST, ethernet, probe, text};
use netns_tests::{
    Answer, Context, DaemonSpec, Host, Lab, Node, Result, SOON, UPLINK, Underlay, ensure, ensure_eq, eventually,
    traffic,
};
use serde_json::Value;

pub(super) const TESTS: super::Tests = &[
    ("healthy", healthy),
    ("healthy_with_two_workers", healthy_with_two_workers),
    ("wrong_vlan", wrong_vlan),
    ("no_vni", no_vni),
    ("no_peer", no_peer),
    ("wrong_peer", wrong_peer),
    ("path_mtu", path_mtu),
    ("a_path_that_swallows", a_path_that_swallows),
    ("vni_missing_there", vni_missing_there),
    ("nobody_there", nobody_there),
    ("udp_blocked", udp_blocked),
    ("port_lost", port_lost),
    ("static_elsewhere", static_elsewhere),
    ("spoofing", spoofing),
    ("storm", storm),
    ("interface_down", interface_down),
    ("duplicate_mac", duplicate_mac),
    ("a_duplicate_that_is_gone", a_duplicate_that_is_gone),
    ("duplicate_address", duplicate_address),
    ("duplicate_address_across_hosts", duplicate_address_across_hosts),
    ("interface_moved", interface_moved),
    ("who_is_unknown", who_is_unknown),
    ("journeys", journeys),
    ("neighbours", neighbours),
    ("history", history),
];

pub(super) const A: &str = "--access 10 --address 10.0.0.1/24 --address fd00::1/64";
pub(super) const B: &str = "--access 10 --address 10.0.0.2/24 --address fd00::2/64";

/// What `vsctl why` answers; its exit code must say the same.
pub(super) fn why(node: &Node, a: &str, b: &str) -> Result<Value> {
    let Answer { code, stdout, stderr } = node.vsctl().run(&format!("why {a} {b}"))?;
    let answer: Value = serde_json::from_str(&stdout).context(format_args!("why {a} {b}: {stdout} {stderr}"))?;
    let reachable = answer["reachable"].as_bool().context("whether it is reachable")?;
    ensure_eq!(code, i32::from(!reachable), "exit code of why {a} {b}: {answer}");
    Ok(answer)
}

/// Expects `reason`, and returns the command that mends it. Before each look `stir` makes what makes it visible.
pub(super) fn broken(node: &Node, a: &str, b: &str, reason: &str, mut stir: impl FnMut() -> Result) -> Result<String> {
    eventually(SOON, reason, || {
        stir()?;
        let answer = why(node, a, b)?;
        ensure_eq!(answer["reason"], reason, "reason: {answer}");
        ensure_eq!(answer["reachable"], false, "reachable");
        Ok(answer["mend"].as_str().context(format_args!("a command: {answer}"))?.to_owned())
    })
}

/// Does what `command` says: `vsctl` to the daemon of `node`, all else by a shell on its host.
pub(super) fn mend(node: &Node, command: &str) -> Result {
    if let Some(words) = command.strip_prefix("vsctl ") {
        node.ok(words)?;
        return Ok(());
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    let status = node.host.spawn(shell)?.wait()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}

pub(super) fn reachable(node: &Node, a: &str, b: &str) -> Result<Value> {
    eventually(SOON, "they reach each other", || {
        let answer = why(node, a, b)?;
        ensure_eq!(answer["reachable"], true, "reachable: {answer}");
        Ok(answer)
    })
}

/// One host with ports a and b in VLAN 10.
pub(super) fn one_host(lab: &Lab, a: &str, b: &str) -> Result<(Node, Host, Host)> {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let (a, b) = (node.attach(lab, "a", a)?, node.attach(lab, "b", b)?);
    Ok((node, a, b))
}

/// Two hosts that share nothing yet, a on the first and b on the second, whose switch knows the first.
fn two_hosts(lab: &Lab) -> Result<(Underlay, Node, Node, Host, Host)> {
    let underlay = Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    h2.join(10, 100, &[h1.ip])?;
    let a = h1.attach(lab, "a", &format!("{A} --mtu 1450"))?;
    let b = h2.attach(lab, "b", B)?;
    Ok((underlay, h1, h2, a, b))
}

/// The question of `host` who has 10.0.0.1.
fn asks(host: &Host, ip: [u8; 4]) -> Result<Vec<u8>> {
    let mac = host.mac("eth0")?;
    let arp = [&[0, 1, 8, 0, 6, 4, 0, 1], &mac[..], &ip, &[0; 6], &[10, 0, 0, 1]].concat();
    Ok(ethernet(BROADCAST, mac, None, 0x0806, &arp))
}

/// Whether the commands that are printed can be run.
pub(super) fn has_tools(node: &Node) -> Result<bool> {
    let have = mend(node, "command -v ip >/dev/null && command -v nsenter >/dev/null").is_ok();
    if !have {
        eprintln!("skipped: what `why` prints is not tried: ip or nsenter is not installed");
    }
    Ok(have)
}

pub(super) fn nothing() -> Result {
    Ok(())
}

fn healthy(lab: &Lab) -> Result {
    all_kinds(lab, 1)
}

/// The answer may come to another worker than the one that asked.
fn healthy_with_two_workers(lab: &Lab) -> Result {
    all_kinds(lab, 2)
}

fn all_kinds(lab: &Lab, workers: usize) -> Result {
    let args = vec!["--workers".to_owned(), workers.to_string()];
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let a = h1.attach(lab, "a", A)?;
    let b = h1.attach(lab, "b", B)?;
    let c = h2.attach(lab, "c", "--access 10 --address 10.0.0.3/24 --address fd00::3/64")?;
    let (mac_a, mac_b, mac_c) = (text(a.mac("eth0")?), text(b.mac("eth0")?), text(c.mac("eth0")?));
    // Nobody has spoken of his own accord yet, or IPv6 has: c is found by its address alone.
    for (one, other) in [("a", "10.0.0.3"), ("a", "fd00::3"), ("a", "b"), ("b", "10.0.0.1"), ("10.0.0.1", "10.0.0.2")] {
        let answer = reachable(&h1, one, other)?;
        ensure!(answer["round_trip_us"].as_u64().is_some_and(|micros| micros < 900_000), "round trip: {answer}");
        // The other side's word, where there is one.
        let steps = answer["steps"].as_array().context("steps")?;
        let said = steps.iter().find(|step| step["stage"] == "peer").and_then(|step| step["text"].as_str());
        if other.ends_with('3') {
            let said = said.context(format_args!("what the other switch says: {answer}"))?;
            for part in ["answers: round trip", "carries 1500 bytes", "has VNI 100"] {
                ensure!(said.contains(part), "{part}: {said}");
            }
        } else {
            ensure!(said.is_none(), "there is no other switch: {answer}");
        }
    }
    for (one, other) in
        [(mac_a.as_str(), mac_b.as_str()), ("a", mac_c.as_str()), (mac_c.as_str(), "a"), ("10.0.0.3", "b")]
    {
        let answer = reachable(&h1, one, other)?;
        ensure!(answer["mend"].is_null() && answer["reason"].is_null(), "nothing to mend: {answer}");
    }
    let drops = h1.stats()?.drops;
    ensure!(drops.is_empty(), "why has frames dropped: {drops:?}");
    traffic::ping::ping(&a, "10.0.0.3".parse()?, 100)
}

fn wrong_vlan(lab: &Lab) -> Result {
    let (node, _a, _b) = one_host(lab, A, "--access 20 --address 10.0.0.2/24")?;
    for (one, other) in [("a", "b"), ("a", "10.0.0.2")] {
        let command = broken(&node, one, other, "wrong_vlan", nothing)?;
        ensure_eq!(command, "vsctl port set b --access 10", "command");
    }
    mend(&node, "vsctl port set b --access 10")?;
    reachable(&node, "a", "b").map(drop)
}

fn no_vni(lab: &Lab) -> Result {
    let (_underlay, h1, h2, _a, b) = two_hosts(lab)?;
    h1.ok(&format!("vtep peer add {} --all-vlans", h2.ip))?;
    let wire = Capture::open(&b, "eth0")?;
    let speak = || wire.send(&probe(BROADCAST, b.mac("eth0")?, None, frames::cookie()));
    let answer = why(&h1, "a", "10.0.0.2")?;
    ensure_eq!(answer["reason"], "no_vni", "before b spoke: {answer}");
    let command = broken(&h1, "a", "10.0.0.2", "no_vni", speak)?;
    ensure_eq!(command, "vsctl vlan add 10 --vni 100", "command");
    mend(&h1, &command)?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

fn no_peer(lab: &Lab) -> Result {
    let (_underlay, h1, h2, _a, b) = two_hosts(lab)?;
    h1.join(10, 100, &[])?;
    let wire = Capture::open(&b, "eth0")?;
    let speak = || wire.send(&probe(BROADCAST, b.mac("eth0")?, None, frames::cookie()));
    let command = broken(&h1, "a", "10.0.0.2", "no_peer", speak)?;
    ensure_eq!(command, format!("vsctl vtep peer add {} --vlan 10", h2.ip), "command");
    mend(&h1, &command)?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

fn wrong_peer(lab: &Lab) -> Result {
    let (_underlay, h1, h2, _a, b) = two_hosts(lab)?;
    h1.join(10, 100, &["192.0.2.77".parse()?])?;
    let answer = why(&h1, "a", "10.0.0.2")?;
    ensure!(answer["reachable"] == false, "before b spoke: {answer}");
    let wire = Capture::open(&b, "eth0")?;
    let speak = || wire.send(&probe(BROADCAST, b.mac("eth0")?, None, frames::cookie()));
    let command = broken(&h1, "a", "10.0.0.2", "wrong_peer", speak)?;
    ensure_eq!(command, format!("vsctl vtep peer add {} --vlan 10", h2.ip), "command");
    mend(&h1, &command)?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

fn path_mtu(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let _a = h1.attach(lab, "a", A)?;
    let _b = h2.attach(lab, "b", B)?;
    reachable(&h1, "a", "10.0.0.2")?;
    h1.host.netlink().set_mtu(h1.host.link(UPLINK)?.index, 1400)?;
    let command = broken(&h1, "a", "10.0.0.2", "path_mtu", nothing)?;
    ensure_eq!(command, "vsctl port set a --mtu 1350", "command");
    mend(&h1, &command)?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

/// Long packets are lost on the way, and nobody says so: it takes a probe to find out.
fn a_path_that_swallows(lab: &Lab) -> Result {
    let (underlay, h1, h2) = Node::pair(lab, 1500)?;
    let _a = h1.attach(lab, "a", A)?;
    let _b = h2.attach(lab, "b", B)?;
    reachable(&h1, "a", "10.0.0.2")?;
    // A bridge lets pass what is as much longer as a VLAN tag (is_skb_forwardable).
    underlay.host().netlink().set_mtu(underlay.host().link("to2")?.index, 1400 - 4)?;
    let command = broken(&h1, "a", "10.0.0.2", "path_mtu", nothing)?;
    ensure_eq!(command, "vsctl port set a --mtu 1350", "command");
    mend(&h1, &command)?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

/// The other switch is there and says what it does not have.
fn vni_missing_there(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(20, 200, &[h1.ip])?;
    let _a = h1.attach(lab, "a", A)?;
    let _b = h2.attach(lab, "b", B)?;
    let command = broken(&h1, "a", "10.0.0.2", "vni_missing", nothing)?;
    ensure_eq!(
        command,
        format!("vsctl vlan add 10 --vni 100 && vsctl vtep peer add {} --vlan 10", h1.ip),
        "command, for the other host"
    );
    command.split(" && ").try_for_each(|command| mend(&h2, command))?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

/// The other switch is well, and its container is not there; and a peer whose host is not.
fn nobody_there(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let _a = h1.attach(lab, "a", A)?;
    let silent = |reason: &str| {
        eventually(SOON, reason, || {
            let answer = why(&h1, "a", "10.0.0.2")?;
            ensure_eq!(answer["reason"], reason, "reason: {answer}");
            Ok(())
        })
    };
    silent("no_answer")?;
    h1.ok(&format!("vtep peer del {}", h2.ip))?;
    h1.ok("vtep peer add 192.0.2.77 --vlan 10")?;
    silent("peer_unreachable")
}

fn udp_blocked(lab: &Lab) -> Result {
    // An uplink takes datagrams before the host's firewall sees them.
    let spec = DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() };
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &spec)?;
    let _a = h1.attach(lab, "a", A)?;
    let b = h2.attach(lab, "b", B)?;
    let wire = Capture::open(&b, "eth0")?;
    let rules = "nft add table inet filter && \
                 nft 'add chain inet filter input { type filter hook input priority 0; }' && \
                 nft add rule inet filter input udp dport 4789 drop";
    if mend(&h2, "command -v nft >/dev/null").is_err() {
        eprintln!("skipped: why::udp_blocked: nft is not installed");
        return Ok(());
    }
    mend(&h2, rules)?;
    eventually(SOON, "udp_blocked", || {
        wire.send(&asks(&b, [10, 0, 0, 2])?)?;
        let answer = why(&h1, "a", "10.0.0.2")?;
        ensure_eq!(answer["reason"], "udp_blocked", "reason: {answer}");
        ensure!(answer["mend"].is_null(), "nobody here knows which rule it is: {answer}");
        ensure!(answer["steps"].to_string().contains("`vsctl doctor`"), "who knows: {answer}");
        Ok(())
    })?;
    // What that says there mends it.
    let mut doctor = h2.vsctl().command()?;
    doctor.args(["--json", "doctor"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = h2.host.spawn(doctor)?.wait_with_output()?;
    let checks: Value = serde_json::from_slice(&output.stdout).context("doctor's checks")?;
    let wrong = checks.as_array().into_iter().flatten().find(|check| check["check"] == "firewall");
    let command = wrong.and_then(|check| check["mend"].as_str()).context(format_args!("doctor: {checks}"))?;
    mend(&h2, command.split(", or").next().unwrap_or_default())?;
    reachable(&h1, "a", "10.0.0.2").map(drop)
}

fn port_lost(lab: &Lab) -> Result {
    let (node, _a, b) = one_host(lab, A, B)?;
    b.netlink().delete_link(b.link("eth0")?.index)?;
    let command = broken(&node, "a", "b", "port_lost", nothing)?;
    ensure_eq!(broken(&node, "a", "10.0.0.2", "port_lost", nothing)?, command, "command, by the address");
    mend(&node, &command)?;
    reachable(&node, "a", "b").map(drop)
}

fn static_elsewhere(lab: &Lab) -> Result {
    let (node, _a, b) = one_host(lab, A, B)?;
    let _c = node.attach(lab, "c", "--access 10")?;
    let mac = text(b.mac("eth0")?);
    node.ok(&format!("fdb add {mac} --vlan 10 --port c"))?;
    let command = broken(&node, "a", "b", "static_elsewhere", nothing)?;
    ensure_eq!(command, format!("vsctl fdb del {mac} --vlan 10"), "command");
    mend(&node, &command)?;
    reachable(&node, "a", "b").map(drop)
}

fn spoofing(lab: &Lab) -> Result {
    let (node, _a, _b) = one_host(lab, "--access 10 --address 10.0.0.1/24 --allow-ip 10.0.0.99", B)?;
    let command = broken(&node, "a", "b", "spoofed_ip", nothing)?;
    ensure_eq!(command, "vsctl port set a --allow-ip 10.0.0.99/32 10.0.0.1/32", "command");
    mend(&node, &command)?;
    reachable(&node, "a", "b")?;
    // The answer may be what is not believed.
    node.ok("port set b --allow-mac 02:00:00:00:00:99")?;
    let command = broken(&node, "a", "b", "spoofed_mac", nothing)?;
    mend(&node, &command)?;
    reachable(&node, "a", "b").map(drop)
}

fn storm(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let spec = DaemonSpec { args: ["--storm-limit", "20"].map(str::to_owned).to_vec(), ..DaemonSpec::default() };
    let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec)?;
    let a = node.attach_quiet(lab, "a", "--access 10 --address 10.0.0.1/24")?;
    let _b = node.attach_quiet(lab, "b", "--access 10 --address 10.0.0.2/24")?;
    let wire = Capture::open(&a, "eth0")?;
    let frame = probe(BROADCAST, a.mac("eth0")?, None, frames::cookie());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = wire.send(&frame); // its queue may be full
                thread::park_timeout(std::time::Duration::from_millis(1));
            }
        });
        let outcome = broken(&node, "a", "b", "storm_broadcast", nothing).and_then(|command| {
            ensure!(command.starts_with("vsctl port set a --rx-limit "), "command: {command}");
            mend(&node, &command)?;
            reachable(&node, "a", "b").map(drop)
        });
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

fn interface_down(lab: &Lab) -> Result {
    let (node, _a, b) = one_host(lab, A, B)?;
    b.netlink().set_up(b.link("eth0")?.index, false)?;
    let command = broken(&node, "a", "b", "interface_down", nothing)?;
    if mend(&node, "command -v ip >/dev/null && command -v nsenter >/dev/null").is_err() {
        eprintln!("skipped: the second half of why::interface_down: ip or nsenter is not installed");
        b.up("eth0")?;
    } else {
        mend(&node, &command)?;
    }
    reachable(&node, "a", "b").map(drop)
}

fn duplicate_mac(lab: &Lab) -> Result {
    let (node, _a, b) = one_host(lab, A, B)?;
    let mac = text(b.mac("eth0")?);
    let c = node.attach(lab, "c", &format!("--access 10 --mac {mac}"))?;
    let command = broken(&node, "a", "b", "duplicate_mac", nothing)?;
    ensure_eq!(command, format!("vsctl port set b --allow-mac {mac}"), "command");
    mend(&node, &command)?;
    reachable(&node, "a", "b")?;
    // The other one goes on, and takes nothing away.
    let wire = Capture::open(&c, "eth0")?;
    for _ in 0..3 {
        wire.send(&probe(BROADCAST, b.mac("eth0")?, None, frames::cookie()))?;
    }
    reachable(&node, "a", "b").map(drop)
}

/// A port that had the address and is gone takes nothing any more.
fn a_duplicate_that_is_gone(lab: &Lab) -> Result {
    let (node, a, b) = one_host(lab, A, B)?;
    let mac = b.mac("eth0")?;
    let c = node.attach(lab, "c", &format!("--access 10 --mac {}", text(mac)))?;
    let (b, c) = (Capture::open(&b, "eth0")?, Capture::open(&c, "eth0")?);
    eventually(SOON, "it is seen to and fro", || {
        for wire in [&b, &c] {
            wire.send(&probe(BROADCAST, mac, None, frames::cookie()))?;
        }
        let list = node.ok("fdb list")?;
        let entry = list.as_array().into_iter().flatten().find(|entry| entry["mac"] == text(mac)).cloned();
        ensure!(entry.is_some_and(|entry| entry["moves"].as_u64() >= Some(3)), "moves: {list}");
        Ok(())
    })?;
    broken(&node, "a", "b", "duplicate_mac", nothing)?;
    node.ok("port del c")?;
    b.send(&probe(BROADCAST, mac, None, frames::cookie()))?;
    traffic::ping::ping(&a, "10.0.0.2".parse()?, 10)?;
    let answer = why(&node, "a", "b")?;
    ensure_eq!(answer["reachable"], true, "without c: {answer}");
    Ok(())
}

/// Two containers have one address: both are named, whichever was asked for.
fn duplicate_address(lab: &Lab) -> Result {
    let (node, _a, _b) = one_host(lab, A, B)?;
    let _dup = node.attach(lab, "dup", "--access 10 --address 10.0.0.2/24")?;
    let named = |one: &str, other: &str| -> Result<String> {
        let answer = why(&node, one, other)?;
        ensure_eq!(answer["reason"], "duplicate_address", "reason of why {one} {other}: {answer}");
        let last = answer["steps"].as_array().and_then(|steps| steps.last()).context("steps")?;
        let said = last["text"].as_str().context("text")?;
        ensure!(said.contains("port b") && said.contains("port dup"), "both: {said}");
        Ok(answer["mend"].as_str().unwrap_or_default().to_owned())
    };
    for (one, other) in [("a", "dup"), ("b", "a"), ("b", "dup"), ("a", "10.0.0.2")] {
        named(one, other)?;
    }
    let command = named("a", "b")?;
    if has_tools(&node)? {
        mend(&node, &command)?;
        reachable(&node, "a", "b")?;
    }
    Ok(())
}

fn duplicate_address_across_hosts(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let _a = h1.attach(lab, "a", A)?;
    let _b = h1.attach(lab, "b", B)?;
    reachable(&h1, "a", "b")?;
    let _c = h2.attach(lab, "c", "--access 10 --address 10.0.0.2/24")?;
    let answer = why(&h1, "a", "b")?;
    ensure_eq!(answer["reason"], "duplicate_address", "reason: {answer}");
    let last = answer["steps"].as_array().and_then(|steps| steps.last()).context("steps")?;
    let said = last["text"].as_str().context("text")?;
    ensure!(said.contains("port b") && said.contains(&h2.ip.to_string()), "both: {said}");
    h2.ok("port del c")?;
    reachable(&h1, "a", "b").map(drop)
}

/// Somebody took the interface elsewhere: to set it up where it was would not find it.
fn interface_moved(lab: &Lab) -> Result {
    let (node, a, b) = one_host(lab, A, B)?;
    let other = lab.host("other")?;
    b.netlink().set_netns(b.link("eth0")?.index, other.netns())?;
    let command = broken(&node, "a", "b", "interface_moved", nothing)?;
    command.split(" && ").try_for_each(|command| mend(&node, command))?;
    reachable(&node, "a", "b")?;
    traffic::ping::ping(&a, "10.0.0.2".parse()?, 10)
}

fn who_is_unknown(lab: &Lab) -> Result {
    let (node, _a, _b) = one_host(lab, A, B)?;
    for words in ["why a nobody", "why nobody a", "why 10.0.0.88 10.0.0.99", "why a a", "trace nobody ff"] {
        node.vsctl().refused(1, words)?;
    }
    node.vsctl().refused(2, "trace a 0")?;
    let answer = why(&node, "a", "10.0.0.99")?;
    ensure_eq!(answer["reason"], "no_vni", "an address nobody has, in a VLAN that ends here: {answer}");
    Ok(())
}

/// `trace` tells what happens, and does nothing.
fn journeys(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let a = h1.attach_quiet(lab, "a", "--access 10 --address 10.0.0.1/24")?;
    let b = h1.attach_quiet(lab, "b", "--trunk 10,20")?;
    h1.ok("fdb flush")?; // they made themselves known
    let before = (h1.stats()?, h1.fdb()?);
    let trace = |words: &str| h1.ok(&format!("trace {words}"));
    let mac = text(b.mac("eth0")?);
    let flooded = trace(&format!("a --dst {mac} --ip-src 10.0.0.1 --ip-dst 10.0.0.2 --len 1514"))?;
    ensure_eq!(flooded["verdict"], "flood", "a station nobody knows: {flooded}");
    let ways = flooded["ways"].as_array().context("ways")?;
    ensure_eq!(ways.len(), 2, "ways: {flooded}");
    let way = |to: &str, name: &str| ways.iter().find(|way| way[to] == name).context(format_args!("a way to {name}"));
    ensure_eq!(way("port", "b")?["tag"], 10, "tag to b");
    let remote = way("remote", &h2.ip.to_string())?;
    let outer = serde_json::json!({
        "vni": 100, "source": h1.ip.to_string(), "destination": h2.ip.to_string(), "port": 4789, "bytes": 1550,
    });
    ensure_eq!(remote["outer"], outer, "around it");
    let sizes = serde_json::json!([remote["packet"], remote["mtu"], remote["fits"]]);
    ensure_eq!(sizes, serde_json::json!([1500, 1450, false]), "packet, MTU, whether it fits");
    let dropped = trace(&format!("a --dst {mac} --vlan 20"))?;
    ensure_eq!(dropped["reason"], "vlan_not_allowed", "a tag on an access port");
    let remote = trace(&format!("remote:{} --vlan 10 --src 02:00:00:00:00:77 --dst {}", h2.ip, text(a.mac("eth0")?)))?;
    ensure_eq!(remote["verdict"], "flood", "from the peer: {remote}");
    ensure_eq!(remote["ways"].as_array().map(Vec::len), Some(2), "split horizon: {remote}");
    ensure_eq!((h1.stats()?, h1.fdb()?), before, "counters and addresses");
    Ok(())
}

fn neighbours(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let a = h1.attach_quiet(lab, "a", "--access 10 --address 10.0.0.1/24")?;
    let b = h1.attach_quiet(lab, "b", "--access 10")?;
    let c = h2.attach_quiet(lab, "c", "--access 10 --address 10.0.0.3/24")?;
    Capture::open(&b, "eth0")?.send(&asks(&b, [10, 0, 0, 22])?)?;
    Capture::open(&c, "eth0")?.send(&asks(&c, [10, 0, 0, 3])?)?;
    let row = |ip: &str, host: &Host, port: Option<&str>, remote: Option<String>| -> Result<Value> {
        Ok(serde_json::json!({"ip": ip, "mac": text(host.mac("eth0")?), "vlan": 10, "port": port, "remote": remote}))
    };
    let expected = [
        row("10.0.0.1", &a, Some("a"), None)?,
        row("10.0.0.3", &c, None, Some(h2.ip.to_string()))?,
        row("10.0.0.22", &b, Some("b"), None)?,
    ];
    eventually(SOON, "all are heard", || {
        let mut list = h1.ok("neighbour list")?;
        let rows = list.as_array_mut().context("a list")?;
        let ages: Vec<_> = rows.iter_mut().map(|row| row.as_object_mut().and_then(|row| row.remove("age_s"))).collect();
        ensure_eq!(*rows, expected, "neighbours");
        ensure_eq!(ages[0], Some(Value::Null), "age of what was given");
        ensure!(ages[1].as_ref().is_some_and(Value::is_u64), "age of what was heard: {ages:?}");
        Ok(())
    })?;
    h1.ok("port del b")?;
    let list = h1.ok("neighbour list")?;
    ensure_eq!(list.as_array().map(Vec::len), Some(2), "neighbours without b: {list}");
    Ok(())
}

fn history(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let (a, b) = (node.attach_quiet(lab, "a", "--access 10")?, node.attach_quiet(lab, "b", "--access 10")?);
    let (a, b) = (Capture::open(&a, "eth0")?, Capture::open(&b, "eth0")?);
    let mac = [2, 0, 0, 0, 0, 0x55];
    let entry = |port: &str| {
        eventually(SOON, "it is learned", || {
            let list = node.ok("fdb list")?;
            let entry = list.as_array().into_iter().flatten().find(|entry| entry["mac"] == text(mac)).cloned();
            let entry = entry.context("the address")?;
            ensure_eq!(entry["port"], port, "port");
            Ok(entry)
        })
    };
    a.send(&probe(BROADCAST, mac, None, frames::cookie()))?;
    let first = entry("a")?;
    ensure_eq!((&first["moves"], &first["moved_from"]), (&Value::from(0), &Value::Null), "at first");
    ensure!(first["learned_s"].as_u64().is_some_and(|seconds| seconds < 20), "learned just now: {first}");
    b.send(&probe(BROADCAST, mac, None, frames::cookie()))?;
    let moved = entry("b")?;
    ensure_eq!((&moved["moves"], &moved["moved_from"]), (&Value::from(1), &Value::from("port a")), "moved");
    Ok(())
}

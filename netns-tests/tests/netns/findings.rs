use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use netns_tests::frames::{BROADCAST, cookie, ethernet, probe, vxlan};
use netns_tests::{
    Answer, Capture, Context, DaemonSpec, Host, KernelSwitch, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq,
    eventually, traffic,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Type};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("another_vni_is_no_fault", another_vni_is_no_fault),
    ("a_vni_that_was_mended", a_vni_that_was_mended),
    ("asked_once_is_past", asked_once_is_past),
    ("a_test_judges_by_its_own_probes", a_test_judges_by_its_own_probes),
    ("no_peer_there", no_peer_there),
    ("own_faults_first", own_faults_first),
    ("junk_is_counted", junk_is_counted),
    ("a_kernel_that_is_well", a_kernel_that_is_well),
];

const A: &str = "--access 10 --address 10.0.0.1/24";
const B: &str = "--access 10 --address 10.0.0.3/24";
const B_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));

/// Two hosts in VLAN 10, VNI 100, each with a container: a and b.
fn pair(lab: &Lab) -> Result<(Underlay, Node, Node, Host, Host)> {
    let (underlay, h1, h2) = Node::pair(lab, 1500)?;
    let (a, b) = (h1.attach(lab, "a", A)?, h2.attach(lab, "b", B)?);
    Ok((underlay, h1, h2, a, b))
}

/// What `vsctl` answers, whatever its exit code.
fn answer(node: &Node, words: &str) -> Result<Value> {
    let Answer { stdout, stderr, .. } = node.vsctl().run(words)?;
    serde_json::from_str(&stdout).context(format_args!("{words}: {stdout} {stderr}"))
}

/// Expects `why` to end with `reason`, and returns it.
fn broken(node: &Node, b: &str, reason: &str) -> Result<Value> {
    eventually(SOON, reason, || {
        let why = answer(node, &format!("why a {b}"))?;
        ensure_eq!(why["reason"], reason, "why: {why}");
        Ok(why)
    })
}

fn reachable(node: &Node) -> Result {
    eventually(SOON, "b is reached", || {
        let why = answer(node, "why a 10.0.0.3")?;
        ensure_eq!(why["reachable"], true, "why: {why}");
        Ok(())
    })
}

fn shell(host: &Host, command: &str) -> Result {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    let status = host.spawn(shell)?.wait()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}

/// Has `host` broadcast until the switch of `node` dropped some of it for `reason`.
fn dropped_there(host: &Host, node: &Node, reason: &str) -> Result {
    let wire = Capture::open(host, "eth0")?;
    eventually(SOON, reason, || {
        wire.send(&probe(BROADCAST, host.mac("eth0")?, None, cookie()))?;
        ensure!(node.stats()?.dropped("tunnel", reason) > 0, "nothing came");
        Ok(())
    })
}

fn names(value: &Value) -> Vec<&str> {
    value["findings"].as_array().into_iter().flatten().filter_map(|finding| finding["name"].as_str()).collect()
}

/// What `vtep peer list` knows of a peer.
fn health(node: &Node, peer: IpAddr) -> Result<Value> {
    let list = node.ok("vtep peer list")?;
    let row = list.as_array().into_iter().flatten().find(|row| row["ip"] == peer.to_string());
    Ok(row.context("the peer")?["health"].clone())
}

/// The peer has one more network than this host: that says nothing of the one they share.
fn another_vni_is_no_fault(lab: &Lab) -> Result {
    let (_underlay, h1, h2, _a, _b) = pair(lab)?;
    h2.ok("vlan add 20 --vni 200")?;
    h2.ok(&format!("vtep peer del {}", h1.ip))?;
    h2.ok(&format!("vtep peer add {} --all-vlans", h1.ip))?;
    let c = h2.attach(lab, "c", "--access 20 --address 10.0.20.1/24")?;
    dropped_there(&c, &h1, "unknown_vni")?;
    let why = answer(&h1, "why a 10.0.0.77")?;
    ensure_eq!(why["reason"], "no_answer", "why: {why}");
    ensure!(why["steps"].to_string().contains("it has VNI 100 and this host as a peer in it"), "why: {why}");
    Ok(())
}

/// A VNI was wrong, and is right since; another thing breaks.
fn a_vni_that_was_mended(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let (h1, h2) = (Node::v4(lab, &underlay, "h1")?, Node::v4(lab, &underlay, "h2")?);
    h1.join(10, 100, &[h2.ip])?;
    h2.join(10, 200, &[h1.ip])?;
    let (a, b) = (h1.attach(lab, "a", A)?, h2.attach(lab, "b", B)?);
    dropped_there(&b, &h1, "unknown_vni")?;
    let why = broken(&h1, "10.0.0.3", "vni_missing")?;
    ensure!(why["steps"].to_string().contains("sends frames in VNI 200"), "the VNI it has: {why}");
    h2.ok(&format!("vtep peer del {}", h1.ip))?;
    h2.ok("vlan del 10")?;
    h2.join(10, 100, &[h1.ip])?;
    traffic::ping::ping(&a, B_IP, 100)?;
    h2.daemon.end(Signal::SIGKILL)?;
    let _host = h2.host;
    broken(&h1, "10.0.0.3", "peer_refuses").map(drop)
}

/// Probes are off: what `why` found is no news of the present.
fn asked_once_is_past(lab: &Lab) -> Result {
    let (underlay, h1, h2, a, _b) = pair(lab)?;
    underlay.connect(1, false)?;
    let why = answer(&h1, "why a 10.0.0.3")?;
    ensure_eq!(why["reachable"], false, "why: {why}");
    let asked = health(&h1, h2.ip)?;
    ensure_eq!(asked["state"], "unreachable", "what it found is told: {asked}");
    ensure!(asked["asked_s"].as_u64().is_some_and(|seconds| seconds < 60), "and when: {asked}");
    underlay.connect(1, true)?;
    eventually(SOON, "they reach each other", || traffic::ping::ping(&a, B_IP, 100))?;
    let status = answer(&h1, "status")?;
    ensure_eq!((&status["healthy"], names(&status)), (&json!(true), vec![]), "status: {status}");
    Ok(())
}

/// What an earlier test lost does not count.
fn a_test_judges_by_its_own_probes(lab: &Lab) -> Result {
    let (underlay, h1, h2, a, _b) = pair(lab)?;
    underlay.connect(1, false)?;
    let first = answer(&h1, &format!("vtep peer probe {}", h2.ip))?;
    ensure_eq!(first["state"], "unreachable", "cut off: {first}");
    underlay.connect(1, true)?;
    eventually(SOON, "they reach each other", || traffic::ping::ping(&a, B_IP, 100))?;
    let second = answer(&h1, &format!("vtep peer probe {}", h2.ip))?;
    ensure_eq!((&second["state"], names(&second)), (&json!("healthy"), vec![]), "connected: {second}");
    let asked = health(&h1, h2.ip)?;
    ensure_eq!((&asked["loss_share"], names(&asked)), (&json!(0.0), vec![]), "connected: {asked}");
    Ok(())
}

/// The other side was told to forget this host, and says so; no firewall is suspected.
fn no_peer_there(lab: &Lab) -> Result {
    let (_underlay, h1, h2, _a, _b) = pair(lab)?;
    reachable(&h1)?;
    h2.ok(&format!("vtep peer del {}", h1.ip))?;
    let why = broken(&h1, "10.0.0.3", "not_a_peer")?;
    ensure_eq!(why["mend"], format!("vsctl vtep peer add {} --vlan 10", h1.ip), "there, this mends it: {why}");
    let probed = answer(&h1, &format!("vtep peer probe {}", h2.ip))?;
    ensure_eq!((&probed["state"], names(&probed)), (&json!("degraded"), vec!["not_a_peer"]), "probe: {probed}");
    ensure!(h2.stats()?.dropped("tunnel", "unknown_vtep") > 0, "it is counted there: {:?}", h2.stats()?.drops);
    h2.ok(why["mend"].as_str().and_then(|mend| mend.strip_prefix("vsctl ")).context("advice")?)?;
    reachable(&h1)
}

/// What is wrong with this host is no reason to tell of the other one.
fn own_faults_first(lab: &Lab) -> Result {
    let (underlay, h1, h2, a, _b) = pair(lab)?;
    if shell(&h1.host, "command -v ip >/dev/null").is_err() {
        eprintln!("skipped: findings::own_faults_first: ip (package iproute2) is not installed");
        return Ok(());
    }
    reachable(&h1)?;
    for (fault, reason, mend) in [
        ("ip link set uplink down", "own_link_down", Some("ip link set uplink up")),
        ("ip address del 192.0.2.1/24 dev uplink", "own_address_gone", Some("ip address add 192.0.2.1/24 dev uplink")),
        ("", "own_no_carrier", None),
    ] {
        if mend.is_some() {
            shell(&h1.host, fault)?;
        } else {
            underlay.connect(1, false)?;
        }
        let why = broken(&h1, "10.0.0.3", reason)?;
        ensure_eq!(why["mend"].as_str(), mend, "why: {why}");
        let probed = answer(&h1, &format!("vtep peer probe {}", h2.ip))?;
        ensure_eq!(names(&probed), [reason], "probe: {probed}");
        ensure_eq!(probed["findings"][0]["mend"].as_str(), mend, "probe: {probed}");
        if let Some(mend) = mend {
            shell(&h1.host, mend)?;
        } else {
            underlay.connect(1, true)?;
        }
        eventually(SOON, "they reach each other", || traffic::ping::ping(&a, B_IP, 100))?;
        reachable(&h1)?;
    }
    // Nobody is to delete what may come back.
    h1.ok("vtep peer add 192.0.2.77 --vlan 10")?;
    let probed = answer(&h1, "vtep peer probe 192.0.2.77")?;
    ensure_eq!(names(&probed), ["host_unreachable"], "probe: {probed}");
    ensure!(probed["findings"][0]["mend"].is_null(), "probe: {probed}");
    Ok(())
}

/// Counters with those of peers, as the daemon tells them.
fn all_stats(node: &Node) -> Result<Value> {
    let mut socket = UnixStream::connect(node.daemon.socket())?;
    socket.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats\",\"params\":{}}\n")?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let answer: Value = serde_json::from_str(&line).context(format_args!("stats: {line}"))?;
    Ok(answer["result"].clone())
}

/// Messages of the O flag that nobody understands, and those of strangers.
fn junk_is_counted(lab: &Lab) -> Result {
    const EACH: u64 = 1000;
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    let (peer, stranger) = (lab.host("peer")?, lab.host("stranger")?);
    let peer_ip = underlay.join(&peer)?.v4;
    underlay.join(&stranger)?;
    node.join(10, 100, &[peer_ip])?;
    let junk = vxlan(0x09, 0, &ethernet(BROADCAST, [2; 6], None, 0x88b5, b"no message"));
    for host in [&peer, &stranger] {
        let socket: UdpSocket = host.socket(Domain::IPV4, Type::DGRAM, None)?.into();
        for _ in 0..EACH {
            socket.send_to(&junk, SocketAddr::new(node.ip, 4789))?;
        }
    }
    eventually(SOON, "all is counted", || {
        let stats = node.stats()?;
        let [malformed, limited, unknown, lost] =
            ["oam_malformed", "oam_rate_limited", "unknown_vtep", "receive_queue_full"]
                .map(|reason| stats.dropped("tunnel", reason));
        ensure_eq!(malformed + limited + unknown + lost, 2 * EACH, "drops: {:?}", stats.drops);
        ensure!(malformed > 0 && unknown > 0 && unknown <= EACH, "drops: {:?}", stats.drops);
        ensure_eq!(stats.count("tunnel", "rx_frames"), malformed + limited + unknown, "received: {stats:?}");
        let all = all_stats(&node)?;
        let of_peer = all["peers"].as_array().into_iter().flatten().find(|row| row["peer"] == peer_ip.to_string());
        let drops = &of_peer.context(format_args!("the peer's line: {all}"))?["drops"];
        let of_peer = ["oam_malformed", "oam_rate_limited"].map(|reason| drops[reason].as_u64().unwrap_or(0));
        ensure_eq!(of_peer, [malformed, limited], "drops of the peer: {drops}");
        Ok(())
    })
}

/// Frames come from it, and it answers no probes, as no kernel does: nothing is known to be lost, or wrong.
fn a_kernel_that_is_well(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let host = lab.host("kernel")?;
    let there = underlay.join(&host)?.v4;
    let ours = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, DaemonSpec::default())?;
    let kernel = KernelSwitch::new(host, 100, there, &[ours.ip], 1450)?;
    let _b = kernel.attach(lab, "b", &["10.0.0.3/24".parse()?])?;
    ours.join(10, 100, &[there])?;
    let a = ours.attach(lab, "a", A)?;
    traffic::ping::ping(&a, B_IP, 100)?;
    let probed = answer(&ours, &format!("vtep peer probe {there}"))?;
    ensure_eq!((&probed["state"], &probed["answered"]), (&json!("foreign"), &json!(false)), "probe: {probed}");
    let said = probed["findings"].to_string();
    ensure!(!said.contains("firewall") && !said.contains("as a peer"), "nothing is wrong: {said}");
    let asked = health(&ours, there)?;
    ensure!(asked["loss_share"].is_null(), "no probes are lost where none are answered: {asked}");
    let output = ours.vsctl().command()?.args(["vtep", "peer", "list"]).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("foreign") && !text.contains('%'), "for people: {text}");
    let status = answer(&ours, "status")?;
    ensure_eq!(status["healthy"], true, "status: {status}");
    Ok(())
}

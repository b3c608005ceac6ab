use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use netns_tests::capture::Capture;
use netns_tests::{
    Answer, Context, DaemonSpec, Host, KernelSwitch, Lab, Node, Result, SOON, UPLINK, Underlay, Vsctl, Vtep, ensure,
    ensure_eq, eventually, traffic,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use vswitch_sys::Neighbour;

use crate::Tests;

/// Those that need `nft`, to break the underlay.
pub(crate) const BROKEN: Tests = &[
    ("the_port_is_blocked", the_port_is_blocked),
    ("the_source_is_rewritten", the_source_is_rewritten),
    ("bytes_change_on_the_way", bytes_change_on_the_way),
    ("one_in_ten_is_lost", one_in_ten_is_lost),
    ("neither_echo_nor_probes", neither_echo_nor_probes),
];

pub(crate) const ACROSS: Tests = &[
    ("over_ipv4", |lab| healthy(lab, |vtep| vtep.v4, 1)),
    ("over_ipv6", |lab| healthy(lab, |vtep| vtep.v6, 1)),
    ("with_two_workers", |lab| healthy(lab, |vtep| vtep.v4, 2)),
    ("a_narrow_path", a_narrow_path),
    ("a_vni_that_is_missing", a_vni_that_is_missing),
    ("nobody_listens", nobody_listens),
    ("a_host_that_is_gone", a_host_that_is_gone),
    ("a_host_that_goes_while_it_is_probed", a_host_that_goes_while_it_is_probed),
    ("the_kernel_feels_nothing", the_kernel_feels_nothing),
    ("round_trips_are_measured", round_trips_are_measured),
];

/// A daemon that probes so often.
fn probing(interval: &str, workers: usize) -> DaemonSpec {
    let args = ["--probe-interval", interval, "--workers", &workers.to_string()].map(str::to_owned).to_vec();
    DaemonSpec { args, ..DaemonSpec::default() }
}

/// Two hosts in VLAN 10, VNI 100; the first probes.
fn pair(lab: &Lab) -> Result<(Underlay, Node, Node)> {
    let underlay = Underlay::new(lab, 1500)?;
    let join = |name, spec| Node::with(lab, &underlay, name, |vtep| vtep.v4, spec);
    let (h1, h2) = (join("h1", probing("100ms", 1))?, join("h2", DaemonSpec::default())?);
    h2.join(10, 100, &[h1.ip])?; // before it is asked, or the first probes are lost
    h1.join(10, 100, &[h2.ip])?;
    Ok((underlay, h1, h2))
}

/// As [`pair`], with probes so often. The first host's kernel trusts a neighbour for half to one and a half of `trust`, and not
/// of half a minute.
fn forgetful_pair(lab: &Lab, interval: &str, trust: Duration) -> Result<(Underlay, Node, Node)> {
    let underlay = Underlay::new(lab, 1500)?;
    let join = |name, spec| Node::with(lab, &underlay, name, |vtep| vtep.v4, spec);
    let (h1, h2) = (join("h1", probing(interval, 1))?, join("h2", DaemonSpec::default())?);
    let key = format!("ipv4/neigh/{UPLINK}/base_reachable_time_ms");
    h1.host.netns().set_sysctl(&key, &trust.as_millis().to_string())?;
    h2.join(10, 100, &[h1.ip])?;
    h1.join(10, 100, &[h2.ip])?;
    Ok((underlay, h1, h2))
}

/// Waits until a host's kernel has a neighbour that answered so long ago, and has not asked again.
fn unproven(node: &Node, peer: IpAddr, ago: Range<Duration>) -> Result {
    let index = node.host.link(UPLINK)?.index;
    eventually(Duration::from_secs(40), "the neighbour is unproven", || {
        let neighbour = node.host.netlink().neighbour(index, peer)?;
        let fits = matches!(&neighbour, Some(Neighbour::Unproven(since)) if ago.contains(since));
        ensure!(fits, "neighbour: {neighbour:?}");
        Ok(())
    })
}

/// How the way to a peer is.
fn health(vsctl: &Vsctl, peer: IpAddr) -> Result<Value> {
    let list = vsctl.ok("vtep peer list")?;
    let row = list.as_array().into_iter().flatten().find(|row| row["ip"] == peer.to_string());
    Ok(row.context("the peer")?["health"].clone())
}

fn names(findings: &Value) -> Vec<String> {
    let all = findings.as_array().into_iter().flatten();
    all.filter_map(|finding| finding["name"].as_str().map(str::to_owned)).collect()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Waits for a state and its findings.
fn becomes(node: &Node, peer: IpAddr, state: &str, findings: &[&str]) -> Result<Value> {
    eventually(SOON, state, || {
        let health = health(node.vsctl(), peer)?;
        ensure_eq!(health["state"], state, "state: {health}");
        ensure_eq!(names(&health["findings"]), findings, "findings: {health}");
        Ok(health)
    })
}

/// What `vsctl vtep peer probe` answers; its exit code must say the same.
fn probe(node: &Node, peer: IpAddr) -> Result<Value> {
    let Answer { code, stdout, stderr } = node.vsctl().run(&format!("vtep peer probe {peer}"))?;
    let answer: Value = serde_json::from_str(&stdout).context(format_args!("{stdout} {stderr}"))?;
    ensure_eq!(code, i32::from(answer["state"] == "unreachable"), "exit code: {answer}");
    ensure!(answer["pending"].is_null(), "done: {answer}");
    Ok(answer)
}

/// Has the bridge between hosts do something to what it forwards.
fn on_the_way(underlay: &Underlay, rule: &str) -> Result {
    nft(underlay.host(), "add table bridge way; flush table bridge way")?;
    nft(underlay.host(), "add chain bridge way forward { type filter hook forward priority 0; }")?;
    nft(underlay.host(), &format!("add rule bridge way forward {rule}"))
}

fn nft(host: &Host, rules: &str) -> Result {
    let mut command = Command::new("nft");
    command.arg(rules).stdin(Stdio::null());
    let status = host.spawn(command)?.wait()?;
    ensure!(status.success(), "nft {rules}: {status}");
    Ok(())
}

fn healthy(lab: &Lab, family: fn(Vtep) -> IpAddr, workers: usize) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let join = |name: &str, spec| Node::with(lab, &underlay, name, family, spec);
    let (h1, h2) = (join("h1", probing("100ms", workers))?, join("h2", probing("off", workers))?);
    h2.join(10, 100, &[h1.ip])?; // who is asked answers peers alone, so knows first who asks
    h1.join(10, 100, &[h2.ip])?;
    let health = becomes(&h1, h2.ip, "healthy", &[])?;
    ensure_eq!(health["path_mtu"], 1500, "path MTU: {health}");
    let trip = &health["round_trip_us"];
    ensure!(trip["p50"].as_u64().is_some_and(|micros| (1..900_000).contains(&micros)), "round trip: {health}");
    ensure_eq!(health["loss_share"], 0.0, "loss: {health}");
    // The other does not probe by itself, and does when it is asked to.
    ensure!(self::health(h2.vsctl(), h1.ip)?.is_null(), "probes are off");
    let answer = h2.ok(&format!("vtep peer probe {} --vlan 10", h1.ip))?;
    ensure_eq!((&answer["answered"], &answer["state"]), (&json!(true), &json!("healthy")), "on demand: {answer}");
    ensure_eq!((&answer["path_mtu"], &answer["vnis"]), (&json!(1500), &json!([100])), "on demand: {answer}");
    ensure_eq!(answer["findings"], json!([]), "on demand");
    h2.vsctl().refused(1, &format!("vtep peer probe {} --vlan 11", h1.ip))?;
    h2.vsctl().refused(1, "vtep peer probe 192.0.2.99")?;
    // No container saw any of it.
    for node in [&h1, &h2] {
        let stats = node.stats()?;
        ensure!(stats.drops.is_empty(), "probes are no drops: {:?}", stats.drops);
        ensure_eq!(stats.count("tunnel", "rx_frames"), 0, "nor frames");
        ensure!(node.fdb()?.is_empty(), "and are learned by nobody");
    }
    Ok(())
}

/// What is too long for the way is dropped there, and nobody says so.
fn a_narrow_path(lab: &Lab) -> Result {
    let (underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    let link = underlay.host().link("to2")?.index;
    // A bridge lets pass what is as much longer as a VLAN tag (is_skb_forwardable).
    underlay.host().netlink().set_mtu(link, 1407 - 4)?;
    let answer = probe(&h1, h2.ip)?;
    ensure_eq!(names(&answer["findings"]), ["mtu_smaller"], "findings: {answer}");
    ensure_eq!((&answer["path_mtu"], &answer["answered"]), (&json!(1407), &json!(true)), "{answer}");
    let mend = answer["findings"][0]["mend"].as_str().context("advice")?;
    ensure!(mend.contains("--mtu 1357"), "advice: {mend}");
    becomes(&h1, h2.ip, "degraded", &["mtu_smaller"])?;
    let log = h1.daemon.log()?;
    ensure_eq!(log.matches("finding=\"mtu_smaller\"").count(), 1, "in the log, once: {log}");
    underlay.host().netlink().set_mtu(link, 1500)?;
    probe(&h1, h2.ip)?;
    becomes(&h1, h2.ip, "healthy", &[]).map(drop)
}

fn a_vni_that_is_missing(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    h1.join(20, 200, &[h2.ip])?;
    let health = becomes(&h1, h2.ip, "degraded", &["vni_missing"])?;
    let text = health["findings"][0]["text"].as_str().context("text")?.to_owned();
    ensure!(text.contains("VNI 200") && text.contains("VLAN 20"), "text: {text}");
    // Asked for a VLAN, another's is of no interest.
    for (vlan, state, findings) in [(10, "healthy", &[][..]), (20, "degraded", &["vni_missing"])] {
        let answer = h1.ok(&format!("vtep peer probe {} --vlan {vlan}", h2.ip))?;
        ensure_eq!((&answer["state"], names(&answer["findings"])), (&json!(state), strings(findings)), "{answer}");
    }
    h2.join(20, 200, &[h1.ip])?;
    becomes(&h1, h2.ip, "healthy", &[]).map(drop)
}

/// A host without a VTEP, and an address without a host.
fn nobody_listens(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let h1 = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, probing("100ms", 1))?;
    let bare = lab.host("bare")?;
    let there = underlay.join(&bare)?.v4;
    h1.join(10, 100, &[there])?;
    let health = becomes(&h1, there, "unreachable", &["port_blocked"])?;
    ensure!(health["findings"][0]["text"].as_str().is_some_and(|text| text.contains("nobody listens")), "{health}");
    ensure_eq!(health["loss_share"], 1.0, "loss: {health}");
    let nowhere: IpAddr = "192.0.2.77".parse()?;
    h1.ok(&format!("vtep peer add {nowhere} --vlan 10"))?;
    becomes(&h1, nowhere, "unreachable", &["host_unreachable"])?;
    let answer = probe(&h1, nowhere)?;
    ensure_eq!(answer["answered"], false, "{answer}");
    Ok(())
}

/// It went, nothing was sent to it since, and the kernel still has its address: that is no sign of life.
fn a_host_that_is_gone(lab: &Lab) -> Result {
    let (underlay, h1, h2) = forgetful_pair(lab, "off", Duration::from_secs(3))?;
    // One that was used so lately is asked again, and not left to grow stale.
    let delay = format!("ipv4/neigh/{UPLINK}/delay_first_probe_time");
    h1.host.netns().set_sysctl(&delay, "1")?;
    let answer = probe(&h1, h2.ip)?;
    ensure_eq!((&answer["state"], &answer["answered"]), (&json!("healthy"), &json!(true)), "at first: {answer}");
    // Longer than it is trusted and asked again: it is stale, and what is sent to it next has it asked 5 s later.
    unproven(&h1, h2.ip, Duration::from_secs(6)..Duration::MAX)?;
    h1.host.netns().set_sysctl(&delay, "5")?;
    underlay.connect(2, false)?;
    let answer = probe(&h1, h2.ip)?;
    ensure_eq!(
        (&answer["state"], names(&answer["findings"])),
        (&json!("unreachable"), strings(&["peer_silent"])),
        "{answer}"
    );
    let text = answer["findings"][0]["text"].as_str().context("text")?;
    ensure!(text.contains("is not known") && text.contains("look again"), "text: {text}");
    let _a = h1.attach_quiet(lab, "a", "--access 10 --address 10.0.0.1/24")?;
    let why = h1.vsctl().run("why a 10.0.0.2")?;
    let why: Value = serde_json::from_str(&why.stdout).context(&why.stderr)?;
    // The same as long as the kernel does not know, and no firewall afterwards.
    let is_known = why["reason"] == "peer_unreachable";
    let says_so = why["steps"].to_string().contains("whether its host is there is not known");
    ensure!(is_known || why["reason"] == "peer_silent" && says_so, "why: {why}");
    let mut seen = BTreeSet::new();
    eventually(SOON, "the kernel knows", || {
        let answer = probe(&h1, h2.ip)?;
        seen.extend(names(&answer["findings"]));
        ensure_eq!(names(&answer["findings"]), ["host_unreachable"], "{answer}");
        Ok(())
    })?;
    ensure!(!seen.contains("port_blocked"), "no firewall is suspected: {seen:?}");
    underlay.connect(2, true)?;
    eventually(SOON, "it is back", || {
        let answer = probe(&h1, h2.ip)?;
        ensure_eq!(answer["state"], "healthy", "{answer}");
        Ok(())
    })
}

/// Until the kernel asks again, nobody can say more than that it is silent.
fn a_host_that_goes_while_it_is_probed(lab: &Lab) -> Result {
    let (underlay, h1, h2) = forgetful_pair(lab, "100ms", Duration::from_secs(1))?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    unproven(&h1, h2.ip, Duration::from_secs(1)..Duration::from_secs(3))?;
    underlay.connect(2, false)?;
    becomes(&h1, h2.ip, "unreachable", &["host_unreachable"])?;
    let log = h1.daemon.log()?;
    ensure!(!log.contains("finding=\"port_blocked\""), "no firewall is suspected: {log}");
    underlay.connect(2, true)?;
    becomes(&h1, h2.ip, "degraded", &["loss"]).map(drop)
}

/// The kernel's VXLAN as a peer: it is known for foreign, its containers see nothing, and traffic goes on.
fn the_kernel_feels_nothing(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let host = lab.host("kernel")?;
    let there = underlay.join(&host)?.v4;
    let ours = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, probing("100ms", 1))?;
    let kernel = KernelSwitch::new(host, 100, there, &[ours.ip], 1450)?;
    let c2 = kernel.attach(lab, "c2", &["10.0.0.2/24".parse()?])?;
    let wire = Capture::open(&c2, "eth0")?;
    ours.join(10, 100, &[there])?;
    let c1 = ours.attach(lab, "c1", "--access 10 --address 10.0.0.1/24")?;
    let foreign = eventually(SOON, "it is foreign", || {
        let health = health(ours.vsctl(), there)?;
        ensure_eq!(health["state"], "foreign", "state: {health}");
        Ok(health)
    })?;
    ensure!(foreign["round_trip_us"].is_null(), "no probe was answered: {foreign}");
    traffic::ping::ping(&c1, "10.0.0.2".parse()?, 1000)?;
    let before = ours.stats()?; // what c2 said of itself came before there was a VLAN for it
    // Its frames say that its VTEP works.
    eventually(SOON, "nothing is wrong with it", || {
        traffic::ping::ping(&c1, "10.0.0.2".parse()?, 100)?;
        let health = health(ours.vsctl(), there)?;
        ensure_eq!((&health["state"], &health["findings"]), (&json!("foreign"), &json!([])), "{health}");
        Ok(())
    })?;
    let answer = probe(&ours, there)?;
    ensure_eq!((&answer["foreign"], &answer["answered"]), (&json!(true), &json!(false)), "on demand: {answer}");
    while let Some(frame) = wire.next(Duration::from_millis(1))? {
        ensure!(
            frame[12..14] != [0x88, 0xb5] && frame[..3] != [0x01, 0x80, 0xc2],
            "a probe in a container: {frame:02x?}"
        );
    }
    traffic::ping::ping(&c1, "10.0.0.2".parse()?, 1400)?;
    let drops = ours.stats()?.drops_since(&before);
    ensure!(drops.is_empty(), "drops: {drops:?}");
    Ok(())
}

/// The other side is stopped for a while: that is how long its answer takes.
fn round_trips_are_measured(lab: &Lab) -> Result {
    const STOPPED: Duration = Duration::from_millis(400);
    let (_underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    let pid = Pid::from_raw(i32::try_from(h2.daemon.pid())?);
    kill(pid, Signal::SIGSTOP)?;
    thread::sleep(STOPPED); // as long as it is to be
    kill(pid, Signal::SIGCONT)?;
    eventually(SOON, "the long trip is seen", || {
        let health = health(h1.vsctl(), h2.ip)?;
        let trip = &health["round_trip_us"];
        let long = trip["p99"].as_u64().is_some_and(|micros| (250_000..1_000_000).contains(&micros));
        ensure!(long && trip["p50"].as_u64().is_some_and(|micros| micros < 250_000), "round trips: {health}");
        ensure!(health["jitter_us"].as_u64().is_some_and(|micros| micros > 1000), "jitter: {health}");
        Ok(())
    })
}

fn the_port_is_blocked(lab: &Lab) -> Result {
    let (underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    on_the_way(&underlay, &format!("ip saddr {} udp dport 4789 drop", h1.ip))?;
    let health = becomes(&h1, h2.ip, "unreachable", &["port_blocked"])?;
    let mend = health["findings"][0]["mend"].as_str().context("advice")?;
    ensure!(mend.contains("udp dport 4789 accept"), "advice: {mend}");
    // The other one does not hear the answers to its own, and knows that there is a vswitch, for it was asked.
    let answer = probe(&h2, h1.ip)?;
    ensure_eq!(names(&answer["findings"]), ["port_blocked"], "from the other side: {answer}");
    ensure_eq!(
        (&answer["answered"], &answer["foreign"]),
        (&json!(false), &json!(false)),
        "from the other side: {answer}"
    );
    nft(underlay.host(), "flush table bridge way")?;
    becomes(&h1, h2.ip, "degraded", &["loss"])?;
    // A firewall on the host that says so.
    let by_sockets = h2.ok("vtep show")?["underlay"] == "udp";
    if by_sockets {
        nft(&h2.host, "add table inet filter")?;
        nft(&h2.host, "add chain inet filter input { type filter hook input priority 0; }")?;
        nft(&h2.host, "add rule inet filter input udp dport 4789 reject with icmpx type admin-prohibited")?;
        let health = becomes(&h1, h2.ip, "unreachable", &["port_blocked"])?;
        let text = health["findings"][0]["text"].as_str().context("text")?;
        ensure!(text.contains("forbids"), "text: {text}");
    }
    Ok(())
}

/// A firewall drops all but ARP: the neighbour answers that later than its VTEP fell silent, and so it is there.
fn neither_echo_nor_probes(lab: &Lab) -> Result {
    let (underlay, h1, h2) = forgetful_pair(lab, "100ms", Duration::from_secs(1))?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    on_the_way(&underlay, &format!("ip saddr {} drop", h1.ip))?;
    becomes(&h1, h2.ip, "unreachable", &["port_blocked"])?;
    let log = h1.daemon.log()?;
    ensure!(!log.contains("finding=\"host_unreachable\""), "it is there: {log}");
    nft(underlay.host(), "flush table bridge way")?;
    becomes(&h1, h2.ip, "degraded", &["loss"]).map(drop)
}

fn the_source_is_rewritten(lab: &Lab) -> Result {
    let (underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    on_the_way(&underlay, &format!("ip saddr {} udp dport 4789 ip saddr set 192.0.2.200", h1.ip))?;
    let health = becomes(&h1, h2.ip, "degraded", &["source_rewritten"])?;
    let text = health["findings"][0]["text"].as_str().context("text")?;
    ensure!(text.contains("192.0.2.200"), "text: {text}");
    // Seen from the other side: it is asked, and answers from elsewhere.
    let answer = probe(&h2, h1.ip)?;
    ensure_eq!(names(&answer["findings"]), ["source_rewritten"], "from the other side: {answer}");
    nft(underlay.host(), "flush table bridge way")?;
    becomes(&h1, h2.ip, "healthy", &[]).map(drop)
}

fn bytes_change_on_the_way(lab: &Lab) -> Result {
    let (underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    // The time in the message; the outer checksum is taken away, as some middleboxes do.
    let rule = format!("ip saddr {} udp dport 4789 udp checksum set 0 @th,496,16 set 0xbeef", h1.ip);
    on_the_way(&underlay, &rule)?;
    becomes(&h1, h2.ip, "degraded", &["checksum_corrupted"]).map(drop)
}

fn one_in_ten_is_lost(lab: &Lab) -> Result {
    let (underlay, h1, h2) = pair(lab)?;
    becomes(&h1, h2.ip, "healthy", &[])?;
    on_the_way(&underlay, &format!("ip saddr {} udp dport 4789 numgen inc mod 10 == 0 drop", h1.ip))?;
    // Until only probes sent since are looked back on.
    eventually(Duration::from_secs(40), "a tenth is lost", || {
        let health = health(h1.vsctl(), h2.ip)?;
        let share = health["loss_share"].as_f64().context("loss")?;
        ensure!((0.09..=0.115).contains(&share), "loss: {health}");
        ensure_eq!(health["path_mtu"], 1500, "path MTU: {health}");
        Ok(())
    })?;
    becomes(&h1, h2.ip, "degraded", &["loss"]).map(drop)
}

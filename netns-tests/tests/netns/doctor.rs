use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ipnet::IpNet;
use netns_tests::binaries::binaries;
use netns_tests::{
    Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, UPLINK, Underlay, ensure, ensure_eq, eventually,
};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_sys::VxlanSpec;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("a_healthy_host", a_healthy_host),
    ("without_a_daemon", without_a_daemon),
    ("a_daemon_that_died", a_daemon_that_died),
    ("no_device", no_device),
    ("too_few_files", too_few_files),
    ("no_room_for_the_state", no_room_for_the_state),
    ("ports_that_are_lost", ports_that_are_lost),
    ("the_underlay", the_underlay),
    ("others_on_the_port", others_on_the_port),
    ("packet_filter", packet_filter),
    ("reverse_path_filter", reverse_path_filter),
    ("from_another_namespace", from_another_namespace),
    ("cni_networks", cni_networks),
];

/// Why a test of these cannot run here.
pub(crate) fn hindrance(test: &str) -> Option<String> {
    let found = (test == "packet_filter").then(|| Command::new("nft").arg("--version").output());
    found?.err().map(|error| format!("nft (package nftables): {error}"))
}

/// A host with a daemon, and `vsctl doctor` for it.
struct Patient {
    node: Node,
    underlay: Underlay,
    folder: PathBuf,
}

/// What doctor says: its checks, and its exit code.
struct Report {
    checks: Vec<Value>,
    code: Option<i32>,
}

impl Report {
    /// The states of the check called `name`, the worst first, with text and mend.
    fn state(&self, name: &str) -> Result<(&str, String, String)> {
        let rank =
            |check: &&Value| ["ok", "note", "warning", "wrong"].iter().position(|state| check["state"] == *state);
        let checks = self.checks.iter().filter(|check| check["check"] == name);
        let check = checks.max_by_key(rank).context(format_args!("no check {name}: {:?}", self.checks))?;
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        Ok((check["state"].as_str().unwrap_or_default(), text("text"), text("mend")))
    }

    /// Expects the check to be in this state, with this in its text and in what mends it.
    #[track_caller]
    fn says(&self, name: &str, state: &str, text: &str, mend: &str) -> Result {
        let (is, said, mends) = self.state(name)?;
        ensure!(is == state && said.contains(text), "{name} is {is}, not {state}: {said} (wanted: {text})");
        ensure!(mends.contains(mend), "{name} is mended by {mends:?}, not by {mend:?}");
        let wrong = self.checks.iter().any(|check| check["state"] == "wrong");
        ensure_eq!(self.code, Some(i32::from(wrong)), "exit code with {:?}", self.checks);
        Ok(())
    }

    fn of(&self, state: &str) -> Vec<&Value> {
        self.checks.iter().filter(|check| check["state"] == state).collect()
    }
}

/// Runs doctor in `host`.
fn doctor(host: &Host, socket: &std::path::Path, words: &[&str]) -> Result<Report> {
    let mut command = Command::new(&binaries()?.vsctl);
    command.arg("--socket").arg(socket).args(["--json", "doctor"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = host.spawn(command)?.wait_with_output()?;
    let checks = serde_json::from_slice(&output.stdout);
    let checks = checks.context(String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(Report { checks, code: output.status.code() })
}

impl Patient {
    fn new(lab: &Lab) -> Result<Self> {
        Self::with(lab, &DaemonSpec::default())
    }

    fn with(lab: &Lab, spec: &DaemonSpec) -> Result<Self> {
        let underlay = Underlay::new(lab, 1500)?;
        let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec.clone())?;
        let folder = lab.folder("doctor")?;
        Ok(Self { node, underlay, folder })
    }

    /// Doctor, told to look for nothing outside of the lab.
    fn doctor(&self) -> Result<Report> {
        self.doctor_with(&[])
    }

    fn doctor_with(&self, words: &[&str]) -> Result<Report> {
        self.doctor_in(&self.node.host, words)
    }

    fn doctor_in(&self, host: &Host, words: &[&str]) -> Result<Report> {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let (bin, conf) = (at("bin"), at("net.d"));
        let mut all = vec!["--cni-bin-dir", &bin, "--cni-conf-dir", &conf];
        all.extend(words);
        doctor(host, self.node.daemon.socket(), &all)
    }

    fn state_dir(&self) -> Result<String> {
        Ok(self.node.daemon.socket().with_file_name("state").display().to_string())
    }
}

fn a_healthy_host(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    patient.node.join(10, 100, &[])?;
    let _a = patient.node.attach(lab, "a", "--access 10")?;
    let report = patient.doctor()?;
    ensure_eq!(report.of("wrong"), Vec::<&Value>::new(), "wrong");
    ensure_eq!(report.of("warning"), Vec::<&Value>::new(), "warnings");
    for (check, text) in [
        ("daemon", "answers"),
        ("version", "vsctl and vswitchd are"),
        ("ports", "all 1 are up"),
        ("state", "of room"),
        ("tun", "can be opened"),
        ("udp", "GSO and GRO"),
        ("capabilities", "CAP_NET_ADMIN"),
        ("files", "may be open"),
        ("underlay", "uplink has 192.0.2.1"),
        ("mtu", "ports at most 1450"),
        ("vxlan-port", "nobody else"),
        ("cni", "not in use"),
    ] {
        report.says(check, "ok", text, "")?;
    }
    // For people: a line each, and one that sums up.
    let mut command = patient.node.vsctl().command()?;
    command.arg("doctor").stdout(Stdio::piped());
    let output = patient.node.host.spawn(command)?.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text.lines().count() >= report.checks.len() && text.contains("ok       daemon"), "{text}");
    ensure!(text.lines().last().is_some_and(|line| line.contains("wrong")), "{text}");
    Ok(())
}

fn without_a_daemon(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let host = lab.host("h1")?;
    let vtep = underlay.join(&host)?.v4.to_string();
    let folder = lab.folder("doctor")?;
    let at = |name: &str| folder.join(name).display().to_string();
    let (state, bin, conf) = (at("state"), at("bin"), at("net.d"));
    let words = ["--state-dir", &state, "--cni-bin-dir", &bin, "--cni-conf-dir", &conf, "--vtep-ip", &vtep];
    let report = doctor(&host, &folder.join("socket"), &words)?;
    report.says("daemon", "warning", "none runs", "systemctl start vswitchd")?;
    report.says("state", "ok", "first start", "")?;
    report.says("vxlan-port", "ok", "nobody has UDP port 4789", "")?;
    report.says("mtu", "ok", "1450 for containers", "")?;
    // What is wrong already will be so for the daemon.
    let local = vtep.parse()?;
    let kernels = VxlanSpec { name: "vx", vni: 7, local, remote: None, port: 4789, learning: false };
    host.netlink().add_vxlan(&kernels)?;
    host.up("vx")?;
    let report = doctor(&host, &folder.join("socket"), &words)?;
    report.says("vxlan-port", "wrong", "perhaps vx, a VXLAN device of its own", "ip -d link show type vxlan")?;
    let report = doctor(&host, &folder.join("socket"), &[&words[..7], &["192.0.2.77"]].concat())?;
    report.says("underlay", "wrong", "192.0.2.77", "ip address add 192.0.2.77/PREFIX")
}

fn a_daemon_that_died(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let socket = daemon.socket().to_owned();
    daemon.end(Signal::SIGKILL)?;
    let report = doctor(&host, &socket, &[])?;
    report.says("daemon", "wrong", "it has died", "systemctl restart vswitchd")
}

/// Gives the thread that starts programs in `host` mounts of its own, with an empty file system at `target`.
fn cover(host: &Host, target: PathBuf, size: &'static str) -> Result {
    let mounted = host.call(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("tmpfs"), &target, Some("tmpfs"), MsFlags::empty(), Some(size))
    });
    mounted.context("cannot mount a tmpfs")
}

fn no_device(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let other = patient.node.host.twin("h1-blind")?;
    cover(&other, "/dev/net".into(), "size=64k")?;
    let report = patient.doctor_in(&other, &[])?;
    report.says("tun", "wrong", "there is no /dev/net/tun", "modprobe tun")?;
    report.says("offloads", "wrong", "no TAP device can be made", "/dev/net/tun")
}

fn too_few_files(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let few = |command: Command| {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 250 && exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
        limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ok(limited)
    };
    let daemon = Daemon::start_by(lab, &host, &DaemonSpec::default(), few)?;
    let report = doctor(&host, daemon.socket(), &[])?;
    report.says("files", "wrong", "250 files may be open, and 256 are needed", "LimitNOFILE=infinity")
}

fn no_room_for_the_state(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let other = patient.node.host.twin("h1-full")?;
    cover(&other, patient.state_dir()?.into(), "size=64k")?;
    let report = patient.doctor_in(&other, &[])?;
    report.says("state", "wrong", "64 KiB left", "make room")?;
    patient.doctor_with(&["--state-dir", "/nonexistent"])?.says("state", "note", "elsewhere", "--state-dir")
}

fn ports_that_are_lost(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let gone = patient.node.attach(lab, "gone", "")?;
    patient.doctor()?.says("ports", "ok", "all 1 are up", "")?;
    drop(gone);
    eventually(SOON, "the port is lost", || {
        patient.doctor()?.says("ports", "wrong", "1 of 1 lost: gone", "vsctl port del gone")
    })
}

fn the_underlay(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let Patient { node, underlay, .. } = &patient;
    node.join(10, 100, &[])?;
    let _a = node.attach(lab, "a", "--access 10 --mtu 1500")?;
    let report = patient.doctor()?;
    report.says(
        "mtu",
        "warning",
        "greater MTU than the 1450 that fit through uplink: a",
        "vsctl port set a --mtu 1450",
    )?;
    node.ok("port set a --mtu 1450")?;
    patient.doctor()?.says("mtu", "ok", "", "")?;

    let link = node.host.link(UPLINK)?.index;
    node.host.netlink().set_mtu(link, 1400)?;
    patient.doctor()?.says("mtu", "warning", "1400 bytes by now, and vswitchd counts on 1500", "restart")?;
    node.host.netlink().set_mtu(link, 1500)?;

    underlay.connect(1, false)?;
    eventually(SOON, "the carrier is lost", || patient.doctor()?.says("underlay", "wrong", "has no carrier", "cable"))?;
    underlay.connect(1, true)?;
    eventually(SOON, "it is back", || patient.doctor()?.says("underlay", "ok", "is up", ""))?;
    node.host.netlink().set_up(link, false)?;
    patient.doctor()?.says("underlay", "wrong", "is down", "ip link set uplink up")?;
    node.host.netlink().set_up(link, true)?;
    let address: IpAddr = node.ip;
    node.host.netlink().delete_address(link, IpNet::new(address, 24)?)?;
    patient.doctor()?.says("underlay", "wrong", "no interface here has", &format!("ip address add {address}/"))
}

fn others_on_the_port(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let host = &patient.node.host;
    let local: IpAddr = [192, 0, 2, 200].into();
    host.address(UPLINK, &[IpNet::new(local, 24)?])?;

    let other = host.call(move || UdpSocket::bind((local, 4789)))?;
    let report = patient.doctor()?;
    report.says("vxlan-port", "wrong", "has UDP port 4789 too", "stop it")?;
    drop(other);
    patient.doctor()?.says("vxlan-port", "ok", "nobody else", "")
}

/// Runs a line of shell in `host`.
fn shell(host: &Host, line: &str) -> Result {
    let mut command = Command::new("sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = host.spawn(command)?.wait_with_output()?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn packet_filter(lab: &Lab) -> Result {
    let patient = Patient::with(lab, &DaemonSpec { underlay: Some("udp"), ..DaemonSpec::default() })?;
    let host = &patient.node.host;
    patient.doctor()?.says("firewall", "ok", "nothing drops", "")?;
    let chain = |name: &str, policy: &str| {
        format!(
            "nft add table inet t && nft 'add chain inet t {name} {{ type filter hook {name} priority 0; policy {policy}; }}'"
        )
    };
    for (name, set_up) in [
        ("a rule", format!("{} && nft add rule inet t input udp dport 4789 drop", chain("input", "accept"))),
        (
            "a set",
            format!(
                "{} && nft 'add rule inet t input udp dport {{ 53, 4789 }} counter drop'",
                chain("input", "accept")
            ),
        ),
        ("a range", format!("{} && nft add rule inet t output udp dport 4000-5000 reject", chain("output", "accept"))),
        ("a policy", format!("{} && nft add rule inet t input tcp dport 22 accept", chain("input", "drop"))),
    ] {
        shell(host, &set_up)?;
        let report = patient.doctor()?;
        report.says("firewall", "wrong", "4789", "nft ").context(name)?;
        // What it says mends it.
        let (_, _, mend) = report.state("firewall")?;
        let command = mend.split(", or").next().unwrap_or_default();
        shell(host, command).context(name)?;
        patient.doctor()?.says("firewall", "ok", "", "").context(name)?;
        shell(host, "nft flush ruleset")?;
    }
    // What asks for more than the port may be about others.
    let rules =
        format!("{} && nft add rule inet t input ip saddr 198.51.100.1 udp dport 4789 drop", chain("input", "accept"));
    shell(host, &rules)?;
    patient.doctor()?.says("firewall", "note", "ask for more", "")?;
    shell(host, "nft flush ruleset")?;
    if shell(host, "iptables --version | grep -q nf_tables").is_ok() {
        shell(host, "iptables -A INPUT -p udp --dport 4789 -j DROP")?;
        patient.doctor()?.says("firewall", "wrong", "4789", "nft ")?;
        shell(host, "iptables -F INPUT")?;
    }
    shell(
        host,
        &format!("{} && nft add rule inet t input ip saddr 192.0.2.9 udp dport 4789 drop", chain("input", "accept")),
    )?;
    patient.doctor()?.says("firewall", "note", "ask for more", "")
}

fn reverse_path_filter(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let Patient { node, .. } = &patient;
    node.host.netns().set_sysctl("ipv4/conf/uplink/rp_filter", "1")?;
    node.join(10, 100, &[[192, 0, 2, 50].into()])?;
    patient.doctor()?.says("rp_filter", "ok", "all peers are behind it", "")?;
    // A peer that is elsewhere.
    node.host.netlink().add_veth("side", "far", None)?;
    node.host.up("side")?;
    node.host.up("far")?;
    node.host.address("side", &["198.51.100.1/24".parse()?])?;
    node.ok("vtep peer add 198.51.100.9 --vlan 10")?;
    let report = patient.doctor()?;
    report.says("rp_filter", "wrong", "198.51.100.9 is elsewhere", "sysctl -w net/ipv4/conf/uplink/rp_filter=2")?;
    node.host.netns().set_sysctl("ipv4/conf/uplink/rp_filter", "2")?;
    patient.doctor()?.says("rp_filter", "ok", "2 on uplink", "")
}

fn from_another_namespace(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let elsewhere = lab.host("elsewhere")?;
    let report = patient.doctor_in(&elsewhere, &[])?;
    report.says("underlay", "ok", "uplink has 192.0.2.1", "")?;
    report.says("vxlan-port", "ok", "nobody else", "")
}

fn cni_networks(lab: &Lab) -> Result {
    let patient = Patient::new(lab)?;
    let (bin, conf) = (patient.folder.join("bin"), patient.folder.join("net.d"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&conf)?;
    let mut network = json!({"cniVersion": "1.0.0", "name": "n",
        "plugins": [{"type": "vswitch-cni", "vlan": 10, "subnet": "10.77.0.0/24"}]});
    let file = conf.join("10-vswitch.conflist");
    fs::write(&file, network.to_string())?;
    patient.doctor()?.says("cni", "wrong", "there is no", "install -m 755 vswitch-cni")?;
    symlink(&binaries()?.cni, bin.join("vswitch-cni"))?;
    patient.doctor()?.says("cni", "ok", "would attach containers", "")?;
    network["plugins"][0]["vlan"] = json!(5000);
    fs::write(&file, network.to_string())?;
    patient.doctor()?.says("cni", "wrong", "1 to 4094", "mend")?;
    fs::write(&file, "{ \"type\": \"vswitch-cni\"")?;
    patient.doctor()?.says("cni", "wrong", "no JSON", "mend")
}

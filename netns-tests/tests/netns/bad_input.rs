use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;

use netns_tests::{Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("words_that_are_refused", words_that_are_refused),
    ("requests_that_are_refused", requests_that_are_refused),
    ("where_ipv6_is_off", where_ipv6_is_off),
    ("a_daemon_that_is_not_there", a_daemon_that_is_not_there),
    ("underlay_address_of_another_host", underlay_address_of_another_host),
    ("a_socket_that_is_taken", a_socket_that_is_taken),
    ("config_files", config_files),
    ("lines_that_are_no_requests", lines_that_are_no_requests),
    ("endless_lines", endless_lines),
    ("half_sent_requests", half_sent_requests),
    ("idle_clients", idle_clients),
    ("clients_that_do_not_read", clients_that_do_not_read),
];

/// The switch that bad input is tried on has a bit of everything.
fn furnished(lab: &Lab) -> Result<(Underlay, Node, [Host; 2])> {
    let underlay = Underlay::new(lab, 1500)?;
    let node = Node::v4(lab, &underlay, "h1")?;
    node.join(10, 100, &["192.0.2.200".parse()?])?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?;
    let b = node.attach_quiet(lab, "b", "--trunk 10-12")?;
    node.ok("fdb add 02:00:00:00:00:99 --vlan 10 --port a")?;
    node.ok("fdb add 02:00:00:00:00:98 --vlan 10 --remote 192.0.2.200")?;
    Ok((underlay, node, [a, b]))
}

/// What is refused, with which exit code, and what the sentence says: the value, and what is allowed.
/// `FREE` stands for a namespace without port, `TAKEN` for that of port a.
const REFUSED: &[(&str, i32, &[&str])] = &[
    // Numbers out of range.
    ("vlan add 0", 2, &["VLAN 0 ", "1 to 4094"]),
    ("vlan add 4095", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("vlan add 4096", 2, &["VLAN 4096 ", "1 to 4094"]),
    ("vlan add 65546", 2, &["VLAN 65546 ", "1 to 4094"]),
    ("vlan add ten", 2, &["VLAN ten ", "1 to 4094"]),
    ("vlan add 20 --vni 0", 2, &["VNI 0 ", "1 to 16777215"]),
    ("vlan add 20 --vni 16777216", 2, &["VNI 16777216 ", "1 to 16777215"]),
    ("vlan add 20 --vni 4294967396", 2, &["VNI 4294967396 ", "1 to 16777215"]),
    ("vlan del 4095", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("port add x --netns FREE --access 0", 2, &["VLAN 0 ", "1 to 4094"]),
    ("port add x --netns FREE --access 4095", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("port add x --netns FREE --trunk 10,4095", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("port add x --netns FREE --trunk 4000-5000", 2, &["VLAN 5000 ", "1 to 4094"]),
    ("port add x --netns FREE --trunk 12-10", 2, &["12-10", "lower VLAN first"]),
    ("port add x --netns FREE --trunk 10 --native 0", 2, &["VLAN 0 ", "1 to 4094"]),
    ("port add x --netns FREE --mtu 67", 2, &["MTU 67 ", "68 to 65521"]),
    ("port add x --netns FREE --mtu 65522", 2, &["MTU 65522 ", "68 to 65521"]),
    ("port set a --access 4095", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("fdb add 02:00:00:00:00:01 --vlan 4095 --port a", 2, &["VLAN 4095 ", "1 to 4094"]),
    ("vtep peer add 192.0.2.7 --vlan 0", 2, &["VLAN 0 ", "1 to 4094"]),
    // Addresses that no station has.
    ("port add x --netns FREE --mac 01:00:5e:00:00:01", 2, &["01:00:5e:00:00:01", "even first octet"]),
    ("port add x --netns FREE --mac ff:ff:ff:ff:ff:ff", 2, &["ff:ff:ff:ff:ff:ff", "even first octet"]),
    ("port add x --netns FREE --mac 00:00:00:00:00:00", 2, &["00:00:00:00:00:00", "unicast"]),
    ("port add x --netns FREE --mac 02:00:00:00:01", 2, &["02:00:00:00:01", "six pairs"]),
    ("fdb add 33:33:00:00:00:01 --vlan 10 --port a", 2, &["33:33:00:00:00:01", "even first octet"]),
    ("port add x --netns FREE --address 10.0.0.5", 2, &["10.0.0.5 ", "no prefix", "0 to 32"]),
    ("port add x --netns FREE --address fd00::5", 2, &["fd00::5 ", "no prefix", "0 to 128"]),
    ("port add x --netns FREE --address 10.0.0.5/33", 2, &["10.0.0.5/33", "10.0.0.2/24"]),
    ("port add x --netns FREE --address 10.0.0.255/24", 2, &["10.0.0.255/24", "broadcast"]),
    ("vtep peer add 192.0.2 --vlan 10", 2, &["192.0.2"]),
    ("port set a --allow-mac 01:00:5e:00:00:01", 2, &["01:00:5e:00:00:01", "even first octet"]),
    ("port set a --allow-mac 02:00:00:00:01", 2, &["02:00:00:00:01", "six pairs"]),
    ("port set a --allow-ip 10.0.0.5/24", 2, &["10.0.0.5/24", "10.0.0.0/24", "10.0.0.5 for"]),
    ("port set a --allow-ip 10.0.0.0/33", 2, &["10.0.0.0/33", "10.0.0.0/24"]),
    ("port set a --allow-ip any 10.0.0.1", 2, &["any and default stand alone", "1 to 64"]),
    ("port add x --netns FREE --allow-mac default any", 2, &["any and default stand alone"]),
    // Names.
    ("port add x --netns FREE --ifname sixteen-letters-", 2, &["sixteen-letters-", "16 characters", "1 to 15"]),
    ("port add x --netns FREE --ifname all", 2, &["\"all\"", "choose another"]),
    ("port add x --netns FREE --ifname default", 2, &["\"default\"", "choose another"]),
    ("port add x --netns FREE --ifname a/b", 2, &["a/b", "1 to 15"]),
    ("port add -x --netns FREE", 2, &["-x"]),
    ("port add x/y --netns FREE", 2, &["x/y", "1 to 128"]),
    ("port add tunnel --netns FREE", 2, &["tunnel", "choose another"]),
    ("port add total --netns FREE", 1, &["total", "a word of vsctl", "port-total"]),
    ("port add total --netns FREE --hand-over", 1, &["total", "a word of vsctl"]),
    ("port add drops --netns FREE", 1, &["drops", "a word of vsctl"]),
    ("port add 10.0.0.9 --netns FREE", 1, &["10.0.0.9", "an address"]),
    ("port add x --netns some/where", 2, &["some/where", "/run/netns", "pid:N"]),
    ("port add x --netns pid:0", 2, &["pid:0", "1 to 4194304"]),
    ("port add x", 2, &["--netns"]),
    ("port add x --netns FREE --native 10", 2, &["--trunk"]),
    ("port add x --netns FREE --access 10 --trunk 10", 2, &["--access", "--trunk"]),
    ("port fly", 2, &["fly"]),
    // What is not there, or there already.
    ("port add x --netns nowhere", 1, &["/run/netns/nowhere", "ip netns list"]),
    ("port add x --netns /nowhere/ns", 1, &["/nowhere/ns"]),
    ("port add x --netns pid:4194304", 1, &["4194304"]),
    ("port add x --netns /proc/self/status", 1, &["/proc/self/status", "not a network namespace"]),
    ("port add x --netns FREE --ifname lo", 1, &["\"lo\"", "taken", "another"]),
    ("port add x --netns FREE --ifname tap9", 1, &["\"tap9\"", "taken", "another"]),
    ("port add x --netns TAKEN", 1, &["eth0", "port a", "--ifname"]),
    ("port add a --netns FREE", 1, &["port a ", "other settings", "port del a"]),
    ("port add a --netns TAKEN --access 11 --address 10.0.0.1/24", 1, &["port a ", "other settings", "port set a"]),
    ("port show x", 1, &["port \"x\"", "port list"]),
    ("port set x --mtu 1400", 1, &["port x", "port list"]),
    ("port set a", 2, &["port a", "mtu"]),
    ("port set a --native 11", 1, &["native", "11", "trunk"]),
    ("port set a --access 11", 1, &["02:00:00:00:00:99", "VLAN 10", "fdb del"]),
    ("port del x", 1, &["port x", "port list"]),
    ("port add x --netns FREE --address 10.0.0.5/24 --address 10.0.0.5/16", 1, &["10.0.0.5", "once"]),
    ("port add x --netns FREE --address 10.0.0.5/24 --gateway 10.9.0.1", 1, &["10.9.0.1", "--address"]),
    ("port add x --netns FREE --address fd00::5/64 --mtu 1279", 1, &["1279", "fd00::5/64", "1280"]),
    ("vlan add 20 --vni 100", 1, &["VNI 100 ", "VLAN 10 ", "1 to 16777215"]),
    ("vlan add 10 --vni 101", 1, &["VLAN 10 ", "other settings", "vlan del 10"]),
    ("vlan del 30", 1, &["VLAN 30", "vlan list"]),
    ("vlan del 10", 1, &["VLAN 10 ", "192.0.2.200", "peer del"]),
    ("vtep peer add 192.0.2.1 --vlan 10", 1, &["192.0.2.1 ", "own", "another host"]),
    ("vtep peer add 192.0.2.1 --all-vlans", 1, &["192.0.2.1 ", "own", "another host"]),
    ("vtep peer add 2001:db8::7 --vlan 10", 1, &["2001:db8::7", "192.0.2.1", "IPv4"]),
    ("vtep peer add 224.0.0.7 --vlan 10", 1, &["224.0.0.7", "multicast", "unicast"]),
    ("vtep peer add 192.0.2.255 --vlan 10", 1, &["192.0.2.255", "broadcast", "unicast"]),
    ("vtep peer add 0.0.0.0 --vlan 10", 1, &["0.0.0.0", "unicast"]),
    ("vtep peer add 192.0.2.7 --vlan 11", 1, &["VLAN 11", "192.0.2.7", "1 to 16777215"]),
    ("vtep peer del 192.0.2.7", 1, &["192.0.2.7", "peer list"]),
    ("vtep peer del 192.0.2.200 --vlan 11", 1, &["192.0.2.200", "VLAN 11", "10"]),
    ("vtep peer del 192.0.2.200", 1, &["192.0.2.200", "02:00:00:00:00:98", "fdb del"]),
    ("fdb add 02:00:00:00:00:99 --vlan 10 --port b", 1, &["02:00:00:00:00:99", "VLAN 10", "port a", "fdb del"]),
    ("fdb add 02:00:00:00:00:01 --vlan 11 --port a", 1, &["port a", "VLAN 11"]),
    ("fdb add 02:00:00:00:00:01 --vlan 10 --port x", 1, &["port x", "port list"]),
    ("fdb add 02:00:00:00:00:01 --vlan 10 --remote 192.0.2.7", 1, &["192.0.2.7", "peer add"]),
    ("fdb del 02:00:00:00:00:01 --vlan 10", 1, &["02:00:00:00:00:01", "VLAN 10", "fdb list"]),
    ("fdb list --port x", 1, &["port \"x\"", "port list"]),
    ("stats x", 1, &["port \"x\"", "port list"]),
];

fn words_that_are_refused(lab: &Lab) -> Result {
    let (_underlay, node, [a, b]) = furnished(lab)?;
    let free = lab.quiet_host("free")?;
    free.netlink().add_bridge("tap9")?;
    let interfaces = |host: &Host| host.netlink().links().map(|links| format!("{links:?}"));
    let outside = || Ok::<_, netns_tests::Failure>([interfaces(&free)?, interfaces(&a)?, interfaces(&b)?]);
    let (before, before_outside) = (node.vsctl().everything()?, outside()?);
    for (words, code, said) in REFUSED {
        let path = |host: &Host| host.path().display().to_string();
        let full = words.replace("FREE", &path(&free)).replace("TAKEN", &path(&a));
        let sentence = node.vsctl().refused(*code, &full)?;
        for part in *said {
            ensure!(sentence.contains(part), "{words}: {part:?} is not in: {sentence}");
        }
        ensure_eq!(node.vsctl().everything()?, before, "everything after {words}");
        ensure_eq!(outside()?, before_outside, "interfaces after {words}");
    }
    Ok(())
}

/// Who speaks to the socket without `vsctl` meets the same walls.
fn requests_that_are_refused(lab: &Lab) -> Result {
    let (_underlay, node, _containers) = furnished(lab)?;
    let before = node.vsctl().everything()?;
    let mut client = Client::connect(&node.daemon)?;
    let table = [
        ("vlan.add", json!({"vlan": 0}), "1 to 4094"),
        ("vlan.add", json!({"vlan": 4095}), "1 to 4094"),
        ("vlan.add", json!({"vlan": -1}), "1 to 4094"),
        ("vlan.add", json!({"vlan": 20, "vni": 16_777_216}), "1 to 16777215"),
        ("vlan.add", json!({"vlan": 20, "colour": "red"}), "colour"),
        ("vlan.add", json!({"vlan": [20]}), "vlan"),
        ("port.add", json!({"name": "x", "netns": "nowhere"}), "/run/netns/nowhere"),
        ("port.add", json!({"name": "x", "netns": "../etc"}), "../etc"),
        ("port.add", json!({"name": "x\n", "netns": "a"}), "1 to 128"),
        ("port.add", json!({"name": "x", "netns": "a", "mac": "01:00:00:00:00:00"}), "even first octet"),
        ("port.add", json!({"name": "x", "netns": "a", "ifname": "a b"}), "1 to 15"),
        ("port.set", json!({"name": "a", "allow-mac": []}), "1 to 64"),
        ("port.set", json!({"name": "a", "allow-ip": 10}), "text"),
        ("port.set", json!({"name": "a", "allow-ip": [["10.0.0.1"]]}), "string"),
        ("port.set", json!({"name": "a", "allow_mac": "any"}), "allow_mac"),
        ("port.del", json!({}), "name"),
        ("port.fly", json!({"name": "a"}), "port.add"),
    ];
    for (method, params, said) in table {
        let answer = client.ask(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string())?;
        let sentence = answer["error"]["message"].as_str().context(format_args!("{method} {params}: {answer}"))?;
        ensure!(sentence.contains(said), "{method} {params}: {said:?} is not in: {sentence}");
        ensure_eq!(node.vsctl().everything()?, before, "everything after {method} {params}");
    }
    Ok(())
}

fn where_ipv6_is_off(lab: &Lab) -> Result {
    let (_underlay, node, [_a, b]) = furnished(lab)?;
    let free = lab.quiet_host("free")?;
    free.netns().set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    let add =
        format!("port add x --netns {} --address 10.0.0.9/24 --address fd00::9/64 --access 10", free.path().display());
    b.netns().set_sysctl("ipv6/conf/eth0/disable_ipv6", "1")?;
    for words in [add.as_str(), "port set b --address fd00::9/64"] {
        let said = node.vsctl().refused(1, words)?;
        for part in ["fd00::9/64", "IPv6 is off", "disable_ipv6=0"] {
            ensure!(said.contains(part), "{words}: {part:?} is not in: {said}");
        }
    }
    ensure!(free.netlink().link("eth0")?.is_none(), "an interface of a refused port is there");
    // As it says.
    free.netns().set_sysctl("ipv6/conf/default/disable_ipv6", "0")?;
    node.ok(&add)?;
    Ok(())
}

fn a_daemon_that_is_not_there(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let (vsctl, socket) = (daemon.vsctl().clone(), daemon.socket().to_owned());
    daemon.end(Signal::SIGKILL)?;
    // The file stays where a daemon was killed, and goes where it ended by itself.
    for socket_is_there in [true, false] {
        ensure_eq!(socket.exists(), socket_is_there, "the socket's file");
        let said = vsctl.refused(3, "status")?;
        ensure!(said.contains(&*socket.to_string_lossy()), "the socket's path is not in: {said}");
        if socket_is_there {
            Daemon::start(lab, &host, &DaemonSpec::default())?.end(Signal::SIGTERM)?;
        }
    }
    Ok(())
}

fn underlay_address_of_another_host(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let host = lab.host("h1")?;
    let there = underlay.join(&host)?;
    for elsewhere in ["203.0.113.9", "2001:db8::99"] {
        let spec = DaemonSpec { vtep_ip: Some(elsewhere.parse()?), ..DaemonSpec::default() };
        let ended = Daemon::refused(lab, &host, &spec)?;
        ensure_eq!(ended.status.code(), Some(1), "exit code: {}", ended.output);
        for part in [elsewhere, &there.v4.to_string(), &there.v6.to_string()] {
            ensure!(ended.output.contains(part), "{part} is not in: {}", ended.output);
        }
    }
    Ok(())
}

fn a_socket_that_is_taken(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let ended = Daemon::refused(lab, &host, &DaemonSpec::default())?;
    ensure_eq!(ended.status.code(), Some(1), "exit code: {}", ended.output);
    for part in [&*daemon.socket().to_string_lossy(), "already", "--socket"] {
        ensure!(ended.output.contains(part), "{part:?} is not in: {}", ended.output);
    }
    ensure_eq!(daemon.vsctl().ok("status")?["pid"], daemon.pid(), "who answers");
    // What is no socket at all.
    let other = host.twin("h2")?;
    std::fs::create_dir(lab.folder("h2")?.join("socket"))?;
    let said = Daemon::refused(lab, &other, &DaemonSpec::default())?.output;
    ensure!(said.contains("is no socket") && !said.contains("a file"), "{said}");
    Ok(())
}

fn config_files(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let table: [(&str, &[&str]); 7] = [
        ("log = \"info\"\nvtep-prot = 4789\n", &["line 2", "vtep-prot", "vtep-port"]),
        ("log = \"info\"\n\n[[port]]\nname = \"a\"\nnetns = \"a\"\ncolour = \"red\"\n", &["line 6", "colour"]),
        ("[[vlan]]\nvlan = 4095\n", &["line 2", "VLAN 4095 ", "1 to 4094"]),
        ("[[vlan]]\nvlan = 10\nvni = 0\n", &["line 3", "VNI 0 ", "1 to 16777215"]),
        ("[[vlan]]\nvlan = 10\nvni = 7\n[[vlan]]\nvlan = 20\nvni = 7\n", &["VNI 7 ", "VLAN 10 "]),
        ("vlan = [\n", &["line "]),
        ("[[cursor]]\n", &["unknown field `cursor`"]),
    ];
    for (config, said) in table {
        let ended = Daemon::refused(lab, &host, &DaemonSpec { config: config.to_owned(), ..DaemonSpec::default() })?;
        let output = ended.output.rsplit_once("vswitchd: ").map_or("", |(_, last)| last);
        ensure_eq!(ended.status.code(), Some(2), "exit code with {config:?}: {output}");
        for part in [&["vswitchd.toml"], said].concat() {
            ensure!(output.contains(part), "with {config:?}: {part:?} is not in: {output}");
        }
    }
    // None of them left anything behind.
    Daemon::start(lab, &host, &DaemonSpec::default()).map(drop)
}

/// Speaks to the control socket line by line.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(daemon: &Daemon) -> Result<Self> {
        let stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("answer")?;
        serde_json::from_str(&line).context(format_args!("{line:?} is no JSON"))
    }

    fn ask(&mut self, line: &str) -> Result<Value> {
        self.send(format!("{line}\n").as_bytes())?;
        self.answer()
    }
}

const STATUS: &str = r#"{"jsonrpc":"2.0","id":7,"method":"status"}"#;

fn bare(lab: &Lab) -> Result<(Host, Daemon)> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    Ok((host, daemon))
}

fn lines_that_are_no_requests(lab: &Lab) -> Result {
    let (_host, daemon) = bare(lab)?;
    let mut client = Client::connect(&daemon)?;
    // JSON-RPC 2.0, 5.1.
    let (parse_error, invalid_request, method_not_found) = (-32700, -32600, -32601);
    let table = [
        ("garbage", parse_error),
        ("{", parse_error),
        ("\u{0}\u{1}\u{7f}", parse_error),
        ("[]", invalid_request),
        ("null", invalid_request),
        (r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#, invalid_request),
        (r#"{"jsonrpc":"2.0","id":1,"method":"fly"}"#, method_not_found),
    ];
    for (line, code) in table {
        let answer = client.ask(line)?;
        ensure_eq!(answer["error"]["code"], code, "answer to {line:?}: {answer}");
    }
    // Not even text, and JSON that nests without end.
    client.send(&[0xff, 0xfe, 0xc0, b'\n'])?;
    ensure_eq!(client.answer()?["error"]["code"], parse_error, "answer to bytes that are no UTF-8");
    ensure_eq!(client.ask(&"[".repeat(60_000))?["error"]["code"], parse_error, "answer to an abyss");
    // The same connection is still good.
    ensure_eq!(client.ask(STATUS)?["result"]["pid"], daemon.pid(), "who answers");
    daemon.vsctl().ok("status").map(drop)
}

fn endless_lines(lab: &Lab) -> Result {
    let (_host, daemon) = bare(lab)?;
    let mut bystander = Client::connect(&daemon)?;
    let mut endless = Client::connect(&daemon)?;
    let chunk = [b'x'; 1 << 16];
    let ended = (0..1024).find_map(|_| endless.send(&chunk).err());
    ended.context("64 MiB without a newline were taken")?;
    let mut rest = Vec::new();
    // Reset or end of file: both say that it is over.
    let _ = endless.0.read_to_end(&mut rest);
    ensure!(rest.len() < 1000, "the endless line is answered with {} bytes", rest.len());
    ensure_eq!(bystander.ask(STATUS)?["result"]["pid"], daemon.pid(), "who answers");
    daemon.vsctl().ok("status").map(drop)
}

fn half_sent_requests(lab: &Lab) -> Result {
    let (_host, daemon) = bare(lab)?;
    let (first, second) = STATUS.split_at(20);
    let mut slow = Client::connect(&daemon)?;
    slow.send(first.as_bytes())?;
    // Gone in the middle of a request that would change something.
    let mut gone = Client::connect(&daemon)?;
    gone.send(br#"{"jsonrpc":"2.0","id":1,"method":"vlan.add","params":{"vlan":66}}"#)?;
    drop(gone);
    let vlans = daemon.vsctl().ok("vlan list")?;
    ensure!(!vlans.to_string().contains("66"), "a request without end was carried out: {vlans}");
    slow.send(second.as_bytes())?;
    daemon.vsctl().ok("status")?;
    slow.send(b"\n")?;
    ensure_eq!(slow.answer()?["result"]["pid"], daemon.pid(), "the answer to a request in pieces");
    Ok(())
}

fn idle_clients(lab: &Lab) -> Result {
    let (_host, daemon) = bare(lab)?;
    let mut crowd = Vec::new();
    for count in [100, 400] {
        while crowd.len() < count {
            crowd.push(Client::connect(&daemon)?);
        }
        daemon.vsctl().ok("status").context(format_args!("beside {count} idle clients"))?;
    }
    drop(crowd);
    daemon.vsctl().ok("status").map(drop)
}

fn clients_that_do_not_read(lab: &Lab) -> Result {
    let (_host, daemon) = bare(lab)?;
    let mut deaf = Client::connect(&daemon)?;
    // More than sockets hold: in the end it waits for itself, and for nobody else.
    let mut requests = deaf.0.get_ref().try_clone()?;
    let sent = thread::spawn(move || requests.write_all(format!("{STATUS}\n").repeat(10_000).as_bytes()));
    for _ in 0..10 {
        daemon.vsctl().ok("status")?;
    }
    // What it did not read is still to come, in order.
    for _ in 0..10_000 {
        ensure_eq!(deaf.answer()?["result"]["pid"], daemon.pid(), "an answer that was waiting");
    }
    sent.join().map_err(|_| Failure::new("the sender panicked"))?.context("requests of one who does not read")
}

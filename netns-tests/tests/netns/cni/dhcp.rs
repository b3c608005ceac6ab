//! Addresses by Debian's `dhcp` plugin, whose daemon speaks DHCP on the container's own interface.

use std::process::{Child, Command, Stdio};
use std::{fs, io};

use netns_tests::cni::{Attachment, Cni, STOCK};
use netns_tests::{Context as _, DaemonSpec, Host, Lab, Node, Result, SOON, ensure, ensure_eq, eventually, traffic};
use serde_json::{Value, json};

use super::{address, alone, has, network, nothing_left};

/// Why there is no DHCP here.
pub(crate) fn hindrance() -> Option<String> {
    let plugin = std::path::Path::new(STOCK).join("dhcp").exists();
    let words = |words: &[&str]| Command::new("busybox").args(words).output();
    let server = words(&["--list"]).is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains("udhcpd"));
    (!plugin || !server).then(|| {
        "needs the dhcp plugin and udhcpd of busybox (Debian: containernetworking-plugins, busybox-static)".to_owned()
    })
}

/// A program that ends with this.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host with a switch, the plugin's daemon, and a container with a server that has one address to give.
struct Segment {
    // In the order of their ends.
    _client: Program,
    _server: Program,
    node: Node,
    server: Host,
    socket: std::path::PathBuf,
}

const SERVER: &str = "10.1.0.1";
const LEASE: &str = "10.1.0.50";

impl Segment {
    fn new(lab: &Lab, node: Node) -> Result<Self> {
        let folder = lab.folder("dhcp")?;
        let server = lab.host("server")?;
        let fixed = json!({"runtimeConfig": {"ips": [format!("{SERVER}/24")]}});
        network(&node, fixed).add(&Attachment::of(&server))?;
        let (leases, settings) = (folder.join("leases"), folder.join("udhcpd.conf"));
        fs::write(&leases, "")?;
        let text = format!(
            "start {LEASE}\nend {LEASE}\ninterface eth0\nlease_file {}\npidfile {}\noption subnet 255.255.255.0\n\
             option router {SERVER}\noption lease 3600\n",
            leases.display(),
            folder.join("pid").display(),
        );
        fs::write(&settings, text)?;
        let mut udhcpd = Command::new("busybox");
        udhcpd.args(["udhcpd", "-f", "-a", "100"]).arg(&settings);
        let _server = start(&server, udhcpd)?;
        let socket = folder.join("dhcp.sock");
        let mut daemon = Command::new(std::path::Path::new(STOCK).join("dhcp"));
        daemon.args(["daemon", "-timeout", "2s", "-resendmax", "3s", "-socketpath"]).arg(&socket);
        let _client = start(&node.host, daemon)?;
        eventually(SOON, "the plugin's daemon listens", || {
            ensure!(std::os::unix::net::UnixStream::connect(&socket).is_ok(), "nobody listens");
            Ok(())
        })?;
        Ok(Self { _client, _server, node, server, socket })
    }

    fn network(&self, keys: Value) -> Cni<'_> {
        let ipam = json!({"type": "dhcp", "daemonSocketPath": self.socket});
        network(&self.node, json!({"cniVersion": "1.0.0", "ipam": ipam})).with(keys)
    }

    /// Fails where anything but the server is left.
    fn nothing_left(&self, containers: &[&Host]) -> Result {
        network(&self.node, json!({})).del(&Attachment::of(&self.server))?;
        nothing_left(&self.node, containers)
    }
}

fn start(host: &Host, mut command: Command) -> io::Result<Program> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    host.spawn(command).map(Program)
}

/// Leases one address to a container, takes it back, and leases it to the next.
fn lease(segment: &Segment, lab: &Lab, keys: Value) -> Result {
    let net = segment.network(keys);
    let (a, b) = (lab.host("a")?, lab.host("b")?);
    let (first, second) = (Attachment::of(&a), Attachment::of(&b));
    let result = net.add(&first)?;
    ensure_eq!(address(&result)?.to_string(), LEASE, "the address that was leased");
    ensure_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": SERVER}]), "routes");
    ensure!(has(&a, "eth0", &format!("{LEASE}/24"))?, "the container has the address");
    ensure!(a.netlink().has_route(None, Some(SERVER.parse()?), a.link("eth0")?.index)?, "the default route");
    traffic::ping::ping(&a, SERVER.parse()?, 1000)?;
    net.check(&first, &result)?;
    traffic::ping::ping(&a, SERVER.parse()?, 1000)?;

    // There is no other address: who fails leaves nothing behind, and harms nobody.
    let outcome = net.run("ADD", Some(&second))?;
    ensure!(outcome.code.is_some_and(|code| code != 0), "an address that is another's: {outcome:?}");
    ensure!(b.netlink().link("eth0")?.is_none(), "the interface of an ADD that failed");
    net.refused(100, "ADD", Some(&first))?;
    net.check(&first, &result)?;
    // It is released: an hour of lease is left.
    net.del(&first)?;
    ensure!(a.netlink().link("eth0")?.is_none(), "the interface after DEL");
    net.del(&first)?;
    eventually(SOON * 3, "the address is free again", || net.add(&second).map(drop))?;
    traffic::ping::ping(&b, SERVER.parse()?, 56)?;
    // What fails after the lease gives it back.
    net.del(&second)?;
    let bad = net.with(json!({"routes": [{"dst": "10.9.0.0/16", "scope": 999}]}));
    eventually(SOON * 3, "a route is refused", || bad.refused(102, "ADD", Some(&first)).map(drop))?;
    eventually(SOON * 3, "the address is free once more", || net.add(&second).map(drop))?;
    net.del(&second)?;
    segment.nothing_left(&[&a, &b])
}

pub(super) fn leased(lab: &Lab) -> Result {
    let segment = Segment::new(lab, alone(lab)?)?;
    lease(&segment, lab, json!({}))
}

/// With the list of what it may send from: nobody's address until it has one, its own from then on.
pub(super) fn guarded(lab: &Lab) -> Result {
    let segment = Segment::new(lab, alone(lab)?)?;
    let net = segment.network(json!({"sourceGuard": true}));
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    let port = segment.node.ok("port show a:eth0")?;
    ensure_eq!(port["addresses"], json!([format!("{LEASE}/24")]), "addresses of the port");
    ensure_eq!(port["allow_mac"], json!([port["mac"]]), "MAC addresses it may send from");
    ensure_eq!(port["allow_ip"], json!([format!("{LEASE}/32")]), "addresses it may send from");
    traffic::ping::ping(&a, SERVER.parse()?, 56)?;
    net.check(&attachment, &result)?;
    net.del(&attachment)?;
    segment.nothing_left(&[&a])
}

/// A daemon that may not enter namespaces: the plugin makes the interface, and gives it the address.
pub(super) fn handed_over(lab: &Lab) -> Result {
    netns_tests::Account::possible().map_err(netns_tests::Failure::new)?;
    let host = lab.host("h1")?;
    let args = vec!["--no-enter-namespaces".to_owned(), "--source-guard".to_owned()];
    let spec = DaemonSpec { underlay: Some("udp"), args, ..DaemonSpec::default() };
    let daemon = netns_tests::Daemon::start(lab, &host, &spec)?;
    let segment = Segment::new(lab, Node { daemon, host, ip: [127, 0, 0, 1].into() })?;
    let net = segment.network(json!({}));
    let a = lab.host("a")?;
    let attachment = Attachment::of(&a);
    let result = net.add(&attachment)?;
    ensure!(has(&a, "eth0", &format!("{LEASE}/24"))?, "the container has the address");
    let port = segment.node.ok("port show a:eth0")?;
    ensure_eq!(port["allow_ip"], json!([format!("{LEASE}/32")]), "addresses it may send from");
    traffic::ping::ping(&a, SERVER.parse()?, 56)?;
    net.check(&attachment, &result)?;
    net.del(&attachment)?;
    segment.nothing_left(&[&a])
}

/// Without the plugin's daemon nothing is attached, and it is said what lacks.
pub(super) fn without_its_daemon(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let a = lab.host("a")?;
    let ipam = json!({"type": "dhcp", "daemonSocketPath": "/nonexistent/dhcp.sock"});
    let net = network(&node, json!({"cniVersion": "1.0.0", "ipam": ipam}));
    let outcome = net.run("ADD", Some(&Attachment::of(&a)))?;
    let details = outcome.json["details"].as_str().context("details")?;
    ensure!(outcome.code.is_some_and(|code| code != 0) && details.contains("/nonexistent/dhcp.sock"), "{outcome:?}");
    nothing_left(&node, &[&a])
}

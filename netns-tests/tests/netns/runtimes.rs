use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use netns_tests::cni::{Attachment, Cni};
use netns_tests::runtimes::{Machine, Runtime};
use netns_tests::{
    Context as _, Daemon, DaemonSpec, FdbEntry, Host, Lab, Node, Result, SOON, Underlay, binaries::binaries, ensure,
    ensure_eq, eventually,
};
use serde_json::{Value, json};
use socket2::{Domain, Type};

use crate::Tests;

/// Stock plugins behind ours, and what they change.
#[path = "runtimes/chained.rs"]
mod chained;
/// `ctr run --cni`, which calls DEL for what it runs in the foreground only.
#[path = "runtimes/containerd.rs"]
mod containerd;
/// The kubelet's way.
#[path = "runtimes/cri.rs"]
mod cri;
/// What docs/cni.md says, word for word.
#[path = "runtimes/documented.rs"]
mod documented;
/// Podman, which asks for addresses and ADDs again.
#[path = "runtimes/podman.rs"]
mod podman;
/// The stock `bridge` plugin in our place: fails first when the fault is in the harness or in the machine.
#[path = "runtimes/stock.rs"]
mod stock;

/// Tests of each client, with what it is.
pub(crate) const TESTS: &[(Runtime, Tests)] = &[
    (Runtime::Containerd, &[("containerd_with_the_stock_bridge", stock::containerd)]),
    (Runtime::Podman, &[("podman_with_the_stock_bridge", stock::podman)]),
    (Runtime::Cri, &[("cri_with_the_stock_bridge", stock::cri)]),
    (Runtime::Containerd, containerd::TESTS),
    (Runtime::Podman, podman::TESTS),
    (Runtime::Cri, cri::TESTS),
    (Runtime::Podman, chained::PODMAN),
    (Runtime::Containerd, chained::CONTAINERD),
    (Runtime::Containerd, documented::CONTAINERD),
    (Runtime::Podman, documented::PODMAN),
    (Runtime::Cri, documented::CRI),
];

/// The container on the other host.
const FAR: &str = "10.20.0.200";

/// A host with runtimes, whose containers are in VLAN 10, VNI 100, subnet 10.20.0.0/24, and one across VXLAN with [`FAR`].
struct Site {
    h1: Node,
    machine: Machine,
    h2: Node,
    far: Host,
    _underlay: Underlay,
}

/// Where the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Beside the runtime, as a service of the system: it finds namespaces by their names.
    Beside,
    /// In another mount namespace, with other processes, as in a pod: it finds nothing.
    Apart,
}

impl Site {
    /// Network `vsw` with these plugins.
    fn new(lab: &Lab, plugins: &Value) -> Result<Self> {
        Self::with(lab, plugins, Place::Beside)
    }

    fn with(lab: &Lab, plugins: &Value, place: Place) -> Result<Self> {
        let underlay = Underlay::new(lab, 1500)?;
        let host = lab.host("h1")?;
        let ip = underlay.join(&host)?.v4;
        let machine = Machine::start(lab, &host)?;
        machine.install(&binaries()?.cni)?;
        let conflist = json!({ "cniVersion": "1.0.0", "name": "vsw", "plugins": plugins });
        machine.conflist("10-vsw.conflist", &conflist)?;
        let daemon = daemon(lab, &host, &machine, place)?;
        machine.serve(daemon.socket())?;
        let h1 = Node { daemon, host, ip };
        let h2 = Node::v4(lab, &underlay, "h2")?;
        h2.join(10, 100, &[h1.ip])?;
        let far = h2.attach(lab, "far", &format!("--address {FAR}/24 --access 10"))?;
        Ok(Self { h1, machine, h2, far, _underlay: underlay })
    }

    /// As [`Self::new`], with the other host as peer of VLAN 10 already.
    fn joined(lab: &Lab, plugins: &Value) -> Result<Self> {
        let site = Self::new(lab, plugins)?;
        site.h1.join(10, 100, &[site.h2.ip])?;
        Ok(site)
    }

    /// Kills the daemon, has something done, starts it again.
    fn meanwhile(self, lab: &Lab, work: impl FnOnce(&Machine) -> Result) -> Result<Self> {
        let Self { h1: Node { daemon: killed, host, ip }, machine, h2, far, _underlay } = self;
        let number = killed.vsctl().ok("status")?["pid"].clone();
        drop(killed);
        // It dies of the death of what entered the machine for it, a moment later; as a zombie it holds nothing more.
        eventually(SOON, "the daemon is gone", || {
            let threads = machine.list(&format!("/proc/{number}/task"));
            let line = std::fs::read(machine.file(&format!("/proc/{number}/cmdline"))).unwrap_or_default();
            ensure!(threads.len() <= 1 && line.is_empty(), "process {number} is there, threads {threads:?}");
            Ok(())
        })?;
        work(&machine)?;
        let daemon = daemon(lab, &host, &machine, Place::Beside)?;
        Ok(Self { h1: Node { daemon, host, ip }, machine, h2, far, _underlay })
    }

    /// All that a container may leave behind.
    fn remains(&self) -> Result<Remains> {
        let mut links: Vec<_> = self.h1.host.netlink().links()?.into_iter().map(|link| link.name).collect();
        links.sort();
        let ports = self.h1.ok("port list")?;
        let names: Vec<_> = ports.as_array().into_iter().flatten().filter_map(|port| port["name"].as_str()).collect();
        let mut fdb = self.h1.fdb()?;
        // Containers that are there may say something at any time, and those of the other host too.
        let lives = |place: &str| place == self.h2.ip.to_string() || names.contains(&place);
        fdb.retain(|entry| !entry.place.as_deref().is_some_and(lives));
        Ok(Remains {
            links,
            fdb,
            attachments: self.attachments()?,
            ports,
            namespaces: self.machine.list("/run/netns"),
            leases: self.machine.list("/var/lib/cni/networks"),
        })
    }

    /// Waits until nothing is there that was not there `before`.
    #[track_caller]
    fn nothing_left(&self, before: &Remains) -> Result {
        eventually(SOON, "nothing is left", || {
            ensure_eq!(&self.remains()?, before, "what is left");
            Ok(())
        })
    }

    /// DEL of a container that is gone, from outside the runtime's machine.
    fn del(&self, container: &str) -> Result {
        let cni = Cni::new(&self.h1.host, self.h1.daemon.socket(), "vsw", ours(json!({})));
        cni.del(&Attachment::named(container, "eth0", None))
    }

    /// What CNI's library keeps of each attachment until DEL.
    fn kept_results(&self) -> Vec<String> {
        self.machine.list("/var/lib/cni/results")
    }

    /// The attachments of every network.
    fn attachments(&self) -> Result<Value> {
        let mut socket = std::os::unix::net::UnixStream::connect(self.h1.daemon.socket())?;
        socket.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"attachment.list\",\"params\":{}}\n")?;
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(socket), &mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        Ok(answer["result"].clone())
    }

    /// The attachment of `container`.
    fn attachment(&self, container: &str) -> Result<Value> {
        let list = self.attachments()?;
        let found = list.as_array().into_iter().flatten().find(|info| info["container"] == container);
        found.cloned().context(format_args!("no {container} in {list}"))
    }
}

/// What there is beside what a test made.
#[derive(Debug, PartialEq)]
struct Remains {
    links: Vec<String>,
    ports: Value,
    attachments: Value,
    fdb: Vec<FdbEntry>,
    namespaces: Vec<String>,
    leases: Vec<String>,
}

fn daemon(lab: &Lab, host: &Host, machine: &Machine, place: Place) -> Result<Daemon> {
    let spec = DaemonSpec { vtep_ip: Some("192.0.2.1".parse()?), ..DaemonSpec::default() };
    match place {
        Place::Beside => Daemon::start_by(lab, host, &spec, |command| Ok(machine.enter(&command))),
        Place::Apart => Daemon::start(lab, host, &spec),
    }
}

/// Our plugin with `more` in its configuration.
fn ours(more: Value) -> Value {
    let mut plugin = json!({
        "type": "vswitch-cni", "vlan": 10, "vni": 100, "subnet": "10.20.0.0/24", "rangeEnd": "10.20.0.127",
        "capabilities": { "ips": true, "mac": true, "bandwidth": true },
    });
    if let (Value::Object(plugin), Value::Object(more)) = (&mut plugin, more) {
        plugin.extend(more);
    }
    plugin
}

/// The words of a `ping` that is tried again and again.
fn ping(to: &str) -> String {
    format!("ping -c 1 -W 1 {to}")
}

/// Connects from `from` to `published`, which is to be port `port` of `container`, and speaks both ways. Returns whom the
/// container saw.
fn published(from: &Host, published: SocketAddr, container: &Host, port: u16) -> Result<SocketAddr> {
    let own: SocketAddr = if published.is_ipv4() { ([0; 4], port).into() } else { ([0u16; 8], port).into() };
    let listener = container.socket(Domain::for_address(own), Type::STREAM, None)?;
    listener.set_reuse_address(true)?;
    // A process that starts at this moment may hold the listener of the call before.
    eventually(SOON, "the port is free", || Ok(listener.bind(&own.into())?))?;
    listener.listen(1)?;
    listener.set_read_timeout(Some(SOON))?;
    let mut client = from.socket(Domain::for_address(published), Type::STREAM, None)?;
    let what = format!("{} to {published}", from.name());
    client.connect_timeout(&published.into(), SOON).context(&what)?;
    let (mut server, peer) = listener.accept().context(format_args!("{what}: accept"))?;
    client.write_all(b"question")?;
    let mut bytes = [0; 8];
    server.set_read_timeout(Some(SOON))?;
    server.read_exact(&mut bytes).context(&what)?;
    ensure_eq!(&bytes, b"question", "what {what} brought");
    server.write_all(b"answered")?;
    client.set_read_timeout(Some(SOON))?;
    client.read_exact(&mut bytes).context(&what)?;
    ensure_eq!(&bytes, b"answered", "what {what} brought back");
    peer.as_socket().context("no peer")
}

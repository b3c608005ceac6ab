use netns_tests::runtimes::{Containerd, Machine, PodSpec, Podman};
use netns_tests::{Host, Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::{Value, json};

use super::published;

/// An empty host with this network.
fn machine(lab: &Lab) -> Result<(Machine, Host)> {
    let host = lab.host("h1")?;
    let machine = Machine::start(lab, &host)?;
    machine.conflist("10-stock.conflist", &conflist())?;
    Ok((machine, host))
}

fn conflist() -> Value {
    json!({ "cniVersion": "0.4.0", "name": "stock", "plugins": [
        { "type": "bridge", "bridge": "br0", "isGateway": true,
          "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24" }]] } },
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ] })
}

/// The second container has 10.9.0.3: `host-local` counts up from the gateway.
fn nothing_left(machine: &Machine, host: &Host) -> Result {
    ensure_eq!(machine.list("/run/netns"), Vec::<String>::new(), "namespaces left");
    ensure_eq!(machine.list("/var/lib/cni/results"), Vec::<String>::new(), "results left");
    let left = machine.list("/var/lib/cni/networks/stock");
    ensure!(!left.iter().any(|name| name.starts_with("10.9.")), "addresses left: {left:?}");
    let links: Vec<_> = host.netlink().links()?.into_iter().map(|link| link.name).collect();
    ensure!(!links.iter().any(|name| name.starts_with("veth")), "interfaces left: {links:?}");
    Ok(())
}

pub(super) fn containerd(lab: &Lab) -> Result {
    let (machine, host) = machine(lab)?;
    let containerd = Containerd::start(lab, &machine)?;
    containerd.run("c1")?;
    containerd.run("c2")?;
    eventually(SOON, "c1 reaches c2", || containerd.exec("c1", "ping -c 1 -W 1 10.9.0.3"))?;
    let inside = containerd.container("c2")?;
    let addresses = inside.netlink().addresses()?;
    ensure!(addresses.iter().any(|(_, net)| net.to_string() == "10.9.0.3/24"), "addresses: {addresses:?}");
    drop(inside);
    // In the foreground it calls DEL.
    let said = machine.ok("ctr run --rm --cni localhost/busybox:latest c3 ip -4 address show eth0")?;
    ensure!(said.contains("10.9.0.4/24"), "in the foreground: {said}");
    containerd.kill("c1")?;
    containerd.kill("c2")?;
    eventually(SOON, "interfaces go with their namespaces", || {
        let links: Vec<_> = host.netlink().links()?.into_iter().map(|link| link.name).collect();
        ensure!(!links.iter().any(|name| name.starts_with("veth")), "interfaces left: {links:?}");
        Ok(())
    })?;
    // This is what nobody calling DEL comes to with the stock plugins.
    ensure_eq!(machine.list("/var/lib/cni/networks/stock").len(), 4, "two addresses and two files of its own");
    Ok(())
}

pub(super) fn podman(lab: &Lab) -> Result {
    let (machine, host) = machine(lab)?;
    let podman = Podman::start(lab, &machine, "stock")?;
    podman.run("c1", "", "")?;
    podman.run("c2", "", "")?;
    eventually(SOON, "c1 reaches c2", || podman.exec("c1", "ping -c 1 -W 1 10.9.0.3"))?;
    ensure_eq!(podman.networks("c2")?["stock"]["IPAddress"], "10.9.0.3", "address of c2");
    podman.container("c1")?.link("eth0")?;
    podman.ok("rm -f -t 0 c1 c2")?;
    nothing_left(&machine, &host)
}

pub(super) fn cri(lab: &Lab) -> Result {
    let (machine, host) = machine(lab)?;
    let containerd = Containerd::start(lab, &machine)?;
    let cri = containerd.cri();
    eventually(SOON, "pods may have networks", || {
        ensure_eq!(cri.network_trouble()?, None, "why not");
        Ok(())
    })?;
    let p1 = cri.run(lab, &PodSpec { name: "p1", ..PodSpec::default() })?;
    let p2 = cri.run(lab, &PodSpec { name: "p2", ports: vec![(80, 8080)], ..PodSpec::default() })?;
    ensure_eq!((&p1.addresses[..], &p2.addresses[..]), (&["10.9.0.2".into()][..], &["10.9.0.3".into()][..]), "pods");
    eventually(SOON, "p1 reaches p2", || cri.exec(&p1, "ping -c 1 -W 1 10.9.0.3"))?;
    let p2_inside = cri.container("p2", &p2)?;
    let peer = published(&cri.container("p1", &p1)?, "10.9.0.1:8080".parse()?, &p2_inside, 80)?;
    ensure_eq!(peer.ip().to_string(), "10.9.0.1", "whom p2 saw: portmap hides those of its own network");
    drop(p2_inside);
    for pod in [p1, p2] {
        cri.stop(&pod)?;
        cri.stop(&pod)?; // as the kubelet does until it believes it
        cri.remove(&pod)?;
    }
    nothing_left(&machine, &host)
}

use netns_tests::runtimes::{Containerd, Cri, PodSpec};
use netns_tests::traffic::{self, ping::ping as ping_from};
use netns_tests::{Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::json;

use super::{FAR, Site, ours, ping, published};
use crate::Tests;

pub(super) const TESTS: Tests = &[
    ("cri_on_two_hosts", on_two_hosts),
    ("cri_dual_stack", dual_stack),
    ("cri_host_port", host_port),
    ("cri_bandwidth", bandwidth),
    ("cri_out_of_addresses", out_of_addresses),
];

/// containerd, once it says that pods may have networks.
fn ready<'s>(lab: &Lab, site: &'s Site) -> Result<Cri<'s>> {
    let cri = Containerd::start(lab, &site.machine)?.cri();
    eventually(SOON, "pods may have networks", || {
        ensure_eq!(cri.network_trouble()?, None, "why not");
        Ok(())
    })?;
    Ok(cri)
}

fn pod(name: &'static str) -> PodSpec {
    PodSpec { name, ..PodSpec::default() }
}

fn on_two_hosts(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let cri = ready(lab, &site)?;
    let before = site.remains()?;
    let (p1, p2) = (cri.run(lab, &pod("p1"))?, cri.run(lab, &pod("p2"))?);
    ensure_eq!((&p1.addresses, &p2.addresses), (&vec!["10.20.0.2".into()], &vec!["10.20.0.3".into()]), "addresses");
    eventually(SOON, "p1 reaches p2", || cri.exec(&p1, &ping("10.20.0.3")))?;
    eventually(SOON, "p2 reaches the other host", || cri.exec(&p2, &ping(FAR)))?;
    ping_from(&site.far, "10.20.0.2".parse()?, 56)?;
    // Ports are called as users know them.
    ensure_eq!(site.attachment(&p1.id)?["port"], "default.p1:eth0", "port of p1");
    ensure_eq!(site.attachment(&p2.id)?["ifname"], "eth0", "interface of p2");
    for pod in [p1, p2] {
        cri.stop(&pod)?;
        ensure!(site.attachment(&pod.id).is_err(), "an attachment stays after StopPodSandbox");
        cri.stop(&pod)?; // as the kubelet does until it believes it
        cri.remove(&pod)?;
    }
    site.nothing_left(&before)
}

fn dual_stack(lab: &Lab) -> Result {
    let subnets = json!([{ "subnet": "10.20.0.0/24" }, { "subnet": "fd00:20::/64" }]);
    let mut plugin = ours(json!({ "subnets": subnets }));
    for key in ["subnet", "rangeEnd"] {
        plugin.as_object_mut().map(|plugin| plugin.remove(key));
    }
    let site = Site::joined(lab, &json!([plugin]))?;
    let cri = ready(lab, &site)?;
    let before = site.remains()?;
    let (p1, p2) = (cri.run(lab, &pod("p1"))?, cri.run(lab, &pod("p2"))?);
    ensure_eq!(p1.addresses, vec!["10.20.0.2".to_owned(), "fd00:20::2".to_owned()], "addresses of p1");
    for address in &p2.addresses {
        eventually(SOON, "p1 reaches p2", || cri.exec(&p1, &ping(address)))?;
    }
    for pod in [p1, p2] {
        cri.stop(&pod)?;
        cri.remove(&pod)?;
    }
    site.nothing_left(&before)
}

fn host_port(lab: &Lab) -> Result {
    let plugins = json!([
        ours(json!({ "isDefaultGateway": true, "ipMasq": true })),
        { "type": "portmap", "capabilities": { "portMappings": true } },
    ]);
    let site = Site::joined(lab, &plugins)?;
    let cri = ready(lab, &site)?;
    let before = site.remains()?;
    let p1 = cri.run(lab, &PodSpec { ports: vec![(80, 8080)], ..pod("p1") })?;
    let p2 = cri.run(lab, &pod("p2"))?;
    let (inside, other) = (cri.container("p1", &p1)?, cri.container("p2", &p2)?);
    let outside = (site.h1.ip, 8080).into();
    let peer = published(&site.h2.host, outside, &inside, 80)?;
    ensure_eq!(peer.ip(), site.h2.ip, "whom the pod saw behind the other host");
    published(&site.h1.host, outside, &inside, 80).map(drop)?;
    published(&other, outside, &inside, 80).map(drop)?;
    drop((inside, other));
    // Out again, behind the host's address.
    eventually(SOON, "a pod reaches the underlay", || cri.exec(&p2, &ping(&site.h2.ip.to_string())))?;
    for pod in [p1, p2] {
        cri.stop(&pod)?;
        cri.remove(&pod)?;
    }
    site.nothing_left(&before)
}

/// The kubelet's annotations come as the capability `bandwidth`; the stock plugin wants a veth.
fn bandwidth(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let cri = ready(lab, &site)?;
    let annotations = vec![("kubernetes.io/ingress-bandwidth", "20M"), ("kubernetes.io/egress-bandwidth", "10M")];
    let p1 = cri.run(lab, &PodSpec { annotations, ..pod("p1") })?;
    let limits = site.h1.ok("port show default.p1:eth0")?["limits"].clone();
    ensure_eq!(limits["tx"]["rate"], 20_000_000, "what the pod may receive, in {limits}");
    ensure_eq!(limits["rx"]["rate"], 10_000_000, "what the pod may send, in {limits}");
    cri.stop(&p1)?;
    cri.remove(&p1)
}

/// What the plugin says reaches the kubelet.
fn out_of_addresses(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({ "rangeEnd": "10.20.0.2" }))]))?;
    let cri = ready(lab, &site)?;
    let p1 = cri.run(lab, &pod("p1"))?;
    let one = site.remains()?;
    let said = cri.refused(lab, &pod("p2"))?;
    ensure!(said.contains("10.20.0.0/24"), "what is said: {said}");
    site.nothing_left(&one)?;
    cri.stop(&p1)?;
    let p3 = cri.run(lab, &pod("p3"))?;
    ensure_eq!(p3.addresses, vec!["10.20.0.2".to_owned()], "addresses of p3");
    traffic::ping::ping(&site.far, "10.20.0.2".parse()?, 56)
}

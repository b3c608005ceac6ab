use std::fs;
use std::path::Path;

use netns_tests::runtimes::{Containerd, Cri, IMAGE, PodSpec, Podman};
use netns_tests::{Context as _, Lab, Result, binaries::binaries, ensure, ensure_eq, eventually};
use netns_tests::{Failure, SOON};
use serde_json::{Value, json};

use super::{Place, Site, published};
use crate::Tests;

pub(super) const CONTAINERD: Tests =
    &[("containerd_by_the_document", containerd), ("by_hand_by_the_document", by_hand)];
pub(super) const PODMAN: Tests = &[("podman_by_the_document", podman)];
pub(super) const CRI: Tests = &[("cri_by_the_document", cri)];

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What the document calls the image, which comes from a registry there.
const DOCUMENTED_IMAGE: &str = "docker.io/library/busybox:latest";

/// A section of docs/cni.md.
struct Section(String);

impl Section {
    fn of(title: &str) -> Result<Self> {
        let text = fs::read_to_string(Path::new(REPOSITORY).join("docs/cni.md"))?;
        let after = text.split_once(&format!("\n## {title}\n")).context(format_args!("docs/cni.md has no {title}"))?.1;
        Ok(Self(after.split("\n## ").next().unwrap_or_default().to_owned()))
    }

    /// Its blocks of `language`, in their order.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let fence = format!("\n```{language}\n");
        self.0.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).collect()
    }

    /// Its list of plugins, which is also the file `name` of dist/cni.
    fn conflist(&self, name: &str) -> Result<Value> {
        let shown: Value = serde_json::from_str(self.blocks("json").first().context("no list of plugins")?)?;
        let shipped = fs::read_to_string(Path::new(REPOSITORY).join("dist/cni").join(name))?;
        ensure_eq!(shown, serde_json::from_str::<Value>(&shipped)?, "{name}, and what the document shows of it");
        Ok(shown)
    }

    /// Its commands, but what asks a registry.
    fn commands(&self) -> Result<String> {
        let blocks = self.blocks("sh");
        ensure!(!blocks.is_empty(), "no commands");
        let lines = blocks.iter().flat_map(|block| block.lines()).filter(|line| !line.contains(" image pull "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }
}

/// Runs commands in the repository, with our programs in the `PATH`.
fn run(site: &Site, commands: &str) -> Result<String> {
    let programs = binaries()?.vswitchd.parent().context("no folder")?;
    let script = format!("PATH={}:$PATH; cd {REPOSITORY}\n{commands}", programs.display());
    match site.machine.run(&["sh", "-ec", &script])? {
        (true, said) => Ok(said),
        (false, said) => Err(Failure::new(format!("{commands}: {said}"))),
    }
}

/// The first part of a list's range, and the gateway with the length of its subnet.
fn range(conflist: &Value) -> Result<(String, String)> {
    let ours = &conflist["plugins"][0];
    let text = |key: &str| ours[key].as_str().context(format_args!("no {key} in {ours}"));
    let length = text("subnet")?.split_once('/').context("no length")?.1;
    let first = text("rangeStart")?.rsplit_once('.').context("no IPv4 address")?.0;
    Ok((format!("{first}."), format!("{}/{length}", text("gateway")?)))
}

/// An empty network directory.
fn site(lab: &Lab) -> Result<Site> {
    let site = Site::new(lab, &json!([]))?;
    fs::remove_file(site.machine.file("/etc/cni/net.d/10-vsw.conflist"))?;
    Ok(site)
}

fn containerd(lab: &Lab) -> Result {
    let (section, site) = (Section::of("containerd")?, site(lab)?);
    let (first, gateway) = range(&section.conflist("containerd.conflist")?)?;
    let containerd = Containerd::start(lab, &site.machine)?;
    site.machine.ok(&format!("ctr image tag {IMAGE} {DOCUMENTED_IMAGE}"))?;
    let before = site.remains()?;
    let said = run(&site, &section.commands()?)?;
    ensure!(said.contains(&format!("inet {first}")), "addresses: {said}");
    site.nothing_left(&before)?;
    // And the gateway the list asks for.
    containerd.run("c1")?;
    let addresses = site.h1.host.netlink().addresses()?;
    ensure!(addresses.iter().any(|(_, net)| net.to_string() == gateway), "no {gateway}: {addresses:?}");
    let far = site.h2.ip.to_string();
    eventually(SOON, "c1 reaches the underlay", || containerd.exec("c1", &super::ping(&far)))?;
    containerd.kill("c1")
}

fn podman(lab: &Lab) -> Result {
    let (section, site) = (Section::of("Podman")?, site(lab)?);
    let (first, _) = range(&section.conflist("podman.conflist")?)?;
    let podman = Podman::start(lab, &site.machine, "vswitch")?;
    podman.ok(&format!("tag {IMAGE} {DOCUMENTED_IMAGE}"))?;
    let before = site.remains()?;
    let parent = format!("podman run --cgroup-parent /{} ", site.machine.cgroup());
    let commands = section.commands()?.replace("podman run ", &parent);
    let said = run(&site, &commands)?;
    let addresses: Vec<_> = said.lines().filter(|line| line.contains(&format!("inet {first}"))).collect();
    ensure!(addresses.len() >= 2 && said.contains("02:00:00:00:00:50"), "addresses: {said}");
    site.nothing_left(&before)?;
    podman.run("c1", "--network vswitch -p 8080:80", "")?;
    published(&site.h2.host, (site.h1.ip, 8080).into(), &podman.container("c1")?, 80)?;
    podman.ok("rm -f -t 0 c1")?;
    site.nothing_left(&before)
}

/// The list that the DaemonSet fills in on each node, with what its document says of a node.
fn cri(lab: &Lab) -> Result {
    let (section, site) = (Section::of("Kubernetes")?, site(lab)?);
    let conflist = section.conflist("kubernetes.conflist")?;
    let (first, _) = range(&conflist)?;
    site.machine.conflist("10-vswitch.conflist", &conflist)?;
    let cri: Cri<'_> = Containerd::start(lab, &site.machine)?.cri();
    eventually(SOON, "pods may have networks", || {
        ensure_eq!(cri.network_trouble()?, None, "why not");
        Ok(())
    })?;
    let before = site.remains()?;
    let pod = cri.run(lab, &PodSpec { name: "p1", ports: vec![(80, 8080)], ..PodSpec::default() })?;
    ensure!(pod.addresses.iter().any(|address| address.starts_with(&first)), "addresses: {:?}", pod.addresses);
    published(&site.h2.host, (site.h1.ip, 8080).into(), &cri.container("p1", &pod)?, 80)?;
    cri.stop(&pod)?;
    cri.remove(&pod)?;
    site.nothing_left(&before)
}

/// No runtime, and no daemon but the one the document starts.
fn by_hand(lab: &Lab) -> Result {
    let site = Site::with(lab, &json!([]), Place::Apart)?;
    fs::remove_file(site.machine.file("/run/vswitch/vswitch.sock"))?;
    let said = run(&site, &Section::of("By hand")?.commands()?)?;
    ensure!(said.contains("1 received") && said.contains("10.77.0.3"), "what it says: {said}");
    ensure_eq!(run(&site, "vsctl --json port list")?, "[]", "ports afterwards");
    Ok(())
}

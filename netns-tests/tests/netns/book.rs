//! Pages of `docs` and the tour of the README: every command of them is run as it stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipnet::IpNet;
use netns_tests::openvswitch::complete_checksums;
use netns_tests::page::{Walk, blocks};
use netns_tests::{
    Context as _, Host, Lab, OpenVswitch, Result, SOON, SuperFrames, UPLINK, Underlay, ensure, eventually,
};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("readme", readme),
    ("getting_started", getting_started),
    ("no_purge_under_a_daemon", no_purge_under_a_daemon),
    ("two_hosts", two_hosts),
    ("vlans_and_trunks", vlans_and_trunks),
    ("peers_kernel", peers_kernel),
    ("peers_openvswitch", peers_openvswitch),
    ("debugging", debugging),
    ("clean_root", clean_root),
    ("under_systemd", under_systemd),
    ("links", links),
];

/// The one that needs nothing.
pub(crate) const LINKS: &str = "links";
/// The one that needs Open vSwitch.
pub(crate) const WITH_OPENVSWITCH: &str = "peers_openvswitch";
/// The one that needs a package's tools.
pub(crate) const CLEAN_ROOT: &str = "clean_root";
/// The one that needs systemd besides.
pub(crate) const UNDER_SYSTEMD: &str = "under_systemd";

/// Why [`clean_root`] cannot be tried here.
pub(crate) fn no_package() -> Option<String> {
    missing(&["busybox", "dpkg", "dpkg-deb", "ldd"])
}

/// Why [`under_systemd`] cannot be tried here.
pub(crate) fn no_systemd() -> Option<String> {
    missing(&["dpkg", "dpkg-deb", "systemctl", "nsenter", "setpriv", "pkill"])
}

fn missing(tools: &[&str]) -> Option<String> {
    let missing: Vec<_> = tools
        .iter()
        .copied()
        .filter(|tool| {
            let asked = Command::new(tool).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_err()
        })
        .collect();
    (!missing.is_empty()).then(|| format!("needs {}", missing.join(", ")))
}

const INSTALL: &str = "dist/install.sh\n";
const START: &str = "systemctl enable --now vswitchd\n";

fn page(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).context(path.display())
}

/// The five minutes of the README, in one shell as it says.
fn readme(lab: &Lab) -> Result {
    let text = page("README.md")?;
    let (_, tour) = text.split_once("\n## A five-minute tour\n").context("a tour")?;
    let (tour, _) = tour.split_once("\n## ").context("an end of the tour")?;
    let host = lab.host("tour")?;
    let mut walk = Walk::new(lab);
    walk.enter("", &host, &[])?;
    walk.through(&blocks(tour)?)?;
    eventually(SOON, "nothing is left of the tour", || {
        let left = walk.run("", "find /tmp /run/netns -mindepth 1")?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })
}

fn getting_started(lab: &Lab) -> Result {
    let mut blocks = blocks(&page("docs/getting-started.md")?)?;
    let host = lab.host("host")?;
    let mut walk = Walk::new(lab);
    walk.enter("", &host, &[])?;
    // It is built already.
    let first = blocks.first_mut().context("commands")?;
    let (build, install) = first.commands.split_once('\n').context("more than one command")?;
    ensure!(build == "cargo build --release -p vswitch -p vsctl -p vswitch-cni", "first it is built: {build}");
    first.commands = install.to_owned();
    walk.through(&blocks)?;
    let left = walk.run("", "find /usr/local /etc/vswitch /opt /var/lib/vswitch ! -type d 2>/dev/null || true")?;
    ensure!(left.trim().is_empty(), "it leaves {left}");
    Ok(())
}

fn no_purge_under_a_daemon(lab: &Lab) -> Result {
    let host = lab.host("host")?;
    let mut walk = Walk::new(lab);
    walk.enter("", &host, &[])?;
    walk.run("", &format!("{INSTALL}{START}vsctl vlan add 10\n"))?;
    // Nor after an upgrade that nobody has told the daemon of.
    for before in ["", INSTALL] {
        walk.run("", before)?;
        for task in ["--uninstall", "--purge"] {
            let said = walk.run("", &format!("dist/install.sh {task} 2>&1 && echo done || echo ended with $?"))?;
            let pid = walk.run("", "cat /run/main")?;
            for part in [&*format!("process {} ", pid.trim()), "systemctl disable --now", "kill ", "ended with 1"] {
                ensure!(said.contains(part), "{task} under a daemon: {said}, without {part}");
            }
        }
    }
    let there = walk.run("", "vsctl vlan list; ls /usr/local/bin /var/lib/vswitch")?;
    for part in ["10", "vswitchd", "vsctl"] {
        ensure!(there.contains(part), "{part} is gone: {there}");
    }
    walk.run("", "systemctl disable --now vswitchd vswitchd.socket\ndist/install.sh --purge\n")?;
    let left = walk.run("", "find /usr/local /etc/vswitch /opt /var/lib/vswitch ! -type d 2>/dev/null || true")?;
    ensure!(left.trim().is_empty(), "it leaves {left}");
    Ok(())
}

/// A shell on each host of an underlay, the first of which have vswitch installed and started.
fn underlaid<'a>(lab: &'a Lab, labels: &[&str], ours: usize) -> Result<(Underlay, Vec<Host>, Walk<'a>)> {
    let underlay = Underlay::new(lab, 1500)?;
    let mut walk = Walk::new(lab);
    let mut hosts = Vec::new();
    for (place, label) in labels.iter().enumerate() {
        let host = lab.host(label)?;
        underlay.join(&host)?;
        walk.enter(label, &host, &[])?;
        if place < ours {
            walk.run(label, &format!("{INSTALL}{START}"))?;
        }
        hosts.push(host);
    }
    Ok((underlay, hosts, walk))
}

fn two_hosts(lab: &Lab) -> Result {
    let (_underlay, _hosts, mut walk) = underlaid(lab, &["first", "second"], 2)?;
    walk.through(&blocks(&page("docs/two-hosts.md")?)?)
}

fn vlans_and_trunks(lab: &Lab) -> Result {
    let host = lab.host("host")?;
    let mut walk = Walk::new(lab);
    walk.enter("", &host, &[])?;
    walk.run("", &format!("{INSTALL}{START}"))?;
    let mut blocks = blocks(&page("docs/vlans-and-trunks.md")?)?;
    const MADE: &str = "ip link add probe link lo type vlan id 1 2>&1 && ip link delete probe || true";
    if !walk.run("", MADE)?.trim().is_empty() {
        eprintln!("skipped: a part of docs/vlans-and-trunks.md: this kernel has no VLAN devices (8021q)");
        blocks.retain(|block| !block.commands.contains("type vlan"));
    }
    walk.through(&blocks)
}

/// The page stands alone, and after that which comes before it.
fn debugging(lab: &Lab) -> Result {
    let before = blocks(&page("docs/getting-started.md")?)?;
    let containers = before.iter().find(|block| block.commands.contains("vsctl port add")).context("containers")?;
    for (label, first) in [("alone", ""), ("after", containers.commands.as_str())] {
        let host = lab.host(label)?;
        let mut walk = Walk::new(lab);
        walk.enter(label, &host, &[])?;
        walk.run(label, &[INSTALL, START, first].concat())?;
        let mut blocks = blocks(&page("docs/debugging.md")?)?;
        blocks.iter_mut().for_each(|block| block.host = label.to_owned());
        walk.through(&blocks).context(label)?;
    }
    Ok(())
}

const PEERS: &str = "docs/peers-kernel-and-ovs.md";
const OPENVSWITCH: &str = "\n## Open vSwitch\n";

fn peers_kernel(lab: &Lab) -> Result {
    let text = page(PEERS)?;
    let (text, _) = text.split_once(OPENVSWITCH).context("a part on Open vSwitch")?;
    let (_underlay, _hosts, mut walk) = underlaid(lab, &["first", "kernel"], 1)?;
    walk.through(&blocks(text)?)
}

fn peers_openvswitch(lab: &Lab) -> Result {
    let text = page(PEERS)?;
    let (underlay, hosts, mut walk) = underlaid(lab, &["first", "kernel"], 1)?;
    let first = hosts.first().context("a first host")?;
    complete_checksums(first, UPLINK)?; // its underlay is no wire, on which they are complete
    let host = lab.quiet_host("ovs")?;
    let local = underlay.plug(&host)?.v4;
    let switch = OpenVswitch::start(lab, host, SuperFrames::Cut)?;
    switch.vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev")?;
    switch.vsctl(&format!("add-port br-phy {UPLINK}"))?;
    switch.host().address("br-phy", &[IpNet::new(local, 24)?])?;
    switch.host().up("br-phy")?;
    switch.host().up(UPLINK)?;
    let _container = switch.attach(lab.quiet_host("yellow")?, &["10.0.0.3/24".parse()?], 1450)?;
    let folder = lab.folder("ovs")?;
    walk.enter("ovs", switch.host(), &[("OVS_RUNDIR", &folder)])?;
    walk.through(&blocks(&text)?)
}

/// Pages of Markdown in `folder` and below.
fn pages(folder: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder).context(folder.display())? {
        let path = entry?.path();
        if path.is_dir() {
            pages(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    Ok(())
}

/// What a heading is called in links: GitHub's way.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

/// Links of all pages lead to files, and to headings, that are there.
fn links(_: &Lab) -> Result {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = vec![repository.join("README.md"), repository.join("benches/README.md")];
    pages(&repository.join("docs"), &mut all)?;
    ensure!(all.len() > 20, "only {} pages", all.len());
    let mut followed = 0;
    for page in all {
        let text = fs::read_to_string(&page)?;
        for link in text.split("](").skip(1).filter_map(|behind| behind.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            ensure!(target.exists(), "{}: nothing is at {link}", page.display());
            if !heading.is_empty() {
                let there = fs::read_to_string(&target)?;
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                let is_there = headings.any(|line| anchor(line.trim_start_matches('#')) == heading);
                ensure!(is_there, "{}: {link}: no such heading", page.display());
            }
            followed += 1;
        }
    }
    ensure!(followed > 50, "only {followed} links");
    Ok(())
}

/// The package, where nothing else is.
fn clean_root(lab: &Lab) -> Result {
    package(lab, "clean-root.sh", &["upgraded by takeover", "nothing is left"])
}

/// The package's units, by a systemd.
fn under_systemd(lab: &Lab) -> Result {
    package(lab, "under-systemd.sh", &["pings under way were answered", "nothing is left"])
}

/// Tries the package by a script of `dist/`, which says what it did.
fn package(lab: &Lab, script: &str, what: &[&str]) -> Result {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(script);
    let programs = netns_tests::binaries::binaries()?.vsctl.parent().context("vsctl lies somewhere")?.to_owned();
    let output = Command::new(path).env("BIN", programs).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    lab.note(&said);
    if output.status.code() == Some(77) {
        eprintln!("skipped: {said}"); // what it needs beyond what was looked for
        return Ok(());
    }
    ensure!(output.status.success(), "dist/{script}: {}: {said}", output.status);
    ensure!(what.iter().all(|words| said.contains(words)), "dist/{script} said {said}");
    Ok(())
}

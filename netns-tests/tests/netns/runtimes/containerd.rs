use netns_tests::runtimes::{Containerd, IMAGE};
use netns_tests::traffic::{self, ping::ping as ping_from};
use netns_tests::{Context as _, Lab, Result, SOON, ensure, ensure_eq, eventually};
use serde_json::json;

use super::{FAR, Place, Site, ours, ping};
use crate::Tests;

pub(super) const TESTS: Tests = &[
    ("containerd_on_two_hosts", on_two_hosts),
    ("containerd_never_calls_del", never_calls_del),
    ("containerd_while_no_daemon_runs", while_no_daemon_runs),
    ("containerd_whose_process_number_comes_again", process_number_comes_again),
    ("containerd_with_a_daemon_apart", with_a_daemon_apart),
    ("containerd_out_of_addresses", out_of_addresses),
];

fn on_two_hosts(lab: &Lab) -> Result {
    let site = Site::new(lab, &json!([ours(json!({}))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    let before = site.remains()?;
    containerd.run("c1")?;
    containerd.run("c2")?;
    // The VLAN and its VNI came with the first.
    site.h1.ok(&format!("vtep peer add {} --vlan 10", site.h2.ip))?;
    eventually(SOON, "c1 reaches c2", || containerd.exec("c1", &ping("10.20.0.3")))?;
    eventually(SOON, "c2 reaches the other host", || containerd.exec("c2", &ping(FAR)))?;
    ping_from(&site.far, "10.20.0.2".parse()?, 56)?;
    let c1 = containerd.container("c1")?;
    ensure_eq!(c1.link("eth0")?.mtu, 1450, "MTU");
    traffic::everything((&c1, "10.20.0.2".parse()?), (&site.far, FAR.parse()?), 1450, 1 << 20, 1)?;
    drop(c1);
    let attached = site.attachment(&format!("{}-c1", site.machine.cgroup()))?;
    ensure_eq!(attached["addresses"], json!(["10.20.0.2/24"]), "addresses of c1");
    ensure_eq!(attached["state"], "up", "state of c1");
    containerd.kill("c1")?;
    containerd.kill("c2")?;
    site.nothing_left(&before)?;
    // In the foreground it calls DEL. Addresses that were freed rest.
    let said = site.machine.ok(&format!("ctr run --rm --cni {IMAGE} c3 ip -4 address show eth0"))?;
    ensure!(said.contains("10.20.0.4/24"), "in the foreground: {said}");
    site.nothing_left(&before)?;
    ensure_eq!(site.kept_results().len(), 2, "results of containers without DEL");
    Ok(())
}

/// Its namespace just disappears; that of others stays as it is.
fn never_calls_del(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    containerd.run("c1")?;
    let before = site.remains()?;
    for round in 0..3 {
        containerd.run("doomed")?;
        eventually(SOON, "it reaches c1", || containerd.exec("doomed", &ping("10.20.0.2")))?;
        ensure!(site.remains()? != before, "round {round}: nothing came");
        containerd.kill("doomed")?;
        site.nothing_left(&before)?;
    }
    eventually(SOON, "c1 reaches the other host", || containerd.exec("c1", &ping(FAR))).map(drop)
}

/// Containers that end while no daemon runs are reaped at its start; those that live go on.
fn while_no_daemon_runs(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    containerd.run("c1")?;
    let before = site.remains()?;
    containerd.run("doomed")?;
    let site = site.meanwhile(lab, |machine| {
        let said = machine.refused(&format!("ctr run -d --cni {IMAGE} early"))?;
        ensure!(said.contains("vswitch"), "without a daemon: {said}");
        let containerd = Containerd::of(machine);
        let _ = machine.run(&["ctr", "container", "rm", "early"])?;
        containerd.kill("doomed")
    })?;
    site.nothing_left(&before)?;
    let containerd = Containerd::of(&site.machine);
    eventually(SOON, "c1 reaches the other host", || containerd.exec("c1", &ping(FAR)))?;
    containerd.run("next")?;
    eventually(SOON, "the next reaches c1", || containerd.exec("next", &ping("10.20.0.2"))).map(drop)
}

/// `ctr` names a namespace by a process. While no daemon runs the container ends, and another process gets its number,
/// with a namespace that is none of the switch's business: that of the host.
fn process_number_comes_again(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({}))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    let before = site.remains()?;
    containerd.run("doomed")?;
    let named = site.attachment(&format!("{}-doomed", site.machine.cgroup()))?["netns"].clone();
    let number = named.as_str().and_then(|path| path.split('/').nth(2)).and_then(|number| number.parse::<u32>().ok());
    let number = number.context(format_args!("{named} names no process"))?;
    let site = site.meanwhile(lab, |machine| {
        Containerd::of(machine).kill("doomed")?;
        // The number given last; tried again, since others start processes too.
        let again = format!("echo {} > /proc/sys/kernel/ns_last_pid; sleep 1000 & echo $!", number - 1);
        eventually(SOON, "a process has the number", || {
            let got = machine.run(&["sh", "-c", &again])?.1;
            ensure_eq!(got, number.to_string(), "number");
            Ok(())
        })
    })?;
    site.nothing_left(&before)
}

/// A name says nothing to this daemon, so a lost port stays until somebody who sees the namespaces tells: here DEL.
fn with_a_daemon_apart(lab: &Lab) -> Result {
    let site = Site::with(lab, &json!([ours(json!({}))]), Place::Apart)?;
    site.h1.join(10, 100, &[site.h2.ip])?;
    let containerd = Containerd::start(lab, &site.machine)?;
    let before = site.remains()?;
    containerd.run("c1")?;
    containerd.run("c2")?;
    eventually(SOON, "c1 reaches c2", || containerd.exec("c1", &ping("10.20.0.3")))?;
    eventually(SOON, "c2 reaches the other host", || containerd.exec("c2", &ping(FAR)))?;
    containerd.kill("c1")?;
    let c1 = format!("{}-c1", site.machine.cgroup());
    eventually(SOON, "c1 is lost", || {
        ensure_eq!(site.attachment(&c1)?["state"], "lost", "state");
        Ok(())
    })?;
    containerd.kill("c2")?;
    for name in ["c1", "c2"] {
        site.del(&format!("{}-{name}", site.machine.cgroup()))?;
    }
    site.nothing_left(&before)?;
    // In the foreground DEL comes by itself.
    site.machine.ok(&format!("ctr run --rm --cni {IMAGE} c3 {}", ping(FAR)))?;
    site.nothing_left(&before)
}

/// Two addresses, three containers: the third is refused and leaves nothing, and takes what the first gives back.
fn out_of_addresses(lab: &Lab) -> Result {
    let site = Site::joined(lab, &json!([ours(json!({ "rangeEnd": "10.20.0.3" }))]))?;
    let containerd = Containerd::start(lab, &site.machine)?;
    containerd.run("c1")?;
    containerd.run("c2")?;
    let before = site.remains()?;
    let said = site.machine.refused(&format!("ctr run -d --cni {IMAGE} c3"))?;
    ensure!(said.contains("10.20.0.0/24"), "what is said: {said}");
    site.nothing_left(&before)?;
    containerd.kill("c1")?;
    let c1 = format!("{}-c1", site.machine.cgroup());
    eventually(SOON, "c1 is reaped", || {
        ensure!(site.attachment(&c1).is_err(), "c1 is attached");
        Ok(())
    })?;
    containerd.run("c4")?;
    ensure_eq!(site.attachment(&format!("{}-c4", site.machine.cgroup()))?["addresses"], json!(["10.20.0.2/24"]), "c4");
    Ok(())
}

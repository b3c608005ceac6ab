//! What who listens hears of the end of a daemon, and of the one after it.

use netns_tests::{Context, Daemon, DaemonSpec, Lab, Monitoring, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_api::{Client, Request};

use super::{alone, exactly, words};

pub(super) fn a_takeover_and_restarts(lab: &Lab) -> Result {
    let spec = DaemonSpec::default();
    let Node { daemon, host, ip } = alone(lab, "")?;
    let monitoring = Monitoring::start(lab, daemon.vsctl(), "m", "")?;
    let brief = Monitoring::start(lab, daemon.vsctl(), "brief", "--kind takeover --no-reconnect")?;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    let expected =
        ["takeover.begun", "takeover.done", "disconnected another vswitchd has taken over", "reconnected", "snapshot"];
    let events = exactly(&monitoring, &expected.map(str::to_owned))?;
    ensure_eq!(events[5]["status"]["pid"], daemon.pid(), "who tells now");
    let brief = brief.ended()?;
    ensure_eq!(brief.code, Some(3), "exit code: {}", brief.said);
    ensure!(brief.said.contains("another vswitchd has taken over"), "{}", brief.said);
    ensure_eq!(brief.events.last().map(words), Some(expected[2].to_owned()), "its last event");
    // It listens.
    daemon.vsctl().ok("vlan add 10")?;
    let (mut place, _) = monitoring.find_after(5, "a VLAN", |event| words(event) == "vlan.added 10")?;
    // And goes on, however the next one ends.
    let mut daemon = daemon;
    for (signal, why) in [(Signal::SIGTERM, "vswitchd ends"), (Signal::SIGKILL, "vswitchd has gone")] {
        daemon.end(signal)?;
        let is_told = |event: &Value| words(event) == format!("disconnected {why}");
        (place, _) = monitoring.find_after(place, "its end", is_told)?;
        daemon = Daemon::start(lab, &host, &spec)?;
        let (again, _) = monitoring.find_after(place, "its return", |event| event["event"] == "reconnected")?;
        let events = eventually(SOON, "a snapshot", || {
            let events = monitoring.events()?;
            ensure!(events.len() > again + 1, "{events:?}");
            Ok(events)
        })?;
        ensure_eq!(events[again + 1]["status"]["pid"], daemon.pid(), "who tells now");
        ensure_eq!(again, place + 1, "what is told in between");
        place = again + 1;
    }
    daemon.vsctl().ok("vlan add 11")?;
    monitoring.find_after(place, "a VLAN", |event| words(event) == "vlan.added 11")?;
    // Who waits for a daemon can be told to end; who never met one does not wait.
    let vsctl = daemon.vsctl().clone();
    daemon.end(Signal::SIGTERM)?;
    monitoring.find_after(place, "its end", |event| event["event"] == "disconnected")?;
    ensure_eq!(monitoring.stop()?.code, Some(0), "exit code");
    vsctl.refused(3, "monitor")?;
    drop((host, ip));
    Ok(())
}

pub(super) fn a_takeover_that_fails(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let monitoring = Monitoring::start(lab, node.vsctl(), "m", "--kind takeover")?;
    let mut heir = Client::connect(node.daemon.socket(), SOON)?;
    let begin = Request::decode("takeover.begin", json!({"format": 1})).map_err(|error| error.to_string());
    heir.call_value(&begin.context("a request")?)?;
    monitoring.named("takeover.begun")?;
    // Somebody may begin to listen meanwhile.
    let late = Monitoring::start(lab, node.vsctl(), "late", "")?;
    drop(heir);
    let failed = ["takeover.begun".to_owned(), "takeover.failed the other left".to_owned()];
    exactly(&monitoring, &failed)?;
    exactly(&late, &failed[1..])?;
    Ok(())
}

//! A takeover that stops half-way, at any point: one of the two serves.

use std::time::Duration;

use netns_tests::traffic::ping::ping;
use netns_tests::traffic::stream::Probes;
use netns_tests::{Context, Daemon, Failure, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Site, Speaker, serves};

pub(super) fn one_that_is_killed(lab: &Lab) -> Result {
    const ROUNDS: usize = 24;
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let pid = h1.node.daemon.pid();
    // Before it has said anything, while it prepares itself, and while frames wait: whenever it stops, the other serves.
    for words in 0..3 {
        let mut speaker = Speaker::new(&h1.node.daemon)?;
        if words > 0 {
            speaker.begin()?;
            let said = h1.node.vsctl().refused(1, "vlan add 77")?;
            ensure!(said.contains("takeover is under way"), "a change meanwhile: {said}");
            h1.node.ok("port list")?;
        }
        if words > 1 {
            speaker.pause()?;
        }
        drop(speaker);
        serves(&h1.node, &c1, "10.0.0.2").context(format_args!("after {words} words"))?;
    }
    // A real one, killed at any moment.
    let mut node = h1.node;
    let mut random = lab.random();
    let mut done = 0;
    for round in 0..ROUNDS {
        let Node { daemon, host, ip } = node;
        let next = daemon.successor(lab, &host, &h1.spec)?;
        // Early moments and late ones, on a machine that is fast and on one that is busy: up to 1 to 32 ms.
        let moment = Duration::from_micros(u64::try_from(random.below(1 << (10 + round % 6)))?);
        let start = std::time::Instant::now();
        while start.elapsed() < moment {
            std::thread::yield_now();
        }
        // What it is at that moment decides who serves: one of the two does.
        kill(Pid::from_raw(next.pid().try_into()?), Signal::SIGKILL)?;
        next.ended()?;
        let is_old_there =
            eventually(SOON, "somebody or nobody answers", || match daemon.vsctl().run("status")?.code {
                0 => Ok(true),
                3 => Ok(false),
                code => Err(Failure::new(format!("vsctl status: exit code {code}"))),
            })?;
        let daemon = if is_old_there {
            daemon
        } else {
            // It had taken over, and was the daemon that was killed.
            done += 1;
            let status = daemon.ended()?;
            ensure!(status.success(), "the old daemon ended by itself, {status}");
            let next = Daemon::start(lab, &host, &h1.spec)?;
            // Its word, not that of the one killed, which may not have come so far as to say that it serves.
            let handed_over = next.log()?.matches("ending: another vswitchd has taken over").count();
            ensure_eq!(handed_over, done, "the old daemon is gone without having handed over");
            next
        };
        node = Node { daemon, host, ip };
        serves(&node, &c1, "10.0.0.2")?;
    }
    println!("{done} of {ROUNDS} had taken over when they were killed; the first process was {pid}");
    Ok(())
}

pub(super) fn one_that_falls_silent(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 2)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let mut speaker = Speaker::new(&h1.node.daemon)?;
    speaker.begin()?;
    // Frames move while it prepares itself.
    ping(&c1, "10.0.0.2".parse()?, 56)?;
    // They wait while it is silent, and are not lost.
    let probes = Probes::start(&c2, &c1, "10.0.0.1".parse()?)?;
    speaker.pause()?;
    eventually(SOON, "the daemon serves on", || h1.node.ok("vlan add 77"))?;
    let said = speaker.say("takeover.commit", &json!({}))?;
    ensure_eq!(said["error"]["code"], 1, "a word that comes too late: {said}");
    let log = h1.node.daemon.log()?;
    ensure!(log.contains("takeover was not completed") && log.contains("silent"), "the log says nothing of it");
    h1.node.ok("vlan del 77")?;
    let answered = probes.stop()?;
    println!("{} probes, {} lost, the longest took {:?}", answered.sent, answered.lost.len(), answered.longest);
    ensure!(answered.longest >= Duration::from_millis(300), "nothing has waited: {answered:?}");
    serves(&h1.node, &c1, "10.0.0.2")
}

/// The lock decides, at the moments when words cannot: between the pause and the last word.
pub(super) fn who_holds_the_state_directory_serves(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let lock = || Ok::<_, Failure>(std::fs::File::open(lab.folder("h1")?.join("state"))?);
    let paused = || {
        let mut speaker = Speaker::new(&h1.node.daemon)?;
        speaker.begin()?;
        ensure!(lock()?.try_lock().is_err(), "the lock can be had before the pause");
        speaker.pause()?;
        let lock = lock()?;
        lock.try_lock()?;
        Ok::<_, Failure>((speaker, lock))
    };
    // It dies with the lock: its connection may close a moment before.
    let (speaker, held) = paused()?;
    drop(speaker);
    drop(held);
    serves(&h1.node, &c1, "10.0.0.2")?;
    // It gives up, and leaves in an orderly way.
    let (speaker, held) = paused()?;
    drop(held);
    drop(speaker);
    serves(&h1.node, &c1, "10.0.0.2")?;
    // It has the lock and does not say so: it serves all the same, as far as the old one can tell.
    let (speaker, held) = paused()?;
    let socket = h1.node.daemon.socket().to_owned();
    ensure_eq!(h1.node.daemon.ended()?.code(), Some(0), "exit code of the old daemon");
    ensure!(socket.exists(), "it removed the socket, which is the other's by now");
    drop((speaker, held));
    Ok(())
}

pub(super) fn words_out_of_place(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let (mut one, mut other) = (Speaker::new(&h1.node.daemon)?, Speaker::new(&h1.node.daemon)?);
    let refused = |answer: Value, part: &str| {
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        ensure!(message.contains(part), "{part:?} is not in {answer}");
        Ok(())
    };
    refused(one.say("takeover.pause", &json!({}))?, "in this order")?;
    refused(one.say("takeover.commit", &json!({}))?, "in this order")?;
    refused(one.say("takeover.begin", &json!({"format": 99}))?, "99")?;
    refused(one.say("takeover.begin", &json!({}))?, "format")?;
    one.begin()?;
    refused(other.say("takeover.begin", &json!({"format": 1}))?, "under way")?;
    refused(other.say("takeover.pause", &json!({}))?, "in this order")?;
    refused(one.say("takeover.commit", &json!({}))?, "in this order")?;
    one.pause()?;
    refused(one.say("takeover.pause", &json!({}))?, "in this order")?;
    // Who does not hold the state directory does not serve, whatever it says.
    refused(one.say("takeover.commit", &json!({}))?, "lock")?;
    serves(&h1.node, &c1, "10.0.0.2")
}

//! Many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use netns_tests::{Context, Daemon, DaemonSpec, Failure, Lab, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use vswitch_api::{Client, ClientError};

use super::{Plugin, attach, daemon};

/// 16 clients attach 1,000 interfaces, and the daemon is killed in the middle: no address is given twice, and each that
/// was acknowledged is there.
pub(super) fn a_thousand_at_once(lab: &Lab) -> Result {
    const CLIENTS: usize = 16;
    const ALL: usize = 1000;
    let (host, first) = daemon(lab)?;
    let containers = (0..8).map(|number| lab.quiet_host(&format!("c{number}"))).collect::<Result<Vec<_>>>()?;
    let (next, socket) = (AtomicUsize::new(0), first.socket().to_owned());
    let namespaces: Vec<_> = containers.iter().map(|container| (container.netns(), container.path())).collect();
    // One client's work: what was acknowledged, until all is done or nobody answers.
    let work = || {
        let mut given = BTreeMap::new();
        let mut plugin = Plugin(Client::connect(&socket, SOON)?);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= ALL {
                return Ok::<_, Failure>(given);
            }
            let (netns, path) = &namespaces[number % namespaces.len()];
            let more = json!({"port": {"ifname": format!("e{number}")}, "pools": [{"subnet": "10.0.0.0/20"}]});
            let params = attach(&format!("c{number}"), path, more);
            match plugin.say("attachment.add", params, &[netns.as_fd()]) {
                Ok(answer) => given.insert(number, answer["port"]["addresses"].clone()),
                Err(ClientError::Refused(error)) => return Err(Failure::new(error.message)),
                Err(_) => return Ok(given), // it was killed
            };
        }
    };
    let crowd = |killed: Option<u32>| {
        thread::scope(|scope| {
            let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
            if let Some(pid) = killed {
                eventually(SOON * 3, "half of them are asked for", || {
                    ensure!(next.load(Ordering::Relaxed) > ALL / 2, "they are not");
                    Ok(())
                })?;
                kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
            }
            let mut given = BTreeMap::new();
            for one in all {
                given.extend(one.join().map_err(|_| Failure::new("a client panicked"))??);
            }
            Ok::<_, Failure>(given)
        })
    };
    let start = Instant::now();
    let mut given = crowd(Some(first.pid()))?;
    let (half, took) = (given.len(), start.elapsed());
    drop(first);
    let second = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let mut plugin = Plugin::of(&second)?;
    let check = |plugin: &mut Plugin, given: &BTreeMap<usize, Value>| {
        let list = plugin.ask("attachment.list", json!({}))?;
        let list = list.as_array().context("no list")?;
        let mut found = BTreeMap::new();
        for one in list {
            let number: usize = one["container"].as_str().unwrap_or_default().trim_start_matches('c').parse()?;
            ensure_eq!(one["state"], "up", "state of {number}");
            found.insert(number, one["addresses"].clone());
        }
        for (number, address) in given {
            ensure_eq!(found.get(number), Some(address), "address of {number}");
        }
        let each: BTreeSet<_> = found.values().map(Value::to_string).collect();
        ensure_eq!(each.len(), list.len(), "addresses, each of one attachment");
        Ok(list.len())
    };
    let there = check(&mut plugin, &given)?;
    ensure!(half > 0 && there <= half + CLIENTS, "{there} are there and {half} were acknowledged");
    let again = Instant::now();
    given.extend(crowd(None)?);
    println!(
        "{half} attached by {CLIENTS} clients in {took:?}, SIGKILL, {} more in {:?}",
        given.len() - half,
        again.elapsed()
    );
    check(&mut plugin, &given)?;
    // Each is where it belongs, with its address and no other.
    for (number, addresses) in given.iter().step_by(97) {
        let inside = &containers[number % containers.len()];
        let index = inside.link(&format!("e{number}"))?.index;
        let own = inside.netlink().addresses()?.into_iter().filter(|(at, _)| *at == index);
        let own: Vec<_> = own.map(|(_, net)| net.to_string()).collect();
        ensure_eq!(&json!(own), addresses, "addresses of e{number} in its namespace");
    }
    Ok(())
}

//! Ports, VLANs, peers and static addresses that come and go.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;

use netns_tests::{Context, Host, Lab, Node, Random, Result, SOON, Vsctl, ensure, eventually};
use serde_json::Value;

use crate::gauges::{Gauges, Wires};

/// `vsctl`'s exit codes: refused, and no daemon there to ask, or none any more.
const REFUSED: i32 = 1;
const NO_DAEMON: i32 = 3;
/// Threads for ports: each waits for answers, most of the time.
const THREADS: u64 = 3;
/// Containers that are used again, of each thread: one that has a port has no other.
const POOL: usize = 2;
/// One cycle of so many has a namespace of its own.
const OWN: u64 = 4;
/// VLANs that come and go: 1000 and the next ones.
const VLANS: usize = 50;

/// How much was done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cycles {
    pub(crate) ports: u64,
    pub(crate) lost: u64,
    pub(crate) settings: u64,
}

/// What comes and goes on one host.
#[derive(Debug)]
pub(crate) struct Churn<'a> {
    lab: &'a Lab,
    vsctl: Vsctl,
    /// A port that stays.
    port: &'static str,
    stop: &'a AtomicBool,
    seed: u64,
    ports: AtomicU64,
    lost: AtomicU64,
    settings: AtomicU64,
    findings: Mutex<Vec<String>>,
}

impl<'a> Churn<'a> {
    pub(crate) fn new(lab: &'a Lab, vsctl: Vsctl, port: &'static str, stop: &'a AtomicBool, seed: u64) -> Self {
        let (ports, lost, settings) = Default::default();
        Self { lab, vsctl, port, stop, seed, ports, lost, settings, findings: Mutex::default() }
    }

    /// Starts threads: some for ports, one for all else.
    pub(crate) fn start<'s>(&'s self, scope: &'s Scope<'s, '_>, gauges: &Gauges<'_>) -> Result {
        for number in 0..THREADS {
            let wires = gauges.wires()?;
            scope.spawn(move || self.until_stopped(|| self.ports(number, &wires)));
        }
        scope.spawn(move || self.until_stopped(|| self.settings()));
        Ok(())
    }

    fn until_stopped(&self, work: impl FnOnce() -> Result) {
        if let Err(failure) = work() {
            self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(format!("churn: {failure}"));
        }
    }

    pub(crate) fn cycles(&self) -> Cycles {
        let [ports, lost, settings] =
            [&self.ports, &self.lost, &self.settings].map(|count| count.load(Ordering::Relaxed));
        Cycles { ports, lost, settings }
    }

    pub(crate) fn findings(&self) -> Vec<String> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn ports(&self, number: u64, wires: &Wires) -> Result {
        let pool: Vec<Host> = (0..POOL).map(|_| self.lab.quiet_host("pool")).collect::<Result<_>>()?;
        let mut random = Random::new(self.seed ^ number);
        for turn in 0_u64.. {
            if self.is_over() {
                return Ok(());
            }
            let own = if turn.is_multiple_of(OWN) { Some(wires.host(self.lab)?) } else { None };
            let path = own.as_ref().map_or_else(|| pool[random.below(POOL)].path(), |own| own.path.clone());
            let mode = match random.below(3) {
                0 => "--access 10".to_owned(),
                1 => format!("--access {}", 1000 + random.below(VLANS)),
                _ => "--trunk 10-20,1000-1049 --native 30".to_owned(),
            };
            let address = format!("10.1.{}.{}/16", random.below(200), 1 + random.below(200));
            let name = format!("t{number}-{turn}");
            self.insist(&format!("port add {name} --netns {} --address {address} {mode}", path.display()), None)?;
            if random.below(2) == 0 {
                self.insist(&format!("port set {name} --mtu {}", 1280 + random.below(100)), None)?;
            }
            if let Some(own) = own {
                // The container ends first, as it does where it crashes.
                drop(own);
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            self.insist(&format!("port del {name}"), Some("no port"))?;
            self.ports.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn settings(&self) -> Result {
        let mut random = Random::new(!self.seed);
        while !self.is_over() {
            let vlan = 1000 + random.below(VLANS);
            let peer = format!("203.0.113.{}", 1 + random.below(200));
            let mac = format!("02:f3:00:00:00:{:02x}", random.below(256));
            self.insist(&format!("vlan add {vlan} --vni {}", vlan + 5000), None)?;
            self.insist(&format!("vtep peer add {peer} --vlan {vlan}"), None)?;
            self.insist(&format!("fdb add {mac} --vlan 10 --port {}", self.port), None)?;
            self.insist(&format!("fdb del {mac} --vlan 10"), Some("no "))?;
            self.insist(&format!("vtep peer del {peer}"), Some("no "))?;
            self.insist(&format!("vlan del {vlan}"), Some("no "))?;
            self.settings.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Says it until a daemon has done it. Who was not answered does not know whether it was done: `done` is in the
    /// refusal that then says so.
    fn insist(&self, words: &str, done: Option<&str>) -> Result {
        let mut unanswered = false;
        eventually(SOON, words, || {
            let answer = self.vsctl.run(words)?;
            if answer.code == NO_DAEMON {
                unanswered = true;
                ensure!(false, "{}", answer.stderr);
            }
            // For some milliseconds of a takeover nothing can be changed.
            ensure!(!answer.stderr.contains("a takeover is under way"), "{}", answer.stderr);
            let refused_as_done =
                answer.code == REFUSED && unanswered && done.is_some_and(|done| answer.stderr.contains(done));
            if answer.code == 0 || refused_as_done {
                return Ok(Ok(()));
            }
            Ok(Err(netns_tests::Failure::new(format!("vsctl {words}: exit code {}: {}", answer.code, answer.stderr))))
        })?
    }
}

/// All that was configured: lists by name, without what traffic teaches.
pub(crate) fn settings(vsctl: &Vsctl) -> Result<Value> {
    let mut all = vsctl.everything()?;
    let lists = all.as_array_mut().context("a list of lists")?;
    for entries in lists.iter_mut().filter_map(Value::as_array_mut) {
        entries.retain(|entry| entry["kind"] != "learned");
    }
    Ok(all)
}

/// What is otherwise than `wanted`.
pub(crate) fn differences(node: &Node, wanted: &Value) -> Result<Vec<String>> {
    let have = settings(node.vsctl())?;
    let (wanted, have, name) = (flat("", wanted), flat("", &have), node.host.name());
    let differs = have.iter().filter(|(place, value)| wanted.get(*place) != Some(*value));
    let missing = wanted.iter().filter(|(place, _)| !have.contains_key(*place));
    Ok(differs
        .map(|(place, value)| format!("{name}: {place} is {value}, and was {:?}", wanted.get(place)))
        .chain(missing.map(|(place, value)| format!("{name}: {place} was {value} and is gone")))
        .collect())
}

/// A value's leaves by their places.
fn flat(place: &str, value: &Value) -> BTreeMap<String, Value> {
    match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(index, item)| flat(&format!("{place}/{index}"), item)).collect()
        }
        Value::Object(fields) => fields.iter().flat_map(|(key, item)| flat(&format!("{place}/{key}"), item)).collect(),
        leaf => BTreeMap::from([(place.to_owned(), leaf.clone())]),
    }
}

//! Those who listen to what happens (`monitor.start`).
//!
//! Nothing here is on a frame's way. What people and containers do is told as it is done, by what is then another than
//! before ([`state`]); what frames do to addresses is written down by the switch, in a journal that is emptied ten times
//! a second ([`addresses`]); what is dropped is counted anyway, and looked at once a second ([`tallies`]). While nobody
//! listens none of that is done.
//!
//! A reader who is slow loses events, and is told how many.

mod addresses;
mod listener;
mod state;
mod tallies;

use std::mem;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vswitch_api::monitor::{Event, Listen, Listening, What};
use vswitch_api::reply::TUNNEL;
use vswitch_api::{Code, PortName, RpcError};
use vswitch_core::switch::FdbEvent;

use super::answer::{Answer, json};
use super::feeds::Feeds;
use super::handover::under_way;
use super::observe::{no_stream, reasons};
use super::{Control, ControlError};
use crate::clock;
use crate::counters::Counters;
use crate::observe::{Epoch, Feed};
use listener::{Listener, last_words};
use state::State;
use tallies::{Counts, Tallies, Where};

/// Those who may listen at one time, and of one user.
const MOST: usize = 32;
const MOST_OF_USER: usize = 8;
/// Between two looks at the journal of addresses.
const ADDRESSES: Duration = Duration::from_millis(100);
/// Between two looks at the counters.
const COUNTERS: Duration = Duration::from_secs(1);

/// Those who listen.
#[derive(Debug)]
pub(super) struct Monitors {
    listeners: Vec<Listener>,
    feeds: Feeds,
    /// What they were told; `None` while there are none.
    told: Option<Told>,
    /// Storage for events, empty in between.
    events: Vec<FdbEvent>,
}

/// What listeners were told.
#[derive(Debug)]
struct Told {
    state: State,
    tallies: Tallies,
    /// When to look again.
    addresses_at: Instant,
    counters_at: Instant,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { listeners: Vec::new(), feeds: Feeds::new("monitor"), told: None, events: Vec::new() }
    }
}

impl Monitors {
    /// Tells those who want it. `before` is the state that was, where that is another one.
    fn tell(&mut self, at: u64, what: What, before: Option<&State>) {
        let Some(told) = &self.told else { return };
        let states = || before.into_iter().chain([&told.state]);
        let is_in = |port: &str, remote, vlan| states().any(|state| state.is_in(port, remote, vlan));
        let event = Event { at, what };
        let mut line = Vec::new();
        for listener in &mut self.listeners {
            if listener.asks().wants(&event.what, is_in) {
                if line.is_empty() {
                    write(&mut line, &event);
                }
                listener.offer(at, &line);
            }
        }
    }

    /// Sends what was told.
    fn flush(&mut self) {
        let now = now();
        self.listeners.retain_mut(|listener| listener.flush(now));
    }
}

impl Control {
    /// `monitor.start` of user `uid`; the reader's socket is among `fds`.
    pub(super) fn listen(&mut self, asks: &Listen, uid: u32, fds: Vec<OwnedFd>) -> Answer {
        if self.is_handed_over {
            return Err(under_way());
        }
        // What there was until now is for those who listen already.
        self.tell_addresses();
        self.tell_changes();
        self.monitors.flush();
        let of_user = self.monitors.listeners.iter().filter(|listener| listener.uid() == uid).count();
        if of_user >= MOST_OF_USER || self.monitors.listeners.len() >= MOST {
            let message = format!(
                "{} listen already, {of_user} of them as user {uid}: {MOST} may, {MOST_OF_USER} of a user; end one",
                self.monitors.listeners.len()
            );
            return Err(RpcError::new(Code::Conflict, message));
        }
        let Ok([stream]) = <[OwnedFd; 1]>::try_from(fds) else { return Err(no_stream("there is none, or more")) };
        let (feed, outlet) = Feed::new(stream, last_words).map_err(no_stream)?;
        if self.monitors.told.is_none() {
            let tallies = Tallies::new(self.drop_counts()?);
            self.addresses.fdb_listen(true);
            let now = Instant::now();
            let (addresses_at, counters_at) = (now + ADDRESSES, now + COUNTERS);
            self.monitors.told = Some(Told { state: self.state(), tallies, addresses_at, counters_at });
        }
        let snapshot = Event { at: now(), what: self.what_there_is(asks)? };
        let is_confined = self.rights.sandbox.is_some();
        let failed = |error| RpcError::new(Code::Host, format!("no thread can be had for events: {error}"));
        self.monitors.feeds.add(outlet.clone(), feed, is_confined).map_err(failed)?;
        self.monitors.listeners.push(Listener::new(asks.clone(), uid, outlet));
        json(Listening { snapshot, reasons: reasons() })
    }

    fn what_there_is(&self, asks: &Listen) -> Result<What, RpcError> {
        let ports = self.desired.ports().map(|spec| self.port_info(spec)).filter(|port| asks.wants_port(port));
        let vlans = self.desired.vlans().map(|spec| spec.vlan).filter(|&vlan| asks.wants_vlan(vlan));
        Ok(What::Snapshot {
            status: Box::new(self.status()?),
            ports: ports.collect(),
            vlans: vlans.map(|vlan| self.vlan_info(vlan)).collect(),
            peers: self.peers().into_iter().filter(|peer| asks.wants_peer(peer)).collect(),
        })
    }

    /// Tells what is due; says how long until there may be more, `None` while nobody listens.
    pub(super) fn tend_monitors(&mut self) -> Option<Duration> {
        self.monitors.told.as_ref()?;
        self.tell_changes();
        let now = Instant::now();
        if let Some(told) = self.monitors.told.as_mut().filter(|told| told.addresses_at <= now) {
            told.addresses_at = now + ADDRESSES;
            self.tell_addresses();
        }
        if let Some(told) = self.monitors.told.as_mut().filter(|told| told.counters_at <= now) {
            told.counters_at = now + COUNTERS;
            self.tell_drops();
        }
        self.monitors.flush();
        self.monitors.feeds.count(); // lets those go that have ended
        if self.monitors.listeners.is_empty() {
            self.stop_listening();
        }
        let Told { addresses_at, counters_at, .. } = self.monitors.told.as_ref()?;
        Some(addresses_at.min(counters_at).saturating_duration_since(now))
    }

    fn stop_listening(&mut self) {
        self.addresses.fdb_listen(false);
        self.monitors.told = None;
        self.monitors.events = Vec::new();
    }

    /// Tells that something happened just now.
    pub(super) fn tell(&mut self, what: What) {
        self.monitors.tell(now(), what, None);
        self.monitors.flush();
    }

    /// Tells what is otherwise than was told last.
    pub(super) fn tell_changes(&mut self) {
        if self.monitors.told.as_ref().is_none_or(|told| told.state.is_of(self)) {
            return;
        }
        let after = self.state();
        let Some(told) = &mut self.monitors.told else { return };
        let before = mem::replace(&mut told.state, after);
        let changes = told.state.since(&before);
        for what in &changes {
            if let What::PortDeleted(port) = what {
                told.tallies.forget(&port.name);
            }
        }
        let at = now();
        changes.into_iter().for_each(|what| self.monitors.tell(at, what, Some(&before)));
        self.monitors.flush();
    }

    fn tell_drops(&mut self) {
        let counts = match self.drop_counts() {
            Ok(counts) => counts,
            Err(error) => return tracing::error!(%error, "drops cannot be told"),
        };
        let Some(told) = &mut self.monitors.told else { return };
        let (at, moment) = (now(), Instant::now());
        told.counters_at = moment + COUNTERS; // from what they are told, and not from when it was due
        let drops = told.tallies.count(moment, counts);
        drops.into_iter().for_each(|what| self.monitors.tell(at, what, None));
    }

    /// Tells what port `name`, which goes, dropped since that was told last; `counted` is all it ever counted.
    pub(super) fn tell_last_drops(&mut self, name: &PortName, counted: &Counters) {
        // A port of a change that is taken back was never told.
        let Some(told) = self.monitors.told.as_mut().filter(|told| told.state.has_port(name)) else { return };
        let drops = told.tallies.close(Instant::now(), name, counted.drops());
        let at = now();
        drops.into_iter().for_each(|what| self.monitors.tell(at, what, None));
    }

    /// What was dropped so far.
    fn drop_counts(&self) -> Result<Counts, ControlError> {
        let counted = self.counted()?;
        let port = |name: &PortName| {
            let mut all = self.counted_before.get(name).cloned().unwrap_or_default();
            if let Some(live) = self.live.get(name).and_then(|port| counted.ports.get(&port.id)) {
                all.add(live);
            }
            (Where::Port(name.clone()), all.drops())
        };
        let ports = self.desired.ports().map(|spec| port(&spec.name));
        let remotes = self.remotes.iter().filter_map(|(ip, id)| {
            let counters = counted.remotes.get(id)?;
            Some((Where::Remote(*ip), counters.drops()))
        });
        Ok(ports.chain(remotes).chain([(Where::Tunnel, counted.tunnel.drops())]).collect())
    }

    /// Tells all who look on the rest, and why nothing more comes: those who capture, and those who listen.
    pub(super) fn end_feeds(&mut self, capture: &str, monitor: &str) {
        if self.monitors.told.is_some() {
            self.tell_changes();
            self.tell_addresses();
            self.tell_drops();
            self.monitors.flush();
        }
        self.watchers.feeds.end(capture);
        self.monitors.feeds.end(monitor);
        Feeds::let_go([&mut self.watchers.feeds, &mut self.monitors.feeds]);
        self.monitors.listeners.clear();
        self.stop_listening();
    }
}

/// Where frames are counted, in words.
fn place(place: &Where) -> (String, Option<std::net::IpAddr>) {
    match place {
        Where::Port(name) => (name.to_string(), None),
        Where::Remote(ip) => (TUNNEL.to_owned(), Some(*ip)),
        Where::Tunnel => (TUNNEL.to_owned(), None),
    }
}

/// Now, in nanoseconds since 1970.
fn now() -> u64 {
    Epoch::now().of(clock::now())
}

/// Writes `event` as a line.
fn write(line: &mut Vec<u8>, event: &Event) {
    if let Err(error) = serde_json::to_writer(&mut *line, event) {
        tracing::error!(%error, "an event cannot be told");
    }
    line.push(b'\n');
}

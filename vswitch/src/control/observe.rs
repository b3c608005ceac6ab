//! Frames for those who watch: each has a thread of his own, which ends when he goes.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use vswitch_api::observe::{Capture, Last, Place, Watching};
use vswitch_api::{Code, Observe, RpcError};

use super::answer::{Answer, json, no_port};
use super::feeds::Feeds;
use super::{Control, ControlError};
use crate::clock;
use crate::drops::Drop as DropReason;
use crate::observe::{Epoch, Feed, Filter, Memory, NameTable, Outlet, RecorderSpec, Slot, Subscription};

/// Those who may watch at one time: each costs memory, and workers time.
const MOST: usize = 8;
/// Frames told in one piece.
const CHUNK: usize = 512;

/// Those who watch.
#[derive(Debug)]
pub(super) struct Watchers {
    pub(super) feeds: Feeds,
    /// What is recorded, where anything is.
    recorder: Option<RecorderSpec>,
}

impl Default for Watchers {
    fn default() -> Self {
        Self { feeds: Feeds::new("capture"), recorder: None }
    }
}

impl Control {
    /// Records frames' headers from now on.
    pub(crate) fn record(&mut self, spec: Option<RecorderSpec>) -> Result<(), ControlError> {
        let Some(spec) = spec else { return Ok(()) };
        let share = spec.share(self.workers.count().get());
        self.workers.each(move |worker| {
            let now = worker.now();
            worker.datapath.observer(now).record(share);
        })?;
        self.watchers.recorder = Some(spec);
        Ok(())
    }

    /// `capture.start` and `capture.last`; the reader's socket is among `fds`.
    pub(super) fn observe(&mut self, request: &Observe, fds: Vec<OwnedFd>) -> Answer {
        if self.watchers.feeds.count() >= MOST {
            let message = format!("{MOST} captures run already, as many as may: end one of them");
            return Err(RpcError::new(Code::Conflict, message));
        }
        let Ok([stream]) = <[OwnedFd; 1]>::try_from(fds) else { return Err(no_stream("there is none, or more")) };
        let reaches_back_ms = match request {
            Observe::Start(capture) => {
                self.start_capture(capture, stream)?;
                None
            }
            Observe::Last(last) => Some(self.tell_last(last, stream)?),
        };
        json(Watching { reasons: reasons(), reaches_back_ms })
    }

    fn filter(&self, wanted: &vswitch_api::observe::Filter) -> Result<Filter, RpcError> {
        match &wanted.place {
            Place::Port(name) if self.desired.port(name).is_none() => return Err(no_port(name.as_str())),
            Place::Remote(ip) if !self.remotes.contains_key(ip) => {
                let message = format!("there is no peer {ip}; `vsctl vtep peer list` shows those there are");
                return Err(RpcError::new(Code::NotFound, message));
            }
            _ => {}
        }
        Filter::new(wanted).map_err(|error| RpcError::new(Code::InvalidParams, error.to_string()))
    }

    fn start_capture(&mut self, capture: &Capture, stream: OwnedFd) -> Result<(), RpcError> {
        let &Capture { ref filter, snaplen, rate } = capture;
        if snaplen.is_some_and(|snaplen| snaplen < 14) || rate == Some(0) {
            let message = "say a snaplen of 14 bytes or more, and a rate of 1 frame a second or more";
            return Err(RpcError::new(Code::InvalidParams, message));
        }
        let filter = self.filter(filter)?;
        let (subscription, feed, end) = Subscription::new(stream, filter, snaplen, rate).map_err(no_stream)?;
        self.watch(feed, end)?;
        self.workers
            .each(move |worker| {
                let now = worker.now();
                worker.datapath.observer(now).add(subscription);
            })
            .map_err(ControlError::from)?;
        Ok(())
    }

    fn watch(&mut self, feed: Feed, end: Outlet) -> Result<(), RpcError> {
        let failed = |error| RpcError::new(Code::Host, format!("no thread can be had for a capture: {error}"));
        self.watchers.feeds.add(end, feed, self.rights.sandbox.is_some()).map_err(failed)
    }

    /// Tells what was recorded; says how far back that reaches, in milliseconds.
    fn tell_last(&mut self, last: &Last, stream: OwnedFd) -> Result<u64, RpcError> {
        let Some(spec) = self.watchers.recorder else {
            let message = "nothing is recorded: start vswitchd with --flight-recorder SECONDS (or flight-recorder = \
                           \"SECONDS\" in its config file)";
            return Err(RpcError::new(Code::Conflict, message));
        };
        if !(1..=spec.seconds).contains(&last.seconds) {
            let message = format!(
                "{} s: the flight recorder looks back 1 to {} s, as --flight-recorder says",
                last.seconds, spec.seconds
            );
            return Err(RpcError::new(Code::InvalidParams, message));
        }
        let filter = self.filter(&last.filter)?;
        let now = clock::now();
        let since = now - Duration::from_secs(last.seconds.into()).min(Duration::from_nanos(now.as_nanos()));
        let (slots, names, oldest) = self.recall(since).map_err(ControlError::from)?;
        // It is the subscription of nobody: all that comes is there already.
        let (subscription, feed, end) = Subscription::new(stream, filter.clone(), None, None).map_err(no_stream)?;
        drop(subscription);
        let epoch = Epoch::now();
        for slots in slots.chunks(CHUNK) {
            let mut chunk = Vec::new();
            slots.iter().for_each(|(worker, slot)| slot.write(&mut chunk, &epoch, &names[*worker], &filter));
            end.send(chunk);
        }
        end.end("");
        self.watch(feed, end)?;
        let reach = oldest.map_or(Duration::from_secs(last.seconds.into()), |oldest| now.since(oldest));
        let reach = reach.min(Duration::from_secs(last.seconds.into()));
        Ok(u64::try_from(reach.as_millis()).unwrap_or(u64::MAX))
    }

    /// What all workers recorded since `since`, in order of time, each with its worker's number; the names in each; and
    /// since when nothing was overwritten, where anything was.
    #[allow(clippy::type_complexity, reason = "taken apart at once")]
    fn recall(
        &self,
        since: vswitch_core::Instant,
    ) -> Result<(Vec<(usize, Slot)>, Vec<NameTable>, Option<vswitch_core::Instant>), crate::worker::WorkerError> {
        let (mut all, mut whole_since) = (Vec::new(), None);
        let mut from: Vec<Option<u64>> = vec![None; self.workers.count().get()];
        let mut is_done = vec![false; from.len()];
        // Some at a time: a worker has frames to move in between.
        while is_done.contains(&false) {
            let ask: Vec<_> = from.iter().copied().zip(is_done.iter().copied()).collect();
            let told = self.workers.each_with(ask, move |worker, (from, is_done)| {
                if is_done { None } else { worker.datapath.observed()?.recorded(since, from) }
            })?;
            for (worker, memory) in told.into_iter().enumerate() {
                let Some(Memory { slots, next, oldest }) = memory else {
                    is_done[worker] = true;
                    continue;
                };
                all.extend(slots.into_iter().map(|slot| (worker, slot)));
                whole_since = whole_since.max(oldest);
                (from[worker], is_done[worker]) = (next, next.is_none());
            }
        }
        all.sort_by_key(|(_, slot)| slot.at());
        let names = self.workers.each(|worker| worker.datapath.observed().map(|observer| observer.name_table()))?;
        Ok((all, names.into_iter().map(Option::unwrap_or_default).collect(), whole_since))
    }
}

/// What every reason for a drop means.
pub(super) fn reasons() -> BTreeMap<String, String> {
    DropReason::all().map(|drop| (drop.name().to_owned(), drop.explanation().to_owned())).collect()
}

/// There is nowhere to send to.
pub(super) fn no_stream(why: impl std::fmt::Display) -> RpcError {
    let message = format!("a Unix socket to send by must come with the request: {why}");
    RpcError::new(Code::InvalidParams, message)
}

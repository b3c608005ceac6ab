//! Where the text comes from: the control thread is asked, and never waited on by others than this thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError, bounded};
use mio::Waker;
use vswitch_core::switch::Switch;

use super::process::Process;
use super::reading::{Addresses, Reading};
use super::text::{Format, Text};

/// Somebody who wants to be told.
pub(crate) type Request = Sender<Reading>;

/// How long the control thread may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much longer than it took to make it a text is good, so that asking without end keeps nobody busy.
const REST: u32 = 10;

/// What the daemon tells, as often as it can be told.
pub(super) struct Source {
    requests: Sender<Request>,
    /// Wakes the control thread.
    waker: Arc<Waker>,
    /// A switch without ports that knows all addresses: counting them takes no time from anybody else.
    switch: Switch,
    process: Process,
    lets_in: Arc<AtomicBool>,
    last: Option<Last>,
    is_over: bool,
}

/// What was last told; nothing where the daemon did not answer.
struct Last {
    until: Instant,
    known: Option<(Reading, Addresses)>,
    texts: [Option<Arc<str>>; 2],
}

impl Source {
    pub(super) fn new(
        requests: Sender<Request>,
        waker: Arc<Waker>,
        (switch, process): (Switch, Process),
        lets_in: Arc<AtomicBool>,
    ) -> Self {
        Self { requests, waker, switch, process, lets_in, last: None, is_over: false }
    }

    /// Whether the control thread has ended.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether those who connect are this daemon's to answer.
    pub(super) fn lets_in(&self) -> bool {
        self.lets_in.load(Ordering::Relaxed)
    }

    /// The metrics; `None` where the daemon does not answer.
    pub(super) fn text(&mut self, format: Format) -> Option<Arc<str>> {
        let begun = Instant::now();
        self.look(begun);
        let last = self.last.as_mut()?;
        let (reading, addresses) = last.known.as_ref()?;
        let place = &mut last.texts[usize::from(format == Format::OpenMetrics)];
        if place.is_none() {
            let mut text = Text::new(format);
            reading.tell(addresses, &mut text);
            self.process.tell(&mut text);
            *place = Some(text.finish().into());
            last.until = last.until.max(rested(begun));
        }
        place.clone()
    }

    /// Says that the daemon answers; `None` where it does not.
    pub(super) fn health(&mut self) -> Option<Arc<str>> {
        self.look(Instant::now());
        let known = self.last.as_ref()?.known.as_ref();
        known.map(|_| "ok\n".into())
    }

    /// Asks, where what is known is too old.
    fn look(&mut self, begun: Instant) {
        if self.last.as_ref().is_some_and(|last| begun < last.until) {
            return;
        }
        let known = self.ask().map(|reading| {
            let addresses = Addresses::count(self.switch.fdb_entries());
            (reading, addresses)
        });
        self.last = Some(Last { until: rested(begun), known, texts: [None, None] });
    }

    fn ask(&mut self) -> Option<Reading> {
        let (answer, told) = bounded(1);
        match self.requests.try_send(answer) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return None, // it has not answered the last one yet
            Err(TrySendError::Disconnected(_)) => {
                self.is_over = true;
                return None;
            }
        }
        self.waker.wake().ok()?;
        told.recv_timeout(PATIENCE).ok()
    }
}

/// When what was begun at `begun`, and is made now, is to be made again.
fn rested(begun: Instant) -> Instant {
    let now = Instant::now();
    now + (now - begun) * REST
}

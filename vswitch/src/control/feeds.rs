//! Those who look on: each has a thread of his own, which ends when he goes.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::observe::{Feed, Outlet};
use crate::privileges;
use crate::sandbox;

/// How long the threads may take to say the last words.
const FAREWELL: Duration = Duration::from_millis(300);

/// Those of one sort.
#[derive(Debug)]
pub(super) struct Feeds {
    /// What the threads are called.
    name: &'static str,
    all: Vec<(Outlet, JoinHandle<()>)>,
}

impl Feeds {
    /// Nobody yet; threads will be called `name`.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, all: Vec::new() }
    }

    /// Has `feed` serve one more.
    pub(super) fn add(&mut self, outlet: Outlet, feed: Feed, is_confined: bool) -> io::Result<()> {
        let work = move || {
            // It writes to one descriptor: whatever goes wrong here, it needs none of this.
            let confined = privileges::give_up().map_err(|error| error.to_string()).and_then(|()| {
                if is_confined {
                    sandbox::confine_worker().map(drop).map_err(|error| error.to_string())
                } else {
                    Ok(())
                }
            });
            match confined {
                Ok(()) => feed.run(),
                Err(error) => tracing::error!(error, "nothing can be shown with fewer rights"),
            }
        };
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(work)?;
        self.all.push((outlet, thread));
        Ok(())
    }

    /// How many there are.
    pub(super) fn count(&mut self) -> usize {
        self.all.retain(|(_, thread)| !thread.is_finished());
        self.all.len()
    }

    /// Tells all of them `why` nothing more comes.
    pub(super) fn end(&self, why: &str) {
        self.all.iter().for_each(|(outlet, _)| outlet.end(why));
    }

    /// Lets them go: all of `sorts`, which were told the end, once they have passed it on.
    pub(super) fn let_go<'a>(sorts: impl IntoIterator<Item = &'a mut Self>) {
        let start = Instant::now();
        for sort in sorts {
            while sort.count() > 0 && start.elapsed() < FAREWELL {
                thread::sleep(Duration::from_millis(1));
            }
            sort.all.clear();
        }
    }
}

//! Waiting for what takes time.

use std::panic::Location;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// Long enough for anything that takes no time on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// Between two looks: at first short, then longer, so that waiting takes no CPU from what is waited for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Looks again and again until `probe` succeeds, and returns what it found.
///
/// # Errors
/// When `deadline` has passed: what was waited for, and how the last look failed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let at = Location::caller();
    let start = Instant::now();
    let mut pause = PAUSES.0;
    loop {
        let failure = match probe() {
            Ok(found) => return Ok(found),
            Err(failure) => failure,
        };
        if start.elapsed() >= deadline {
            let message = format!("{what}: not within {deadline:?}; the last look: {failure}");
            return Err(Failure::at(message, at));
        }
        thread::park_timeout(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

//! SIGHUP: the daemon starts its own program again, which may be a new version by now, to take over from it. One that runs
//! in a terminal ends with it, as everything there does.

use std::env;
use std::io::{self, IsTerminal as _};
use std::process::Command;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use crate::privileges;

/// Leaves SIGHUP to [`on_hangup`], unless a terminal sends it; says whether. To be called before any thread starts.
pub(crate) fn block_hangup() -> nix::Result<bool> {
    let is_ours = !io::stdin().is_terminal();
    if is_ours {
        SigSet::from(Signal::SIGHUP).thread_block()?;
    }
    Ok(is_ours)
}

/// Starts successors as signals ask for them, on a thread of its own, with the rights that the caller has.
pub(crate) fn on_hangup() {
    let wait = || {
        let hangup = SigSet::from(Signal::SIGHUP);
        while hangup.wait().is_ok() {
            succeed();
        }
    };
    if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(wait) {
        tracing::warn!(%error, "SIGHUP will do nothing");
    }
}

/// Starts a successor and waits for its end. Where it takes over, this process ends first.
fn succeed() {
    // As it was called: the running file's own path leads to the old version even where a new one has its place.
    let mut words = env::args_os();
    let Some(program) = words.next() else { return };
    if let Err(error) = privileges::pass_on() {
        tracing::warn!(%error, "the daemon that takes over will have fewer rights");
    }
    let mut command = Command::new(&program);
    command.args(words.filter(|word| word != "--takeover")).arg("--takeover");
    tracing::info!(?program, "SIGHUP came: starting a daemon that takes over");
    match command.status() {
        Ok(status) => tracing::warn!(%status, "the daemon that was to take over has ended: this one serves on"),
        Err(error) => tracing::warn!(?program, %error, "no daemon could be started to take over: this one serves on"),
    }
}

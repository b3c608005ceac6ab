//! Manages a running vswitchd.
//!
//! Exit codes: 0 done; 1 the daemon refused; 2 usage; 3 the daemon cannot be reached.

mod attachments;
mod capture;
mod cli;
mod complete;
mod demo;
mod explain;
mod hand_over;
mod health;
mod man;
mod monitor;
mod reference;
mod render;
mod run;
mod stop;
mod table;
#[cfg(feature = "top")]
mod top;
mod trace;
mod words;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(std::env::args_os(), &mut io::stdout().lock(), &mut io::stderr().lock()).into()
}

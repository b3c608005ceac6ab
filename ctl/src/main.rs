//! Manages a running vswitchd.
//!
//! Exit codes: 0 done; 1 the daemon refused; 2 usage; 3 the daemon cannot be reached.

mod attachments;
mod call;
mod capture;
mod cli;
mod complete;
mod condition;
mod demo;
mod doctor;
mod explain;
mod failure;
mod hand_over;
mod health;
mod hint;
mod man;
mod monitor;
mod reference;
mod render;
mod repeat;
mod run;
mod stop;
mod style;
mod table;
#[cfg(feature = "top")]
mod top;
mod trace;
mod value;
mod words;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let screen = style::Screen::of_process();
    run::run(std::env::args_os(), &screen, &mut io::stdout().lock(), &mut io::stderr().lock()).into()
}

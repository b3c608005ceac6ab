//! Attaches containers to a running vswitchd by the Container Network Interface.

#![allow(dead_code, reason = "the verbs are to come")]

mod forwarding;
mod inside;
mod masquerade;
mod names;
mod routes;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("vswitch-cni {}", env!("CARGO_PKG_VERSION"));
    ExitCode::FAILURE
}

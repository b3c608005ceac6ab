//! Attaches containers to a running vswitchd by the Container Network Interface.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("vswitch-cni {}", env!("CARGO_PKG_VERSION"));
    ExitCode::FAILURE
}

//! The program: see the library for what it does.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(vswitch_cni::run(|name| std::env::var_os(name), io::stdin(), &mut io::stdout(), &mut io::stderr()))
}

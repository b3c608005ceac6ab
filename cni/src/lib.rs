//! Attaches containers to a running vswitchd by the Container Network Interface: all verbs of specification 1.1.0, results
//! in the form of every version from 0.3.0 on.
//!
//! A runtime starts the program once for each verb. [`protocol`] is what the two say to each other, `verbs` is what each
//! verb does, and the rest is what verbs are made of: addresses (`ipam`, or the daemon's own), the interface (`attach`),
//! what is inside the container (`routes`, `inside`) and on the host (`gateway`, `masquerade`, `forwarding`).

pub mod protocol;

mod args;
mod attach;
mod bandwidth;
mod daemon;
mod forwarding;
mod gateway;
mod input;
mod inside;
mod ipam;
mod lock;
mod masquerade;
mod names;
mod network;
mod process;
mod routes;
#[cfg(test)]
mod testing;
mod verbs;

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};

use serde_json::Value;

use protocol::{Code, Command, Config, Environment, Failure, SUPPORTED, Version};
use verbs::Call;

/// The exit code of a failure; which one it was, the JSON says.
const FAILED: u8 = 1;

/// Does what the environment says, with the configuration that `input` has; returns the exit code.
///
/// The result, or the error, goes to `out` as JSON. `err` gets words only where no runtime called.
pub fn run<I, O>(variable: impl Fn(&str) -> Option<OsString>, input: I, out: &mut O, err: &mut dyn Write) -> u8
where
    I: Read + IsTerminal + Send + 'static,
    O: Write + IsTerminal,
{
    let mut version = Version::LATEST;
    let outcome = match Environment::read(variable) {
        Ok(None) => {
            about(err);
            // Whoever reads it by a program shall have it in the form of the specification.
            if out.is_terminal() {
                return FAILED;
            }
            Err(Failure::new(Code::Environment, "CNI_COMMAND is missing"))
        }
        Ok(Some(environment)) => answer(&environment, input, &mut version),
        Err(failure) => Err(failure),
    };
    let (json, exit) = match outcome {
        Ok(None) => return 0,
        Ok(Some(json)) => (json, 0),
        Err(failure) => (failure.to_json(version), FAILED),
    };
    match writeln!(out, "{json}").and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(error) => {
            // A result that nobody got is none: the runtime will call DEL.
            let _ = writeln!(err, "vswitch-cni: cannot write the answer to standard output: {error}");
            FAILED
        }
    }
}

fn answer<I>(environment: &Environment, input: I, version: &mut Version) -> Result<Option<Value>, Failure>
where
    I: Read + IsTerminal + Send + 'static,
{
    if environment.command == Command::Version {
        return verbs::version(input::question(input)).map(Some);
    }
    let config = Config::read(input::configuration(input)?)?;
    *version = config.version()?;
    version.allows(environment.command)?;
    verbs::perform(&Call { environment, config: &config, version: *version })
}

/// Reads what ADD would read of a configuration and of `CNI_ARGS`, and does nothing: for tests with hostile input.
///
/// # Errors
/// Whatever ADD would refuse before it does anything.
pub fn asked_for(config: &Config, args: Option<&str>) -> Result<(), Failure> {
    network::Network::read(config, &args::Args::read(args.unwrap_or_default())?).map(drop)
}

/// Says what this is.
fn about(err: &mut dyn Write) {
    let versions = SUPPORTED.map(|(_, name)| name).join(", ");
    let text = format!(
        "vswitch-cni {}: a CNI plugin that attaches containers to vswitchd (CNI versions {versions}).\n\
         Container runtimes run it, people do not: put it into the folder of CNI plugins (usually /opt/cni/bin) and a\n\
         network of type \"vswitch-cni\" into /etc/cni/net.d; vswitchd has to run. docs/cni.md has examples.\n",
        env!("CARGO_PKG_VERSION")
    );
    // Nobody is left to tell that nobody listens.
    let _ = err.write_all(text.as_bytes());
}

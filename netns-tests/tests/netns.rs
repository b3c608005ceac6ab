//! The tests, one file an area; see the crate's documentation for how to run them and how to read a failure.

use std::any::Any;
use std::env;
use std::fs::OpenOptions;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use netns_tests::{Lab, Result, binaries::binaries};
use vswitch_sys::{Netns, process};

/// What an area's file has: names, and what they test.
type Tests = &'static [(&'static str, fn(&Lab) -> Result)];

/// What users and clients get wrong is refused, and nothing changes.
#[path = "netns/bad_input.rs"]
mod bad_input;
/// TCP and UDP of odd sizes around every boundary, byte by byte.
#[path = "netns/bytes.rs"]
mod bytes;
/// Static, learned, aged, moved and flushed addresses.
#[path = "netns/fdb.rs"]
mod fdb;
/// Broadcast, multicast and unknown destinations reach everybody once; ARP and neighbour discovery work.
#[path = "netns/flood.rs"]
mod flood;
/// Hosts, wires and traffic of the harness itself, with the kernel's switch on both sides: fails first when the fault is here.
#[path = "netns/harness.rs"]
mod harness;
/// An idle daemon uses no CPU and little memory.
#[path = "netns/idle.rs"]
mod idle;
/// The kernel's VXLAN device and bridge as the other side.
#[path = "netns/kernel_vxlan.rs"]
mod kernel_vxlan;
/// Hostile datagrams and frames: dropped, counted by reason, and the switch goes on.
#[path = "netns/malformed.rs"]
mod malformed;
/// What fits, by default and on wide underlays; what does not is answered by ICMP.
#[path = "netns/mtu.rs"]
mod mtu;
/// Ports whose settings change while containers change theirs, and ports that are lost.
#[path = "netns/port_changes.rs"]
mod port_changes;
/// What survives a restart, a namespace that goes, a disk that is full.
#[path = "netns/state.rs"]
mod state;
/// What is inside a frame is not the business of a switch; congestion marks are carried over.
#[path = "netns/transparency.rs"]
mod transparency;
/// Ports with tagged frames.
#[path = "netns/trunk.rs"]
mod trunk;
/// Containers on one host and on two: connectivity, ports that come, change, go and are lost.
#[path = "netns/two_hosts.rs"]
mod two_hosts;
/// VLANs apart from each other.
#[path = "netns/vlan.rs"]
mod vlan;

const AREAS: &[(&str, Tests)] = &[
    ("harness", harness::TESTS),
    ("two_hosts", two_hosts::TESTS),
    ("kernel_vxlan", kernel_vxlan::TESTS),
    ("vlan", vlan::TESTS),
    ("trunk", trunk::TESTS),
    ("fdb", fdb::TESTS),
    ("flood", flood::TESTS),
    ("mtu", mtu::TESTS),
    ("bytes", bytes::TESTS),
    ("transparency", transparency::TESTS),
    ("bad_input", bad_input::TESTS),
    ("port_changes", port_changes::TESTS),
    ("state", state::TESTS),
    ("idle", idle::TESTS),
    ("malformed", malformed::TESTS),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let hindrance = if arguments.list { None } else { prepare().err() };
    if let Some(why) = &hindrance {
        eprintln!("skipped: needs root or user namespaces with /dev/net/tun: {why}");
    }
    let seed = seed();
    let trials = AREAS.iter().flat_map(|(area, tests)| {
        let hindrance = hindrance.clone();
        tests.iter().map(move |&(name, test)| {
            let hindrance = hindrance.clone();
            Trial::ignorable_test(format!("{area}::{name}"), move || match hindrance {
                Some(why) => Ok(Completion::ignored_with(why)),
                None => run(test, seed).map(|()| Completion::Completed),
            })
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Gets what tests need while only one thread runs: the right to make namespaces and TAP devices, and the programs.
fn prepare() -> std::result::Result<(), String> {
    let tun = "/dev/net/tun";
    OpenOptions::new().read(true).write(true).open(tun).map_err(|error| format!("{tun}: {error}"))?;
    // Before the user namespace, which has no way to a registry. A failure to build is each test's.
    let _ = binaries();
    if !nix::unistd::geteuid().is_root() {
        process::enter_user_namespace().map_err(|error| error.to_string())?;
    }
    Netns::create().map(drop).map_err(|error| error.to_string())
}

/// The seed given, or one of this run.
fn seed() -> u64 {
    let given = env::var("VSWITCH_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::from(now.subsec_nanos()));
    given.unwrap_or_else(now)
}

/// Runs one test; a failure comes with all that is known.
fn run(test: fn(&Lab) -> Result, seed: u64) -> std::result::Result<(), Failed> {
    let lab = Lab::new(seed).map_err(|failure| failure.to_string())?;
    let message = match panic::catch_unwind(AssertUnwindSafe(|| test(&lab))) {
        Ok(Ok(())) => {
            if env::var_os("VSWITCH_TEST_KEEP").is_some() {
                eprintln!("kept: {}", lab.keep().display());
            }
            return Ok(());
        }
        Ok(Err(failure)) => failure.to_string(),
        Err(payload) => format!("panicked: {}", said(payload.as_ref())),
    };
    Err(format!("{message}\n{}", lab.evidence()).into())
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

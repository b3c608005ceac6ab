//! The tests, one file an area; see the crate's documentation for how to run them and how to read a failure.

use std::any::Any;
use std::env;
use std::fs::OpenOptions;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use netns_tests::{Account, Lab, Result, binaries::binaries, tmux};
use vswitch_sys::{Netns, Uplink, process};

/// What an area's file has: names, and what they test.
type Tests = &'static [(&'static str, fn(&Lab) -> Result)];

/// Ports that come up make themselves known: neighbours and switches with old knowledge follow at once.
#[path = "netns/announce.rs"]
mod announce;
/// Ports that container runtimes ask for: addresses from pools, and what becomes of both when a container is gone.
#[path = "netns/attachments.rs"]
mod attachments;
/// What users and clients get wrong is refused, and nothing changes.
#[path = "netns/bad_input.rs"]
mod bad_input;
/// The book and the README's tour, walked through; the package in a clean root.
#[path = "netns/book.rs"]
mod book;
/// TCP and UDP of odd sizes around every boundary, byte by byte.
#[path = "netns/bytes.rs"]
mod bytes;
/// Captures: what was counted, read by others; nobody waits for who looks on.
#[path = "netns/capture.rs"]
mod capture;
/// Clients of the control socket who mean no good: bounded, and the datapath feels nothing.
#[path = "netns/clients.rs"]
mod clients;
/// Containers attached by the CNI plugin, as a runtime does it.
#[path = "netns/cni.rs"]
mod cni;
/// What is there to be pleasant: completion in shells, colours, `--watch`, hints, manual pages, a status that says what is wrong.
#[path = "netns/comfort.rs"]
mod comfort;
/// SIGKILL: interfaces, connections and all that was acknowledged live on.
#[path = "netns/crash.rs"]
mod crash;
/// `vsctl doctor`: what is wrong with a host is named, and what it says mends it.
#[path = "netns/doctor.rs"]
mod doctor;
/// Static, learned, aged, moved and flushed addresses.
#[path = "netns/fdb.rs"]
mod fdb;
/// What `why`, `probe` and `status` say of peers is true: no fault is made up, outlives its cause or is blamed on others.
#[path = "netns/findings.rs"]
mod findings;
/// Broadcast, multicast and unknown destinations reach everybody once; ARP and neighbour discovery work.
#[path = "netns/flood.rs"]
mod flood;
/// Networks of the CNI plugin with a router on the host: made, masqueraded, shared, removed with the last.
#[path = "netns/gateway.rs"]
mod gateway;
/// Hosts, wires and traffic of the harness itself, with the kernel's switch on both sides: fails first when the fault is here.
#[path = "netns/harness.rs"]
mod harness;
/// Probes between VTEPs: what they measure, what they find, and that others feel nothing of them.
#[path = "netns/health.rs"]
mod health;
/// An idle daemon uses no CPU and little memory.
#[path = "netns/idle.rs"]
mod idle;
/// The kernel's VXLAN device and bridge as the other side.
#[path = "netns/kernel_vxlan.rs"]
mod kernel_vxlan;
/// What ports may carry: TCP reaches its limit and stays below it, floods are kept to it, others feel nothing.
#[path = "netns/limits.rs"]
mod limits;
/// Two ports, or two hosts, bridged together behind the switch: nothing melts, and people are told.
#[path = "netns/loops.rs"]
mod loops;
/// Hostile datagrams and frames: dropped, counted by reason, and the switch goes on.
#[path = "netns/malformed.rs"]
mod malformed;
/// What the manual of the CNI plugin says, done.
#[path = "netns/manuals.rs"]
mod manuals;
/// What Prometheus is told, by HTTP, and what it makes of it.
#[path = "netns/metrics.rs"]
mod metrics;
/// `vsctl monitor`: every kind of event, made for real; readers who sleep, takeovers and restarts.
#[path = "netns/monitor.rs"]
mod monitor;
/// What moves among a daemon's counters.
#[path = "netns/moves.rs"]
mod moves;
/// What fits, by default and on wide underlays; what does not is answered by ICMP.
#[path = "netns/mtu.rs"]
mod mtu;
/// Open vSwitch with its userspace datapath as the other side.
#[path = "netns/openvswitch.rs"]
mod openvswitch;
/// One port that floods, or does not read: the others feel nothing.
#[path = "netns/overload.rs"]
mod overload;
/// Ports whose settings change while containers change theirs, and ports that are lost.
#[path = "netns/port_changes.rs"]
mod port_changes;
/// As whom the daemon runs, what it gives up, ports that are handed over, and who may change what.
#[path = "netns/privileges.rs"]
mod privileges;
/// containerd, Podman and the kubelet's way drive the CNI plugin.
#[path = "netns/runtimes.rs"]
mod runtimes;
/// Who a container may say it is: its own addresses pass, others are dropped, and live where they live.
#[path = "netns/spoofing.rs"]
mod spoofing;
/// What survives a restart, a namespace that goes, a disk that is full.
#[path = "netns/state.rs"]
mod state;
/// Under a service manager that keeps descriptors: queues outlive crashes and restarts.
#[path = "netns/systemd.rs"]
mod systemd;
/// Another daemon in the place of the one that runs: no frame is lost, and whoever fails, one of the two serves.
#[path = "netns/takeover.rs"]
mod takeover;
/// `vsctl top`, in a terminal and without one: real traffic, keys, sizes, and a terminal that is given back.
#[path = "netns/top.rs"]
mod top;
/// What is inside a frame is not the business of a switch; congestion marks are carried over.
#[path = "netns/transparency.rs"]
mod transparency;
/// Ports with tagged frames.
#[path = "netns/trunk.rs"]
mod trunk;
/// Containers on one host and on two: connectivity, ports that come, change, go and are lost.
#[path = "netns/two_hosts.rs"]
mod two_hosts;
/// Both ways to carry VXLAN: with each other, after a crash, where one is impossible.
#[path = "netns/underlay_modes.rs"]
mod underlay_modes;
/// VLANs apart from each other.
#[path = "netns/vlan.rs"]
mod vlan;
/// `vsctl why`, `trace` and `neighbour`: what is broken is named, and the command that is printed mends it.
#[path = "netns/why.rs"]
mod why;
/// `why` where routes, routers and filters of containers decide, and its verdict held against ping.
#[path = "netns/why_routes.rs"]
mod why_routes;
/// More than one worker: flows keep their order, all know what one learned, counters are whole.
#[path = "netns/workers.rs"]
mod workers;

/// Areas with nothing between hosts, or with what they compare in their tests.
const AREAS: &[(&str, Tests)] = &[
    ("harness", harness::TESTS),
    ("bad_input", bad_input::TESTS),
    ("attachments", attachments::TESTS),
    ("port_changes", port_changes::TESTS),
    ("privileges", privileges::TESTS),
    ("clients", clients::TESTS),
    ("cni", cni::TESTS),
    ("cni", cni::DELEGATED),
    ("cni", cni::DHCP),
    ("manuals", manuals::TESTS),
    ("comfort", comfort::TESTS),
    ("doctor", doctor::TESTS),
    ("book", book::TESTS),
    ("capture", capture::TESTS),
    ("state", state::TESTS),
    ("crash", crash::TESTS),
    ("overload", overload::TESTS),
    ("loops", loops::TESTS),
    ("limits", limits::TESTS),
    ("announce", announce::TESTS),
    ("underlay_modes", underlay_modes::TESTS),
    ("gateway", gateway::TESTS),
    ("metrics", metrics::TESTS),
    ("why", why::TESTS),
    ("findings", findings::TESTS),
    ("why_routes", why_routes::TESTS),
    ("top", top::TESTS),
    ("monitor", monitor::TESTS),
];

/// Areas that are the same however VXLAN is carried, and run for each way.
const ACROSS: &[(&str, Tests)] = &[
    ("two_hosts", two_hosts::TESTS),
    ("kernel_vxlan", kernel_vxlan::TESTS),
    ("openvswitch", openvswitch::TESTS),
    ("vlan", vlan::TESTS),
    ("trunk", trunk::TESTS),
    ("fdb", fdb::TESTS),
    ("flood", flood::TESTS),
    ("mtu", mtu::TESTS),
    ("bytes", bytes::TESTS),
    ("transparency", transparency::TESTS),
    ("idle", idle::TESTS),
    ("malformed", malformed::TESTS),
    ("spoofing", spoofing::TESTS),
    ("workers", workers::TESTS),
    ("crash", crash::ACROSS),
    ("capture", capture::ACROSS),
    ("takeover", takeover::TESTS),
    ("systemd", systemd::TESTS),
    ("overload", overload::ACROSS),
    ("loops", loops::ACROSS),
    ("limits", limits::ACROSS),
    ("announce", announce::ACROSS),
    ("health", health::ACROSS),
    ("health", health::BROKEN),
];

/// The ways: what `--underlay` says.
const UDP: &str = "udp";
const UPLINK: &str = "uplink";

fn main() -> ExitCode {
    if clients::be_a_crowd() {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let hindrance = if arguments.list { None } else { prepare().err() };
    if let Some(why) = &hindrance {
        eprintln!("skipped: needs root or user namespaces with /dev/net/tun: {why}");
    }
    let no_peer = openvswitch::hindrance();
    if let Some(why) = &no_peer {
        eprintln!("skipped: the area openvswitch: {why}");
    }
    let no_users = if arguments.list { None } else { hindrance.clone().or_else(|| Account::possible().err()) };
    if let (None, Some(why)) = (&hindrance, &no_users) {
        eprintln!("skipped: the area privileges: {why}");
    }
    let seed = seed();
    let no_uplink = if arguments.list { None } else { hindrance.clone().or_else(|| uplink().err()) };
    if let (None, Some(why)) = (&hindrance, &no_uplink) {
        eprintln!("skipped: tests by an uplink: {why}");
    }
    let trial = |name: String, test: fn(&Lab) -> Result, mode: Option<&'static str>, peer: &Option<String>| {
        let hindrance = if mode == Some(UPLINK) { no_uplink.clone() } else { hindrance.clone() };
        let hindrance = hindrance.or_else(|| peer.clone());
        Trial::ignorable_test(name, move || match hindrance {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => run(test, seed, mode).map(|()| Completion::Completed),
        })
    };
    let no_nft = gateway::hindrance();
    if let Some(why) = &no_nft {
        eprintln!("skipped: the area gateway: {why}");
    }
    let no_plugins = cni::hindrance();
    if let Some(why) = &no_plugins {
        eprintln!("skipped: tests of delegated IPAM: {why}");
    }
    let no_dhcp = cni::no_dhcp();
    if let Some(why) = &no_dhcp {
        eprintln!("skipped: tests of addresses by DHCP: {why}");
    }
    let no_walk = manuals::hindrance();
    if let Some(why) = &no_walk {
        eprintln!("skipped: the commands of the manual: {why}");
    }
    let no_package = no_walk.clone().or_else(book::no_package);
    if let Some(why) = &no_package {
        eprintln!("skipped: the package in a clean root: {why}");
    }
    let no_systemd = no_walk.clone().or_else(book::no_systemd);
    if let Some(why) = &no_systemd {
        eprintln!("skipped: the package under systemd: {why}");
    }
    let no_prometheus = metrics::hindrance();
    if let Some(why) = &no_prometheus {
        eprintln!("skipped: tests with Prometheus: {why}");
    }
    let no_terminal = tmux::hindrance();
    if let Some(why) = &no_terminal {
        eprintln!("skipped: tests in a terminal: {why}");
    }
    let mut trials = Vec::new();
    for (area, tests) in AREAS {
        let mode = (*area == "underlay_modes").then_some(UPLINK);
        let needs_users = |name: &str| {
            *area == "privileges"
                || ["a_crowd_of_another_user", "by_a_user_in_a_sandbox", "who_may_only_look"].contains(&name)
        };
        trials.extend(tests.iter().map(|&(name, test)| {
            let lacking = match *area {
                _ if needs_users(name) => no_users.clone(),
                "comfort" if !arguments.list => comfort::hindrance(name),
                "doctor" if !arguments.list => doctor::hindrance(name),
                "gateway" => no_nft.clone(),
                "metrics" if metrics::BY_PROMETHEUS.contains(&name) => no_prometheus.clone(),
                "cni" if cni::DELEGATED.iter().any(|(other, _)| *other == name) => no_plugins.clone(),
                "cni" if cni::DHCP.iter().any(|(other, _)| *other == name) => no_dhcp.clone(),
                "book" if name == book::WITH_OPENVSWITCH => no_walk.clone().or_else(|| no_peer.clone()),
                "book" if name == book::CLEAN_ROOT => no_package.clone(),
                "book" if name == book::UNDER_SYSTEMD => no_systemd.clone(),
                "book" if name == book::LINKS => None,
                "book" => no_walk.clone(),
                "top" if top::IN_A_TERMINAL.contains(&name) => no_terminal.clone(),
                "manuals" if manuals::WALKED.contains(&name) => no_walk.clone(),
                _ => None,
            };
            if let (Some(why), "comfort" | "doctor") = (&lacking, *area) {
                eprintln!("skipped: {area}::{name}: {why}");
            }
            trial(format!("{area}::{name}"), test, mode, &lacking)
        }));
    }
    for (area, tests) in ACROSS {
        let peer = match *area {
            "openvswitch" => no_peer.clone(),
            "health" if std::ptr::eq(*tests, health::BROKEN) => no_nft.clone(),
            _ => None,
        };
        for mode in [UDP, UPLINK] {
            trials.extend(
                tests.iter().map(|&(name, test)| trial(format!("{area}::{name}::{mode}"), test, Some(mode), &peer)),
            );
        }
    }
    let no_units = systemd::hindrance();
    if let Some(why) = &no_units {
        eprintln!("skipped: the test of the unit files: {why}");
    }
    trials.push(trial("systemd::units".to_owned(), systemd::units, None, &no_units));
    for &(runtime, tests) in runtimes::TESTS {
        trials.extend(tests.iter().map(|&(name, test)| {
            let hindrance = hindrance.clone();
            // Looked at when a test runs: it takes a container to find out.
            Trial::ignorable_test(format!("runtimes::{name}"), move || {
                match hindrance.map_or_else(|| runtime.possible(), Err) {
                    Ok(()) => run(test, seed, None).map(|()| Completion::Completed),
                    Err(why) => {
                        eprintln!("skipped: runtimes::{name}: {why}");
                        Ok(Completion::ignored_with(why))
                    }
                }
            })
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether an uplink can be had here.
fn uplink() -> std::result::Result<(), String> {
    let probe = || -> Result {
        let lab = Lab::new(0, None)?;
        let (here, there) = (lab.quiet_host("here")?, lab.quiet_host("there")?);
        here.netlink().add_veth("eth0", "eth0", Some(there.netns()))?;
        let index = here.link("eth0")?.index;
        here.call(move || Uplink::open(index, ([192, 0, 2, 1], 4789).into(), 1).map(drop))?;
        Ok(())
    };
    probe().map_err(|failure| failure.to_string())
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
fn run(test: fn(&Lab) -> Result, seed: u64, mode: Option<&'static str>) -> std::result::Result<(), Failed> {
    let lab = Lab::new(seed, mode).map_err(|failure| failure.to_string())?;
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

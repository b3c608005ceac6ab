//! `vsctl demo`: two hosts and two containers in network namespaces, a vswitchd on each host, VXLAN between them, and
//! traffic. All of it is removed again, whatever happens, unless it is to be kept.

mod access;
mod daemon;
mod folder;
mod remove;
mod report;
mod stop;
mod topology;
mod traffic;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use vswitch_api::{ClientError, FdbInfo, Stats, VtepInfo};
use vswitch_sys::process::UserNamespaceError;
use vswitch_sys::{NetlinkError, NetnsError};

use self::access::Access;
use self::report::{HostOutcome, Outcome, Report};
use self::stop::Stop;
use self::topology::Topology;
use crate::cli;

pub(crate) use self::report::Style;

/// How long TCP is measured.
const TCP_TIME: Duration = Duration::from_secs(2);
/// Requests of each ping.
const PINGS: u16 = 10;
/// What `ping` sends by default.
const PING_BYTES: usize = 56;
/// IPv4 and ICMP around a ping's data.
const PING_OVERHEAD: usize = 28;
/// What fits on an underlay of 1500 bytes.
const CONTAINER_MTU: usize = 1450;

/// Why the demo did not work, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("interrupted; all is removed")]
    Interrupted,
    #[error("cannot open /dev/net/tun ({error}): {advice}")]
    Tun { error: io::Error, advice: String },
    #[error("cannot make network namespaces: {}{advice}", access::reason(error))]
    UserNamespace { error: UserNamespaceError, advice: String },
    #[error(
        "there is no vswitchd, neither {} nor on $PATH: build it with `{}`, or put its folder on $PATH",
        beside.display(), daemon::build_command(beside)
    )]
    NoDaemon { beside: PathBuf },
    #[error("cannot start {}: {error}", program.display())]
    Start { program: PathBuf, error: io::Error },
    #[error("vswitchd ended at once ({status}); its log ends with:{log}")]
    DaemonEnded { status: ExitStatus, log: String },
    #[error("vswitchd does not answer: {error}; its log ends with:{log}")]
    DaemonSilent { error: ClientError, log: String },
    #[error("`vsctl {words}` failed on {host}: {why}")]
    Command { host: &'static str, words: String, why: String },
    #[error("{to} did not answer a ping within {patience:?}")]
    Unanswered { to: Ipv4Addr, patience: Duration },
    #[error("{to} answered {received} of {sent} pings")]
    Lost { to: Ipv4Addr, sent: usize, received: usize },
    #[error("cannot ping {to}: {error}")]
    Ping { to: Ipv4Addr, error: io::Error },
    #[error("TCP to {to} failed: {error}")]
    Tcp { to: Ipv4Addr, error: io::Error },
    #[error("TCP to {to} lost data: {sent} bytes were sent and {bytes} came")]
    TcpCut { to: Ipv4Addr, sent: u64, bytes: u64 },
    #[error("the interface {0} is not there, though it was just made")]
    NoInterface(&'static str),
    #[error("the interface {0} has no carrier, though both of its ends are up")]
    NoCarrier(&'static str),
    #[error("cannot {operation} {}: {error}", path.display())]
    Folder { operation: &'static str, path: PathBuf, error: io::Error },
    #[error("there is no demo {name} of yours; {}", if kept.is_empty() { "none is kept".to_owned() } else { format!("kept: {}", kept.join(", ")) })]
    NoDemo { name: String, kept: Vec<String> },
    #[error("{0} is being shown right now: end it with Ctrl-C where it runs")]
    Running(String),
    #[error("the vswitchd of {} does not end; nothing else of that demo was removed", pid_file.display())]
    StillRuns { pid_file: PathBuf },
    #[error("cannot wait: {0}")]
    Wait(io::Error),
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    #[error("cannot write the outcome as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Shows the demo, or removes those that were kept. `timeout` is for each call to a daemon. To be called while the
/// process has one thread.
pub(crate) fn run(words: &cli::Demo, timeout: Duration, style: Style, out: &mut dyn Write) -> Result<(), DemoError> {
    let mut report = Report::new(out, style);
    if let Some(name) = &words.remove {
        let removed = remove::remove(name.as_deref())?;
        return report.removed(&removed);
    }
    let stop = Stop::watch().map_err(DemoError::Wait)?;
    remove::sweep();
    let program = daemon::find()?;
    let access = access::obtain()?;
    let base = match access {
        Access::Root => folder::of_root(),
        Access::UserNamespace => folder::of_users(),
    };
    let mut topology = Topology::build(&base, &program, words.keep, timeout, &stop, &mut report)?;
    let outcome = show(&mut topology, words.keep, access, &stop, &mut report);
    if let Err(DemoError::Unanswered { .. } | DemoError::Lost { .. } | DemoError::Tcp { .. }) = outcome {
        evidence(&mut topology, &mut report);
    }
    let outcome = outcome?;
    if words.keep {
        report.outcome(&outcome)?;
        topology.keep()?;
        report.look_around(&topology, access);
    } else {
        let folder = topology.folder.path().to_owned();
        drop(topology);
        report.gone(&folder);
        report.outcome(&outcome)?;
    }
    Ok(())
}

/// Sends traffic and looks what the switches learned from it.
fn show(
    topology: &mut Topology,
    keep: bool,
    access: Access,
    stop: &Stop,
    report: &mut Report<'_>,
) -> Result<Outcome, DemoError> {
    let [a, b] = &mut topology.hosts;
    let (from, to) = (a.plan.container, b.plan.address);
    report.step("Ping, also with packets as large as the network carries");
    report.command(from, &format!("ping -c {PINGS} -A {to}"));
    let ping = traffic::ping(a.container.netns(), to, PING_BYTES, PINGS, stop)?;
    report.ping(&ping);
    let mtu = a.ask::<VtepInfo>("vtep show")?.overlay_mtu.and_then(|mtu| usize::try_from(mtu).ok());
    let full = mtu.unwrap_or(CONTAINER_MTU).saturating_sub(PING_OVERHEAD);
    report.command(from, &format!("ping -c {PINGS} -A -M do -s {full} {to}"));
    let ping_full = traffic::ping(a.container.netns(), to, full, PINGS, stop)?;
    report.ping(&ping_full);

    report.step(&format!("TCP from {from} to {} for {} seconds", b.plan.container, TCP_TIME.as_secs()));
    let tcp = traffic::tcp(a.container.netns(), b.container.netns(), to, TCP_TIME, stop)?;
    report.tcp(&tcp);

    report.step("Who is behind what, as the switches learned it");
    let mut hosts = Vec::new();
    for host in &mut topology.hosts {
        let fdb: Vec<FdbInfo> = host.vsctl("fdb list", report)?;
        report.fdb(&fdb);
        hosts.push(HostOutcome {
            name: host.plan.host,
            netns: host.netns.name().to_owned(),
            socket: host.files.socket.clone(),
            pid: host.pid(),
            container: host.container.name().to_owned(),
            fdb,
        });
    }
    let name = topology.folder.name().to_owned();
    let user_namespace = access == Access::UserNamespace;
    Ok(Outcome { name, kept: keep, user_namespace, ping, ping_full, tcp, hosts })
}

/// Shows what may explain a failure, before it is removed.
fn evidence(topology: &mut Topology, report: &mut Report<'_>) {
    report.step("It does not work. The counters of both switches, and the ends of their logs");
    for host in &mut topology.hosts {
        if let Ok(stats) = host.vsctl::<Stats>("stats", report) {
            report.stats(&stats);
        }
        report.text(&format!("    {}:{}\n", host.files.log.display(), host.files.log_end()));
    }
}

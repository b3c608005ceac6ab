//! `vsctl doctor`: looks at the host, and says what is wrong and how to mend it. It changes nothing; what the kernel
//! grants is tried in a network namespace that goes at once.

mod check;
mod cni;
mod daemon;
mod device;
mod firewall;
mod rights;
mod sysctls;
mod time;
mod underlay;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use vswitch_api::{Carried, Client, ClientError, PeerInfo, PortInfo, Query, Status, VlanInfo};
use vswitch_sys::Netns;

use crate::value::{ip, number};

pub(crate) use check::{Check, State, report};

const STATES: &str = "\
States: ok; note, where something is worth knowing or cannot be told; warning, where something works worse than it could;
WRONG, with what mends it. The exit code is 1 where something is wrong, else 0.
Without a daemon it looks at the host for the one to come, as the options describe it.";

/// `vsctl doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = STATES)]
pub(crate) struct Doctor {
    /// The VTEP's address of a daemon that does not run yet
    #[arg(long, value_name = "IP", value_parser = ip)]
    vtep_ip: Option<IpAddr>,
    /// Its VXLAN port
    #[arg(long, value_name = "PORT", default_value = "4789", value_parser = number(1..=u16::MAX))]
    vtep_port: u16,
    /// Where the daemon keeps its state [default: as it was told, else /var/lib/vswitch]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where CNI plugins are
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    cni_bin_dir: PathBuf,
    /// Where container runtimes look for networks
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    cni_conf_dir: PathBuf,
}

/// What is known before anything is looked at.
#[derive(Debug)]
struct Patient {
    words: Doctor,
    /// Where the daemon is asked.
    socket: PathBuf,
    daemon: Result<Daemon, ClientError>,
}

/// A daemon that answers.
#[derive(Debug)]
struct Daemon {
    status: Status,
    ports: Vec<PortInfo>,
    vlans: Vec<VlanInfo>,
    peers: Vec<PeerInfo>,
}

impl Patient {
    fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref().ok()
    }

    /// The VTEP's address and port.
    fn vtep(&self) -> (Option<IpAddr>, u16) {
        match self.daemon() {
            Some(Daemon { status, .. }) => (status.vtep.ip, status.vtep.port),
            None => (self.words.vtep_ip, self.words.vtep_port),
        }
    }

    /// Whether VXLAN is known to pass the host's packet filter by.
    fn goes_by_uplink(&self) -> bool {
        self.daemon().is_some_and(|daemon| daemon.status.vtep.underlay == Some(Carried::Uplink))
    }
}

impl Daemon {
    fn ask(client: &mut Client) -> Result<Self, ClientError> {
        Ok(Self {
            status: client.call(&Query::Status {}.into())?,
            ports: client.call(&Query::PortList {}.into())?,
            vlans: client.call(&Query::VlanList {}.into())?,
            peers: client.call(&Query::PeerList {}.into())?,
        })
    }
}

/// Looks at all of it.
pub(crate) fn examine(words: Doctor, socket: PathBuf, timeout: Duration) -> Vec<Check> {
    let daemon = Client::connect(&socket, timeout).and_then(|mut client| Daemon::ask(&mut client));
    let patient = Patient { words, socket, daemon };
    let mut checks = daemon::checks(&patient);
    checks.extend(device::checks());
    checks.extend(rights::checks(&patient));
    checks.extend(on_the_underlay(&patient));
    checks.push(time::synchronized(vswitch_sys::clock::is_synchronized()));
    checks.extend(cni::checks(&patient.words, &patient.socket));
    checks
}

/// What depends on the network namespace: looked at where the daemon is.
fn on_the_underlay(patient: &Patient) -> Vec<Check> {
    let look = || {
        let mut checks = underlay::checks(patient);
        checks.extend(firewall::checks(patient));
        checks.extend(sysctls::checks(patient));
        checks
    };
    let Some(daemon) = patient.daemon() else { return look() };
    let theirs = || -> io::Result<Option<Netns>> {
        let (ours, theirs) = (Netns::current(), Netns::open_pid(daemon.status.pid));
        let (ours, theirs) = (ours.map_err(io::Error::other)?, theirs.map_err(io::Error::other)?);
        let same = ours.identity().map_err(io::Error::other)? == theirs.identity().map_err(io::Error::other)?;
        Ok((!same).then_some(theirs))
    };
    let elsewhere = |why: String| {
        let text = format!("cannot look into the network namespace of vswitchd: {why}; what follows is of this one");
        Check::note("namespace", text).mended("run it as root, or where vswitchd runs")
    };
    match theirs() {
        Ok(None) => look(),
        Ok(Some(netns)) => netns.run(look).unwrap_or_else(|error| {
            let mut checks = vec![elsewhere(error.to_string())];
            checks.extend(look());
            checks
        }),
        Err(error) => {
            let mut checks = vec![elsewhere(error.to_string())];
            checks.extend(look());
            checks
        }
    }
}

#[cfg(test)]
mod tests;

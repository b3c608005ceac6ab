//! The words of the command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::capture::{CaptureArgs, LiveArgs};
use crate::complete::{Shell, names};
use crate::doctor::Doctor;
use crate::repeat::Watch;
use crate::value::ip;
use vswitch_api::{
    AllowedWord, Cidr, IfName, LimitWord, Mac, Mtu, Net, NetnsRef, PortName, Vid, VlanList, VlanName, Vni,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; adding what is there with the same settings too
  1  the daemon refused: the message says what, why and what to do
  2  usage
  3  the daemon cannot be reached";

const DEMO_NEEDS: &str = "\
It needs vswitchd (beside vsctl or on $PATH), /dev/net/tun, and root or a system that gives ordinary users user
namespaces. It ends with 0 only if ping and TCP worked; all of it is removed, also after a failure and Ctrl-C.";

/// Manages a running vswitchd
#[derive(Debug, Parser)]
#[command(name = "vsctl", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options for every command")]
pub(crate) struct Global {
    /// The daemon's socket [default: $VSWITCH_SOCKET, else without root $XDG_RUNTIME_DIR/vswitch/vswitch.sock if it is
    /// there, else /run/vswitch/vswitch.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing on success
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// How long to wait for the daemon
    #[arg(long, global = true, value_name = "SECS", default_value = "5", value_parser = timeout)]
    pub(crate) timeout: Duration,
}

/// A day is more than anyone waits, and less than what overflows a clock.
fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is not a number of seconds from 0.001 to 86400"))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ports: interfaces of containers
    #[command(subcommand)]
    Port(Port),
    /// VLANs: networks apart from each other
    #[command(subcommand)]
    Vlan(Vlan),
    /// The VXLAN tunnel and the switches at its other ends
    #[command(subcommand)]
    Vtep(Vtep),
    /// Addresses: which is behind which port or remote
    #[command(subcommand)]
    Fdb(Fdb),
    /// Who was heard where: addresses seen in ARP and neighbour discovery, and those of ports
    #[command(subcommand)]
    Neighbour(Neighbour),
    /// Ports that container runtimes asked for
    #[command(subcommand)]
    Attachment(crate::attachments::Attachments),
    /// Addresses that containers are given
    #[command(subcommand)]
    Pool(crate::attachments::Pools),
    /// Why A does or does not reach B; ends with 0 where it does, 1 where not
    Why {
        /// A port's name, an IP address or a MAC address; one of the two must be a port here
        #[arg(add = names::stations())]
        a: String,
        /// The same
        #[arg(add = names::stations())]
        b: String,
    },
    /// Counters, with drops by reason
    Stats {
        /// Of this port alone, or of `tunnel`
        #[arg(add = names::ports_and(&[("tunnel", "the VXLAN side")]))]
        port: Option<String>,
        #[command(flatten)]
        watch: Watch,
    },
    /// How the daemon is: healthy, or what is not
    Status(Watch),
    /// Look at the host, and say what is wrong and how to mend it; ends with 1 where something is
    Doctor(Doctor),
    /// Capture frames, with what became of them: for Wireshark and tcpdump, or as lines on a terminal
    Capture(Box<CaptureArgs>),
    /// Tell the journey of a frame, without sending it; or, with --live, that of frames as they pass
    Trace {
        /// Follow frames as they pass, a line each
        #[arg(long, conflicts_with_all = ["from", "frame", "src", "dst", "ip_src"])]
        live: bool,
        #[command(flatten)]
        follow: LiveArgs,
        #[command(flatten)]
        trace: Box<crate::trace::Trace>,
    },
    /// Ports, peers and workers by what passes now, with drops and their reasons, on a screen of its own
    #[cfg(feature = "top")]
    Top(crate::top::TopArgs),
    /// Tell what happens, a line for each event, until Ctrl-C
    Monitor(crate::monitor::MonitorArgs),
    /// Try it: two hosts and two containers in network namespaces, VXLAN between them, and traffic
    Demo(Demo),
    /// Print the reference of all words
    #[command(hide = true)]
    Reference,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// Which folder; it is made where it is missing
        dir: PathBuf,
    },
    /// Say what a word may be: completion scripts ask
    #[command(hide = true)]
    Complete {
        /// Which of them, from 0
        index: usize,
        /// The words so far
        #[arg(last = true)]
        words: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Neighbour {
    /// List them
    List(Watch),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Port {
    /// Add a port: an interface in a network namespace
    Add(Box<PortAdd>),
    /// List the ports
    List(Watch),
    /// Show one port
    Show {
        /// Which port
        #[arg(add = names::ports())]
        name: PortName,
    },
    /// Change a port; what is not named stays
    Set(PortSet),
    /// Delete a port, its interface and the static addresses behind it
    Del {
        /// Which port
        #[arg(add = names::ports())]
        name: PortName,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PortAdd {
    /// Its name in the switch
    pub(crate) name: PortName,
    /// The network namespace its interface goes to: a name below /run/netns, an absolute path, or pid:N
    #[arg(long, value_name = "NAME|PATH|pid:N", add = names::namespaces())]
    pub(crate) netns: NetnsRef,
    /// What the interface is called there
    #[arg(long, default_value = "eth0")]
    pub(crate) ifname: IfName,
    /// The interface's MAC address [default: chosen by the daemon]
    #[arg(long)]
    pub(crate) mac: Option<Mac>,
    /// An address with its prefix length; may be given more than once
    #[arg(long = "address", value_name = "CIDR")]
    pub(crate) addresses: Vec<Cidr>,
    /// The default route's next hop; at most one IPv4 and one IPv6
    #[arg(long = "gateway", value_name = "IP", value_parser = ip)]
    pub(crate) gateways: Vec<IpAddr>,
    /// The interface's MTU [default: what the underlay leaves on a VLAN with a VNI, 1500 else]
    #[arg(long)]
    pub(crate) mtu: Option<Mtu>,
    /// The one VLAN it is in, untagged [default: 1]
    #[arg(long, value_name = "VID", conflicts_with_all = ["trunk", "native"], add = names::vlans())]
    pub(crate) access: Option<Vid>,
    /// The VLANs it is in, tagged
    #[arg(long, value_name = "VID[-VID],...", add = names::vlan_lists())]
    pub(crate) trunk: Option<VlanList>,
    /// The VLAN of the trunk's untagged frames
    #[arg(long, value_name = "VID", requires = "trunk", add = names::vlans())]
    pub(crate) native: Option<Vid>,
    /// Make the interface here, with your own rights over the namespace, and hand it to the daemon: for one that may not
    /// enter namespaces
    #[arg(long)]
    pub(crate) hand_over: bool,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What a port may carry.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// What the container may send: bit/s, like 500k, 10M or 1.5G, and how many bytes at once, like 64k [default: what
    /// the rate gives in 25 ms, at least 64k]; none: no limit. Frames beyond wait in the interface's own queue
    #[arg(long = "rx-limit", value_name = "RATE[,BURST]|none")]
    pub(crate) rx: Option<LimitWord>,
    /// What the container may be sent, likewise. Frames beyond wait, up to 25 ms at the rate, then are dropped as
    /// rate_limited
    #[arg(long = "tx-limit", value_name = "RATE[,BURST]|none")]
    pub(crate) tx: Option<LimitWord>,
}

/// What a port may send from.
#[derive(Debug, Args)]
pub(crate) struct Guard {
    /// The MAC addresses it may send from, as no other port may; any: all; default: as vswitchd --source-guard says
    #[arg(long = "allow-mac", value_name = "MAC", num_args = 1..)]
    pub(crate) macs: Option<Vec<AllowedWord<Mac>>>,
    /// The IP addresses it may send from, in IP, ARP and neighbour discovery; any: all; default: as for MAC addresses
    #[arg(long = "allow-ip", value_name = "CIDR", num_args = 1..)]
    pub(crate) ips: Option<Vec<AllowedWord<Net>>>,
}

#[derive(Debug, Args)]
pub(crate) struct PortSet {
    /// Which port
    #[arg(add = names::ports())]
    pub(crate) name: PortName,
    /// Its new MTU
    #[arg(long)]
    pub(crate) mtu: Option<Mtu>,
    /// Make it an access port of this VLAN
    #[arg(long, value_name = "VID", conflicts_with_all = ["trunk", "native"], add = names::vlans())]
    pub(crate) access: Option<Vid>,
    /// Make it a trunk of these VLANs, without a native VLAN unless --native names one
    #[arg(long, value_name = "VID[-VID],...", add = names::vlan_lists())]
    pub(crate) trunk: Option<VlanList>,
    /// The VLAN of the trunk's untagged frames
    #[arg(long, value_name = "VID", add = names::vlans())]
    pub(crate) native: Option<Vid>,
    /// Its addresses, instead of all it had; may be given more than once
    #[arg(long = "address", value_name = "CIDR")]
    pub(crate) addresses: Option<Vec<Cidr>>,
    /// Its gateways, instead of all it had; at most one IPv4 and one IPv6
    #[arg(long = "gateway", value_name = "IP", value_parser = ip)]
    pub(crate) gateways: Option<Vec<IpAddr>>,
    #[command(flatten)]
    pub(crate) guard: Guard,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vlan {
    /// Give a VLAN settings; a port may be in a VLAN that has none
    Add {
        /// Which VLAN, 1 to 4094
        #[arg(value_name = "VID")]
        vlan: Vid,
        /// Its number on the underlay, 1 to 16777215; without one it is local to this switch
        #[arg(long)]
        vni: Option<Vni>,
        /// What people call it
        #[arg(long, value_name = "TEXT")]
        name: Option<VlanName>,
        /// Do not learn addresses behind remotes
        #[arg(long)]
        no_learning: bool,
    },
    /// List the VLANs
    List(Watch),
    /// Delete a VLAN's settings; ports in it stay in it
    Del {
        /// Which VLAN
        #[arg(value_name = "VID", add = names::vlans())]
        vlan: Vid,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vtep {
    /// Show this switch's end of the tunnel
    Show,
    /// The other ends
    #[command(subcommand)]
    Peer(Peer),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// Add a peer, or an existing one to more VLANs
    #[command(group = ArgGroup::new("where").required(true))]
    Add {
        /// Its address on the underlay
        #[arg(value_parser = ip)]
        ip: IpAddr,
        /// The VLAN whose frames it gets; a list like 10-20,30 too
        #[arg(long, value_name = "VID", group = "where", add = names::vlan_lists())]
        vlan: Option<VlanList>,
        /// All VLANs that have a VNI, now or later
        #[arg(long, group = "where")]
        all_vlans: bool,
    },
    /// List the peers, and how the way to them is where vswitchd --probe-interval, or `probe`, found that out
    List(Watch),
    /// Find out how the way to a peer is, in about a second: round trip, path MTU, shared VNIs, what is wrong. Ends with 0
    /// where it, or its host, answers, 1 where nothing does
    Probe {
        /// Its address on the underlay
        #[arg(value_parser = ip, add = names::peers())]
        ip: IpAddr,
        /// Whether it has the VNI of this VLAN too
        #[arg(long, value_name = "VID", add = names::vlans())]
        vlan: Option<Vid>,
    },
    /// Delete a peer
    Del {
        /// Its address on the underlay
        #[arg(value_parser = ip, add = names::peers())]
        ip: IpAddr,
        /// From this VLAN alone
        #[arg(long, value_name = "VID", add = names::vlans())]
        vlan: Option<Vid>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Fdb {
    /// List addresses
    List {
        #[command(flatten)]
        which: FdbFilter,
        #[command(flatten)]
        watch: Watch,
    },
    /// Add a static address: it neither moves nor ages
    #[command(group = ArgGroup::new("where").required(true))]
    Add {
        /// The address
        mac: Mac,
        /// In which VLAN
        #[arg(long, value_name = "VID", add = names::vlans())]
        vlan: Vid,
        /// The port it is behind
        #[arg(long, value_name = "NAME", group = "where", add = names::ports())]
        port: Option<PortName>,
        /// The peer it is behind
        #[arg(long, value_name = "IP", group = "where", value_parser = ip, add = names::peers())]
        remote: Option<IpAddr>,
    },
    /// Delete an address
    Del {
        /// The address
        #[arg(add = names::macs())]
        mac: Mac,
        /// In which VLAN
        #[arg(long, value_name = "VID", add = names::vlans())]
        vlan: Vid,
    },
    /// Forget learned addresses; static ones stay
    Flush(FdbFilter),
}

#[derive(Debug, Args)]
pub(crate) struct FdbFilter {
    /// Only in this VLAN
    #[arg(long, value_name = "VID", add = names::vlans())]
    pub(crate) vlan: Option<Vid>,
    /// Only behind this port
    #[arg(long, value_name = "NAME", add = names::ports())]
    pub(crate) port: Option<PortName>,
}

#[derive(Debug, Args)]
#[command(after_help = DEMO_NEEDS)]
pub(crate) struct Demo {
    /// Leave it running, and say how to look around
    #[arg(long, conflicts_with = "remove")]
    pub(crate) keep: bool,
    /// Remove the kept demo of this name; without a name, all that you kept
    #[arg(long, value_name = "NAME", num_args = 0..=1)]
    pub(crate) remove: Option<Option<String>>,
}

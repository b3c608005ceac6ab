//! Who is compared with whom.

use std::fmt;
use std::process::{Command, Stdio};

use netns_tests::{OpenVswitch, SuperFrames, binaries::binaries};

/// Seen with 3.1.
const NO_TUNNEL: &str = "its tunnels lose frames whose checksum is still owed, so that TCP does not even connect";

/// Where the two containers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On one host.
    Local,
    /// On two hosts, joined by VXLAN over a veth pair of MTU 1500.
    Across,
    /// On one host; what is compared is what `vswitchd` does while no frame waits.
    Poll,
    /// On one host; what is compared is who looks on.
    Watched,
}

/// What carries frames between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A veth pair and nothing else: what any switch is held against.
    Veth,
    /// The kernel: bridge and veth, and VXLAN where there are two hosts.
    Kernel,
    /// Open vSwitch with its userspace datapath, on veth.
    OpenVswitch(SuperFrames),
    /// `vswitchd`.
    Vswitch(Variant),
}

/// How `vswitchd` is told to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Default,
    Udp,
    Uplink,
    Busy,
    Adaptive,
    Sleep,
    TwoWorkers,
    /// Metrics and the flight recorder on.
    Recorded,
}

/// Where [`Variant::Recorded`] tells its metrics, at 127.0.0.1.
pub(crate) const METRICS_PORT: u16 = 9472;

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::Local, Self::Across];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Across => "across",
            Self::Poll => "poll",
            Self::Watched => "watched",
        }
    }

    /// Who takes part, in the order of their turns; and who does not, and why.
    pub(crate) fn peers(self, workers: bool) -> (Vec<Peer>, Vec<String>) {
        let mut peers = match self {
            Self::Local => vec![Peer::Veth, Peer::Kernel],
            Self::Across => vec![Peer::Kernel],
            Self::Poll | Self::Watched => vec![],
        };
        let mut skipped = Vec::new();
        if matches!(self, Self::Local | Self::Across) {
            for super_frames in [SuperFrames::Cut, SuperFrames::Whole] {
                let peer = Peer::OpenVswitch(super_frames);
                let why = match (self, super_frames) {
                    (Self::Across, SuperFrames::Whole) => Err(NO_TUNNEL.to_owned()),
                    _ => OpenVswitch::installed(super_frames),
                };
                match why {
                    Ok(()) => peers.push(peer),
                    Err(why) => skipped.push(format!("{}: {peer}: {why}", self.name())),
                }
            }
        }
        let mut variants = match self {
            Self::Local => vec![Variant::Default],
            Self::Across if Variant::Uplink.is_known() => vec![Variant::Udp, Variant::Uplink],
            Self::Across => vec![Variant::Default],
            Self::Poll => vec![Variant::Busy, Variant::Adaptive, Variant::Sleep],
            Self::Watched => vec![Variant::Default, Variant::Recorded],
        };
        if workers && matches!(self, Self::Local | Self::Across) {
            variants.push(Variant::TwoWorkers);
        }
        for variant in variants {
            if variant.is_known() {
                peers.push(Peer::Vswitch(variant));
            } else {
                let peer = Peer::Vswitch(variant);
                skipped.push(format!("{}: {peer}: this vswitchd cannot be told so", self.name()));
            }
        }
        (peers, skipped)
    }
}

impl Variant {
    /// The setting, as the command line has it and (without the dashes) the config file.
    const fn setting(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Default => None,
            Self::Udp => Some(("underlay", "udp")),
            Self::Uplink => Some(("underlay", "uplink")),
            Self::Busy => Some(("poll", "busy")),
            Self::Adaptive => Some(("poll", "adaptive")),
            Self::Sleep => Some(("poll", "sleep")),
            Self::TwoWorkers => Some(("workers", "2")),
            Self::Recorded => Some(("flight-recorder", "30")),
        }
    }

    /// What the config file says.
    pub(crate) fn config(self) -> String {
        let metrics = if self == Self::Recorded {
            format!("metrics-addr = \"127.0.0.1:{METRICS_PORT}\"\n")
        } else {
            String::new()
        };
        match self.setting() {
            None => String::new(),
            Some((name, number @ "2")) => format!("{name} = {number}\n"),
            Some((name, word)) => format!("{name} = \"{word}\"\n{metrics}"),
        }
    }

    /// Whether the daemon under test, perhaps an older one, takes the setting.
    fn is_known(self) -> bool {
        let Some((name, value)) = self.setting() else { return true };
        let Ok(binaries) = binaries() else { return false };
        let mut command = Command::new(&binaries.vswitchd);
        command.arg(format!("--{name}={value}")).arg("--version");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Veth => "veth, no switch",
            Self::Kernel => "kernel",
            Self::OpenVswitch(SuperFrames::Cut) => "OVS, offloads off",
            Self::OpenVswitch(SuperFrames::Whole) => "OVS, userspace TSO",
            Self::Vswitch(Variant::Default) => "vswitch",
            Self::Vswitch(Variant::Udp) => "vswitch, udp",
            Self::Vswitch(Variant::Uplink) => "vswitch, uplink",
            Self::Vswitch(Variant::Busy) => "vswitch, busy",
            Self::Vswitch(Variant::Adaptive) => "vswitch, adaptive",
            Self::Vswitch(Variant::Sleep) => "vswitch, sleep",
            Self::Vswitch(Variant::TwoWorkers) => "vswitch, 2 workers",
            Self::Vswitch(Variant::Recorded) => "vswitch, recorder",
        })
    }
}

//! Every reason a frame may be dropped for, in one row: the stages' own lists, one after the other.

use std::fmt::Write as _;

use vswitch_core::switch::Reason;
use vtep::{DecapDrop, EncapDrop, SendDrop};

use crate::port::OamDrop;

vswitch_core::drop_reasons! {
    /// Why a port drops a frame, on the way in or out.
    pub(crate) enum PortDrop {
        /// The virtio header of a frame points outside of it or asks for what no kernel asks: the sender made it by hand.
        BadOffload => "bad_offload",
            "Nothing of a kernel's does this: look which program in the container writes raw frames with \
             `PACKET_VNET_HDR`.",
        /// The packet does not fit its way out: a port's MTU, or the underlay's less the encapsulation. Its sender was
        /// told by ICMP where that may be.
        TooBig => "too_big",
            "Make the sender's MTU smaller, or leave it to the switch (add the port without --mtu); `vsctl vtep \
             show` says what the underlay carries.",
        /// The interface in the container is down: bring it up there.
        InterfaceDown => "interface_down",
            "Bring it up: `ip link set eth0 up` in the container.",
        /// The device or socket took no more frames for now: its reader is slower than its senders.
        QueueFull => "queue_full",
            "Look what keeps the reader from its work: a container that is stopped or short of CPU, or for the \
             tunnel an underlay slower than what is sent. Bursts of a few are harmless.",
        /// The port was sent more than its --tx-limit lets through, for longer than frames may wait. Super-frames
        /// that wait in segments, at less than 100 Mbit/s, count as these.
        RateLimited => "rate_limited",
            "Nothing is wrong if the limit is meant; else raise it: `vsctl port set NAME --tx-limit RATE`.",
        /// The port is gone: its namespace was deleted or its descriptor closed.
        PortLost => "port_lost",
            "Bring the namespace back, which brings the port back, or delete the port: `vsctl port del NAME`.",
        /// The kernel refused the frame as malformed.
        Refused => "refused",
            "Capture the frames (`vsctl capture drops --reason refused`) and look what is wrong with their headers.",
        /// The VXLAN socket's queue was full: datagrams came faster than they were taken.
        ReceiveQueueFull => "receive_queue_full",
            "Raise `net.core.rmem_max` and restart the daemon, give it a core, or more --workers where many flows \
             arrive.",
    }
}

/// A drop of any stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop {
    Port(PortDrop),
    Switch(Reason),
    Encap(EncapDrop),
    Send(SendDrop),
    Decap(DecapDrop),
    Oam(OamDrop),
}

const SWITCH: usize = PortDrop::ALL.len();
const ENCAP: usize = SWITCH + Reason::COUNT;
const SEND: usize = ENCAP + EncapDrop::ALL.len();
const DECAP: usize = SEND + SendDrop::ALL.len();
const OAM: usize = DECAP + DecapDrop::ALL.len();

impl Drop {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = OAM + OamDrop::ALL.len();

    /// Its place among all, below [`Self::COUNT`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Port(drop) => drop.index(),
            Self::Switch(reason) => SWITCH + reason.index(),
            Self::Encap(drop) => ENCAP + drop.index(),
            Self::Send(drop) => SEND + drop.index(),
            Self::Decap(drop) => DECAP + drop.index(),
            Self::Oam(drop) => OAM + drop.index(),
        }
    }

    /// Every reason, each at its index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let port = PortDrop::ALL.iter().copied().map(Self::Port);
        let switch = Reason::all().map(Self::Switch);
        let encap = EncapDrop::ALL.iter().copied().map(Self::Encap);
        let send = SendDrop::ALL.iter().copied().map(Self::Send);
        let decap = DecapDrop::ALL.iter().copied().map(Self::Decap);
        let oam = OamDrop::ALL.iter().copied().map(Self::Oam);
        port.chain(switch).chain(encap).chain(send).chain(decap).chain(oam)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Port(drop) => drop.name(),
            Self::Switch(reason) => reason.name(),
            Self::Encap(drop) => drop.name(),
            Self::Send(drop) => drop.name(),
            Self::Decap(drop) => drop.name(),
            Self::Oam(drop) => drop.name(),
        }
    }

    /// What it means, for people.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Port(drop) => drop.explanation(),
            Self::Switch(reason) => reason.explanation(),
            Self::Encap(drop) => drop.explanation(),
            Self::Send(drop) => drop.explanation(),
            Self::Decap(drop) => drop.explanation(),
            Self::Oam(drop) => drop.explanation(),
        }
    }

    /// What to do about it, for people.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Port(drop) => drop.advice(),
            Self::Switch(reason) => reason.advice(),
            Self::Encap(drop) => drop.advice(),
            Self::Send(drop) => drop.advice(),
            Self::Decap(drop) => drop.advice(),
            Self::Oam(drop) => drop.advice(),
        }
    }

    /// The stages in the order a frame passes them, with what each is about.
    fn stage(self) -> &'static str {
        match self {
            Self::Port(_) => "At a port, on the way in or out",
            Self::Switch(_) => "In the switch",
            Self::Encap(_) => "On the way into VXLAN",
            Self::Send(_) => "On the underlay",
            Self::Decap(_) => "On the way out of VXLAN",
            Self::Oam(_) => "Among messages between VTEPs",
        }
    }
}

/// The page of the reference with every reason.
pub(crate) fn reference() -> String {
    let mut out = String::from(
        "# Drop reasons\n\n\
         Every frame that the switch drops is counted for one of these reasons: `vsctl stats` shows them by port, and what\n\
         they mean; `vsctl capture drops` shows the frames; the label `reason` of the [metrics](metrics.md) has the names.\n\
         This page is written by `docs/reference/write.sh`, from the code.\n",
    );
    let mut told = Vec::new();
    let mut stage = "";
    for drop in Drop::all() {
        if told.contains(&drop.name()) {
            continue; // one name may be given by two stages, and means the same
        }
        told.push(drop.name());
        if drop.stage() != stage {
            stage = drop.stage();
            let _ = writeln!(out, "\n## {stage}\n\n| reason | what it means | what to do |\n|---|---|---|");
        }
        let _ = writeln!(out, "| `{}` | {} | {} |", drop.name(), drop.explanation(), drop.advice());
    }
    out
}

macro_rules! from_stage {
    ($($stage:ty => $variant:ident),+) => {
        $(impl From<$stage> for Drop {
            fn from(drop: $stage) -> Self {
                Self::$variant(drop)
            }
        })+
    };
}
from_stage!(PortDrop => Port, Reason => Switch, EncapDrop => Encap, SendDrop => Send, DecapDrop => Decap, OamDrop => Oam);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_place_of_its_own() {
        for (place, drop) in Drop::all().enumerate() {
            assert_eq!(drop.index(), place, "{}", drop.name());
        }
        assert_eq!(Drop::all().count(), Drop::COUNT);
    }

    #[test]
    fn every_reason_says_what_it_means_and_what_to_do() {
        for drop in Drop::all() {
            for text in [drop.explanation(), drop.advice()] {
                assert!(text.ends_with('.') && !text.starts_with(' '), "{}: {text}", drop.name());
                assert!(!text.contains(['|', '\n']), "{}: {text}", drop.name());
            }
            let same = Drop::all().find(|other| other.name() == drop.name()).unwrap();
            assert_eq!((same.explanation(), same.advice()), (drop.explanation(), drop.advice()), "{}", drop.name());
        }
    }

    #[test]
    fn the_page_of_the_reference_is_what_is_declared() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/drop-reasons.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(page, reference(), "docs/reference/drop-reasons.md is stale: run docs/reference/write.sh");
    }
}

//! Every reason a frame may be dropped for, in one row: the stages' own lists, one after the other.

use vswitch_core::switch::Reason;
use vtep::{DecapDrop, EncapDrop, SendDrop};

vswitch_core::drop_reasons! {
    /// Why a port drops a frame, on the way in or out.
    pub(crate) enum PortDrop {
        /// The virtio header of a frame points outside of it or asks for what no kernel asks: the sender made it by hand.
        BadOffload => "bad_offload",
        /// The packet does not fit its way out: a port's MTU, or the underlay's less the encapsulation. Its sender was
        /// told by ICMP where that may be.
        TooBig => "too_big",
        /// The interface in the container is down: bring it up there.
        InterfaceDown => "interface_down",
        /// The device or socket took no more frames for now: its reader is slower than its senders.
        QueueFull => "queue_full",
        /// The port was sent more than its --tx-limit lets through, for longer than frames may wait. Super-frames
        /// that wait in segments, at less than 100 Mbit/s, count as these.
        RateLimited => "rate_limited",
        /// The port is gone: its namespace was deleted or its descriptor closed.
        PortLost => "port_lost",
        /// The kernel refused the frame as malformed.
        Refused => "refused",
        /// The VXLAN socket's queue was full: datagrams came faster than they were taken.
        ReceiveQueueFull => "receive_queue_full",
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
}

const SWITCH: usize = PortDrop::ALL.len();
const ENCAP: usize = SWITCH + Reason::COUNT;
const SEND: usize = ENCAP + EncapDrop::ALL.len();
const DECAP: usize = SEND + SendDrop::ALL.len();

impl Drop {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = DECAP + DecapDrop::ALL.len();

    /// Its place among all, below [`Self::COUNT`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Port(drop) => drop.index(),
            Self::Switch(reason) => SWITCH + reason.index(),
            Self::Encap(drop) => ENCAP + drop.index(),
            Self::Send(drop) => SEND + drop.index(),
            Self::Decap(drop) => DECAP + drop.index(),
        }
    }

    /// Every reason, each at its index.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let port = PortDrop::ALL.iter().copied().map(Self::Port);
        let switch = Reason::all().map(Self::Switch);
        let encap = EncapDrop::ALL.iter().copied().map(Self::Encap);
        let send = SendDrop::ALL.iter().copied().map(Self::Send);
        let decap = DecapDrop::ALL.iter().copied().map(Self::Decap);
        port.chain(switch).chain(encap).chain(send).chain(decap)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Port(drop) => drop.name(),
            Self::Switch(reason) => reason.name(),
            Self::Encap(drop) => drop.name(),
            Self::Send(drop) => drop.name(),
            Self::Decap(drop) => drop.name(),
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
        }
    }
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
from_stage!(PortDrop => Port, Reason => Switch, EncapDrop => Encap, SendDrop => Send, DecapDrop => Decap);

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
}

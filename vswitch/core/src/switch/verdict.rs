//! The switch's answer: where a frame goes, or why it goes nowhere.

use super::flood::Flood;
use super::forward::{ForwardDrop, SourceDrop};
use super::guard::GuardDrop;
use super::port::{PortDrop, PortId};
use super::storm::StormDrop;
use super::vlan::VlanDrop;
use crate::wire::ethernet::EthernetDrop;
use crate::wire::vlan::{Tag, VlanId};

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves on one port.
    Unicast(Egress),
    /// A copy leaves on each of [`flood_targets`](super::Switch::flood_targets): there is at least one.
    Flood(Flood),
    /// It goes nowhere.
    Drop(Reason),
}

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The port it leaves on.
    pub port: PortId,
    /// The VLAN it travels in.
    pub vlan: VlanId,
    /// The tag it must carry there, for [`Frame::retag`](crate::Frame::retag).
    pub tag: Option<Tag>,
}

/// Composes the stages' own reasons into one enum with one dense numbering.
macro_rules! compose {
    ($($(#[doc = $doc:literal])+ $stage:ident($drop:ident),)+) => {
        /// Why a frame goes nowhere: the reason its stage gave, in the order a frame passes the stages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $stage($drop),)+ }

        impl Reason {
            /// How many reasons there are.
            pub const COUNT: usize = 0 $(+ $drop::ALL.len())+;

            /// Every reason, in the order of [`Self::index`].
            pub fn all() -> impl Iterator<Item = Self> {
                core::iter::empty()$(.chain($drop::ALL.iter().copied().map(Self::$stage)))+
            }

            /// The name of its counter, unique among all reasons.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$stage(drop) => drop.name(),)+ }
            }

            /// What it means, for people.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$stage(drop) => drop.explanation(),)+ }
            }

            /// What to do about it, for people.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$stage(drop) => drop.advice(),)+ }
            }

            /// Its place among all reasons, less than [`Self::COUNT`].
            #[must_use]
            pub const fn index(self) -> usize {
                let before = 0;
                $(
                    if let Self::$stage(drop) = self {
                        return before + drop.index();
                    }
                    let before = before + $drop::ALL.len();
                )+
                before
            }
        }

        $(
            impl From<$drop> for Reason {
                fn from(drop: $drop) -> Self {
                    Self::$stage(drop)
                }
            }
        )+
    };
}

compose! {
    /// The ingress port.
    Port(PortDrop),
    /// The Ethernet header.
    Ethernet(EthernetDrop),
    /// VLAN classification.
    Vlan(VlanDrop),
    /// What it says of its sender.
    Guard(GuardDrop),
    /// The source address.
    Source(SourceDrop),
    /// The way to the destination.
    Forward(ForwardDrop),
    /// The budget of frames for many.
    Storm(StormDrop),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn reasons_are_numbered_densely_and_named_uniquely() {
        assert_eq!(Reason::all().count(), Reason::COUNT);
        for (place, reason) in Reason::all().enumerate() {
            assert_eq!(reason.index(), place, "{reason:?}");
            assert!(reason.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{reason:?}");
            assert!(reason.explanation().ends_with('.') && !reason.explanation().starts_with(' '), "{reason:?}");
        }
        assert_eq!(Reason::all().map(Reason::name).collect::<BTreeSet<_>>().len(), Reason::COUNT);
    }
}

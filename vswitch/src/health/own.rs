//! What is wrong with this host itself: nothing is to be said of peers while that lasts.

use std::net::IpAddr;

/// What keeps this host from sending VXLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnFault {
    /// The interface that held the VTEP's address is gone.
    LinkGone,
    /// No interface has the VTEP's address; this one had, with so many bits of prefix, where that is known.
    AddressGone { link: String, prefix: Option<u8> },
    /// The interface that has it is down.
    LinkDown { link: String },
    /// The interface that has it has no carrier.
    NoCarrier { link: String },
}

impl OwnFault {
    /// What it is called where users see it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::LinkGone => "own_link_gone",
            Self::AddressGone { .. } => "own_address_gone",
            Self::LinkDown { .. } => "own_link_down",
            Self::NoCarrier { .. } => "own_no_carrier",
        }
    }

    /// What it is, where the VTEP's address is `own`.
    pub(crate) fn text(&self, own: IpAddr) -> String {
        match self {
            Self::LinkGone => format!(
                "the interface of this host that had {own}, the VTEP's address, is gone: start the daemon anew when it is back"
            ),
            Self::AddressGone { link, .. } => {
                format!("this host does not have {own}, the VTEP's address, any more: interface {link} had it")
            }
            Self::LinkDown { link } => format!("interface {link} of this host, with {own}, is down"),
            Self::NoCarrier { link } => format!(
                "interface {link} of this host, with {own}, has no carrier: look at its cable, or at what it is connected to"
            ),
        }
    }

    /// The command that mends it on this host.
    pub(crate) fn mend(&self, own: IpAddr) -> Option<String> {
        match self {
            Self::AddressGone { link, prefix: Some(prefix) } => {
                Some(format!("ip address add {own}/{prefix} dev {link}"))
            }
            Self::LinkDown { link } => Some(format!("ip link set {link} up")),
            Self::AddressGone { prefix: None, .. } | Self::LinkGone | Self::NoCarrier { .. } => None,
        }
    }
}

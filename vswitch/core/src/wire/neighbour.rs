//! Neighbour discovery (RFC 4861 4): what a message says of who has which address.

use core::net::Ipv6Addr;

use crate::addr::MacAddr;

/// Options walked at most: a router sends less than ten.
const MAX_OPTIONS: usize = 32;

/// Option types: the link-layer address of who sends, and of who is spoken of.
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;

/// An ICMPv6 message, by what it does to the tables of who hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Who is a router?
    RouterSolicitation { options: Options<'a> },
    /// I am a router, or another one is a better way: says where others' packets go.
    Router { options: Options<'a> },
    /// Who has `target`? Sent from the unspecified address: I am about to have it (RFC 4862 5.4).
    Solicitation { target: Ipv6Addr, options: Options<'a> },
    /// I have `target`.
    Advertisement { target: Ipv6Addr, options: Options<'a> },
    /// Which groups I listen to: MLD (RFC 2710, RFC 9777).
    ListenerReport,
    /// No business of neighbours' tables.
    Other,
}

/// The options of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options<'a>(&'a [u8]);

impl<'a> Message<'a> {
    /// Reads the message that `bytes` are; `None` where it is cut short before its options.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let fixed = |len: usize| Some((bytes.get(..len)?, Options(bytes.get(len..)?)));
        let with_target = || {
            let (head, options) = fixed(24)?;
            let target: [u8; 16] = *head[8..].first_chunk()?;
            Some((Ipv6Addr::from(target), options))
        };
        Some(match *bytes.first()? {
            131 | 132 | 143 => Self::ListenerReport,
            133 => Self::RouterSolicitation { options: fixed(8)?.1 },
            134 => Self::Router { options: fixed(16)?.1 },
            135 => with_target().map(|(target, options)| Self::Solicitation { target, options })?,
            136 => with_target().map(|(target, options)| Self::Advertisement { target, options })?,
            137 => Self::Router { options: fixed(40)?.1 },
            _ => Self::Other,
        })
    }

    /// What its options are; `None` where it is none of neighbour discovery.
    pub(crate) const fn options(&self) -> Option<Options<'a>> {
        match *self {
            Self::RouterSolicitation { options }
            | Self::Router { options }
            | Self::Solicitation { options, .. }
            | Self::Advertisement { options, .. } => Some(options),
            Self::ListenerReport | Self::Other => None,
        }
    }
}

impl Options<'_> {
    /// Whether each link-layer address among them `is_right`. False too where an option is cut short, has no length, or
    /// one with an address another length than Ethernet's: a host discards such a message, or reads it in its own way.
    pub(crate) fn links_are(self, is_right: impl Fn(MacAddr) -> bool) -> bool {
        let mut rest = self.0;
        for _ in 0..MAX_OPTIONS {
            let &[kind, units, ..] = rest else { return rest.is_empty() };
            let Some((option, behind)) = rest.split_at_checked(8 * usize::from(units)) else { return false };
            match *option {
                [] => return false,
                [SOURCE_LINK | TARGET_LINK, 1, a, b, c, d, e, f] if is_right(MacAddr([a, b, c, d, e, f])) => {}
                _ if matches!(kind, SOURCE_LINK | TARGET_LINK) => return false,
                _ => {}
            }
            rest = behind;
        }
        rest.is_empty()
    }
}

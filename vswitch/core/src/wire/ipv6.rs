//! The IPv6 header and its extensions (RFC 8200 3 and 4), as far as they tell who sends, and where ICMPv6 begins.

use core::net::Ipv6Addr;

const HEADER_LEN: usize = 40;

/// Next header values (IANA).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMP: u8 = 58;
const DESTINATION: u8 = 60;

/// Extension headers walked at most: a stack sends three, and a chain that does not end is an attack.
const MAX_EXTENSIONS: usize = 8;

/// What an IPv6 packet says of who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender<'a> {
    pub(crate) source: Ipv6Addr,
    pub(crate) payload: Payload<'a>,
}

/// What stands behind the header and its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    /// ICMPv6, to the end of the frame; of a fragmented packet only its beginning.
    Icmp { message: &'a [u8], is_fragment: bool },
    /// Something else, or a later fragment: what the first one held was seen then.
    Other,
}

impl<'a> Sender<'a> {
    /// Reads the packet at the start of `bytes`; `None` where it is no IPv6 header, is cut short before it is clear what it
    /// carries, or where the extension headers are more than anybody sends. A first fragment must hold all of them (RFC
    /// 7112 5).
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let source: [u8; 16] = *header[8..].first_chunk()?;
        Some(Self { source: source.into(), payload: Payload::find(header[6], rest)? })
    }
}

impl<'a> Payload<'a> {
    fn find(mut next: u8, mut rest: &'a [u8]) -> Option<Self> {
        let mut is_fragment = false;
        for _ in 0..=MAX_EXTENSIONS {
            let len = match next {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 * (usize::from(*rest.get(1)?) + 1),
                AUTHENTICATION => 4 * (usize::from(*rest.get(1)?) + 2),
                // A fragment of a fragment: nobody sends that.
                FRAGMENT if is_fragment => return None,
                FRAGMENT => {
                    let header = rest.first_chunk::<8>()?;
                    if u16::from_be_bytes([header[2], header[3]]) >> 3 != 0 {
                        return Some(Self::Other);
                    }
                    is_fragment = true;
                    8
                }
                ICMP => return Some(Self::Icmp { message: rest, is_fragment }),
                _ => return Some(Self::Other),
            };
            next = *rest.first()?;
            rest = rest.get(len..)?;
        }
        None
    }
}

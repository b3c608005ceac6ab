//! Explicit congestion notification across the tunnel (RFC 6040, normal mode).

use crate::checksum::Sum;
use crate::inner::{Ip, Version, get16, put};

/// The two ECN bits of a TOS octet or traffic class.
const MASK: u8 = 0b11;
/// Codepoints (RFC 3168 section 5).
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// Congestion was experienced by a packet whose ends do not understand the signal: it must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Congested;

/// The outer TOS octet of a frame: the inner ECN codepoint as it is, and the inner DSCP where it is inherited. Zero for
/// what is not IP.
#[must_use]
#[inline]
pub fn outer(frame: &[u8], inherit_dscp: bool) -> u8 {
    let class = Ip::find(frame).map_or(0, |ip| ip.traffic_class(frame));
    if inherit_dscp { class } else { class & MASK }
}

/// Carries the outer codepoint over to the inner packet (RFC 6040 figure 4). What is not IP has no codepoint and passes.
#[inline]
pub(crate) fn decapsulate(frame: &mut [u8], outer: u8) -> Result<(), Congested> {
    // A Not-ECT or ECT(0) outer header says nothing new.
    if outer & ECT_1 == 0 {
        return Ok(());
    }
    let Some(ip) = Ip::find(frame) else { return Ok(()) };
    let class = ip.traffic_class(frame);
    let codepoint = match (class & MASK, outer & MASK) {
        (NOT_ECT, CE) => return Err(Congested),
        (ECT_0 | ECT_1, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        _ => return Ok(()),
    };
    let class = class & !MASK | codepoint;
    match ip.version {
        Version::V4 => {
            // RFC 1624 equation 3: HC' = ~(~HC + ~m + m').
            let (before, checksum) = (get16(frame, ip.at), get16(frame, ip.at + 10));
            frame[ip.at + 1] = class;
            let after = get16(frame, ip.at);
            put(frame, ip.at + 10, Sum::ZERO.word(!checksum).word(!before).word(after).complete());
        }
        Version::V6 => frame[ip.at + 1] = frame[ip.at + 1] & 0x0f | class << 4,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Build, check};

    #[test]
    fn figure_4() {
        // Inner codepoint, then what becomes of it under an outer Not-ECT, ECT(0), ECT(1) and CE.
        let table = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), Err(Congested)]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for build in [Build::tcp4(), Build::tcp6()] {
            for (inner, row) in table {
                for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                    let mut frame = build.clone().class(0xb8 | inner).payload(b"payload").bytes();
                    let result = decapsulate(&mut frame, 0x50 | outer).map(|()| {
                        check(&frame);
                        Ip::find(&frame).unwrap().traffic_class(&frame)
                    });
                    assert_eq!(
                        result,
                        expected.map(|codepoint| 0xb8 | codepoint),
                        "inner {inner:02b} outer {outer:02b}"
                    );
                }
            }
        }
    }

    #[test]
    fn only_the_codepoint_leaves() {
        for build in [Build::udp4(), Build::udp6()] {
            for codepoint in [NOT_ECT, ECT_0, ECT_1, CE] {
                let frame = build.clone().class(0xb8 | codepoint).bytes();
                assert_eq!(outer(&frame, false), codepoint);
                assert_eq!(outer(&frame, true), 0xb8 | codepoint);
            }
        }
    }

    #[test]
    fn what_is_not_ip_passes() {
        let mut arp = [0; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let before = arp;
        assert_eq!(decapsulate(&mut arp, CE), Ok(()));
        assert_eq!((arp, outer(&arp, true)), (before, 0));
    }
}

//! What the switch tells of itself: the journey of a frame, why two stations do or do not reach each other, and who was
//! heard where.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Mac, PortName, Vid, Vni};

/// Asks what would become of a frame; answered with [`Journey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceAsk {
    /// The port it would come in on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Or the remote VTEP it would come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
    /// The VLAN in whose VNI the remote would send it; of a port, its tag says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// The frame from its destination address on, without checksum (FCS): 14 to 65550 bytes as hexadecimal digits.
    pub frame: String,
}

/// Asks why A does or does not reach B; answered with [`Why`]. Each is a port's name, an IP address or a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyAsk {
    /// One end.
    pub a: String,
    /// The other.
    pub b: String,
    /// What [`Why::pending`] said before: the same question goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
}

/// How one step turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepOutcome {
    /// As it should.
    Ok,
    /// Worth knowing.
    Note,
    /// Nothing gets past it.
    Stop,
}

/// One step of a journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainStep {
    /// Where: `port`, `vlan`, `guard`, `source`, `destination`, `storm`, `tunnel`, ...
    pub stage: String,
    /// How it turned out.
    pub outcome: StepOutcome,
    /// What was found, for people.
    pub text: String,
    /// The name of the reason where it stops: a drop's, or one of `why`'s own.
    pub reason: Option<String>,
    /// The command that mends it, where there is one.
    pub mend: Option<String>,
}

impl ExplainStep {
    /// A step that went well.
    #[must_use]
    pub fn ok(stage: &str, text: impl Into<String>) -> Self {
        Self { stage: stage.to_owned(), outcome: StepOutcome::Ok, text: text.into(), reason: None, mend: None }
    }

    /// A step worth a remark.
    #[must_use]
    pub fn note(stage: &str, text: impl Into<String>) -> Self {
        Self { outcome: StepOutcome::Note, ..Self::ok(stage, text) }
    }

    /// A step that nothing gets past.
    #[must_use]
    pub fn stop(stage: &str, reason: &str, text: impl Into<String>, mend: Option<String>) -> Self {
        Self { outcome: StepOutcome::Stop, reason: Some(reason.to_owned()), mend, ..Self::ok(stage, text) }
    }
}

/// What a switch would do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceVerdict {
    /// It leaves on one way.
    Unicast,
    /// A copy leaves on each of several.
    Flood,
    /// It goes nowhere.
    Drop,
}

/// What would become of a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// Each stage, up to the one that stops it.
    pub steps: Vec<ExplainStep>,
    /// What comes of it.
    pub verdict: TraceVerdict,
    /// Why it goes nowhere; null where it leaves.
    pub reason: Option<String>,
    /// Where it leaves.
    pub ways: Vec<Way>,
}

/// One way out for a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The port it leaves on; null for a remote.
    pub port: Option<PortName>,
    /// The remote VTEP it is sent to; null for a port.
    pub remote: Option<IpAddr>,
    /// The VLAN it travels in.
    pub vlan: Vid,
    /// The VLAN in its tag there; null where it leaves untagged.
    pub tag: Option<u16>,
    /// How it is wrapped for a remote.
    pub outer: Option<OuterInfo>,
    /// Bytes of the packet inside.
    pub packet: usize,
    /// Bytes that fit.
    pub mtu: u16,
    /// Whether it does; else it is dropped as `too_big` and its sender told by ICMP.
    pub fits: bool,
}

/// The datagram around a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OuterInfo {
    /// The VNI in it; null where the VLAN has none, and the frame is dropped as `unknown_vni`.
    pub vni: Option<Vni>,
    /// The own VTEP.
    pub source: IpAddr,
    /// The peer's.
    pub destination: IpAddr,
    /// The UDP port it is sent to.
    pub port: u16,
    /// Bytes of the outer packet, from its IP header on.
    pub bytes: usize,
}

/// Why A does or does not reach B.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Who A is.
    pub a: String,
    /// Who B is.
    pub b: String,
    /// What was looked at, in the order a frame passes.
    pub steps: Vec<ExplainStep>,
    /// Whether they reach each other.
    pub reachable: bool,
    /// The name of the reason where they do not; null too where that is not known.
    pub reason: Option<String>,
    /// What was asked in A's name and answered: `ARP`, `neighbour discovery`, `ICMP echo`.
    #[serde(default)]
    pub answered: Vec<String>,
    /// Microseconds from the last of these questions to its answer; null where none was asked or came.
    pub round_trip_us: Option<u64>,
    /// The command that mends it.
    pub mend: Option<String>,
    /// The answer is not complete: to be asked again with this [`WhyAsk::ticket`], some 50 ms later.
    pub pending: Option<u64>,
}

/// An address seen in ARP or neighbour discovery, or given to a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighbourInfo {
    /// The IP address.
    pub ip: IpAddr,
    /// Who has it.
    pub mac: Mac,
    /// In which VLAN.
    pub vlan: Vid,
    /// The port it is behind; null for one behind a remote.
    pub port: Option<PortName>,
    /// The remote VTEP it is behind; null for one behind a port.
    pub remote: Option<IpAddr>,
    /// Seconds since it was heard; null for one that the port was given.
    pub age_s: Option<u64>,
}

/// The bytes that hexadecimal digits stand for; `None` where they do not. Blanks and colons between bytes are passed over,
/// as tcpdump and Wireshark print them.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b':').collect();
    let value = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}

/// The hexadecimal digits of `bytes`.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits() {
        let table: [(&str, Option<&[u8]>); 6] = [
            ("", Some(&[])),
            ("00ffAb", Some(&[0, 0xff, 0xab])),
            ("02:00 00\n01", Some(&[2, 0, 0, 1])),
            ("0", None),
            ("0g", None),
            ("+1", None),
        ];
        for (text, bytes) in table {
            assert_eq!(from_hex(text).as_deref(), bytes, "{text:?}");
        }
        assert_eq!(from_hex(&to_hex(&[1, 0xfe])), Some(vec![1, 0xfe]));
    }
}

//! How the way to a remote VTEP is: what probes measured, and what is wrong with it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{Vid, Vni};

/// Asks for a probe of a peer, now; answered with [`Probe`]. It takes about a second, and works with `--probe-interval`
/// off too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeAsk {
    /// Which peer.
    pub ip: IpAddr,
    /// Whether the peer has the VNI of this VLAN too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// What [`Probe::pending`] said before: the same question goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
}

/// What a probe on demand found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The peer.
    pub ip: IpAddr,
    /// Whether its switch answered.
    pub answered: bool,
    /// Microseconds from the question to the answer, the shortest of a few; null where none came. Of a foreign VTEP, of the
    /// host's answer to ICMP echo.
    pub round_trip_us: Option<u64>,
    /// Bytes of the largest outer packet that reached it; null where none did.
    pub path_mtu: Option<u32>,
    /// Whether it is there and is no vswitch: its host answers, or VXLAN comes from it, and probes stay unanswered.
    pub foreign: bool,
    /// How the way to it is.
    pub state: HealthState,
    /// The VNIs in which it has this host as a peer, of those that this host has it in; null where it did not answer.
    pub vnis: Option<Vec<Vni>>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// It is not done: to be asked again with this [`ProbeAsk::ticket`], some 50 ms later.
    pub pending: Option<u64>,
}

/// How the way to a peer is, by probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Probes are answered, and nothing is wrong.
    Healthy,
    /// Probes are answered, and something is wrong: some are lost, or there are findings.
    Degraded,
    /// Nothing is answered.
    Unreachable,
    /// It is there, and answers no probes: another maker's VTEP, or an older one.
    Foreign,
}

impl HealthState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Healthy, Self::Degraded, Self::Unreachable, Self::Foreign];

    /// What it is called in JSON, and to people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::Foreign => "foreign",
        }
    }
}

/// How the way to a peer was of late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Microseconds from a probe to its answer; null where none came.
    pub round_trip_us: Option<RoundTrip>,
    /// The part of the latest probes (100 at most, none older than a minute or ten intervals) that stayed unanswered, 0 to 1;
    /// null of a peer that answers none by its nature.
    pub loss_share: Option<f64>,
    /// By how many microseconds round trips differ from one to the next, smoothed (RFC 3550 6.4.1); null where none did.
    pub jitter_us: Option<u64>,
    /// Bytes of the largest outer packet that reaches it; null where that is not known.
    pub path_mtu: Option<u32>,
    /// All in a word.
    pub state: HealthState,
    /// Seconds since it was asked, once, by `why` or `probe`: what is told was so then. Null where it is asked again and again
    /// (`--probe-interval`), and what is told is so now.
    pub asked_s: Option<u64>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Health {
    /// Whether it says how the way is now, and not how it was when somebody asked.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.asked_s.is_none()
    }
}

/// Round trips in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundTrip {
    /// The last.
    pub last: u64,
    /// Half of the latest (100 at most) were no longer.
    pub p50: u64,
    /// 99 of 100 were no longer.
    pub p99: u64,
}

/// Something that is wrong with the way to a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is called: `port_blocked`, `peer_silent`, `host_unreachable`, `checksum_corrupted`, `source_rewritten`,
    /// `mtu_smaller`, `not_a_peer`, `vni_missing`, `loss`; of this host itself `own_link_gone`, `own_address_gone`,
    /// `own_link_down`, `own_no_carrier`.
    pub name: String,
    /// What was found, for people.
    pub text: String,
    /// What mends it: a command, or advice; null where there is none.
    pub mend: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_those_promised() {
        let finding = json!({"name": "mtu_smaller", "text": "...", "mend": "vsctl port set a --mtu 1350"});
        let value = json!({
            "round_trip_us": {"last": 210, "p50": 200, "p99": 900}, "loss_share": 0.5, "jitter_us": 12,
            "path_mtu": 1400, "state": "degraded", "asked_s": null, "findings": [finding],
        });
        let read: Health = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);

        let value = json!({
            "ip": "192.0.2.2", "answered": false, "round_trip_us": null, "path_mtu": null, "foreign": true,
            "state": "foreign", "vnis": [1000], "findings": [], "pending": 7,
        });
        let read: Probe = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);

        for state in HealthState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}

//! What passed to and from the switches at the other ends of the tunnel.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Counters of one remote VTEP, as [`PortStats`](crate::PortStats) has them of a port. They begin with the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// Its address.
    pub peer: IpAddr,
    /// Frames that came from it.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that went to it.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames dropped, by reason; reasons that never occurred may be left out.
    pub drops: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_those_promised() {
        let value = json!({
            "peer": "192.0.2.2", "rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4, "drops": {"ecn_ce": 5},
        });
        let read: PeerStats = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
    }

    /// A daemon from before peers were counted in this answer.
    #[test]
    fn an_answer_without_peers_is_understood() {
        let stats: crate::Stats = serde_json::from_value(json!({"ports": [], "reasons": {}})).unwrap();
        assert_eq!(stats.peers, []);
    }
}

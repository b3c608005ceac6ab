//! Watching frames: what may be asked for. The frames come as [`Item`](crate::record::Item)s by a socket whose other end
//! goes along with the request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::record::Direction;
use crate::types::{Mac, PortName, Vid};

/// A request for frames. It takes the right to change: who captures sees what others say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", deny_unknown_fields)]
pub enum Observe {
    /// Frames from now on, until the stream is closed: [`Watching`].
    #[serde(rename = "capture.start")]
    Start(Capture),
    /// What the flight recorder has: [`Watching`].
    #[serde(rename = "capture.last")]
    Last(Last),
}

pub(crate) const METHODS: &[&str] = &["capture.start", "capture.last"];

/// Frames from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Which.
    #[serde(default)]
    pub filter: Filter,
    /// Bytes of each frame, 14 or more; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snaplen: Option<u32>,
    /// Frames a second, 1 or more; the rest is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
}

/// What was recorded of late.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// How far to look back, in seconds.
    pub seconds: u32,
    /// Which frames.
    #[serde(default)]
    pub filter: Filter,
}

/// Which frames are meant: those to which all of it applies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Seen where.
    #[serde(default, rename = "where")]
    pub place: Place,
    /// From or to this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// From or to this address, in IP or ARP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Of this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vid>,
    /// Dropped for the reason of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Passing their port this way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Where frames are seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Anywhere.
    #[default]
    All,
    /// At this port.
    Port(PortName),
    /// At this peer.
    Remote(IpAddr),
    /// At any peer, and what did not become a frame of a peer.
    Tunnel,
    /// Where they are dropped.
    Drops,
}

/// The answer to either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// What every reason for a drop means.
    pub reasons: BTreeMap<String, String>,
    /// How far back the flight recorder reaches, in milliseconds; none where frames are watched from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaches_back_ms: Option<u64>,
}

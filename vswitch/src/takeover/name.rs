//! What descriptors are called on their way to another process.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use vswitch_api::PortName;

/// What a descriptor is. As text it is a name that systemd takes (sd_notify(3), `FDNAME`): no colon, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Name {
    /// The control socket, listening.
    Control,
    /// The socket on which metrics are asked for, listening.
    Metrics,
    /// A file with what cannot be told from descriptors.
    Kept,
    /// A queue of a port. All queues of a port have one name: they are alike.
    Tap(PortName),
    /// The socket on which a worker, by number, receives VXLAN.
    Receive(u16),
    /// A source port of a worker.
    Lane(u16),
    /// A worker's queue of the uplink.
    Uplink(u16),
    /// The program that diverts datagrams into the uplink.
    Divert,
    /// The program that sends on what comes out of it.
    Forward,
}

impl Name {
    /// Whether it is one of those that carry VXLAN.
    pub(crate) const fn carries_vxlan(&self) -> bool {
        match self {
            Self::Receive(_) | Self::Lane(_) | Self::Uplink(_) | Self::Divert | Self::Forward => true,
            Self::Control | Self::Metrics | Self::Kept | Self::Tap(_) => false,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("control"),
            Self::Metrics => f.write_str("metrics"),
            Self::Kept => f.write_str("kept"),
            // A slash is in no port's name.
            Self::Tap(port) => write!(f, "tap.{}", port.as_str().replace(':', "/")),
            Self::Receive(worker) => write!(f, "vxlan.{worker}"),
            Self::Lane(worker) => write!(f, "lane.{worker}"),
            Self::Uplink(worker) => write!(f, "uplink.{worker}"),
            Self::Divert => f.write_str("divert"),
            Self::Forward => f.write_str("forward"),
        }
    }
}

/// A name that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a descriptor that vswitchd knows")]
pub(crate) struct UnknownName(String);

impl FromStr for Name {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let unknown = || UnknownName(text.to_owned());
        let worker = |number: &str| number.parse().map_err(|_| unknown());
        Ok(match text.split_once('.') {
            None if text == "control" => Self::Control,
            None if text == "metrics" => Self::Metrics,
            None if text == "kept" => Self::Kept,
            None if text == "divert" => Self::Divert,
            None if text == "forward" => Self::Forward,
            Some(("tap", port)) => Self::Tap(port.replace('/', ":").parse().map_err(|_| unknown())?),
            Some(("vxlan", number)) => Self::Receive(worker(number)?),
            Some(("lane", number)) => Self::Lane(worker(number)?),
            Some(("uplink", number)) => Self::Uplink(worker(number)?),
            // What systemd calls the socket of a unit that gives it no name.
            Some((_, "socket")) => Self::Control,
            _ => return Err(unknown()),
        })
    }
}

impl TryFrom<String> for Name {
    type Error = UnknownName;
    fn try_from(text: String) -> Result<Self, UnknownName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let longest = "a".repeat(124) + ":b.c";
        for name in [
            Name::Control,
            Name::Metrics,
            Name::Kept,
            Name::Tap("web".parse().unwrap()),
            Name::Tap("uplink.0".parse().unwrap()),
            Name::Tap(longest.parse().unwrap()),
            Name::Receive(0),
            Name::Lane(63),
            Name::Uplink(7),
            Name::Divert,
            Name::Forward,
        ] {
            let text = name.to_string();
            assert!(text.len() <= 255 && !text.contains(':'), "{text}");
            assert_eq!(text.parse(), Ok(name));
        }
        assert_eq!("vswitchd.socket".parse(), Ok(Name::Control));
        for text in ["", "stored", "tap", "tap.", "tap.a b", "lane.x", "lane.70000", "vxlan", "other.1"] {
            assert_eq!(text.parse::<Name>(), Err(UnknownName(text.to_owned())));
        }
    }
}

//! Names of ports, interfaces and VLANs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::BadValue;
use crate::reply::TUNNEL;

/// Declares a text that `check` has approved; a copy shares it.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $check:path) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadValue;
            fn try_from(text: String) -> Result<Self, BadValue> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = BadValue;
            fn from_str(text: &str) -> Result<Self, BadValue> {
                $check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

checked_text! {
    /// The name of a port, unique in a switch.
    PortName, port
}

checked_text! {
    /// The name of a network interface.
    IfName, interface
}

checked_text! {
    /// What people call a VLAN.
    VlanName, vlan
}

checked_text! {
    /// The name of a network, as its configuration for container runtimes says.
    NetworkName, network
}

checked_text! {
    /// What a container runtime calls a container.
    ContainerId, container
}

impl Default for IfName {
    /// What a container calls its first interface.
    fn default() -> Self {
        Self("eth0".into())
    }
}

/// Room for a container's 64 digits, its interface and punctuation; no character that a shell or a table stumbles over.
fn port(text: &str) -> Result<(), BadValue> {
    let tame = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if text == TUNNEL {
        return Err(BadValue::PortNameReserved);
    }
    if text.len() <= 128 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(tame) {
        return Ok(());
    }
    Err(BadValue::PortName(text.to_owned()))
}

fn network(text: &str) -> Result<(), BadValue> {
    if is_cni(text) { Ok(()) } else { Err(BadValue::NetworkName(text.to_owned())) }
}

fn container(text: &str) -> Result<(), BadValue> {
    if is_cni(text) { Ok(()) } else { Err(BadValue::ContainerId(text.to_owned())) }
}

/// The rule of the CNI specification 1.1.0 for the names of networks and containers, and a bound on their length.
fn is_cni(text: &str) -> bool {
    let tame = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= 255 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(tame)
}

/// What the kernel's `dev_valid_name` takes, less what it would expand (`%d`) and what nobody could type.
fn interface(text: &str) -> Result<(), BadValue> {
    let tame = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
    if text.is_empty() || text == "." || text == ".." || !text.chars().all(tame) {
        return Err(BadValue::IfName(text.to_owned()));
    }
    // Each has a folder of settings beside those of interfaces, in /proc/sys/net.
    if text == "all" || text == "default" {
        return Err(BadValue::IfNameReserved(text.to_owned()));
    }
    if text.len() > 15 {
        return Err(BadValue::IfNameLong(text.to_owned()));
    }
    Ok(())
}

fn vlan(text: &str) -> Result<(), BadValue> {
    if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
        return Err(BadValue::VlanName(text.to_owned()));
    }
    Ok(())
}

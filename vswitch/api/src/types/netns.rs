//! How a network namespace is named.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadValue;

/// The greatest pid a 64-bit kernel gives out (`PID_MAX_LIMIT`).
const PID_MAX: u32 = 4_194_304;

/// A network namespace: `NAME` below /run/netns, an absolute `PATH`, or `pid:N`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetnsRef {
    /// As `ip netns` names it.
    Name(String),
    /// A file that stands for it, such as /proc/1/ns/net.
    Path(String),
    /// That of a process.
    Pid(u32),
}

impl NetnsRef {
    /// Where the file is that stands for the namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Name(name) => PathBuf::from("/run/netns").join(name),
            // The same folder under its old name, as container runtimes still write it.
            Self::Path(path) => match path.strip_prefix("/var/run/") {
                Some(rest) => PathBuf::from("/run").join(rest),
                None => PathBuf::from(path),
            },
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Path(text) => f.pad(text),
            Self::Pid(pid) => f.pad(&format!("pid:{pid}")),
        }
    }
}

impl FromStr for NetnsRef {
    type Err = BadValue;
    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || BadValue::Netns(text.to_owned());
        if text.chars().any(char::is_control) {
            return Err(bad());
        }
        if let Some(pid) = text.strip_prefix("pid:") {
            let pid = pid.parse().ok().filter(|pid| (1..=PID_MAX).contains(pid)).ok_or_else(bad)?;
            return Ok(Self::Pid(pid));
        }
        if text.starts_with('/') {
            return Ok(Self::Path(text.to_owned()));
        }
        // A relative path would be read from the daemon's folder, which is not the caller's.
        if text.is_empty() || text.contains('/') || text == "." || text == ".." || text.len() > 255 {
            return Err(bad());
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl TryFrom<String> for NetnsRef {
    type Error = BadValue;
    fn try_from(text: String) -> Result<Self, BadValue> {
        text.parse()
    }
}

impl From<NetnsRef> for String {
    fn from(netns: NetnsRef) -> Self {
        netns.to_string()
    }
}

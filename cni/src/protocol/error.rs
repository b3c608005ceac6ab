//! Errors as runtimes read them: JSON on standard output, and a code.

use std::fmt;

use serde_json::{Value, json};

use super::Version;

/// What went wrong, by the specification's numbers; from 100 on they are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 1: a version, or a verb in a version, that the plugin does not have.
    Version,
    /// 2: a field of the configuration that cannot be served; the text has its key and value.
    UnsupportedField,
    /// 3: the container, or its namespace, is not there: the runtime need not clean up.
    UnknownContainer,
    /// 4: the environment; the text has the names of the variables.
    Environment,
    /// 5: standard input cannot be read.
    Io,
    /// 6: what was read is not JSON, or the result of another plugin is not understood.
    Decode,
    /// 7: the configuration is well-formed and wrong.
    Config,
    /// 11: vswitchd does not answer at the moment, or a pool has no address left: try again later.
    TryAgain,
    /// 50: ADD cannot be served.
    NotAvailable,
    /// 51: ADD cannot be served, and containers that are attached may be cut off.
    LimitedConnectivity,
    /// 100: vswitchd refused; the text is what it said.
    Refused,
    /// 101: the interface cannot be made, or is not as it was made.
    Interface,
    /// 102: a route, or an address, inside the container.
    Inside,
    /// 103: the host's side of the network: its gateway, forwarding, masquerade.
    Gateway,
    /// 104: the IPAM plugin cannot be run, or answers nothing that makes sense. What it refuses has its own code.
    Ipam,
    /// 105: CHECK found something else than ADD left.
    Differs,
    /// 106: several things went wrong; the text has them all.
    Several,
}

impl Code {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::Environment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::Config => 7,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Refused => 100,
            Self::Interface => 101,
            Self::Inside => 102,
            Self::Gateway => 103,
            Self::Ipam => 104,
            Self::Differs => 105,
            Self::Several => 106,
        }
    }

    /// The short message.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Version => "incompatible CNI version",
            Self::UnsupportedField => "unsupported field in network configuration",
            Self::UnknownContainer => "container unknown or does not exist",
            Self::Environment => "invalid environment variables",
            Self::Io => "I/O failure",
            Self::Decode => "failed to decode content",
            Self::Config => "invalid network configuration",
            Self::TryAgain => "try again later",
            Self::NotAvailable => "plugin not available",
            Self::LimitedConnectivity => "plugin not available, containers may have limited connectivity",
            Self::Refused => "vswitchd refused",
            Self::Interface => "the container's interface",
            Self::Inside => "inside the container",
            Self::Gateway => "the host's side of the network",
            Self::Ipam => "the IPAM plugin failed",
            Self::Differs => "the attachment is not as it should be",
            Self::Several => "several errors",
        }
    }
}

/// Why a verb was not done: an "error" result of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its code: [`Code::number`], or another plugin's.
    pub code: u32,
    /// A few words.
    pub message: String,
    /// What, why, and what to do.
    pub details: String,
}

impl Failure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(code: Code, details: impl Into<String>) -> Self {
        Self { code: code.number(), message: code.message().to_owned(), details: details.into() }
    }

    /// As the JSON of the specification, section 5.
    #[must_use]
    pub fn to_json(&self, version: Version) -> Value {
        json!({"cniVersion": version.as_str(), "code": self.code, "msg": self.message, "details": self.details})
    }

    /// All of `failures` as one, `None` where there is none. One alone stays what it is.
    #[must_use]
    pub fn joined(mut failures: Vec<Self>) -> Option<Self> {
        match failures.len() {
            0 => None,
            1 => failures.pop(),
            _ => {
                let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
                Some(Self::new(Code::Several, texts.join("; ")))
            }
        }
    }

    /// The same with `more` said after the details.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.details = format!("{}; {more}", self.details);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.message.as_str(), self.details.as_str()) {
            (message, "") => f.write_str(message),
            (message, details) => write!(f, "{message}: {details}"),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_four_fields() {
        let failure = Failure::new(Code::Config, "why");
        let json = failure.to_json(Version::V0_4_0);
        assert_eq!(
            json,
            json!({"cniVersion": "0.4.0", "code": 7, "msg": "invalid network configuration", "details": "why"})
        );
        assert_eq!(failure.to_string(), "invalid network configuration: why");
    }

    #[test]
    fn several_are_said_together() {
        let (a, b) = (Failure::new(Code::Ipam, "a"), Failure::new(Code::Refused, "b"));
        assert_eq!(Failure::joined(Vec::new()), None);
        assert_eq!(Failure::joined(vec![a.clone()]), Some(a.clone()));
        let both = Failure::joined(vec![a, b]).unwrap();
        assert_eq!(both.code, 106);
        assert_eq!(both.details, "the IPAM plugin failed: a; vswitchd refused: b");
    }
}

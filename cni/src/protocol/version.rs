//! Versions of the specification, and which verbs each of them has.

use std::fmt;

use super::environment::Command;
use super::error::{Code, Failure};

/// A version of the specification that the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Rich results, chaining.
    V0_3_0,
    /// The same, a typing error less.
    V0_3_1,
    /// CHECK; DEL has the result of ADD.
    V0_4_0,
    /// `ips` without `version`.
    V1_0_0,
    /// GC, STATUS; interfaces with MTU, routes with metrics.
    V1_1_0,
}

/// All of them, oldest first.
pub const SUPPORTED: [(Version, &str); 5] = [
    (Version::V0_3_0, "0.3.0"),
    (Version::V0_3_1, "0.3.1"),
    (Version::V0_4_0, "0.4.0"),
    (Version::V1_0_0, "1.0.0"),
    (Version::V1_1_0, "1.1.0"),
];

impl Version {
    /// The one in which errors are written where none was agreed on.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version that a configuration asks for; without `cniVersion` that is 0.1.0, as libcni has it.
    ///
    /// # Errors
    /// One that the plugin does not speak.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let found = SUPPORTED.iter().find(|(_, name)| *name == text).map(|&(version, _)| version);
        found.ok_or_else(|| {
            let text = if text.is_empty() { "0.1.0 (none is given)" } else { text };
            let known = SUPPORTED.map(|(_, name)| name).join(", ");
            Failure::new(
                Code::Version,
                format!("cniVersion {text:?} is not one of {known}: change it in the network configuration"),
            )
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SUPPORTED.iter().find(|(version, _)| *version == self).map_or("1.1.0", |&(_, name)| name)
    }

    /// Refuses a verb that this version does not have.
    ///
    /// # Errors
    /// CHECK before 0.4.0, GC and STATUS before 1.1.0.
    pub fn allows(self, command: Command) -> Result<(), Failure> {
        let since = match command {
            Command::Check => Self::V0_4_0,
            Command::Gc | Command::Status => Self::V1_1_0,
            Command::Add | Command::Del | Command::Version => Self::V0_3_0,
        };
        if self >= since {
            return Ok(());
        }
        let why = format!("version {self} of the specification has no {command}: it came with {since}");
        Err(Failure::new(Code::Version, why))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_spoken() {
        for (version, name) in SUPPORTED {
            assert_eq!((Version::parse(name).unwrap(), version.as_str()), (version, name));
        }
        for other in ["", "0.1.0", "0.2.0", "1.1", "1.1.1", "2.0.0", "v1.1.0", "1.1.0 "] {
            let failure = Version::parse(other).unwrap_err();
            assert_eq!(failure.code, 1, "{other}");
            assert!(failure.details.contains("0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{failure}");
        }
    }

    #[test]
    fn verbs_came_one_after_the_other() {
        let table = [
            (Version::V0_3_1, Command::Add, true),
            (Version::V0_3_1, Command::Del, true),
            (Version::V0_3_1, Command::Check, false),
            (Version::V0_4_0, Command::Check, true),
            (Version::V1_0_0, Command::Gc, false),
            (Version::V1_0_0, Command::Status, false),
            (Version::V1_1_0, Command::Gc, true),
            (Version::V1_1_0, Command::Status, true),
        ];
        for (version, command, allowed) in table {
            let answer = version.allows(command);
            assert_eq!(
                answer.as_ref().err().map(|failure| failure.code),
                (!allowed).then_some(1),
                "{version} {command}"
            );
        }
    }
}

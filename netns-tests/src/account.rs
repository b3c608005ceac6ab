//! Users other than the tests' own: setpriv (util-linux) makes them.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use crate::binaries::binaries;

/// Whom a program runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities it is started with, as setpriv names them (`net_admin`); ambient, so that the program has them.
    pub capabilities: &'static [&'static str],
}

impl Account {
    /// A user without anything but a number, which is that of the group too.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self { uid, gid: uid, ..Self::default() }
    }

    /// The same with capabilities.
    #[must_use]
    pub fn with(self, capabilities: &'static [&'static str]) -> Self {
        Self { capabilities, ..self }
    }

    /// A command that runs `program` so; arguments may be added.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", self.uid)).arg(format!("--regid={}", self.gid));
        let groups: Vec<_> = self.groups.iter().map(ToString::to_string).collect();
        match &*groups {
            [] => command.arg("--clear-groups"),
            groups => command.arg(format!("--groups={}", groups.join(","))),
        };
        let sets: String = self.capabilities.iter().map(|name| format!(",+{name}")).collect();
        command.arg(format!("--inh-caps=-all{sets}")).arg(format!("--ambient-caps=-all{sets}"));
        // Else the change of user takes away the signal that ends it with its parent.
        command.args(["--pdeathsig", "keep", "--"]).arg(program);
        command
    }

    /// Why tests cannot run a program as another user here.
    ///
    /// # Errors
    /// The reason.
    pub fn possible() -> Result<(), String> {
        let program = &binaries().map_err(|failure| failure.to_string())?.vswitchd;
        let mut command = Self::user(65_534).command(program);
        let ran = command.arg("--version").stdin(Stdio::null()).output();
        let output = ran.map_err(|error| format!("setpriv (util-linux) is needed: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("user 65534 cannot run {}: {said}", program.display()))
    }
}

//! Delegation to an IPAM plugin: section 4 of the specification.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command as Process;
use std::time::Duration;

use serde::Deserialize;
use vswitch_api::{ContainerId, IfName};

use crate::process::converse;
use crate::protocol::{Code, Command, Config, Failure, Success, Version};

/// How long a plugin may take: DHCP servers are slow, and runtimes do not wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// An IPAM plugin, and what it is given: our own environment and the whole configuration, as it came.
#[derive(Debug)]
pub(crate) struct Delegate<'a> {
    name: String,
    program: PathBuf,
    config: &'a Config,
    patience: Duration,
}

/// The attachment meant, where it is not that of our own environment.
pub(crate) type Other<'a> = Option<(&'a ContainerId, &'a IfName)>;

/// What VERSION answers.
#[derive(Deserialize)]
struct Versions {
    #[serde(rename = "supportedVersions", default)]
    supported: Vec<String>,
}

/// What a plugin that fails says.
#[derive(Deserialize)]
struct Said {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl<'a> Delegate<'a> {
    /// The plugin `name`, from the first of the folders of `path` that has it.
    ///
    /// # Errors
    /// None of them has.
    pub(crate) fn find(name: &str, path: &[PathBuf], config: &'a Config) -> Result<Self, Failure> {
        let is_program =
            |path: &PathBuf| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        let found = path.iter().map(|folder| folder.join(name)).find(is_program);
        let folders = || std::env::join_paths(path).unwrap_or_default().to_string_lossy().into_owned();
        let program = found.ok_or_else(|| {
            Failure::new(
                Code::Ipam,
                format!("there is no IPAM plugin {name:?} in CNI_PATH ({:?}): install it there", folders()),
            )
        })?;
        Ok(Self { name: name.to_owned(), program, config, patience: PATIENCE })
    }

    /// The same, which may take no longer than `patience`.
    pub(crate) fn within(&self, patience: Duration) -> Self {
        Self { name: self.name.clone(), program: self.program.clone(), patience, ..*self }
    }

    /// Whether it speaks by the container's interface, which is to be up when it is asked, and there still when it is told
    /// of the end: `dhcp`. All others come first: then address and port are one change of the daemon's state.
    pub(crate) fn needs_interface(&self) -> bool {
        self.name == "dhcp"
    }

    /// Asks for addresses.
    ///
    /// # Errors
    /// What it refuses, with its own code, and an answer that is no result.
    pub(crate) fn add(&self) -> Result<Success, Failure> {
        let output = self.ask(Command::Add, None)?;
        let whose = format!("the result of IPAM plugin {:?}", self.name);
        let result = serde_json::from_slice(&output).map_err(|error| {
            Failure::new(Code::Ipam, format!("{whose} is no JSON ({error}): {:?}", excerpt(&output)))
        })?;
        Success::read(result, &whose)
    }

    /// Gives back the addresses of our attachment, or of another.
    ///
    /// # Errors
    /// What it refuses.
    pub(crate) fn del(&self, other: Other<'_>) -> Result<(), Failure> {
        self.ask(Command::Del, other).map(drop)
    }

    /// Has it look whether the addresses are still given.
    ///
    /// # Errors
    /// What it finds.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.ask(Command::Check, None).map(drop)
    }

    /// Passes on STATUS or GC.
    ///
    /// # Errors
    /// What it answers.
    pub(crate) fn forward(&self, command: Command) -> Result<(), Failure> {
        self.run(command, None, self.config.bytes()).map(drop)
    }

    /// Whether it knows STATUS and GC. Older ones answer to them with errors that mean nothing.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub(crate) fn is_recent(&self) -> Result<bool, Failure> {
        Ok(self.newest()? == Some(Version::V1_1_0))
    }

    /// The newest version that both of us speak.
    fn newest(&self) -> Result<Option<Version>, Failure> {
        let question = format!("{{\"cniVersion\":\"{}\"}}", Version::LATEST);
        let output = self.run(Command::Version, None, question.as_bytes())?;
        let versions: Versions = serde_json::from_slice(&output).map_err(|error| {
            Failure::new(Code::Ipam, format!("IPAM plugin {:?} does not say its versions: {error}", self.name))
        })?;
        Ok(versions.supported.iter().filter_map(|version| Version::parse(version).ok()).max())
    }

    /// Runs a verb of an attachment. One that does not speak the configuration's version is asked in the newest that it
    /// does: else a network of version 1.1.0, which alone has GC and STATUS, could have no older IPAM plugin.
    fn ask(&self, command: Command, other: Other<'_>) -> Result<Vec<u8>, Failure> {
        let refused = match self.run(command, other, self.config.bytes()) {
            Err(failure) if failure.code == Code::Version.number() => failure,
            outcome => return outcome,
        };
        match self.newest()? {
            Some(version) if self.config.version().is_ok_and(|asked| version < asked) => {
                self.run(command, other, &self.config.in_version(version)?)
            }
            _ => Err(refused),
        }
    }

    fn run(&self, command: Command, other: Other<'_>, input: &[u8]) -> Result<Vec<u8>, Failure> {
        let fail = |why: &dyn std::fmt::Display| {
            Failure::new(Code::Ipam, format!("IPAM plugin {} ({command}): {why}", self.program.display()))
        };
        let mut process = Process::new(&self.program);
        process.env("CNI_COMMAND", command.to_string());
        if let Some((container, ifname)) = other {
            process.env("CNI_CONTAINERID", container.as_str()).env("CNI_IFNAME", ifname.as_str());
            // Its namespace is gone, or another's by now; DEL works without.
            process.env("CNI_NETNS", "").env_remove("CNI_ARGS");
        }
        // Its standard error is ours: runtimes show it.
        let answer = converse(process, input, self.patience).map_err(|error| fail(&error))?;
        let (status, output) = (answer.status, answer.stdout);
        if status.success() {
            return Ok(output);
        }
        match serde_json::from_slice::<Said>(&output) {
            Ok(Said { code, msg, details }) => {
                let details = if details.is_empty() { msg.clone() } else { details };
                Err(Failure {
                    code,
                    message: msg,
                    details: format!("IPAM plugin {:?} ({command}): {details}", self.name),
                })
            }
            Err(_) => Err(fail(&format!("{status}, and no error in the CNI's form: {:?}", excerpt(&output)))),
        }
    }
}

/// The beginning of what a program wrote, for messages.
fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::Stdio;

    /// Makes a program of `text`.
    fn script(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        // Written by another process: a descriptor of ours that is open for writing, in a child that another test forks,
        // would make it busy (ETXTBSY).
        let mut writer = Process::new("sh");
        writer.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut child = writer.spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn config() -> Config {
        Config::read(br#"{"cniVersion":"1.1.0","name":"net","ipam":{"type":"x"}, "more":  1}"#.to_vec()).unwrap()
    }

    /// What asking the plugin made of `text` for an address comes to.
    fn add(text: &str) -> Result<Success, Failure> {
        let folder = tempfile::tempdir().unwrap();
        script(folder.path(), "x", text);
        Delegate::find("x", &[folder.path().to_owned()], &config())?.add()
    }

    #[test]
    fn it_gets_the_very_bytes_that_came() {
        let folder = tempfile::tempdir().unwrap();
        let seen = folder.path().join("seen");
        script(folder.path(), "x", &format!("cat > {}; echo '{{}}'", seen.display()));
        let config = config();
        let delegate = Delegate::find("x", &["/nonexistent".into(), folder.path().to_owned()], &config).unwrap();
        assert_eq!(delegate.add().unwrap(), Success::default());
        assert_eq!(std::fs::read(seen).unwrap(), config.bytes());
    }

    #[test]
    fn what_it_answers() {
        let result = add(r#"echo '{"ips":[{"address":"10.0.0.2/24"}],"dns":{}}'"#).unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
        let table = [
            (r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"full","details":"why"}'; exit 1"#, 11, "why"),
            (r#"echo '{"code":7,"msg":"full"}'; exit 3"#, 7, "full"),
            ("echo oops; exit 1", 104, "oops"),
            ("exit 1", 104, "exit status: 1"),
            ("kill -9 $$", 104, "signal: 9"),
            ("echo oops", 104, "no JSON"),
            ("exec head -c 2000000 /dev/zero", 104, "more than 1048576 bytes"),
            (r#"echo '{"ips":[{}]}'"#, 6, "address"),
        ];
        for (text, code, why) in table {
            let failure = add(text).unwrap_err();
            assert_eq!(failure.code, code, "{text}: {failure}");
            assert!(failure.to_string().contains(why), "{text}: {failure}");
        }
    }

    #[test]
    fn one_that_is_not_there() {
        let config = config();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "no program").unwrap();
        std::fs::create_dir(folder.path().join("y")).unwrap();
        for name in ["x", "y", "z"] {
            let failure = Delegate::find(name, &[folder.path().to_owned()], &config).unwrap_err();
            assert_eq!(failure.code, 104);
            assert!(failure.details.contains("CNI_PATH"), "{failure}");
        }
    }
}

//! The program, run as a runtime runs it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// What it printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of the error it printed: of the form that section 5 has, on standard output, with a non-zero exit.
    #[track_caller]
    pub(crate) fn code(&self) -> u64 {
        assert_ne!(self.exit, 0, "{self:?}");
        let json = self.json();
        let object = json.as_object().unwrap();
        let keys: Vec<_> = object.keys().map(String::as_str).collect();
        assert_eq!(keys, ["cniVersion", "code", "details", "msg"], "{json}");
        assert!(!json["msg"].as_str().unwrap().is_empty() && !json["details"].as_str().unwrap().is_empty(), "{json}");
        assert_eq!(self.err, "", "nothing but the error is said");
        json["code"].as_u64().unwrap()
    }

    /// The longer message of the error it printed.
    pub(crate) fn details(&self) -> String {
        self.json()["details"].as_str().unwrap().to_owned()
    }

    /// Expects that it succeeded without a word.
    #[track_caller]
    pub(crate) fn silent(&self) {
        assert_eq!((self.exit, self.out.as_str(), self.err.as_str()), (0, "", ""));
    }
}

/// Runs the program with these variables, as `KEY=VALUE` parted by spaces, and this input.
pub(crate) fn run(variables: &str, input: impl AsRef<[u8]>) -> Ran {
    run_by(&[], variables, input)
}

/// As [`run`], by another program, these words, which gets the path of ours as its last argument.
pub(crate) fn run_by(by: &[&str], variables: &str, input: impl AsRef<[u8]>) -> Ran {
    let words: Vec<_> = by.iter().copied().chain([env!("CARGO_BIN_EXE_vswitch-cni")]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    for variable in variables.split_whitespace() {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that ends before it has read everything is no failure of ours.
    let _ = child.stdin.take().unwrap().write_all(input.as_ref());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { exit: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Whether these words can be run, and succeed.
pub(crate) fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The variables of an attachment-specific verb.
pub(crate) fn attachment(verb: &str) -> String {
    format!("CNI_COMMAND={verb} CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/nonexistent/netns CNI_PATH=/nonexistent")
}

/// A configuration in `version` with more keys, written as `"key":value,...`.
pub(crate) fn config(version: &str, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { "," };
    format!(r#"{{"cniVersion":"{version}","name":"net","type":"vswitch-cni"{comma}{keys}}}"#)
}

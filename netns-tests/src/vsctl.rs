//! The real `vsctl`, and what it answers.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::Journal;
use crate::{Account, Context, Result, binaries::binaries, ensure};

/// `vsctl` for one daemon.
#[derive(Clone, Debug)]
pub struct Vsctl {
    socket: PathBuf,
    name: String,
    journal: Journal,
    account: Option<Account>,
}

/// What one run of `vsctl` came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The exit code.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Vsctl {
    pub(crate) const fn new(socket: PathBuf, name: String, journal: Journal) -> Self {
        Self { socket, name, journal, account: None }
    }

    /// The same, run by another user.
    #[must_use]
    pub fn by(&self, account: &Account) -> Self {
        Self { name: format!("{}, user {}", self.name, account.uid), account: Some(account.clone()), ..self.clone() }
    }

    /// `vsctl` for this daemon, to be told what to do.
    ///
    /// # Errors
    /// Where it cannot be built.
    pub fn command(&self) -> Result<Command> {
        let program = &binaries()?.vsctl;
        let mut command = self.account.as_ref().map_or_else(|| Command::new(program), |who| who.command(program));
        command.args(["--timeout", "10", "--socket"]).arg(&self.socket);
        Ok(command)
    }

    /// Runs `vsctl --json WORDS`, the words parted by spaces.
    ///
    /// # Errors
    /// Where it cannot be started or is killed; not where it refuses.
    pub fn run(&self, words: &str) -> Result<Answer> {
        let words: Vec<_> = words.split_whitespace().collect();
        self.run_words(&words)
    }

    /// As [`Self::run`], for words with spaces in them.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_words(&self, words: &[&str]) -> Result<Answer> {
        let output = self.command()?.arg("--json").args(words).stdin(Stdio::null()).output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        let code = output.status.code().context("vsctl was killed")?;
        let answer = Answer { code, stdout: text(output.stdout), stderr: complaint(text(output.stderr)) };
        let said = if answer.stderr.is_empty() { &answer.stdout } else { &answer.stderr };
        self.journal.note(format!("{}: vsctl {} -> {code} {said}", self.name, words.join(" ")));
        Ok(answer)
    }

    /// Runs it and expects it to succeed; returns what it printed as JSON, null for nothing.
    ///
    /// # Errors
    /// Where the exit code is not 0, or the output is no JSON.
    #[track_caller]
    pub fn ok(&self, words: &str) -> Result<Value> {
        let Answer { code, stdout, stderr } = self.run(words)?;
        if code != 0 {
            return Err(crate::Failure::new(format!("vsctl {words}: exit code {code}: {stderr}")));
        }
        if stdout.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&stdout).context(format_args!("vsctl {words} printed no JSON: {stdout}"))
    }

    /// Runs it and expects exit code `code`; returns the complaint.
    ///
    /// # Errors
    /// Where the exit code is another, or there is no complaint.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &str) -> Result<String> {
        let answer = self.run(words)?;
        if answer.code != code {
            let Answer { code: got, stdout, stderr } = answer;
            let message = format!("vsctl {words}: exit code {got} instead of {code}: {stderr} {stdout}");
            return Err(crate::Failure::new(message));
        }
        ensure!(!answer.stderr.is_empty(), "vsctl {words}: exit code {code} without a word");
        Ok(answer.stderr)
    }

    /// Everything that can be listed, to compare before and after. Ages are left out.
    ///
    /// # Errors
    /// Where one of the lists cannot be had.
    pub fn everything(&self) -> Result<Value> {
        let lists = ["port list", "vlan list", "vtep show", "vtep peer list"];
        let mut all: Vec<_> = lists.iter().map(|words| self.ok(words)).collect::<Result<_>>()?;
        let mut fdb = self.ok("fdb list")?;
        for entry in fdb.as_array_mut().into_iter().flatten() {
            entry["age_s"] = Value::Null;
            entry["learned_s"] = Value::Null;
        }
        all.push(fdb);
        Ok(Value::Array(all))
    }

    /// As [`Self::everything`], but for what was learned: a restart forgets that.
    ///
    /// # Errors
    /// As there.
    pub fn settings(&self) -> Result<Value> {
        let mut all = self.everything()?;
        for list in all.as_array_mut().into_iter().flatten() {
            if let Some(entries) = list.as_array_mut() {
                entries.retain(|entry| entry["kind"] != "learned");
            }
        }
        Ok(all)
    }
}

/// What a complaint says to people; as it is, where it is none for programs.
fn complaint(stderr: String) -> String {
    let said = serde_json::from_str::<Value>(&stderr).ok();
    said.and_then(|said| said["message"].as_str().map(str::to_owned)).unwrap_or(stderr)
}

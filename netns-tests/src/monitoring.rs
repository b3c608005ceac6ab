//! `vsctl monitor` at work, and the events it told.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Context, Failure, Lab, Result, SOON, Vsctl, ensure, eventually};

/// A `vsctl --json monitor` that writes to a file. It is killed with this.
#[derive(Debug)]
pub struct Monitoring {
    child: Child,
    out: PathBuf,
    said: PathBuf,
}

/// How one ended.
#[derive(Debug)]
pub struct Monitored {
    /// The exit code.
    pub code: Option<i32>,
    /// What it said.
    pub said: String,
    /// The events.
    pub events: Vec<Value>,
}

impl Monitoring {
    /// Starts `vsctl --json monitor WORDS` and waits until it listens.
    ///
    /// # Errors
    /// Where it does not.
    pub fn start(lab: &Lab, vsctl: &Vsctl, name: &str, words: &str) -> Result<Self> {
        let folder = lab.folder(name)?;
        let (out, said) = (folder.join("events"), folder.join("said"));
        let mut command = vsctl.command()?;
        command.args(["--json", "monitor"]).args(words.split_whitespace());
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&said)?);
        let mut monitoring = Self { child: command.spawn()?, out, said };
        eventually(SOON, "vsctl listens", || {
            if let Some(status) = monitoring.child.try_wait()? {
                let said = fs::read_to_string(&monitoring.said)?;
                return Err(Failure::new(format!("it ended: {status}: {said}")));
            }
            let events = monitoring.events()?;
            ensure!(events.first().is_some_and(|event| event["event"] == "snapshot"), "{events:?}");
            Ok(())
        })?;
        Ok(monitoring)
    }

    /// What it told so far.
    ///
    /// # Errors
    /// Where a line is no object with `at` and `event`.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.out)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let event = |line: &str| -> Result<Value> {
            let event: Value = serde_json::from_str(line).context(line)?;
            ensure!(event["at"].is_u64() && event["event"].is_string(), "{line}");
            Ok(event)
        };
        whole.lines().map(event).collect()
    }

    /// The first event behind the first `skip` ones that is `wanted`, once it is told, with its number.
    ///
    /// # Errors
    /// Where it is not told in time.
    #[track_caller]
    pub fn find_after(&self, skip: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<(usize, Value)> {
        eventually(SOON, what, || {
            let events = self.events()?;
            let found = events.iter().enumerate().skip(skip).find(|(_, event)| wanted(event));
            let names: Vec<_> = events.iter().map(|event| event["event"].to_string()).collect();
            found.map(|(place, event)| (place, event.clone())).context(format_args!("among {}", names.join(" ")))
        })
    }

    /// The first event that is `wanted`, once it is told.
    ///
    /// # Errors
    /// Where it is not told in time.
    #[track_caller]
    pub fn find(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.find_after(0, what, wanted).map(|(_, event)| event)
    }

    /// The first event called `name`, once it is told.
    ///
    /// # Errors
    /// Where it is not told in time.
    #[track_caller]
    pub fn named(&self, name: &str) -> Result<Value> {
        self.find(name, |event| event["event"] == name)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> Result {
        let pid = i32::try_from(self.child.id()).context("a process number")?;
        kill(Pid::from_raw(pid), signal).context("signal to vsctl")
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn stop(self) -> Result<Monitored> {
        self.signal(Signal::SIGINT)?;
        self.ended()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn ended(mut self) -> Result<Monitored> {
        let status = eventually(SOON, "vsctl monitor ends", || self.child.try_wait()?.context("it runs"))?;
        Ok(Monitored { code: status.code(), said: fs::read_to_string(&self.said)?, events: self.events()? })
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

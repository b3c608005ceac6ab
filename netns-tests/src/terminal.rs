//! A terminal that programs believe in: tmux, of which nobody is attached.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::{Context, Lab, Result, SOON, ensure, eventually};

/// Columns and rows.
const SIZE: [&str; 4] = ["-x", "100", "-y", "40"];
/// Whatever happens to the test: its shell ends after so many seconds, and the terminal with it.
const LIFE: &str = "300";

/// A terminal with a program in it; both end with this.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Why there can be none with `program` in it.
    #[must_use]
    pub fn hindrance(program: &str) -> Option<String> {
        let path = env::var_os("PATH").unwrap_or_default();
        let is_here = |name: &&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
        let missing: Vec<_> = ["tmux", program].into_iter().filter(|name| !is_here(name)).collect();
        (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
    }

    /// Starts `program` in a new terminal, with more in its environment.
    ///
    /// # Errors
    /// Where tmux does not start.
    pub fn start(lab: &Lab, program: &str, environment: &[(&str, &OsStr)]) -> Result<Self> {
        let folder = lab.folder("terminal")?;
        let this = Self { socket: folder.join("tmux") };
        let mut command = this.tmux();
        command.args(["new-session", "-d"]).args(SIZE).arg(format!("exec timeout --foreground {LIFE} {program}"));
        command.env("HOME", &folder).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("TMUX");
        command.envs(environment.iter().copied()).current_dir(&folder);
        ensure_done(command.output()?)?;
        Ok(this)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-S"]).arg(&self.socket).stdin(Stdio::null());
        command
    }

    /// Presses keys, each as `tmux send-keys` calls it (`Tab`, `Enter`), or types text.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result {
        ensure_done(self.tmux().arg("send-keys").args(keys).output()?).map(drop)
    }

    /// What it shows, line by line, without the empty ones at the end.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn screen(&self) -> Result<String> {
        let output = ensure_done(self.tmux().args(["capture-pane", "-p"]).output()?)?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// As [`Self::screen`], with colours.
    ///
    /// # Errors
    /// As there.
    pub fn coloured(&self) -> Result<String> {
        let output = ensure_done(self.tmux().args(["capture-pane", "-p", "-e"]).output()?)?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Waits until it shows what `is_there` wants.
    ///
    /// # Errors
    /// Where it does not in time, with what it shows.
    pub fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) -> Result<String> {
        eventually(SOON, what, || {
            let screen = self.screen()?;
            is_there(&screen).then(|| screen.clone()).context(format_args!("the screen is\n{screen}"))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.tmux().arg("kill-server").output();
    }
}

fn ensure_done(output: Output) -> Result<Output> {
    ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output)
}

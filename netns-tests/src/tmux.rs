//! A terminal that tests can read: tmux, with a server of its own.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use vswitch_sys::process;

use crate::{Context, Lab, Result, SOON, ensure, eventually};

/// The only session there is.
const SESSION: &str = "test";

/// A terminal in which a shell runs. All of it ends with this.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
    server: Child,
}

impl Terminal {
    /// Opens one of so many columns and lines, with `env` for what runs in it.
    ///
    /// # Errors
    /// Where there is no tmux.
    pub fn open(lab: &Lab, (columns, lines): (u16, u16), env: &[(&str, &str)]) -> Result<Self> {
        let socket = lab.folder("tmux")?.join("socket");
        let mut command = tmux();
        // In the foreground, as a child that ends with the tests, whatever way they end.
        command.args(["-f", "/dev/null", "-D", "-S"]).arg(&socket).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = process::die_with_parent(&mut command).spawn().context("tmux")?;
        let terminal = Self { socket, server };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let mut words = vec!["new-session", "-d", "-s", SESSION, "-x", &columns, "-y", &lines];
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.iter().for_each(|pair| words.extend(["-e", pair]));
        words.push("PS1='ready> ' exec sh");
        eventually(SOON, "tmux opens a terminal", || terminal.tmux(&words).map(drop))?;
        // As large as it was said to be, whoever looks on.
        terminal.tmux(&["set-option", "-t", SESSION, "window-size", "manual"])?;
        terminal.shows("ready>")?;
        Ok(terminal)
    }

    /// Runs tmux with `words`; what it prints.
    fn tmux<S: AsRef<OsStr>>(&self, words: &[S]) -> Result<String> {
        let output = tmux().arg("-S").arg(&self.socket).args(words).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Types `text`, letter by letter.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn types(&self, text: &str) -> Result {
        self.tmux(&["send-keys", "-t", SESSION, "-l", text]).map(drop)
    }

    /// Presses keys, by tmux's names: `Enter`, `C-c`, `Down`.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn presses(&self, keys: &[&str]) -> Result {
        self.tmux(&[&["send-keys", "-t", SESSION], keys].concat()).map(drop)
    }

    /// Has the shell run `command`.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn runs(&self, command: &str) -> Result {
        self.types(command)?;
        self.presses(&["Enter"])
    }

    /// Makes it larger or smaller.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn resize(&self, columns: u16, lines: u16) -> Result {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-t", SESSION, "-x", &columns, "-y", &lines]).map(drop)
    }

    /// What is on it, without blanks behind the lines.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", SESSION])
    }

    /// The same, with what gives characters colours.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn coloured_screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e", "-t", SESSION])
    }

    /// What tmux knows of it under `name`, like `alternate_on`.
    ///
    /// # Errors
    /// As [`Self::types`].
    pub fn knows(&self, name: &str) -> Result<String> {
        let format = format!("#{{{name}}}");
        Ok(self.tmux(&["display-message", "-p", "-t", SESSION, &format])?.trim().to_owned())
    }

    /// Waits until `text` is on it; returns the screen.
    ///
    /// # Errors
    /// Where it does not come, with what is there instead.
    #[track_caller]
    pub fn shows(&self, text: &str) -> Result<String> {
        self.until(&format!("{text:?} is shown"), |screen| screen.contains(text))
    }

    /// Waits until `is_so` of the screen; returns it.
    ///
    /// # Errors
    /// As [`Self::shows`].
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        eventually(SOON, what, || {
            let screen = self.screen()?;
            ensure!(is_so(&screen), "the screen is\n{screen}");
            Ok(screen)
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It hangs up on what runs in it; an error says that it has ended already.
        let _ = self.tmux(&["kill-server"]);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// tmux, with nothing of the terminal in which the tests run.
fn tmux() -> Command {
    let mut command = Command::new("tmux");
    command.env_remove("TMUX").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8").env("TERM", "xterm").arg("-u");
    command
}

/// Why there is no tmux; `None` where there is one.
#[must_use]
pub fn hindrance() -> Option<String> {
    let version = tmux().arg("-V").stdin(Stdio::null()).output();
    version.err().map(|error| format!("it needs tmux: {error}"))
}

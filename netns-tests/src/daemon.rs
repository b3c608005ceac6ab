//! The real `vswitchd`, in a host.

use std::ffi::OsString;
use std::fs;
use std::fs::{File, OpenOptions};
use std::net::IpAddr;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Account, Context, Failure, Host, Lab, Result, SOON, Vsctl, binaries::binaries, ensure, eventually};

/// How a daemon is started. Its socket, state and log lie in the lab's folder of its host's name.
#[derive(Clone, Debug, Default)]
pub struct DaemonSpec {
    /// `--vtep-ip`.
    pub vtep_ip: Option<IpAddr>,
    /// `--underlay`, where it is not the lab's.
    pub underlay: Option<&'static str>,
    /// More arguments.
    pub args: Vec<String>,
    /// Whom it runs as, where not as the tests do.
    pub account: Option<Account>,
    /// What the config file says; none is given where this is empty.
    pub config: String,
    /// `--takeover`.
    pub takeover: bool,
    /// Its environment, beside what it has anyway.
    pub env: Vec<(&'static str, OsString)>,
}

/// A running daemon; it is killed with this.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    vsctl: Vsctl,
}

/// How a daemon that was to be refused ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote, log and all.
    pub output: String,
}

impl Daemon {
    /// Starts a daemon in `host` and waits until it answers.
    ///
    /// # Errors
    /// Where it does not, with the end of its log.
    pub fn start(lab: &Lab, host: &Host, spec: &DaemonSpec) -> Result<Self> {
        Self::start_by(lab, host, spec, Ok)
    }

    /// As [`Self::start`], by the command that `by` makes of the usual one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_by(
        lab: &Lab,
        host: &Host,
        spec: &DaemonSpec,
        by: impl FnOnce(Command) -> Result<Command>,
    ) -> Result<Self> {
        let folder = lab.folder(host.name())?;
        let (socket, log) = (folder.join("socket"), folder.join("log"));
        let mut command = by(command(lab, &folder, &log, spec)?)?;
        log_to(&mut command, &log)?;
        let child = host.spawn(command)?;
        host.journal().note(format!("{}: vswitchd started, process {}", host.name(), child.id()));
        let vsctl = Vsctl::new(socket.clone(), host.name().to_owned(), host.journal().clone());
        let mut daemon = Self { child, socket, log, vsctl };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Starts a daemon that is to end by itself, refusing what it was told.
    ///
    /// # Errors
    /// Where it goes on.
    pub fn refused(lab: &Lab, host: &Host, spec: &DaemonSpec) -> Result<Ended> {
        let folder = lab.folder(host.name())?;
        let log = folder.join("log");
        let mut child = host.spawn(command(lab, &folder, &log, spec)?)?;
        let ended = eventually(SOON, "vswitchd ends", || child.try_wait()?.context("it runs"));
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(Ended { status: ended?, output: fs::read_to_string(log)? })
    }

    /// Starts a daemon in `host` that takes over from this one; returns it once it answers and this one has ended.
    ///
    /// # Errors
    /// Where it does not take over, with the end of its log.
    pub fn taken_over(self, lab: &Lab, host: &Host, spec: &DaemonSpec) -> Result<Self> {
        let mut next = self.successor(lab, host, spec)?;
        let mut this = self;
        let ended = eventually(SOON, "another vswitchd takes over", || {
            if let Some(status) = next.child.try_wait()? {
                return Ok(Err(status));
            }
            Ok(Ok(this.child.try_wait()?.context("it serves still")?))
        })?;
        match ended {
            Ok(status) => crate::ensure_eq!(status.code(), Some(0), "exit code of the one taken over from"),
            Err(status) => return Err(Failure::new(format!("no takeover ({status}): {}", next.log_end()))),
        }
        crate::ensure_eq!(next.vsctl.ok("status")?["pid"], next.pid(), "process that answers");
        Ok(next)
    }

    /// Starts a daemon in `host` that is to take over from this one, and does not wait for it.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn successor(&self, lab: &Lab, host: &Host, spec: &DaemonSpec) -> Result<Self> {
        let folder = lab.folder(host.name())?;
        let spec = DaemonSpec { takeover: true, ..spec.clone() };
        let child = host.spawn(command(lab, &folder, &self.log, &spec)?)?;
        host.journal().note(format!("{}: vswitchd --takeover started, process {}", host.name(), child.id()));
        Ok(Self { child, socket: self.socket.clone(), log: self.log.clone(), vsctl: self.vsctl.clone() })
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// Where it does not.
    pub fn ended(mut self) -> Result<ExitStatus> {
        let child = &mut self.child;
        eventually(SOON, "vswitchd ends", || child.try_wait()?.context("it runs"))
    }

    fn wait_until_ready(&mut self) -> Result {
        let (child, socket) = (&mut self.child, &self.socket);
        let ready = eventually(SOON, "vswitchd answers", || match child.try_wait()? {
            Some(status) => Ok(Err(status)),
            None => Ok(UnixStream::connect(socket).map(|_| Ok(()))?),
        });
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(Failure::new(format!("vswitchd ended at once ({status}): {}", self.log_end()))),
            Err(failure) => Err(failure).context(self.log_end()),
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// `vsctl` for this daemon.
    #[must_use]
    pub const fn vsctl(&self) -> &Vsctl {
        &self.vsctl
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// Where the log is gone.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it `signal` and waits for its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        ensure!(self.child.try_wait()?.is_none(), "vswitchd has ended before: {}", self.log_end());
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        let child = &mut self.child;
        eventually(SOON, "vswitchd ends", || child.try_wait()?.context("it runs"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has all that `command` writes appended to `log`.
fn log_to(command: &mut Command, log: &Path) -> Result {
    let log: File = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(())
}

fn command(lab: &Lab, folder: &Path, log: &Path, spec: &DaemonSpec) -> Result<Command> {
    let DaemonSpec { vtep_ip, underlay, args, account, config, takeover, env } = spec;
    let program = &binaries()?.vswitchd;
    let mut command = match account {
        Some(account) => {
            chown(folder, Some(account.uid), Some(account.gid))?;
            account.command(program)
        }
        None => Command::new(program),
    };
    command.arg("--socket").arg(folder.join("socket")).arg("--state-dir").arg(folder.join("state"));
    command.arg("--log").arg(std::env::var_os("VSWITCH_TEST_LOG").unwrap_or_else(|| "info".into()));
    if let Some(ip) = vtep_ip {
        command.arg("--vtep-ip").arg(ip.to_string());
    }
    if let Some(mode) = underlay.or(lab.underlay()) {
        command.arg("--underlay").arg(mode);
    }
    if *takeover {
        command.arg("--takeover");
    }
    command.args(args);
    if !config.is_empty() {
        let path = folder.join("vswitchd.toml");
        fs::write(&path, config)?;
        command.arg("--config").arg(path);
    }
    command.envs(env.iter().map(|(name, value)| (name, value)));
    log_to(&mut command, log)?;
    Ok(command)
}

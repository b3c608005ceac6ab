//! A stand-in for systemd: it is told by daemons, keeps their descriptors, and starts the next with them.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use vswitch_sys::{fdpass, process};

use crate::{Context, Daemon, DaemonSpec, Failure, Host, Lab, Result, ensure};

/// What it knows.
#[derive(Debug, Default)]
struct State {
    kept: Vec<(String, OwnedFd)>,
    /// `READY`, `MAINPID` and their like, in the order they came.
    said: Vec<String>,
}

/// A service manager for one daemon after the other.
#[derive(Debug)]
pub struct ServiceManager {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

impl ServiceManager {
    /// One that listens in the lab's folder `name`.
    ///
    /// # Errors
    /// Where no socket can be made.
    pub fn new(lab: &Lab, name: &str) -> Result<Self> {
        let path = lab.folder(name)?.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        let state = Arc::new(Mutex::new(State::default()));
        let kept = Arc::downgrade(&state);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((len, fds)) = fdpass::recv(&socket, &mut bytes) {
                let Some(state) = kept.upgrade() else { return };
                let words = String::from_utf8_lossy(&bytes[..len]).into_owned();
                locked(&state).hear(&words, fds);
            }
        });
        Ok(Self { path, state })
    }

    /// Starts a daemon in `host` with what is kept, and a control socket where `listener` is one, and waits until it has
    /// said that it serves.
    ///
    /// # Errors
    /// Where it does not.
    pub fn start(&self, lab: &Lab, host: &Host, spec: &DaemonSpec, listener: Option<&UnixListener>) -> Result<Daemon> {
        let (mut names, mut fds) = (Vec::new(), Vec::new());
        if let Some(listener) = listener {
            names.push("control".to_owned());
            fds.push(listener.try_clone()?.into());
        }
        self.catch_up()?; // with what the daemon before said last
        {
            let mut state = locked(&self.state);
            state.said.clear();
            for (name, fd) in &state.kept {
                names.push(name.clone());
                fds.push(fd.try_clone()?);
            }
        }
        let env = [
            ("NOTIFY_SOCKET", self.path.clone().into_os_string()),
            ("LISTEN_FDS", OsString::from(fds.len().to_string())),
            ("LISTEN_FDNAMES", OsString::from(names.join(":"))),
        ];
        let spec = DaemonSpec { env: env.into(), ..spec.clone() };
        let daemon = Daemon::start_by(lab, host, &spec, |command| {
            // Its own number is known only in the child.
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"", "sh"]);
            shell.arg(command.get_program()).args(command.get_args());
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            process::hand_in(&mut shell, fds)?;
            Ok(shell)
        })?;
        crate::eventually(crate::SOON, "the daemon says that it serves", || {
            ensure!(self.said("READY=1"), "it said {:?}", locked(&self.state).said);
            Ok(())
        })?;
        Ok(daemon)
    }

    /// Waits until all is heard that was said so far: datagrams come in order.
    fn catch_up(&self) -> Result {
        const MARK: &str = "CAUGHT_UP=1";
        UnixDatagram::unbound()?.send_to(MARK.as_bytes(), &self.path)?;
        crate::eventually(crate::SOON, "the service manager has heard all", || {
            ensure!(self.said(MARK), "it has not");
            Ok(())
        })
    }

    /// Whether the daemon started last said this.
    #[must_use]
    pub fn said(&self, words: &str) -> bool {
        locked(&self.state).said.iter().any(|said| said == words)
    }

    /// The names of what is kept, in ascending order.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        let mut names: Vec<_> = locked(&self.state).kept.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// How many descriptors are kept under `name`.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.kept().iter().filter(|kept| *kept == name).count()
    }

    /// The main process, as it was last told.
    ///
    /// # Errors
    /// Where nothing was said of it.
    pub fn main_pid(&self) -> Result<u32> {
        let state = locked(&self.state);
        let pid = state.said.iter().rev().find_map(|said| said.strip_prefix("MAINPID="));
        pid.context("no MAINPID")?.parse().map_err(Failure::from)
    }
}

impl State {
    /// What systemd does with a datagram.
    fn hear(&mut self, words: &str, fds: Vec<OwnedFd>) {
        let has = |word: &str| words.lines().any(|line| line == word);
        let name = words.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        if has("FDSTORE=1") {
            self.kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
        } else if has("FDSTOREREMOVE=1") {
            self.kept.retain(|(kept, _)| kept != name);
        } else {
            // A barrier's descriptor is closed with this.
            self.said.extend(words.lines().map(str::to_owned));
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

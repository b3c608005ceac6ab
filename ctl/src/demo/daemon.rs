//! A vswitchd of the demo: found, started, asked, ended.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vswitch_api::Client;
use vswitch_sys::{Netns, NetnsThread, process};

use super::DemoError;
use super::stop::Stop;

/// How long a daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end when asked to.
const FAREWELL: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// Lines of a log that tell why a daemon ended.
const LAST_LINES: usize = 8;

/// Finds the program beside this one, else on `$PATH`.
pub(super) fn find() -> Result<PathBuf, DemoError> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|folder| folder.join("vswitchd"));
    let found = beside.clone().filter(|path| path.is_file()).or_else(|| on_path("vswitchd"));
    // Links are followed now: a user namespace has another /run, where some systems keep them.
    let found = found.and_then(|path| fs::canonicalize(path).ok());
    found.ok_or_else(|| DemoError::NoDaemon { beside: beside.unwrap_or_else(|| PathBuf::from("vswitchd")) })
}

/// What builds the program where [`find`] looks first.
pub(super) fn build_command(beside: &Path) -> &'static str {
    let profile = beside.parent().and_then(Path::file_name);
    if profile.is_some_and(|name| name == "debug") {
        "cargo build -p vswitch"
    } else {
        "cargo build --release -p vswitch"
    }
}

/// Where on `$PATH` a program is.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Where a daemon's files are: its host's name in the demo's folder, with these endings.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) socket: PathBuf,
    pub(super) state: PathBuf,
    pub(super) log: PathBuf,
    pub(super) pid: PathBuf,
}

impl Files {
    pub(super) fn new(folder: &Path, host: &str) -> Self {
        let file = |end| folder.join(format!("{host}.{end}"));
        Self { socket: file("socket"), state: file("state"), log: file("log"), pid: file("pid") }
    }

    /// The last lines of the log, indented.
    pub(super) fn log_end(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(LAST_LINES)).map(|line| format!("\n  {line}")).collect()
    }
}

/// A running daemon. It is ended with this unless it is kept.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    kept: bool,
    /// The kernel ends the daemon when the thread ends that started it.
    _parent: NetnsThread,
}

impl Daemon {
    /// The arguments of a daemon with these files on the host with address `vtep`.
    pub(super) fn arguments(files: &Files, vtep: Ipv4Addr) -> [String; 6] {
        let Files { socket, state, .. } = files;
        let text = |path: &Path| path.display().to_string();
        [
            "--socket".to_owned(),
            text(socket),
            "--state-dir".to_owned(),
            text(state),
            "--vtep-ip".to_owned(),
            vtep.to_string(),
        ]
    }

    /// Starts `program` in `netns`; if `keep`, it may outlive this process.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        files: &Files,
        netns: &Netns,
        keep: bool,
    ) -> Result<Self, DemoError> {
        let failed = |error| DemoError::Start { program: program.to_owned(), error };
        let log = File::create(&files.log).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).env("NO_COLOR", "1").current_dir("/").stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        // Ctrl-C is for the demo, which ends its daemons in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if !keep {
            process::die_with_parent(&mut command);
        }
        let parent = NetnsThread::spawn(netns)?;
        let child = parent.call(move || command.spawn()).map_err(failed)?;
        let daemon = Self { child, kept: false, _parent: parent };
        fs::write(&files.pid, daemon.pid().to_string()).map_err(failed)?;
        Ok(daemon)
    }

    /// Waits until the daemon answers, with `timeout` for each call.
    pub(super) fn connect(&mut self, files: &Files, timeout: Duration, stop: &Stop) -> Result<Client, DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(DemoError::DaemonEnded { status, log: files.log_end() });
            }
            match Client::connect(&files.socket, timeout) {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() >= deadline => {
                    return Err(DemoError::DaemonSilent { error, log: files.log_end() });
                }
                Err(_) => stop.pause(PAUSE)?,
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on after this.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let child = &mut self.child;
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        let asked = pid.is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok());
        if !asked || !until(FAREWELL, || !matches!(child.try_wait(), Ok(None))) {
            // An error says that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ends the daemon that another process left running, if it still does; says whether it is gone.
pub(super) fn end_left(files: &Files) -> bool {
    let pid = fs::read_to_string(&files.pid).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid.filter(|pid: &i32| *pid > 1) else { return true };
    let runs = || runs(pid, &files.socket);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        if !runs() {
            return true;
        }
        // An error says that it has ended just now, or that it is not ours: then it goes on running.
        let _ = kill(Pid::from_raw(pid), signal);
        if until(FAREWELL, || !runs()) {
            return true;
        }
    }
    false
}

/// Whether process `pid` is the daemon with this socket, and not one that got its number later.
fn runs(pid: i32, socket: &Path) -> bool {
    let socket = socket.as_os_str().as_encoded_bytes();
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).any(|argument| argument == socket)
}

/// Looks until `there` says so, for at most `patience`; whether it did. Nothing interrupts it: it is for cleaning up.
fn until(patience: Duration, mut there: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if there() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::park_timeout(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_daemon_itself_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), "host-a");
        assert!(end_left(&files), "nothing runs where there is no number");
        // Our own number, as if it had been given again: this process must not end.
        fs::write(&files.pid, std::process::id().to_string()).unwrap();
        assert!(end_left(&files));

        let socket = files.socket.display().to_string();
        let mut child = Command::new("/bin/sh").args(["-c", "read x", &socket]).stdin(Stdio::piped()).spawn().unwrap();
        fs::write(&files.pid, child.id().to_string()).unwrap();
        assert!(until(PATIENCE, || runs(i32::try_from(child.id()).unwrap(), &files.socket)));
        let waiter = std::thread::spawn(move || child.wait().unwrap());
        assert!(end_left(&files));
        assert!(!waiter.join().unwrap().success());
    }

    #[test]
    fn what_builds_it_builds_it_there() {
        assert_eq!(build_command(Path::new("/x/target/debug/vswitchd")), "cargo build -p vswitch");
        assert_eq!(build_command(Path::new("/x/target/release/vswitchd")), "cargo build --release -p vswitch");
        assert_eq!(build_command(Path::new("/usr/bin/vswitchd")), "cargo build --release -p vswitch");
    }

    #[test]
    fn the_end_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), "host-a");
        assert_eq!(files.log_end(), "");
        fs::write(&files.log, (1..=20).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let end = files.log_end();
        assert!(end.starts_with("\n  line 13\n") && end.ends_with("line 20"), "{end}");
    }
}

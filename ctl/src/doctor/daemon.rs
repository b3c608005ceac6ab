//! The daemon: whether it answers, which one it is, its ports and its state.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use vswitch_api::{ClientError, PortState, Status};

use super::{Check, Patient};

/// Where root's daemon keeps its state.
const STATE_DIR: &str = "/var/lib/vswitch";

/// State of thousands of ports, twice: it is written anew beside the old one.
const ROOM: u64 = 16 << 20;

pub(super) fn checks(patient: &Patient) -> Vec<Check> {
    let mut checks = vec![reachable(patient)];
    if let Some(daemon) = patient.daemon() {
        checks.push(version(&daemon.status));
        checks.push(lost(patient));
    }
    let told = patient.daemon().and_then(|daemon| said_to(daemon.status.pid));
    checks.push(match &patient.words.state_dir {
        Some(folder) => state_dir(folder, patient.daemon().is_some()),
        None => state_dir(told.as_deref().unwrap_or(Path::new(STATE_DIR)), patient.daemon().is_some()),
    });
    checks
}

/// What `--state-dir` of the daemon says; `None` where it says nothing, or it is not for us to see.
fn said_to(pid: u32) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    let word = words.find(|word| word.starts_with(b"--state-dir"))?;
    let value = word.strip_prefix(b"--state-dir=").or_else(|| words.next())?;
    Some(PathBuf::from(OsStr::from_bytes(value)))
}

fn reachable(patient: &Patient) -> Check {
    let at = patient.socket.display();
    match &patient.daemon {
        Ok(daemon) => Check::ok("daemon", format!("process {} answers at {at}", daemon.status.pid)),
        Err(ClientError::Connect { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            Check::warning("daemon", format!("none runs: there is no {at}"))
                .mended("systemctl start vswitchd, or say --socket PATH where it listens elsewhere")
        }
        Err(ClientError::Connect { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::warning("daemon", format!("{at} is closed to this user"))
                .mended("run it as root, as the user of vswitchd, or as a member of the socket's group")
        }
        Err(ClientError::Connect { error, .. }) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Check::wrong("daemon", format!("nobody listens at {at}: it has died")).mended("systemctl restart vswitchd")
        }
        Err(error) => Check::wrong("daemon", format!("{error} ({at})"))
            .mended("look into its log (journalctl -u vswitchd); --timeout SECS waits longer"),
    }
}

pub(super) fn version(status: &Status) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if status.version == ours {
        return Check::ok("version", format!("vsctl and vswitchd are {ours}"));
    }
    Check::warning("version", format!("vswitchd is {}, vsctl {ours}", status.version))
        .mended("systemctl reload vswitchd, which loses no frame, where the installed one is newer")
}

fn lost(patient: &Patient) -> Check {
    let ports = patient.daemon().map(|daemon| daemon.ports.as_slice()).unwrap_or_default();
    let lost: Vec<_> = ports.iter().filter(|port| port.state == PortState::Lost).collect();
    match lost.as_slice() {
        [] => Check::ok("ports", format!("all {} are up", ports.len())),
        [first, ..] => {
            let names: Vec<_> = lost.iter().take(5).map(|port| port.name.as_str()).collect();
            let text = format!("{} of {} lost: {}", lost.len(), ports.len(), names.join(" "));
            let mend = format!(
                "make the namespace anew (they come back by themselves), or delete them: vsctl port del {}",
                first.name
            );
            Check::wrong("ports", text).mended(mend)
        }
    }
}

fn state_dir(folder: &Path, is_running: bool) -> Check {
    const NAME: &str = "state";
    let at = folder.display();
    let space = match statvfs(folder) {
        Ok(space) => space,
        Err(nix::Error::ENOENT) if is_running => {
            return Check::note(NAME, format!("there is no {at}: vswitchd keeps its state elsewhere"))
                .mended("say --state-dir DIR");
        }
        Err(nix::Error::ENOENT) => return Check::ok(NAME, format!("{at} will be made at the first start")),
        Err(error) => return Check::note(NAME, format!("cannot look at {at}: {error}")).mended("run it as root"),
    };
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    if space.flags().contains(FsFlags::ST_RDONLY) {
        return Check::wrong(NAME, format!("{at} is on a read-only file system"))
            .mended("mount it writable, or say vswitchd --state-dir DIR");
    }
    // Some file systems count no inodes.
    if free < ROOM || (space.files() > 0 && space.files_available() == 0) {
        return Check::wrong(NAME, format!("{at} has {} KiB left: changes will be refused", free >> 10))
            .mended("make room there: 16 MiB are enough");
    }
    Check::ok(NAME, format!("{at} has {} MiB of room", free >> 20))
}

//! The folder of a demo: where its sockets, states and logs lie, and by which it is found again.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::DemoError;

/// What the names of all demos begin with.
const PREFIX: &str = "vsdemo-";
/// The longest path of a unix socket, without its end (unix(7)).
const SOCKET_PATH: usize = 107;
/// Room for the name of a demo, and of a socket in it.
const NAMES: usize = "/vsdemo-4194304-9/host-a.socket".len();
/// Locked for as long as the process lives that runs the demo.
const LOCK: &str = "lock";
/// There when the demo is to outlive its process.
const KEPT: &str = "kept";

/// A demo's folder; it is removed with this unless [`Self::keep`] was called.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    name: String,
    kept: bool,
    lock: File,
}

/// A folder that another process made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) state: State,
}

/// What is known of a folder's demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its process lives.
    Running,
    /// Its process ended and left it running.
    Kept,
    /// Its process was killed.
    Abandoned,
}

impl Folder {
    /// Makes a folder in `base` that no other demo has.
    pub(super) fn create(base: &Path) -> Result<Self, DemoError> {
        let pid = std::process::id();
        let names = std::iter::once(format!("{PREFIX}{pid}")).chain((2..10).map(|n| format!("{PREFIX}{pid}-{n}")));
        for name in names {
            let path = base.join(&name);
            let failed = failed("create", &path);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // A kept demo of a process that had our number.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(failed(error)),
            }
            // Locked before it has its name: whoever finds it finds it locked.
            let unnamed = path.join("lock.new");
            let lock = File::create_new(&unnamed).and_then(|lock| {
                lock.lock()?;
                fs::rename(&unnamed, path.join(LOCK))?;
                Ok(lock)
            });
            let lock = lock.inspect_err(|_| {
                let _ = fs::remove_dir_all(&path);
            });
            return Ok(Self { name, kept: false, lock: lock.map_err(failed)?, path });
        }
        Err(failed("create", &base.join(format!("{PREFIX}{pid}")))(ErrorKind::AlreadyExists.into()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The demo's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Leaves the folder behind, marked.
    pub(super) fn keep(&mut self) -> Result<(), DemoError> {
        let mark = self.path.join(KEPT);
        File::create(&mark).map_err(failed("create", &mark))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // The next demo tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
        // By word: a child between fork and exec holds the descriptor too. An error leaves it to the last of them.
        let _ = self.lock.unlock();
    }
}

/// Names the operation that failed.
fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DemoError + use<> {
    let path = path.to_owned();
    move |error| DemoError::Folder { operation, path, error }
}

/// Where root's demos are: beside the namespaces' names, and like them gone after a reboot.
pub(super) fn of_root() -> PathBuf {
    PathBuf::from("/run")
}

/// Where those of ordinary users are: a user namespace has its own `/run`, and a socket's path has an end.
pub(super) fn of_users() -> PathBuf {
    choose(fs::canonicalize(std::env::temp_dir()).ok())
}

fn choose(temporary: Option<PathBuf>) -> PathBuf {
    let fits = |path: &PathBuf| !path.starts_with("/run") && path.as_os_str().len() + NAMES <= SOCKET_PATH;
    temporary.filter(fits).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// The folders of demos in `base` that belong to the user who asks.
pub(super) fn find(base: &Path) -> Vec<Found> {
    let user = nix::unistd::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        // Not through links, nor into what others prepared: processes are ended by what is read there.
        let ours = fs::symlink_metadata(&path).is_ok_and(|folder| folder.is_dir() && folder.uid() == user);
        if !name.starts_with(PREFIX) || !ours {
            continue;
        }
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        // Shared: two that look at the same time do not take each other for the owner.
        let state = match lock.try_lock_shared() {
            _ if path.join(KEPT).exists() => State::Kept,
            Err(TryLockError::WouldBlock) => State::Running,
            _ => State::Abandoned,
        };
        found.push(Found { path, name, state });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(base: &Path) -> Vec<State> {
        find(base).into_iter().map(|found| found.state).collect()
    }

    #[test]
    fn a_folder_is_found_until_it_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::create(base.path()).unwrap();
        assert_eq!(states(base.path()), [State::Running]);
        let second = Folder::create(base.path()).unwrap();
        assert_ne!(folder.name(), second.name());
        assert_eq!(states(base.path()), [State::Running, State::Running]);
        drop(second);

        let mut kept = folder;
        kept.keep().unwrap();
        drop(kept);
        assert_eq!(states(base.path()), [State::Kept]);

        let path = find(base.path()).remove(0).path;
        fs::remove_file(path.join(KEPT)).unwrap();
        assert_eq!(states(base.path()), [State::Abandoned]);
    }

    #[test]
    fn what_is_no_folder_of_ours() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("vsdemo-1")).unwrap();
        fs::create_dir(base.path().join("other")).unwrap();
        fs::write(base.path().join("other/lock"), "").unwrap();
        std::os::unix::fs::symlink(base.path().join("other"), base.path().join("vsdemo-2")).unwrap();
        assert_eq!(find(base.path()), []);
    }

    #[test]
    fn folders_that_sockets_fit_in() {
        let long = PathBuf::from("/x".repeat(40));
        for (temporary, chosen) in [
            (Some("/var/tmp".into()), "/var/tmp"),
            (Some("/run/user/7".into()), "/tmp"),
            (Some(long), "/tmp"),
            (None, "/tmp"),
        ] {
            assert_eq!(choose(temporary), PathBuf::from(chosen));
        }
    }
}

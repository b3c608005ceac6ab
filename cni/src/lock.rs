//! Locks between plugins that run at once: files beside the daemon's socket. They stay: were one removed, one plugin could
//! hold the lock of the old file and another that of a new one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::protocol::{Code, Failure};

/// Between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Its file cannot be opened.
    #[error("cannot lock {}: {error}; vswitch-cni writes beside the daemon's socket", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Somebody has it.
    #[error(
        "cannot lock {}: another vswitch-cni has held it for {patience:?}; `fuser` says which", path.display()
    )]
    Held { path: PathBuf, patience: Duration },
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let code = if matches!(error, LockError::Held { .. }) { Code::TryAgain } else { Code::Gateway };
        Self::new(code, error.to_string())
    }
}

/// Whether others may have the lock too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Those that share it.
    Shared,
    /// Nobody.
    Exclusive,
}

/// Takes the lock of `path`; it is held until the file is dropped.
///
/// # Errors
/// Where somebody has it for all of `patience`, and where there can be no such file.
pub(crate) fn take(path: &Path, kind: Kind, patience: Duration) -> Result<File, LockError> {
    let failed = |error| LockError::Io { path: path.to_owned(), error };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    let file = options.open(path).map_err(failed)?;
    let deadline = Instant::now() + patience;
    let mut pause = PAUSES.0;
    loop {
        let taken = if kind == Kind::Shared { file.try_lock_shared() } else { file.try_lock() };
        match taken {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(failed(error)),
            Err(_) if Instant::now() >= deadline => return Err(LockError::Held { path: path.to_owned(), patience }),
            Err(_) => {
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_waited_for_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(20));
        let first = take(&path, Kind::Shared, short).unwrap();
        let second = take(&path, Kind::Shared, short).unwrap();
        let failure = Failure::from(take(&path, Kind::Exclusive, short).unwrap_err());
        assert_eq!(failure.code, 11);
        assert!(failure.details.contains("another vswitch-cni has held it for 20ms"), "{failure}");
        drop((first, second));
        let held = take(&path, Kind::Exclusive, short).unwrap();
        let waits = thread::spawn(move || take(&path, Kind::Exclusive, long).map(drop));
        thread::sleep(short);
        drop(held);
        waits.join().unwrap().unwrap();
        let nowhere = take(Path::new("/nonexistent/lock"), Kind::Shared, short).unwrap_err().to_string();
        assert!(nowhere.contains("beside the daemon's socket"), "{nowhere}");
    }
}

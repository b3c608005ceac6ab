//! The desired state on disk: replaced whole or not at all.
//!
//! A change is written beside the old file first, then made, and renamed into place once it is synced, which the disk
//! does meanwhile. A crash before the rename leaves the old state, and nobody was told otherwise; after it, the new one.

use std::fs::{self, DirBuilder, DirEntry, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown, lchown};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::accounts::Account;

const FILE: &str = "state.json";
const PENDING: &str = "state.json.new";
const IDENTITY: &str = "identity";
const NEW_IDENTITY: &str = "identity.new";
/// Bytes that must be free for a change to find room without a doubt: state of a thousand ports.
const ROOM: u64 = 1 << 20;
/// All that is ours in the directory.
const OURS: [&str; 4] = [FILE, PENDING, IDENTITY, NEW_IDENTITY];

/// Why the state could not be kept.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("cannot {doing} {}: {error}; check that the directory is writable and the disk has room, or choose another with --state-dir", .path.display())]
    Io { doing: &'static str, path: PathBuf, error: io::Error },
    #[error("another vswitchd already keeps its state in {}; stop it first, or choose another directory with --state-dir", .0.display())]
    Taken(PathBuf),
    #[error(
        "{} belongs to user {owner}, not to {user} (--user): choose another directory with --state-dir, or chown it",
        .path.display()
    )]
    Foreign { path: PathBuf, owner: u32, user: String },
    #[error(
        "{} holds {other:?} too, which is no state of ours: it is not given to another user; choose a directory of its own \
         with --state-dir", .path.display()
    )]
    Shared { path: PathBuf, other: String },
    #[error("{} is not a state this version understands: {error}; mend it, or move it away to start empty", .path.display())]
    Unreadable { path: PathBuf, error: serde_json::Error },
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    /// Locked by the daemon that serves: two would overwrite each other's state.
    lock: File,
}

/// A state that is written and not yet the one a restart finds.
#[must_use = "a pending state takes effect by `commit`"]
#[derive(Debug)]
pub(crate) struct Pending {
    dir: PathBuf,
    /// Syncs it, while whoever prepared it makes it so: after a power cut nothing is left of what was made anyway.
    sync: JoinHandle<io::Result<()>>,
}

impl Store {
    /// Opens `dir`, which nobody else may have open, and makes it where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let store = Self::beside(dir)?;
        store.take()?;
        Ok(store)
    }

    /// Opens `dir` to read, where another daemon may still serve; to be followed by [`Self::take`].
    pub(crate) fn beside(dir: &Path) -> Result<Self, StoreError> {
        // What an operator wants of his network is nobody else's business.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error("create", dir, error))?;
        let lock = File::open(dir).map_err(|error| io_error("open", dir, error))?;
        Ok(Self { dir: dir.to_owned(), lock })
    }

    /// Makes this the daemon that serves. Among all that try, one succeeds.
    pub(crate) fn take(&self) -> Result<(), StoreError> {
        match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(StoreError::Taken(self.dir.clone())),
            Err(TryLockError::Error(error)) => Err(io_error("lock", &self.dir, error)),
        }
    }

    /// Lets another daemon [take](Self::take) it.
    pub(crate) fn release(&self) -> Result<(), StoreError> {
        self.lock.unlock().map_err(|error| io_error("unlock", &self.dir, error))
    }

    /// Who owns the directory.
    pub(crate) fn owner(&self) -> Result<u32, StoreError> {
        Ok(self.lock.metadata().map_err(|error| io_error("look at", &self.dir, error))?.uid())
    }

    /// Device and inode of the directory: the same for two if and only if they share a lock.
    pub(crate) fn place(&self) -> Result<(u64, u64), StoreError> {
        let metadata = self.lock.metadata().map_err(|error| io_error("look at", &self.dir, error))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Gives the directory and our files in it to `user`, who is to keep the state from now on; or takes them, where that
    /// is us. A directory with other things in it is not ours to give.
    pub(crate) fn give(&self, user: &Account) -> Result<(), StoreError> {
        let failed = |error| io_error("give away", &self.dir, error);
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let (owner, own) = (self.owner()?, geteuid().as_raw());
        if owner == uid {
            return Ok(());
        }
        if owner != own && uid != own {
            return Err(StoreError::Foreign { path: self.dir.clone(), owner, user: user.name.clone() });
        }
        let entries: Vec<_> = fs::read_dir(&self.dir).and_then(Iterator::collect).map_err(failed)?;
        let is_ours = |entry: &&DirEntry| OURS.iter().any(|name| entry.file_name() == *name);
        if let Some(other) = entries.iter().find(|entry| !is_ours(entry)) {
            return Err(StoreError::Shared { path: self.dir.clone(), other: other.file_name().display().to_string() });
        }
        // A link is not followed. The directory comes last.
        for entry in entries {
            if entry.file_type().map_err(failed)?.is_file() {
                lchown(entry.path(), Some(uid), Some(gid)).map_err(failed)?;
            }
        }
        fchown(&self.lock, Some(uid), Some(gid)).map_err(failed)
    }

    /// The state last committed; `None` where there was never one.
    pub(crate) fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let path = self.dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(state) => Ok(Some(state)),
                Err(error) => Err(StoreError::Unreadable { path, error }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// A state that was prepared by a daemon that ended before it was committed; `None` where there is none.
    pub(crate) fn abandoned<T: DeserializeOwned>(&self) -> Option<T> {
        // Half-written it is of no use, and nothing was done for it yet.
        serde_json::from_slice(&fs::read(self.dir.join(PENDING)).ok()?).ok()
    }

    /// Forgets what was prepared: it was taken back.
    pub(crate) fn forget_pending(&self) {
        let path = self.dir.join(PENDING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, file = %path.display(), "a refused change is taken back once more at the next start");
            }
            _ => {}
        }
    }

    /// Why `state`, which is the one there is, could not be written now; nothing is left of the try. On a disk with room
    /// it is tried only where it `failed` last.
    pub(crate) fn refusal<T: Serialize>(&self, state: &T, failed: bool) -> Option<StoreError> {
        if !failed && !self.is_short_of_room() {
            return None;
        }
        let outcome = self.prepare(state).and_then(Pending::synced);
        self.forget_pending();
        outcome.err()
    }

    /// Whether a change may not find room. What cannot be told is no reason to look closer.
    fn is_short_of_room(&self) -> bool {
        let Ok(space) = fstatvfs(&self.lock) else { return false };
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        // Some file systems count no inodes.
        let no_inodes = space.files() > 0 && space.files_available() == 0;
        space.flags().contains(FsFlags::ST_RDONLY) || free < ROOM || no_inodes
    }

    /// A number that is this host's own and stays so: drawn from `draw` once, then kept.
    pub(crate) fn identity(&self, draw: impl FnOnce() -> u64) -> Result<u64, StoreError> {
        let path = self.dir.join(IDENTITY);
        match fs::read(&path) {
            Ok(text) => {
                if let Ok(identity) = u64::from_str_radix(String::from_utf8_lossy(&text).trim(), 16) {
                    return Ok(identity);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &path, error)),
        }
        let identity = draw();
        let pending = self.dir.join(NEW_IDENTITY);
        write_synced(&pending, format!("{identity:016x}\n").as_bytes())
            .and_then(|()| replace(&self.dir, &pending, &path))
            .map_err(|error| io_error("write", &path, error))?;
        Ok(identity)
    }

    /// Writes `state` without making it the one a restart finds.
    pub(crate) fn prepare<T: Serialize>(&self, state: &T) -> Result<Pending, StoreError> {
        let path = self.dir.join(PENDING);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(&serde_json::to_vec_pretty(state)?)?;
            thread::Builder::new().name("sync".to_owned()).spawn(move || file.sync_all())
        };
        let sync = write().map_err(|error| io_error("write", &path, error))?;
        Ok(Pending { dir: self.dir.clone(), sync })
    }
}

impl Pending {
    /// Waits until it is on the disk.
    fn synced(self) -> Result<(), StoreError> {
        let synced = self.sync.join().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs it panicked")));
        synced.map_err(|error| io_error("write", &self.dir.join(PENDING), error))
    }

    /// Makes it the state a restart finds. On return that survives a power cut.
    pub(crate) fn commit(self) -> Result<(), StoreError> {
        let (dir, from, to) = (self.dir.clone(), self.dir.join(PENDING), self.dir.join(FILE));
        self.synced()?;
        replace(&dir, &from, &to).map_err(|error| io_error("replace", &to, error))
    }
}

/// Puts `from` in the place of `to`, both in `dir`.
fn replace(dir: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let dir = File::open(dir)?;
    fs::rename(from, to)?;
    // The rename lives in the directory. It is done and found by a restart: failing now would tell of a change that
    // was not made.
    if let Err(error) = dir.sync_all() {
        tracing::error!(%error, file = %to.display(), "the directory could not be synced; a power cut may undo this");
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(doing: &'static str, path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { doing, path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_a_committed_state_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("deep/er")).unwrap();
        assert_eq!(store.load::<Vec<u8>>().unwrap(), None);
        store.prepare(&vec![1u8]).unwrap().commit().unwrap();
        let _abandoned = store.prepare(&vec![2u8]).unwrap();
        assert_eq!(store.load::<Vec<u8>>().unwrap(), Some(vec![1]));
        assert_eq!(store.abandoned::<Vec<u8>>(), Some(vec![2]));
        store.prepare(&vec![3u8]).unwrap().commit().unwrap();
        assert_eq!(store.load::<Vec<u8>>().unwrap(), Some(vec![3]));
        assert_eq!(store.abandoned::<Vec<u8>>(), None);
    }

    #[test]
    fn an_identity_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(dir.path().join(NEW_IDENTITY), "f").unwrap(); // left behind by a crash
        assert_eq!(store.identity(|| 0xabc).unwrap(), 0xabc);
        assert_eq!(store.identity(|| panic!("drawn twice")).unwrap(), 0xabc);
        for damaged in [&b""[..], b"\xff\xfe", b"host"] {
            fs::write(dir.path().join(IDENTITY), damaged).unwrap();
            assert_eq!(store.identity(|| 7).unwrap(), 7);
        }
    }

    #[test]
    fn a_directory_is_one_daemons() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let message = Store::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(dir.path().to_str().unwrap()) && message.contains("--state-dir"), "{message}");
        let beside = Store::beside(dir.path()).unwrap();
        assert!(matches!(beside.take(), Err(StoreError::Taken(_))));
        store.release().unwrap();
        beside.take().unwrap();
        assert!(matches!(store.take(), Err(StoreError::Taken(_))));
        drop(beside);
        store.take().unwrap();
    }

    #[test]
    fn a_directory_is_given_and_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let store = Store::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let account = |uid: u32| Account { name: format!("u{uid}"), uid: uid.into(), gid: uid.into() };
        store.give(&account(geteuid().as_raw())).unwrap();
        if !geteuid().is_root() {
            eprintln!("skipped in part: giving files away needs root");
            return;
        }
        store.identity(|| 1).unwrap();
        store.give(&account(4_000)).unwrap();
        let owners = [path.clone(), path.join(IDENTITY)].map(|path| fs::metadata(path).unwrap().uid());
        assert_eq!(owners, [4_000, 4_000]);
        store.give(&account(4_000)).unwrap();
        let message = store.give(&account(4_001)).unwrap_err().to_string();
        assert!(message.contains("user 4000") && message.contains("u4001"), "{message}");
        store.give(&account(0)).unwrap();
        assert_eq!([path.clone(), path.join(IDENTITY)].map(|path| fs::metadata(path).unwrap().uid()), [0, 0]);
    }

    #[test]
    fn a_damaged_state_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), "{").unwrap();
        let message = store.load::<Vec<u8>>().unwrap_err().to_string();
        assert!(message.contains("state.json is not a state"), "{message}");
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"{");
    }

    #[test]
    fn no_directory_no_store() {
        let message = Store::open(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(message.contains("/proc/nowhere") && message.contains("--state-dir"), "{message}");
    }
}

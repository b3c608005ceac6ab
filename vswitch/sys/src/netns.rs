//! Network namespaces: found by name, path or process, made, entered.

use std::any::Any;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::syscall::check;

/// Where `ip netns` keeps names, and we too.
const NAMED: &str = "/run/netns";

/// Where a thread finds its own namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name cannot be a file name.
    #[error("namespace name {0:?} is not usable: 1 to 255 bytes without '/', and neither \".\" nor \"..\"")]
    BadName(String),
    /// No such file.
    #[error("there is no network namespace at {}; `ip netns list` and `lsns -t net` show what there is", .0.display())]
    NotFound(PathBuf),
    /// No such process.
    #[error("there is no process {0}, or it has just ended; a running process keeps its namespace alive")]
    NoProcess(u32),
    /// A file, but of another kind.
    #[error("{} is not a network namespace; name one under /run/netns, /proc/PID/ns/net or a bind mount of it", .0.display())]
    NotNamespace(PathBuf),
    /// The name is in use.
    #[error("a network namespace named {0:?} already exists; delete it or choose another name")]
    NameTaken(String),
    /// The kernel refused.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried, with the object.
        operation: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Names the operation that failed.
fn failed(operation: impl Into<String>) -> impl FnOnce(io::Error) -> NetnsError {
    |source| NetnsError::System { operation: operation.into(), source }
}

/// A network namespace, kept alive for as long as this is.
#[derive(Debug)]
pub struct Netns(OwnedFd);

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Where `/proc` is not there or no descriptor is left.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open_path(Path::new(OWN))
    }

    /// The namespace `ip netns` knows as `name`.
    ///
    /// # Errors
    /// A name that is none, and what [`Self::open_path`] refuses.
    pub fn open_name(name: &str) -> Result<Self, NetnsError> {
        Self::open_path(&named(name)?)
    }

    /// The namespace at `path`: `/proc/PID/ns/net`, or where something mounted it.
    ///
    /// # Errors
    /// Nothing there, something else there, or no right to open it.
    pub fn open_path(path: &Path) -> Result<Self, NetnsError> {
        // Non-blocking: the path may turn out to be a pipe without a writer.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| {
                match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NetnsError::NotFound(path.to_owned()),
                    _ => failed(format!("open the namespace {}", path.display()))(error),
                }
            })?;
        Self::from_descriptor(file.into()).map_err(|_| NetnsError::NotNamespace(path.to_owned()))
    }

    /// The namespace that `fd` is of, for instance received over a socket.
    ///
    /// # Errors
    /// The descriptor, where it is of something else.
    pub fn from_descriptor(fd: OwnedFd) -> Result<Self, OwnedFd> {
        if is_netns(&fd) { Ok(Self(fd)) } else { Err(fd) }
    }

    /// The namespace of process `pid`.
    ///
    /// # Errors
    /// No such process, or no right to look at it.
    pub fn open_pid(pid: u32) -> Result<Self, NetnsError> {
        match Self::open_path(Path::new(&format!("/proc/{pid}/ns/net"))) {
            Err(NetnsError::NotFound(_)) => Err(NetnsError::NoProcess(pid)),
            // A zombie has an entry in /proc but its namespaces are gone already.
            Err(NetnsError::System { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {
                Err(NetnsError::NoProcess(pid))
            }
            outcome => outcome,
        }
    }

    /// A new namespace without a name: it ends with its last descriptor, process and mount. Its loopback is down.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN`, or where the limit on namespaces is reached.
    pub fn create() -> Result<Self, NetnsError> {
        in_new(Self::current)?
    }

    /// A new namespace that `ip netns` knows as `name`, until [`Self::delete_named`].
    ///
    /// # Errors
    /// As [`Self::create`], a name in use, and where `/run/netns` cannot be written.
    pub fn create_named(name: &str) -> Result<Self, NetnsError> {
        let path = named(name)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(NAMED)
            .map_err(failed(format!("create the directory {NAMED}")))?;
        File::create_new(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => NetnsError::NameTaken(name.to_owned()),
            _ => failed(format!("create {}", path.display()))(error),
        })?;
        let bound = in_new(|| {
            mount(Some(OWN), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| failed(format!("mount the new namespace at {}", path.display()))(errno.into()))?;
            Self::current()
        })
        .flatten();
        if bound.is_err() {
            // The error that matters is the one above; an empty file left behind would only block the name.
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(&path);
        }
        bound
    }

    /// Removes a name. The namespace lives on while a process or descriptor holds it.
    ///
    /// # Errors
    /// A name that is not there, and where `/run/netns` cannot be written.
    pub fn delete_named(name: &str) -> Result<(), NetnsError> {
        let path = named(name)?;
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: the file is there but nothing is mounted on it, as after a reboot without tmpfs.
            Ok(()) | Err(nix::Error::EINVAL) => {}
            Err(nix::Error::ENOENT) => return Err(NetnsError::NotFound(path)),
            Err(errno) => return Err(failed(format!("unmount {}", path.display()))(errno.into())),
        }
        fs::remove_file(&path).map_err(failed(format!("remove {}", path.display())))
    }

    /// The namespace that `fd` refers to, for instance one that the kernel handed out.
    pub(crate) fn from_kernel(fd: OwnedFd) -> Result<Self, NetnsError> {
        Self::from_descriptor(fd).map_err(|_| NetnsError::NotNamespace("the descriptor".into()))
    }

    /// Another handle on the same namespace.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn try_clone(&self) -> Result<Self, NetnsError> {
        self.0.try_clone().map(Self).map_err(failed("duplicate the descriptor of a namespace"))
    }

    /// A path by which any process that may look at this one finds the namespace, while this handle lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Device and inode: equal for two handles if and only if they are the same namespace.
    ///
    /// # Errors
    /// None known; the kernel is asked.
    pub fn identity(&self) -> Result<(u64, u64), NetnsError> {
        let stat = || {
            let metadata = File::from(self.0.try_clone()?).metadata()?;
            Ok((metadata.dev(), metadata.ino()))
        };
        stat().map_err(failed("identify a namespace"))
    }

    /// Runs `work` inside, on a thread of its own. A panic of `work` goes on in the caller.
    ///
    /// # Errors
    /// Where no thread can be started, or without `CAP_SYS_ADMIN` over the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_thread(|| self.enter().map(|()| work()))?
    }

    /// Writes a setting under `/proc/sys/net` of the namespace; `key` as in `ipv6/conf/eth0/accept_dad`.
    ///
    /// # Errors
    /// A key that is not there, a value refused, `/proc/sys` read-only, and as [`Self::run`].
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<(), NetnsError> {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&path, value))?.map_err(failed(format!("write {value} to {}", path.display())))
    }

    /// Moves the calling thread inside, for good.
    fn enter(&self) -> Result<(), NetnsError> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).map_err(|errno| failed("enter a network namespace")(errno.into()))
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `fd` is of a network namespace.
fn is_netns(fd: &OwnedFd) -> bool {
    // Only the namespace file system gives the number below its meaning.
    if !nix::sys::statfs::fstatfs(fd).is_ok_and(|system| system.filesystem_type() == nix::sys::statfs::NSFS_MAGIC) {
        return false;
    }
    // SAFETY: NS_GET_NSTYPE takes no argument, writes no memory, and `fd` is an open file of the namespace file system, so
    // the number means this and nothing else.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) }).is_ok_and(|kind| kind == libc::CLONE_NEWNET)
}

/// The file that stands for `name`.
fn named(name: &str) -> Result<PathBuf, NetnsError> {
    let usable = (1..=255).contains(&name.len()) && !name.contains(['/', '\0']) && name != "." && name != "..";
    if usable { Ok(Path::new(NAMED).join(name)) } else { Err(NetnsError::BadName(name.to_owned())) }
}

/// Runs `work` on a thread that has just made itself a network namespace.
fn in_new<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| failed("create a network namespace (needs CAP_SYS_ADMIN)")(errno.into()))
            .map(|()| work())
    })?
}

/// Runs `work` on a fresh thread, which the kernel lets change its namespace without touching the others.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("netns".into()).spawn_scoped(scope, work).map_err(failed("start a thread"))?;
        Ok(thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

/// Work for a [`NetnsThread`].
type Job = Box<dyn FnOnce() + Send>;

/// A thread that lives in a namespace and does there what it is told.
///
/// It keeps the namespace alive. Children started from it inherit that, and those that are to die with their parent
/// ([`crate::process::die_with_parent`]) live as long as this thread.
#[derive(Debug)]
pub struct NetnsThread {
    /// `None` only while dropping: the thread ends when the other side is gone.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl NetnsThread {
    /// Starts a thread inside `netns`.
    ///
    /// # Errors
    /// As [`Netns::run`].
    pub fn spawn(netns: &Netns) -> Result<Self, NetnsError> {
        let netns = netns.try_clone()?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (entered, outcome) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn(move || {
                let inside = netns.enter();
                // The thread itself keeps the namespace alive from here on.
                drop(netns);
                let go = inside.is_ok();
                if entered.send(inside).is_ok() && go {
                    inbox.into_iter().for_each(|job| job());
                }
            })
            .map_err(failed("start a thread"))?;
        let this = Self { jobs: Some(jobs), thread: Some(thread) };
        match outcome.recv() {
            Ok(entered) => entered.map(|()| this),
            Err(_) => Err(failed("start a thread in a namespace")(io::Error::other("it ended at once"))),
        }
    }

    /// Runs `work` on the thread and waits for what it returns. A panic of `work` goes on in the caller.
    pub fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, outcome) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
        let job = Box::new(move || {
            // Unwind safe: what the closure owned is dropped with it, and the caller panics on.
            // The caller waits below, so somebody takes the outcome.
            let _ = done.send(panic::catch_unwind(AssertUnwindSafe(work)));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        match outcome.recv() {
            Ok(Ok(value)) => value,
            Ok(Err(payload)) => panic::resume_unwind(payload),
            Err(_) => unreachable!("the thread outlives self and every job answers (job accepted: {sent})"),
        }
    }
}

impl Drop for NetnsThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Jobs do not unwind, so there is no panic to hand on.
            let _ = thread.join();
        }
    }
}

//! Child processes that do not outlive their parent, or start with descriptors, and user namespaces for those who are not root.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::listen::START as LISTEN_START;
use crate::syscall::check;

/// Why a user namespace could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum UserNamespaceError {
    /// More than one thread runs.
    #[error("a process with {0} threads cannot enter a user namespace; do it before starting the second")]
    Threads(usize),
    /// The system does not allow it.
    #[error(
        "this system lets ordinary users make no user namespace ({0}); run as root, or allow it \
         (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Forbidden(#[source] io::Error),
    /// The kernel refused.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Lets the kernel kill the child when the *thread* that starts it ends.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: prctl with integers touches no memory.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // The parent may have ended before the line above: nobody would send the signal then.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls and builds errors from numbers: no allocation, no
    // lock, nothing that another thread could have left half done.
    unsafe { command.pre_exec(ask) }
}

/// Has the child start with `fds`, in this order from descriptor 3 on, as a service manager does (sd_listen_fds(3)).
///
/// # Errors
/// Out of descriptors.
pub fn hand_in(command: &mut Command, fds: Vec<OwnedFd>) -> io::Result<&mut Command> {
    let count = RawFd::try_from(fds.len()).map_err(io::Error::other)?;
    let end = LISTEN_START + count;
    // Out of the way of the numbers they are to get, where none would be overwritten before its turn.
    let raised = fds.into_iter().map(|fd| {
        // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory.
        let raised = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, end) })?;
        // SAFETY: the kernel has just made this descriptor and nobody else knows its number.
        Ok(unsafe { OwnedFd::from_raw_fd(raised) })
    });
    let raised = raised.collect::<io::Result<Vec<_>>>()?;
    let place = move || {
        for (to, fd) in (LISTEN_START..).zip(&raised) {
            // SAFETY: dup2 takes integers and touches no memory. In the child it closes what stood at `to`: descriptors
            // that exec would close anyway, at worst the one by which a failing exec is told to the parent.
            check(unsafe { libc::dup2(fd.as_raw_fd(), to) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls and builds errors from numbers: no allocation, no lock,
    // nothing that another thread could have left half done.
    Ok(unsafe { command.pre_exec(place) })
}

/// Makes the process root in a user namespace of its own, with its own network, its own mounts and an empty `/run`.
///
/// # Errors
/// Where several threads run, or the system does not allow it.
pub fn enter_user_namespace() -> Result<(), UserNamespaceError> {
    let failed = |operation| move |source| UserNamespaceError::System { operation, source };
    let threads = fs::read_dir("/proc/self/task").map_err(failed("count the threads in /proc/self/task"))?.count();
    if threads != 1 {
        return Err(UserNamespaceError::Threads(threads));
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| UserNamespaceError::Forbidden(errno.into()))?;
    // Without this the kernel refuses a group map of an ordinary user (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny").map_err(failed("give up setgroups"))?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(failed("map the user to root"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(failed("map the group to root"))?;
    let mounted = |outcome: nix::Result<()>| outcome.map_err(io::Error::from);
    mounted(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>))
        .map_err(failed("make the mounts private"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mounted(mount(Some("tmpfs"), "/run", Some("tmpfs"), flags, Some("mode=0755")))
        .map_err(failed("mount a tmpfs on /run"))
}

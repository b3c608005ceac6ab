//! What files the daemon may touch once it serves: Landlock (Linux 5.13), as far as the kernel has it.
//!
//! Landlock hides the processes outside of it, and with them `/proc/PID/ns/net`: a thread that is to look up a
//! container's namespace by its process must stay outside. So a daemon that enters namespaces confines its workers, which
//! open nothing; one that is handed its ports confines itself whole.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use thiserror::Error;

/// Rights as of Linux 6.15: what a kernel does not know is left out.
const RIGHTS: ABI = ABI::V7;

/// Why there is no sandbox although the kernel has one.
#[derive(Debug, Error)]
#[error("cannot confine vswitchd to its directories: {0}; --no-sandbox runs it without")]
pub(crate) struct SandboxError(#[from] RulesetError);

/// Whether the kernel can confine anything.
pub(crate) fn is_supported() -> bool {
    let most = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    most.handle_access(AccessFs::from_all(ABI::V1)).is_ok()
}

/// Forbids the calling thread, and those it starts, all files but what it needs in the directory of its state and that of
/// its socket; TCP; and signals to others. False where the kernel cannot.
pub(crate) fn confine_daemon(state: &Path, socket: Option<&Path>) -> Result<bool, SandboxError> {
    let keeping = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    confine(&[(Some(state), keeping), (socket, AccessFs::RemoveFile.into())])
}

/// Forbids the calling thread all files, TCP, and signals to others. False where the kernel cannot.
pub(crate) fn confine_worker() -> Result<bool, SandboxError> {
    confine(&[])
}

fn confine(allowed: &[(Option<&Path>, BitFlags<AccessFs>)]) -> Result<bool, SandboxError> {
    // Abstract sockets are not in the scope: the supervisor's NOTIFY_SOCKET may be one.
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(AccessNet::from_all(RIGHTS))?
        .scope(Scope::Signal)?
        .create()?;
    for (path, access) in allowed {
        rules = rules.add_rules(path_beneath_rules(path, *access))?;
    }
    Ok(rules.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;
    use std::thread;

    /// Runs `test` on a thread of its own, since there is no way back. Only where the kernel has Landlock.
    fn confined(confine: impl FnOnce() -> Result<bool, SandboxError> + Send, test: impl FnOnce() + Send) {
        thread::scope(|scope| {
            scope.spawn(|| match confine() {
                Ok(true) => test(),
                Ok(false) => eprintln!("skipped: this kernel has no Landlock"),
                Err(error) => panic!("{error}"),
            });
        });
    }

    fn denied<T>(outcome: std::io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn a_daemon_keeps_its_state_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let [state, run, other] = ["state", "run", "other"].map(|name| dir.path().join(name));
        for dir in [&state, &run, &other] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("there"), "old").unwrap();
        }
        confined(
            || confine_daemon(&state, Some(&run)),
            || {
                fs::write(state.join("new"), "x").unwrap();
                fs::rename(state.join("new"), state.join("there")).unwrap();
                assert_eq!(fs::read(state.join("there")).unwrap(), b"x");
                fs::remove_file(run.join("there")).unwrap();
                assert!(denied(fs::write(run.join("new"), "x")));
                assert!(denied(fs::read(other.join("there"))));
                assert!(denied(fs::write(other.join("there"), "x")));
                assert!(denied(fs::remove_file(other.join("there"))));
                assert!(denied(fs::read("/etc/passwd")));
                assert!(denied(std::process::Command::new("/bin/true").status()));
            },
        );
    }

    #[test]
    fn a_worker_opens_nothing() {
        confined(confine_worker, || {
            assert!(denied(fs::read("/etc/passwd")));
            assert!(denied(fs::read_dir("/")));
            assert!(denied(std::net::TcpStream::connect(("127.0.0.1", 9))) || !has_tcp_rules());
        });
    }

    /// TCP came with the fourth ABI (Linux 6.7).
    fn has_tcp_rules() -> bool {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessNet::from_all(ABI::V4))
            .is_ok()
    }

    /// Why a daemon that looks namespaces up by process is not confined whole.
    #[test]
    fn processes_outside_are_hidden() {
        let mut outside = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let netns = format!("/proc/{}/ns/net", outside.id());
        assert!(fs::File::open(&netns).is_ok());
        confined(confine_worker, || assert!(denied(fs::File::open(&netns))));
        let everything = AccessFs::from_all(RIGHTS);
        confined(
            || confine(&[(Some(Path::new("/")), everything)]),
            || {
                fs::read("/etc/passwd").unwrap();
                assert!(denied(fs::File::open(&netns)), "even where all files are allowed");
            },
        );
        outside.kill().unwrap();
        outside.wait().unwrap();
    }
}

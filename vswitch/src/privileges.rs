//! What the daemon may do, reduced to what serving takes.
//!
//! Uplinks, sockets and directories are had at start, with all rights there are. Then, while one thread runs, [`reduce`]
//! becomes the user asked for and gives up every capability but those that entering namespaces takes; threads started
//! later inherit that. Workers give up these too ([`give_up`]): they only read and write what is open. Capabilities,
//! `no_new_privs` and sandbox belong to a thread (capabilities(7)), which is why the order matters.

use std::ffi::CString;
use std::fmt;

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet, securebits};
use nix::sys::prctl;
use nix::unistd::{geteuid, initgroups, setgid, setuid};
use thiserror::Error;
use vswitch_api::Sandbox;

use crate::accounts::Account;

/// What it takes to make and change interfaces in namespaces: to configure, to enter, and to look up the namespace of
/// another user's process (`/proc/PID/ns/net` asks for the right to trace it).
const ENTERING: [Capability; 3] = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE];
/// Without these the third is of no use.
const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN];

/// Why the rights could not be reduced.
#[derive(Debug, Error)]
pub(crate) enum PrivilegesError {
    #[error("cannot become user {name} (--user): {error}; start vswitchd as root, or as that user without --user")]
    Become { name: String, error: nix::Error },
    #[error("cannot give up capabilities: {0}")]
    Caps(CapsError),
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(nix::Error),
}

/// The rights that are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// In the order of the kernel's numbers.
    kept: Vec<Capability>,
}

/// As whom the daemon runs, and what it may.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    pub(crate) user: String,
    pub(crate) privileges: Privileges,
    pub(crate) sandbox: Option<Sandbox>,
}

impl Privileges {
    /// Whether namespaces of others can be entered.
    pub(crate) fn enters(&self) -> bool {
        NEEDED.iter().all(|needed| self.kept.contains(needed))
    }

    /// Names of the capabilities, as capabilities(7) writes them.
    pub(crate) fn names(&self) -> Vec<String> {
        self.kept.iter().map(ToString::to_string).collect()
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept.is_empty() { f.write_str("none") } else { f.write_str(&self.names().join(" ")) }
    }
}

/// Becomes `user`, where one is given, and keeps what serving takes: nothing, or what `entering` namespaces takes as far
/// as it is there. Only for the calling thread, and those it starts.
pub(crate) fn reduce(user: Option<&Account>, entering: bool) -> Result<Privileges, PrivilegesError> {
    let held = caps::read(None, CapSet::Permitted).map_err(PrivilegesError::Caps)?;
    let mut kept: CapsHashSet = ENTERING.into_iter().filter(|capability| held.contains(capability)).collect();
    if !entering || !NEEDED.iter().all(|needed| kept.contains(needed)) {
        kept.clear();
    }
    if held.contains(&Capability::CAP_SETPCAP) {
        // Without this right the set stays, and means nothing: it bounds what an execve could give, and that is nothing
        // for an ordinary user, nor for anyone after `no_new_privs`.
        bound(&kept).map_err(PrivilegesError::Caps)?;
    }
    if let Some(user) = user.filter(|user| user.uid != geteuid()) {
        become_user(user, &held)?;
    }
    keep(&kept).map_err(PrivilegesError::Caps)?;
    prctl::set_no_new_privs().map_err(PrivilegesError::NoNewPrivileges)?;
    let mut kept: Vec<_> = kept.into_iter().collect();
    kept.sort_unstable_by_key(Capability::index);
    Ok(Privileges { kept })
}

/// Gives up what is left, for the calling thread.
pub(crate) fn give_up() -> Result<(), PrivilegesError> {
    keep(&CapsHashSet::new()).map_err(PrivilegesError::Caps)
}

/// Sets of a thread other than the bounding one.
fn keep(kept: &CapsHashSet) -> Result<(), CapsError> {
    // Ambient first, and effective before permitted: neither may exceed the next (capabilities(7)).
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, kept)?;
    caps::set(None, CapSet::Permitted, kept)
}

/// Takes all but `kept` from what an execve could give.
fn bound(kept: &CapsHashSet) -> Result<(), CapsError> {
    let there = caps::read(None, CapSet::Bounding)?;
    there.difference(kept).try_for_each(|&capability| caps::drop(None, CapSet::Bounding, capability))
}

fn become_user(user: &Account, held: &CapsHashSet) -> Result<(), PrivilegesError> {
    let failed = |error| PrivilegesError::Become { name: user.name.clone(), error };
    if !held.contains(&Capability::CAP_SETUID) {
        return Err(failed(nix::Error::EPERM));
    }
    // A change of user takes the signal away that a supervisor asked for (prctl(2)).
    let at_parents_death = prctl::get_pdeathsig().map_err(failed)?;
    let name = CString::new(user.name.as_str()).map_err(|_| failed(nix::Error::EINVAL))?;
    initgroups(&name, user.gid).map_err(failed)?;
    setgid(user.gid).map_err(failed)?;
    // Else leaving user 0 takes all capabilities away (capabilities(7)).
    securebits::set_keepcaps(true).map_err(PrivilegesError::Caps)?;
    setuid(user.uid).map_err(failed)?;
    securebits::set_keepcaps(false).map_err(PrivilegesError::Caps)?;
    prctl::set_pdeathsig(at_parents_death).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// The sets of the calling thread.
    fn sets() -> [CapsHashSet; 4] {
        [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient]
            .map(|set| caps::read(None, set).unwrap())
    }

    #[test]
    fn what_serving_takes_is_all_that_stays() {
        let held = caps::read(None, CapSet::Permitted).unwrap();
        // Each on a thread of its own, since there is no way back.
        for entering in [true, false] {
            thread::spawn({
                let held = held.clone();
                move || {
                    let left = reduce(None, entering).unwrap();
                    let may_enter = entering && NEEDED.iter().all(|needed| held.contains(needed));
                    assert_eq!(left.enters(), may_enter);
                    let kept: CapsHashSet = left.kept.iter().copied().collect();
                    assert!(kept.iter().all(|capability| ENTERING.contains(capability)));
                    assert_eq!(kept.is_empty(), !may_enter);
                    let none = CapsHashSet::new();
                    assert_eq!(sets(), [kept.clone(), kept.clone(), none.clone(), none]);
                    assert!(prctl::get_no_new_privs().unwrap());
                    if held.contains(&Capability::CAP_SETPCAP) {
                        assert_eq!(caps::read(None, CapSet::Bounding).unwrap(), kept);
                    }
                    let heir = thread::spawn(|| (sets(), prctl::get_no_new_privs().unwrap())).join().unwrap();
                    assert_eq!(heir, (sets(), true));
                    let nothing = thread::spawn(|| give_up().map(|()| sets()).unwrap()).join().unwrap();
                    assert!(nothing.iter().all(CapsHashSet::is_empty), "{nothing:?}");
                }
            })
            .join()
            .unwrap();
        }
        assert_eq!(caps::read(None, CapSet::Permitted).unwrap(), held, "this thread gave up nothing");
    }
}

//! What the name of a namespace leads to, and whether it still means the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use vswitch_api::NetnsRef;
use vswitch_sys::{Netns, NetnsError};

use super::HostError;

/// The namespace that `reference` names.
pub(super) fn open_netns(reference: &NetnsRef) -> Result<Netns, HostError> {
    let opened = match reference {
        NetnsRef::Name(name) => Netns::open_name(name),
        NetnsRef::Path(path) => Netns::open_path(Path::new(path)),
        NetnsRef::Pid(pid) => Netns::open_pid(*pid),
    };
    opened.map_err(|error| match error {
        NetnsError::NotNamespace(_) | NetnsError::System { .. } if is_mount_point(&reference.path()) => {
            HostError::NotMounted(reference.path())
        }
        NetnsError::System { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            HostError::Hidden(reference.path())
        }
        error => error.into(),
    })
}

/// Whether `path` is what a namespace is mounted on, as ip-netns(8) and container runtimes make it, and none is here. The
/// former may not even be opened: its mode is 0, and the daemon keeps no CAP_DAC_OVERRIDE.
fn is_mount_point(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0) && !path.starts_with("/proc")
}

/// Whether `reference`, given to a daemon before this one, may still mean the same. A process number that leads into the
/// daemon's own namespace would let the port change the host's interfaces.
pub(crate) fn still_meant(reference: &NetnsRef) -> Result<(), HostError> {
    match reference {
        NetnsRef::Pid(pid) if Netns::open_pid(*pid)?.identity()? == Netns::current()?.identity()? => {
            Err(HostError::PidReused(*pid))
        }
        _ => Ok(()),
    }
}

/// Where the name of a namespace leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// To the one that is told from others so.
    Namespace((u64, u64)),
    /// Nowhere, in a folder that is there: the namespace has ended, or nobody will find it by that name.
    Gone,
    /// That cannot be told.
    Unknown,
}

/// Where `reference` leads. Nothing is opened, so it takes few rights and no time.
pub(crate) fn whereabouts(reference: &NetnsRef) -> Whereabouts {
    let path = reference.path();
    match fs::metadata(&path) {
        // What a process has open under that number now is something else. Elsewhere, a plain file is what is left of the
        // name where the mount on it did not get to.
        Ok(file) if !is_namespace(&file) && path.starts_with("/proc") => Whereabouts::Gone,
        Ok(file) if !is_namespace(&file) => Whereabouts::Unknown,
        Ok(file) => Whereabouts::Namespace((file.dev(), file.ino())),
        // A folder that is not there tells of another mount namespace as well as of a container that is gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound && folder(&path).is_dir() => Whereabouts::Gone,
        Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Whereabouts::Gone,
        Err(_) => Whereabouts::Unknown,
    }
}

/// Whether a file is of the filesystem of namespaces, of which there is one.
fn is_namespace(file: &fs::Metadata) -> bool {
    fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.dev() == file.dev())
}

/// The folder in which the name `path` comes and goes.
fn folder(path: &Path) -> &Path {
    if path.starts_with("/proc") { Path::new("/proc") } else { path.parent().unwrap_or(path) }
}

/// The folder in which the name `reference` comes and goes, told from others by device and inode, where it is there.
pub(crate) fn folder_of(reference: &NetnsRef) -> Option<(u64, u64)> {
    let folder = fs::metadata(folder(&reference.path())).ok()?;
    Some((folder.dev(), folder.ino()))
}

/// Whether `reference` means the same tomorrow. The number of a process or of a descriptor may be used again for a
/// namespace that is not the port's.
pub(crate) fn is_lasting(reference: &NetnsRef) -> bool {
    match reference {
        NetnsRef::Name(_) => true,
        // The daemon's own.
        NetnsRef::Path(path) if path == "/proc/self/ns/net" => true,
        NetnsRef::Path(path) => !Path::new(path).starts_with("/proc"),
        NetnsRef::Pid(_) => false,
    }
}

/// The namespace that a lasting name leads to, and the folder that has the name: in another one, as where something is
/// mounted over it, a name that is missing tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    netns: (u64, u64),
    folder: (u64, u64),
}

impl Followed {
    /// Follows `reference`, where that lasts and leads to `netns`.
    pub(crate) fn new(reference: &NetnsRef, netns: (u64, u64)) -> Option<Self> {
        let leads_there = is_lasting(reference) && whereabouts(reference) == Whereabouts::Namespace(netns);
        Some(Self { netns, folder: folder_of(reference)? }).filter(|_| leads_there)
    }

    /// Whether `reference`, which led there, leads elsewhere now, or nowhere.
    pub(crate) fn is_elsewhere(&self, reference: &NetnsRef) -> bool {
        let is_elsewhere = match whereabouts(reference) {
            Whereabouts::Namespace(found) => found != self.netns,
            Whereabouts::Gone => true,
            // A plain file: what was mounted on it is so no longer, seen from where it was. What cannot be told is not
            // taken for gone.
            Whereabouts::Unknown => fs::metadata(reference.path()).is_ok(),
        };
        is_elsewhere && folder_of(reference) == Some(self.folder)
    }
}

/// The namespace that `reference` names, told from others; `None` where there is none.
pub(crate) fn netns_identity(reference: &NetnsRef) -> Result<Option<(u64, u64)>, HostError> {
    found_netns(reference)?.map(|netns| netns.identity()).transpose().map_err(HostError::from)
}

/// The namespace that `reference` names, where there is one.
pub(super) fn found_netns(reference: &NetnsRef) -> Result<Option<Netns>, HostError> {
    match open_netns(reference) {
        Ok(netns) => Ok(Some(netns)),
        Err(
            HostError::Netns(NetnsError::NotFound(_) | NetnsError::NoProcess(_) | NetnsError::NotNamespace(_))
            | HostError::NotMounted(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_mount_that_does_not_reach_us_is_told_from_a_wrong_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("mount-point"), "").unwrap();
        fs::write(path("text"), "text").unwrap();
        let table = [
            (path("mount-point"), "does not reach the mount namespace"),
            (path("text"), "is not a network namespace"),
            (path("gone"), "there is no"),
            ("/proc/self/maps".to_owned(), "is not a network namespace"),
        ];
        for (reference, expected) in table {
            let error = open_netns(&reference.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains(expected), "{reference}: {error}");
        }
    }

    #[test]
    fn a_name_is_followed_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("folder"), dir.path().join("other"));
        fs::create_dir(&folder).unwrap();
        let name = folder.join("name");
        let reference: NetnsRef = name.to_str().unwrap().parse().unwrap();
        symlink("/proc/self/ns/net", &name).unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let own = (own.dev(), own.ino());
        assert_eq!(Followed::new(&reference, (own.0, own.1 + 1)), None);
        assert_eq!(Followed::new(&format!("pid:{}", std::process::id()).parse().unwrap(), own), None);
        let followed = Followed::new(&reference, own).unwrap();
        assert!(!followed.is_elsewhere(&reference));
        fs::remove_file(&name).unwrap();
        assert!(followed.is_elsewhere(&reference));
        fs::write(&name, "").unwrap(); // unmounted and not yet removed, as ip-netns(8) does it
        assert!(followed.is_elsewhere(&reference));
        fs::remove_file(&name).unwrap();
        symlink("/proc/self/ns/uts", &name).unwrap();
        assert!(followed.is_elsewhere(&reference));
        // Another folder has come in its place.
        fs::rename(&folder, &other).unwrap();
        fs::create_dir(&folder).unwrap();
        assert!(!followed.is_elsewhere(&reference));
    }

    #[test]
    fn a_name_leads_somewhere_nowhere_or_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        symlink("/proc/self/ns/net", path("own")).unwrap();
        symlink("/nowhere", path("broken")).unwrap();
        fs::write(path("plain"), "").unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let here = Whereabouts::Namespace((own.dev(), own.ino()));
        let other = fs::File::open("/dev/null").unwrap();
        let open = |number: i32| format!("/proc/{}/fd/{number}", std::process::id());
        let table = [
            ("/proc/self/ns/net".to_owned(), here),
            (open(other.as_raw_fd()), Whereabouts::Gone),
            (open(i32::MAX), Whereabouts::Gone),
            (format!("pid:{}", std::process::id()), here),
            (path("own"), here),
            (path("broken"), Whereabouts::Gone),
            (path("plain"), Whereabouts::Unknown),
            (path("gone"), Whereabouts::Gone),
            ("pid:4194304".to_owned(), Whereabouts::Gone),
            (path("no-such-folder/gone"), Whereabouts::Unknown),
            (path("own") + "/gone", Whereabouts::Unknown),
        ];
        for (reference, expected) in table {
            assert_eq!(whereabouts(&reference.parse().unwrap()), expected, "{reference}");
        }
    }
}

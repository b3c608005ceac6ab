//! The rights the demo needs: root's, or those of a user namespace of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};
use vswitch_sys::process::{self, UserNamespaceError};

use super::DemoError;

const TUN: &str = "/dev/net/tun";

/// Bits of `CapEff` (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// Settings by which systems keep ordinary users from user namespaces, each with the value that does.
const RESTRICTIONS: [(&str, &str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
];

/// How the demo came to its rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It had them.
    Root,
    /// It is root in a user namespace of its own.
    UserNamespace,
}

/// Takes the rights to make namespaces and devices. To be called while the process has one thread.
pub(super) fn obtain() -> Result<Access, DemoError> {
    check_tun()?;
    if is_root() {
        return Ok(Access::Root);
    }
    let root = geteuid().is_root();
    process::enter_user_namespace().map_err(|error| {
        let advice = advice(root, |path| fs::read_to_string(path).ok());
        DemoError::UserNamespace { error, advice }
    })?;
    // Its owner may have no number in the namespace.
    check_tun()?;
    Ok(Access::UserNamespace)
}

/// Whether this process may do what the demo does. A root without capabilities, as in many containers, is none; nor is
/// one over somebody else's `/run`, as after `unshare -r`.
pub(super) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let writes = access("/run", AccessFlags::W_OK).is_ok();
    geteuid().is_root() && capable(&status) && writes
}

/// Whether `status`, as in /proc/PID/status, shows the capabilities needed.
fn capable(status: &str) -> bool {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = set.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    [CAP_NET_ADMIN, CAP_SYS_ADMIN].iter().all(|bit| set >> bit & 1 == 1)
}

fn check_tun() -> Result<(), DemoError> {
    match File::options().read(true).write(true).open(TUN) {
        Ok(_) => Ok(()),
        Err(error) => {
            let owner = fs::metadata(TUN).ok().map(|tun| (tun.mode(), tun.uid()));
            Err(DemoError::Tun { advice: tun_advice(&error, owner), error })
        }
    }
}

/// What to do about a TUN device that cannot be opened, given its mode and owner.
fn tun_advice(error: &io::Error, owner: Option<(u32, u32)>) -> String {
    match (error.kind(), owner) {
        (ErrorKind::PermissionDenied, Some((mode, uid))) if mode & 0o006 != 0o006 => format!(
            "it has mode {:04o} and belongs to user {uid}, so others may not open it: run the demo as root, or \
             `sudo chmod 0666 {TUN}` (as most systems have it; the kernel checks the rights over each network anyway)",
            mode & 0o7777
        ),
        (ErrorKind::PermissionDenied, _) => {
            format!("a container gets it with an option such as `--device {TUN} --cap-add NET_ADMIN`")
        }
        (ErrorKind::NotFound, _) | (_, Some(_)) => {
            format!("load the module with `sudo modprobe tun`; a container gets it with `--device {TUN}`")
        }
        (_, None) => "the switch makes its ports with it".to_owned(),
    }
}

/// What may be changed so that this user, maybe a `root` without rights, gets namespaces; `read` gives what a file of
/// /proc/sys says.
fn advice(root: bool, read: impl Fn(&Path) -> Option<String>) -> String {
    let mut advice = String::new();
    for (key, forbids, allows) in RESTRICTIONS {
        let value = read(&Path::new("/proc/sys").join(key)).unwrap_or_default();
        if value.trim() == forbids {
            let name = key.replace('/', ".");
            let _ = write!(advice, "\n  {name} is {forbids} here: `sudo sysctl {name}={allows}` allows it");
        }
    }
    if advice.is_empty() {
        advice.push_str("\n  no sysctl known to forbid it does: a container runtime or a security module may");
    }
    advice.push_str(if root {
        "\n  this root lacks rights: a container gets them with `--cap-add SYS_ADMIN --cap-add NET_ADMIN`"
    } else {
        "\n  or run the demo as root: `sudo vsctl demo`"
    });
    advice
}

/// What went wrong, without the list of all that might have.
pub(super) fn reason(error: &UserNamespaceError) -> String {
    match error {
        UserNamespaceError::Forbidden(error) => format!("the kernel says: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_of_a_process() {
        for (set, enough) in [
            ("CapEff:\t000001ffffffffff\n", true),
            ("CapInh:\t0000000000000000\nCapEff:\t0000000000201000\nCapBnd:\t0\n", true),
            ("CapEff:\t00000000a80425fb\n", false),
            ("CapEff:\t0000000000200000\n", false),
            ("CapBnd:\t000001ffffffffff\n", false),
            ("", false),
        ] {
            assert_eq!(capable(set), enough, "{set}");
        }
    }

    #[test]
    fn advice_fits_what_is_wrong() {
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let said = tun_advice(&denied, Some((0o20600, 0)));
        assert!(said.contains("mode 0600") && said.contains("user 0") && said.contains("chmod 0666"), "{said}");
        assert!(tun_advice(&denied, Some((0o20666, 0))).contains("--device"));
        assert!(tun_advice(&ErrorKind::NotFound.into(), None).contains("modprobe tun"));
        assert!(tun_advice(&io::Error::from_raw_os_error(19), Some((0o20666, 0))).contains("modprobe tun"));

        let value = |path: &Path| path.ends_with("unprivileged_userns_clone").then(|| "0\n".to_owned());
        let said = advice(false, value);
        assert!(said.contains("sysctl kernel.unprivileged_userns_clone=1"), "{said}");
        assert!(said.contains("sudo vsctl demo") && !said.contains("apparmor"), "{said}");
        let said = advice(true, |_| None);
        assert!(said.contains("security module") && said.contains("--cap-add SYS_ADMIN"), "{said}");
    }
}

//! Where the control socket is.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The socket of root's daemon.
pub const SYSTEM: &str = "/run/vswitch/vswitch.sock";

/// Where the socket is: `given`, else `$VSWITCH_SOCKET`, else [`SYSTEM`] for root and
/// `$XDG_RUNTIME_DIR/vswitch/vswitch.sock` for others.
#[must_use]
pub fn path(given: Option<PathBuf>) -> PathBuf {
    // The owner of a process's folder is its effective user.
    let uid = std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    choose(given, std::env::var_os("VSWITCH_SOCKET"), uid, std::env::var_os("XDG_RUNTIME_DIR"))
}

fn choose(given: Option<PathBuf>, variable: Option<OsString>, uid: u32, runtime: Option<OsString>) -> PathBuf {
    let said = |text: &OsString| !text.is_empty();
    if let Some(path) = given.or_else(|| variable.filter(said).map(PathBuf::from)) {
        return path;
    }
    if uid == 0 {
        return PathBuf::from(SYSTEM);
    }
    let runtime = runtime.filter(said).map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
    runtime.join("vswitch/vswitch.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_said_counts() {
        let table = [
            (Some("/a"), Some("/b"), 0, Some("/run/user/7"), "/a"),
            (None, Some("/b"), 0, Some("/run/user/7"), "/b"),
            (None, Some(""), 0, None, SYSTEM),
            (None, None, 0, Some("/run/user/7"), SYSTEM),
            (None, None, 7, Some("/tmp/run"), "/tmp/run/vswitch/vswitch.sock"),
            (None, None, 7, None, "/run/user/7/vswitch/vswitch.sock"),
        ];
        for (given, variable, uid, runtime, expected) in table {
            let path = choose(given.map(PathBuf::from), variable.map(OsString::from), uid, runtime.map(OsString::from));
            assert_eq!(path, PathBuf::from(expected));
        }
    }
}

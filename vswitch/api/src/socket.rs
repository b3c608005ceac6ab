//! Where the control socket is.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The socket of the system's daemon.
pub const SYSTEM: &str = "/run/vswitch/vswitch.sock";

/// Where a daemon listens: `given`, else `$VSWITCH_SOCKET`, else [`SYSTEM`] for root and
/// `$XDG_RUNTIME_DIR/vswitch/vswitch.sock` for others.
#[must_use]
pub fn to_bind(given: Option<PathBuf>) -> PathBuf {
    bind(given, uid(), |name| std::env::var_os(name))
}

/// Where a client asks: as [`to_bind`], but that the system's daemon is asked where the user runs none.
#[must_use]
pub fn to_ask(given: Option<PathBuf>) -> PathBuf {
    ask(given, uid(), |name| std::env::var_os(name), |path| path.try_exists().unwrap_or(true))
}

/// The owner of a process's folder is its effective user.
fn uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

fn bind(given: Option<PathBuf>, uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    said(given, &variable).unwrap_or_else(|| if uid == 0 { SYSTEM.into() } else { own(uid, &variable) })
}

fn ask(
    given: Option<PathBuf>,
    uid: u32,
    variable: impl Fn(&str) -> Option<OsString>,
    is_there: impl Fn(&Path) -> bool,
) -> PathBuf {
    if let Some(path) = said(given, &variable) {
        return path;
    }
    let (own, system) = (own(uid, &variable), Path::new(SYSTEM));
    if uid == 0 || (!is_there(&own) && is_there(system)) { system.to_owned() } else { own }
}

fn said(given: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    given.or_else(|| path_in(variable, "VSWITCH_SOCKET"))
}

fn own(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let runtime = path_in(variable, "XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from(format!("/run/user/{uid}")));
    runtime.join("vswitch/vswitch.sock")
}

fn path_in(variable: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|text| !text.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "/run/user/7/vswitch/vswitch.sock";

    fn variables(all: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| all.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into())
    }

    #[test]
    fn a_daemon_listens_at_the_first_that_is_said() {
        type Case = (Option<&'static str>, u32, &'static [(&'static str, &'static str)], &'static str);
        let table: [Case; 6] = [
            (Some("/a"), 0, &[("VSWITCH_SOCKET", "/b"), ("XDG_RUNTIME_DIR", "/run/user/7")], "/a"),
            (None, 0, &[("VSWITCH_SOCKET", "/b"), ("XDG_RUNTIME_DIR", "/run/user/7")], "/b"),
            (None, 0, &[("VSWITCH_SOCKET", "")], SYSTEM),
            (None, 0, &[("XDG_RUNTIME_DIR", "/run/user/7")], SYSTEM),
            (None, 7, &[("XDG_RUNTIME_DIR", "/tmp/run")], "/tmp/run/vswitch/vswitch.sock"),
            (None, 7, &[], OWN),
        ];
        for (given, uid, said, expected) in table {
            assert_eq!(bind(given.map(PathBuf::from), uid, variables(said)), Path::new(expected), "{given:?} {said:?}");
        }
    }

    #[test]
    fn a_client_asks_the_systems_daemon_where_the_user_runs_none() {
        type Case = (u32, &'static [&'static str], &'static str);
        let table: [Case; 6] = [
            (0, &[], SYSTEM),
            (0, &[OWN], SYSTEM),
            (7, &[], OWN),
            (7, &[SYSTEM], SYSTEM),
            (7, &[OWN], OWN),
            (7, &[OWN, SYSTEM], OWN),
        ];
        for (uid, there, expected) in table {
            let is_there = |path: &Path| there.iter().any(|other| path == Path::new(other));
            assert_eq!(ask(None, uid, variables(&[]), is_there), Path::new(expected), "{uid} {there:?}");
            let said = ask(None, uid, variables(&[("VSWITCH_SOCKET", "/b"), ("XDG_RUNTIME_DIR", "/c")]), is_there);
            assert_eq!(said, Path::new("/b"));
            assert_eq!(ask(Some("/a".into()), uid, variables(&[]), is_there), Path::new("/a"));
        }
    }
}

//! What the daemon and the caller may do.

use std::fs;
use std::path::Path;

use super::{Check, Daemon, Patient};

/// Descriptors beside those of ports: sockets, programs, files, clients.
const OTHERS: u64 = 256;

pub(super) fn checks(patient: &Patient) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(fs::read_to_string("/proc/self/status").ok().as_deref().and_then(caller));
    match patient.daemon() {
        Some(daemon) => {
            checks.push(capabilities(daemon));
            checks.push(descriptors(Path::new(&format!("/proc/{}/limits", daemon.status.pid)), Some(daemon)));
        }
        None => checks.push(descriptors(Path::new("/proc/self/limits"), None)),
    }
    checks
}

/// Whether the caller sees all that can be seen, by `/proc/self/status`.
pub(super) fn caller(status: &str) -> Option<Check> {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    let missing: Vec<_> = [(NET_ADMIN, "CAP_NET_ADMIN"), (SYS_ADMIN, "CAP_SYS_ADMIN")]
        .into_iter()
        .filter_map(|(bit, name)| (effective & bit == 0).then_some(name))
        .collect();
    Some(match missing.as_slice() {
        [] => Check::ok("caller", "may look at everything"),
        missing => Check::note("caller", format!("without {}: some checks see less", missing.join(" and ")))
            .mended("run it as root"),
    })
}

pub(super) fn capabilities(daemon: &Daemon) -> Check {
    const NAME: &str = "capabilities";
    let names = &daemon.status.capabilities;
    let has = |name: &str| names.iter().any(|other| other == name);
    if !has("CAP_NET_ADMIN") {
        return Check::warning(NAME, "vswitchd is without CAP_NET_ADMIN: it can make no ports of its own")
            .mended("AmbientCapabilities=CAP_NET_ADMIN CAP_SYS_ADMIN in its unit, or add ports by --hand-over");
    }
    if !has("CAP_SYS_ADMIN") {
        let text = "vswitchd is without CAP_SYS_ADMIN: it enters no namespaces, ports come by --hand-over alone";
        return Check::note(NAME, text);
    }
    Check::ok(NAME, format!("vswitchd runs as {} with {}", daemon.status.user, names.join(" ")))
}

/// Whether there are descriptors enough, by the limits file of the process.
pub(super) fn descriptors(limits: &Path, daemon: Option<&Daemon>) -> Check {
    const NAME: &str = "files";
    let Ok(text) = fs::read_to_string(limits) else {
        return Check::note(NAME, format!("cannot read {}", limits.display())).mended("run it as root");
    };
    let mut words = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or("").split_whitespace();
    let (soft, hard) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    // A daemon raises the soft limit itself; what is read of one that does not run yet is a shell's.
    let most = if daemon.is_some() { soft } else { hard };
    let limit = most.parse().unwrap_or(u64::MAX); // "unlimited"
    let needed = daemon.map_or(4 * OTHERS, |daemon| {
        let queues = daemon.status.ports.saturating_mul(daemon.status.workers).saturating_mul(2);
        u64::try_from(queues).unwrap_or(u64::MAX).saturating_add(OTHERS)
    });
    if limit < needed {
        return Check::wrong(
            NAME,
            format!("{limit} files may be open, and {needed} are needed: ports times workers, twice"),
        )
        .mended("LimitNOFILE=infinity in the unit, or ulimit -n; then restart vswitchd");
    }
    Check::ok(NAME, format!("{most} files may be open"))
}

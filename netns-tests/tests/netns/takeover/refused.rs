//! Who may not take over, and where there is nobody to take over from.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use netns_tests::binaries::binaries;
use netns_tests::{Context, Daemon, DaemonSpec, Lab, Node, Result, ensure, ensure_eq};
use nix::sys::signal::Signal;

use super::{Site, serves};

/// Who may only look gets no descriptor.
pub(super) fn an_ordinary_user(lab: &Lab) -> Result {
    const NOBODY: u32 = 65_534;
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    let folder = lab.folder("h1")?;
    for (path, mode) in [(folder.parent().context("lab")?, 0o755), (&folder, 0o755), (daemon.socket(), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    let mut command = Command::new(&binaries()?.vswitchd);
    command.arg("--takeover").arg("--socket").arg(daemon.socket()).arg("--state-dir").arg(folder.join("none"));
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = match host.spawn(command) {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied) => {
            println!("SKIPPED: no process can be started here as user {NOBODY}: {error}");
            return Ok(());
        }
        child => child?,
    };
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure_eq!(output.status.code(), Some(1), "exit code: {said}");
    for part in ["refuses to be taken over", &format!("user {NOBODY} may not take over")] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    daemon.vsctl().ok("vlan add 10").map(drop)
}

pub(super) fn other_settings(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let other_way = if lab.underlay() == Some("udp") { "uplink" } else { "udp" };
    let table = [
        (DaemonSpec { config: "workers = 2\n".to_owned(), ..h1.spec.clone() }, "--workers 1"),
        (DaemonSpec { vtep_ip: None, ..h1.spec.clone() }, "--vtep-ip 192.0.2.1"),
        (DaemonSpec { vtep_ip: Some("192.0.2.9".parse()?), ..h1.spec.clone() }, "192.0.2.9"),
        (DaemonSpec { config: "vtep-port = 8472\n".to_owned(), ..h1.spec.clone() }, "--vtep-port 4789"),
        (DaemonSpec { underlay: Some(other_way), ..h1.spec.clone() }, "--underlay"),
    ];
    for (spec, part) in table {
        let next = h1.node.daemon.successor(lab, &h1.node.host, &spec)?;
        ensure_eq!(next.ended()?.code(), Some(1), "exit code with {spec:?}");
        let log = h1.node.daemon.log()?;
        let said = log.lines().rev().find(|line| line.starts_with("vswitchd:")).unwrap_or_default();
        for part in [part, "without --takeover"] {
            ensure!(said.contains(part), "{part:?} is not in: {said}");
        }
        serves(&h1.node, &c1, "10.0.0.2")?;
    }
    // What may be otherwise.
    let spec = DaemonSpec { config: "ageing = 77\npoll = \"sleep\"\n".to_owned(), underlay: Some("auto"), ..h1.spec };
    let Node { daemon, host, ip } = h1.node;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    serves(&Node { daemon, host, ip }, &c1, "10.0.0.2")
}

/// With a directory of its own each would hold a lock, and both would serve.
pub(super) fn another_state_directory(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Site::pair(lab, 1)?;
    let c1 = h1.node.attach(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let _c2 = h2.attach(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let state = lab.folder("h1")?.join("state");
    fs::rename(&state, state.with_file_name("moved"))?;
    let next = h1.node.daemon.successor(lab, &h1.node.host, &h1.spec)?;
    ensure_eq!(next.ended()?.code(), Some(1), "exit code");
    ensure!(h1.node.daemon.log()?.contains("--state-dir another directory"), "what differs is not said");
    fs::remove_dir_all(&state)?;
    fs::rename(state.with_file_name("moved"), &state)?;
    serves(&h1.node, &c1, "10.0.0.2")
}

pub(super) fn nobody_to_take_over_from(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { takeover: true, ..DaemonSpec::default() };
    // None was ever there; one ended; one was killed, and its socket is still there.
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        let daemon = Daemon::start(lab, &host, &spec)?;
        daemon.vsctl().ok("vlan add 10")?;
        daemon.end(signal)?;
    }
    let log = fs::read_to_string(lab.folder("h1")?.join("log"))?;
    ensure_eq!(log.matches("no vswitchd to take over from").count(), 3, "starts as usual");
    Ok(())
}

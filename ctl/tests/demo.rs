//! `vsctl demo` itself, as root with `/dev/net/tun`. Names are the demo's own: whatever else is kept stays untouched.
#![allow(clippy::unwrap_used, reason = "so a test fails")]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vswitch_sys::Netns;

const VSCTL: &str = env!("CARGO_BIN_EXE_vsctl");

/// Whether the demo can run here as root; says so where it cannot.
fn possible() -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        "it runs as root"
    } else if File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        "it needs /dev/net/tun"
    } else if Netns::create().is_err() {
        "it needs CAP_SYS_ADMIN"
    } else {
        build();
        return true;
    };
    // Past the capture: a test that did nothing must not look like one that passed.
    let _ = writeln!(io::stderr(), "SKIPPED, {:?}: {missing}", thread::current().name().unwrap_or_default());
    false
}

/// Puts a vswitchd beside vsctl, in the profile that vsctl was built in.
fn build() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(VSCTL).parent().unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            name => name,
        };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["build", "--quiet", "-p", "vswitch", "--profile", profile, "--target-dir"];
        let built = Command::new(cargo).args(arguments).arg(folder.parent().unwrap()).status().unwrap();
        assert!(built.success(), "vswitchd cannot be built");
    });
}

fn vsctl(words: &str) -> Output {
    Command::new(VSCTL).args(words.split_whitespace()).stdin(Stdio::null()).output().unwrap()
}

/// What `vsctl WORDS --json` answers.
fn json(words: &str) -> Value {
    let output = vsctl(&format!("{words} --json"));
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What there is of the demo called `name`: namespaces, folder, processes.
fn remains(name: &str) -> Vec<String> {
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let begins = |path: &PathBuf, with: &str| path.file_name().unwrap().to_string_lossy().starts_with(with);
    let part = format!("{name}-");
    let mut remains: Vec<_> = entries("/run/netns").filter(|path| begins(path, &part)).collect();
    remains.extend(entries("/run").filter(|path| path.ends_with(name)));
    let folder = format!("/run/{name}/");
    remains.extend(entries("/proc").filter(|path| {
        fs::read(path.join("cmdline")).is_ok_and(|words| String::from_utf8_lossy(&words).contains(&folder))
    }));
    remains.into_iter().map(|path| path.display().to_string()).collect()
}

#[track_caller]
fn nothing_remains(name: &str) {
    assert_eq!(remains(name), [""; 0], "{name}");
}

/// Looks until `there`.
#[track_caller]
fn eventually(what: &str, there: impl Fn() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A demo that is at a step that says `step`, and its name.
fn running_to(step: &str) -> (Child, String) {
    let mut demo = Command::new(VSCTL).arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut name = None;
    let mut lines = BufReader::new(demo.stdout.as_mut().unwrap()).lines();
    let found = lines.by_ref().map_while(Result::ok).any(|line| {
        let path = line.split_once("/run/").map(|(_, path)| path.to_owned());
        name = name.take().or_else(|| Some(path?.split_once('/')?.0.to_owned()));
        line.contains(step)
    });
    assert!(found, "no step {step:?}");
    (demo, name.unwrap())
}

fn signal(demo: &Child, signal: Signal) {
    kill(Pid::from_raw(demo.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn it_works_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let outcome = json("demo");
    let name = outcome["name"].as_str().unwrap();
    nothing_remains(name);
    assert_eq!((&outcome["kept"], &outcome["user_namespace"]), (&false.into(), &false.into()));
    for ping in ["ping", "ping_full"] {
        assert_eq!(outcome[ping]["sent"], outcome[ping]["received"]);
        assert!(outcome[ping]["min_us"].as_u64() <= outcome[ping]["max_us"].as_u64());
    }
    assert_eq!(outcome["ping_full"]["bytes"], 1450 - 28);
    assert!(outcome["tcp"]["bytes"].as_u64() > Some(1_000_000), "{outcome}");

    // Each switch learned its own container behind the port, and the other behind the remote.
    let behind = |host: usize, key: &str, value: &str| {
        let fdb = outcome["hosts"][host]["fdb"].as_array().unwrap();
        let entries: Vec<_> = fdb.iter().filter(|entry| entry[key] == value && entry["vlan"] == 10).collect();
        assert_eq!(entries.len(), 1, "{key} {value} on host {host}: {outcome}");
        entries[0]["mac"].clone()
    };
    assert_eq!(behind(0, "port", "web"), behind(1, "remote", "192.0.2.1"));
    assert_eq!(behind(1, "port", "db"), behind(0, "remote", "192.0.2.2"));
}

#[test]
fn a_signal_ends_it_and_all_is_removed() {
    if !possible() {
        return;
    }
    for (step, end) in [("vswitchd --socket", Signal::SIGINT), ("TCP from", Signal::SIGTERM)] {
        let (demo, name) = running_to(step);
        signal(&demo, end);
        let ended = demo.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{step}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("interrupted"), "{ended:?}");
        nothing_remains(&name);
    }
}

#[test]
fn what_a_killed_demo_leaves_the_next_removes() {
    if !possible() {
        return;
    }
    let (mut demo, name) = running_to("TCP from");
    demo.kill().unwrap();
    demo.wait().unwrap();
    eventually("its daemons die with it", || remains(&name).iter().all(|path| !path.starts_with("/proc")));
    assert_eq!(vsctl("demo -q").status.code(), Some(0));
    nothing_remains(&name);
}

#[test]
fn a_kept_demo_is_there_until_it_is_removed() {
    if !possible() {
        return;
    }
    let kept = [json("demo --keep"), json("demo --keep")];
    let names = kept.each_ref().map(|outcome| outcome["name"].as_str().unwrap().to_owned());
    let removed = |name: &str| vsctl(&format!("demo --remove {name}")).status.code();
    // Removed first, asserted later: a failure must not leave them running.
    let looked = kept.each_ref().map(|outcome| {
        let socket = outcome["hosts"][0]["socket"].as_str().unwrap();
        vsctl(&format!("--socket {socket} --json port show web"))
    });
    let before = names.each_ref().map(|name| remains(name).len());
    let first = removed(&names[0]);
    let between = names.each_ref().map(|name| remains(name).len());
    let second = removed(&names[1]);

    // Four namespaces, two processes, one folder.
    assert_eq!((before, between), ([7, 7], [0, 7]));
    assert_eq!((first, second), (Some(0), Some(0)));
    for (looked, name) in looked.iter().zip(&names) {
        let port: Value = serde_json::from_slice(&looked.stdout).unwrap();
        assert_eq!((&port["state"], &port["netns"]), (&"up".into(), &format!("{name}-web").into()));
        nothing_remains(name);
    }
    let again = vsctl(&format!("demo --remove {}", names[0]));
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains(&names[0]), "{again:?}");
}

#[test]
fn without_a_daemon_it_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("vsctl");
    fs::copy(VSCTL, &alone).unwrap();
    let output = Command::new(&alone).arg("demo").env("PATH", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cargo build --release -p vswitch") && said.contains(folder.path().to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn a_daemon_that_ends_is_told_with_its_log() {
    if !possible() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (alone, daemon) = (folder.path().join("vsctl"), folder.path().join("vswitchd"));
    fs::copy(VSCTL, &alone).unwrap();
    fs::write(&daemon, "#!/bin/sh\necho \"no luck with $2\" >&2\nexit 7\n").unwrap();
    fs::set_permissions(&daemon, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&alone).arg("demo").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("exit status: 7") && said.contains("no luck with /run/vsdemo-"), "{said}");
    let name = said.split_once("/run/").and_then(|(_, path)| path.split_once('/')).unwrap().0;
    nothing_remains(name);
}

//! Namespaces by name, path and process; those that do not exist; work inside.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use vswitch_sys::{Netlink, Netns, NetnsError, NetnsThread};

#[test]
fn current_is_where_the_thread_is() {
    require!(common::no_netns());
    let here = Netns::current().unwrap().identity().unwrap();
    let other = Netns::create().unwrap();
    let there = other.identity().unwrap();
    assert_ne!(here, there);
    assert_eq!(other.run(|| Netns::current().unwrap().identity().unwrap()).unwrap(), there);
    assert_eq!(Netns::current().unwrap().identity().unwrap(), here, "the caller stays where it was");
    assert_eq!(other.try_clone().unwrap().identity().unwrap(), there);
    assert_eq!(Netns::open_path(&other.path()).unwrap().identity().unwrap(), there);
}

#[test]
fn by_name() {
    require!(common::no_netns());
    let name = format!("vswitch-sys-{}-by-name", std::process::id());
    let made = Netns::create_named(&name).unwrap();
    let taken = Netns::create_named(&name).unwrap_err();
    assert!(matches!(&taken, NetnsError::NameTaken(taken) if *taken == name), "{taken}");
    assert_eq!(Netns::open_name(&name).unwrap().identity().unwrap(), made.identity().unwrap());
    let path = Path::new("/run/netns").join(&name);
    assert_eq!(Netns::open_path(&path).unwrap().identity().unwrap(), made.identity().unwrap());

    Netns::delete_named(&name).unwrap();
    assert!(!path.exists());
    for error in [Netns::open_name(&name).unwrap_err(), Netns::delete_named(&name).unwrap_err()] {
        assert!(matches!(&error, NetnsError::NotFound(_)), "{error}");
        assert!(error.to_string().contains(&name), "{error}");
    }
    Netlink::open_in(&made).unwrap().links().expect("the handle outlives the name");
}

#[test]
fn names_that_are_none() {
    for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
        let error = Netns::open_name(name).unwrap_err();
        assert!(matches!(error, NetnsError::BadName(_)), "{error}");
    }
}

#[test]
fn by_process() {
    require!(common::no_netns());
    let netns = Netns::create().unwrap();
    let thread = NetnsThread::spawn(&netns).unwrap();
    let mut child = thread.call(|| Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let pid = child.id();
    assert_eq!(Netns::open_pid(pid).unwrap().identity().unwrap(), netns.identity().unwrap());

    drop(child.stdin.take());
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("cat"), "{status}");
    child.wait().unwrap();
    let error = Netns::open_pid(pid).unwrap_err();
    assert!(matches!(error, NetnsError::NoProcess(gone) if gone == pid), "{error}");
    assert!(matches!(Netns::open_pid(0), Err(NetnsError::NoProcess(0))));
    assert!(matches!(Netns::open_pid(u32::MAX), Err(NetnsError::NoProcess(u32::MAX))));
}

#[test]
fn files_that_are_no_network_namespace() {
    for path in ["/dev/null", "/proc/self/status", "/proc/self/ns/mnt", "/proc/self/ns/uts", "/"] {
        let error = Netns::open_path(Path::new(path)).unwrap_err();
        assert!(matches!(error, NetnsError::NotNamespace(_)), "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    for path in ["/nowhere", "/dev/null/net", ""] {
        let error = Netns::open_path(Path::new(path)).unwrap_err();
        assert!(matches!(error, NetnsError::NotFound(_)), "{path}: {error}");
    }
}

#[test]
fn by_descriptor() {
    require!(common::no_netns());
    let netns = Netns::create().unwrap();
    let fd = netns.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(Netns::from_descriptor(fd).unwrap().identity().unwrap(), netns.identity().unwrap());
    for path in ["/dev/null", "/proc/self/ns/mnt", "/"] {
        let fd: OwnedFd = fs::File::open(path).unwrap().into();
        let number = fd.as_raw_fd();
        assert_eq!(Netns::from_descriptor(fd).unwrap_err().as_raw_fd(), number, "{path} comes back");
    }
}

#[test]
fn a_thread_stays_inside() {
    require!(common::no_netns());
    let netns = Netns::create().unwrap();
    let there = netns.identity().unwrap();
    let thread = NetnsThread::spawn(&netns).unwrap();
    drop(netns);
    for _ in 0..2 {
        assert_eq!(thread.call(|| Netns::current().unwrap().identity().unwrap()), there);
    }
}

#[test]
fn a_panic_inside_is_the_callers_and_the_thread_goes_on() {
    require!(common::no_netns());
    let netns = Netns::create().unwrap();
    let thread = NetnsThread::spawn(&netns).unwrap();
    let call = std::panic::AssertUnwindSafe(|| thread.call(|| std::panic::resume_unwind(Box::new("inside"))));
    let payload = std::panic::catch_unwind(call).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"inside"));
    assert_eq!(thread.call(|| 1 + 1), 2);

    let run = std::panic::AssertUnwindSafe(|| netns.run(|| std::panic::resume_unwind(Box::new("inside"))));
    let payload = std::panic::catch_unwind(run).map(|outcome: Result<(), _>| outcome).unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"inside"));
}

#[test]
fn settings_are_those_of_the_namespace() {
    require!(common::no_netns());
    let netns = Netns::create().unwrap();
    netns.set_sysctl("ipv4/ip_default_ttl", "33").unwrap();
    let ttl = || fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    assert_eq!(netns.run(ttl).unwrap(), "33\n");
    assert_ne!(ttl(), "33\n");
    let error = netns.set_sysctl("ipv4/no_such_thing", "1").unwrap_err();
    assert!(error.to_string().contains("/proc/sys/net/ipv4/no_such_thing"), "{error}");
}

//! User namespaces and children that do not outlive their parent.
//!
//! The binary runs itself again: what it plays then stands in an environment variable.
#![allow(clippy::panic, clippy::unwrap_used, reason = "so a test fails")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use vswitch_sys::process::{UserNamespaceError, die_with_parent, enter_user_namespace};
use vswitch_sys::{Netlink, Netns, NetnsThread, Tap, wait_readable};

const ROLE: &str = "VSWITCH_SYS_TEST_ROLE";

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok("user-namespace") => user_namespace(),
        Ok("two-threads") => two_threads(),
        Ok("parent") => parent(),
        Ok("child") => child(),
        Ok(other) => panic!("role {other}"),
        Err(_) => {
            let trials = vec![
                Trial::test("user_namespace_as_this_user", || enters_user_namespace(None)),
                Trial::test("user_namespace_as_nobody", || enters_user_namespace(Some(65534))),
                Trial::test("user_namespace_needs_one_thread", refuses_two_threads),
                Trial::test("children_die_with_their_parent", children_die),
            ];
            libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
        }
    }
}

/// This binary in another role.
fn role(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).stdin(Stdio::null());
    command
}

fn enters_user_namespace(user: Option<u32>) -> Result<(), Failed> {
    let mut command = role("user-namespace");
    if let Some(id) = user {
        if !nix::unistd::geteuid().is_root() {
            common::skip(module_path!(), line!(), "only root can become another user");
            return Ok(());
        }
        command.uid(id).gid(id);
    }
    let output = match command.output() {
        Err(error) if user.is_some() => {
            common::skip(module_path!(), line!(), &format!("user {user:?} cannot run this binary: {error}"));
            return Ok(());
        }
        outcome => outcome?,
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if let Some(reason) = said.lines().find(|line| line.starts_with("SKIPPED")) {
        common::skip(module_path!(), line!(), reason);
    }
    if output.status.success() { Ok(()) } else { Err(format!("{}: {said}", output.status).into()) }
}

fn user_namespace() -> ExitCode {
    match enter_user_namespace() {
        Err(error @ UserNamespaceError::Forbidden(_)) => {
            println!("SKIPPED: {error}");
            return ExitCode::SUCCESS;
        }
        outcome => outcome.unwrap(),
    }
    assert!(nix::unistd::geteuid().is_root());
    assert_eq!(fs::read_dir("/run").unwrap().count(), 0);
    let netns = Netns::create_named("inside").unwrap();
    let netlink = Netlink::open_in(&netns).unwrap();
    netlink.set_up(1, true).unwrap();
    netlink.add_veth("a", "b", None).unwrap();
    if let Err(error) = Tap::open("t0", 1, Some(&netns)) {
        println!("SKIPPED TAP inside a user namespace: {error}");
    }
    let thread = NetnsThread::spawn(&netns).unwrap();
    let here = thread.call(|| Netns::current().unwrap().identity().unwrap());
    assert_eq!(here, Netns::open_name("inside").unwrap().identity().unwrap());
    netns.set_sysctl("ipv4/ip_default_ttl", "33").unwrap();
    drop(thread);
    Netns::delete_named("inside").unwrap();
    ExitCode::SUCCESS
}

fn refuses_two_threads() -> Result<(), Failed> {
    let output = role("two-threads").output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said.into()) }
}

fn two_threads() -> ExitCode {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || held.recv().is_err());
    let error = enter_user_namespace().unwrap_err();
    assert!(matches!(error, UserNamespaceError::Threads(2)), "{error}");
    drop(hold);
    assert!(thread.join().unwrap());
    ExitCode::SUCCESS
}

fn children_die() -> Result<(), Failed> {
    let mut parent = role("parent").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // Held open to the end: the grandchild would read from it for ever.
    let _stdin = parent.stdin.take();
    let mut stdout = parent.stdout.take().ok_or("no pipe")?;
    let mut ready = [0; 1];
    stdout.read_exact(&mut ready)?;
    parent.wait()?;
    // The grandchild holds the other end: it closes when that dies.
    if !wait_readable(&stdout, common::PATIENCE)? {
        return Err("the child outlives its parent".into());
    }
    assert_eq!(stdout.read(&mut ready)?, 0);
    Ok(())
}

#[allow(clippy::zombie_processes, reason = "the point is to leave before the child")]
fn parent() -> ExitCode {
    let mut command = role("child");
    let mut child = die_with_parent(command.stdin(Stdio::inherit()).stderr(Stdio::piped())).spawn().unwrap();
    // Not before the child runs, or a child that fails to start would pass for one that died with us.
    child.stderr.take().unwrap().read_exact(&mut [0; 1]).unwrap();
    print!("!");
    std::io::stdout().flush().unwrap();
    ExitCode::SUCCESS
}

fn child() -> ExitCode {
    eprint!("!");
    let _ = std::io::stdin().read(&mut [0; 1]);
    ExitCode::SUCCESS
}

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use netns_tests::{Daemon, DaemonSpec, Host, Lab, Result, SOON, ensure_eq, eventually};
use serde_json::{Value, json};
use vswitch_api::{Client, ClientError, Request};
use vswitch_sys::fdpass;

use crate::Tests;

#[path = "attachments/crowd.rs"]
mod crowd;
#[path = "attachments/failures.rs"]
mod failures;
#[path = "attachments/gone.rs"]
mod gone;
#[path = "attachments/made.rs"]
mod made;

pub(crate) const TESTS: Tests = &[
    ("a_namespace_without_a_name", made::a_namespace_without_a_name),
    ("reaped_with_its_container", gone::reaped_with_its_container),
    ("reaped_at_the_next_start", gone::reaped_at_the_next_start),
    ("what_cannot_be_seen_is_not_gone", gone::what_cannot_be_seen_is_not_gone),
    ("another_folder_tells_nothing", gone::another_folder_tells_nothing),
    ("a_reboot_ends_all", gone::a_reboot_ends_all),
    ("deleted_without_a_descriptor_left", failures::deleted_without_a_descriptor_left),
    ("a_thousand_at_once", crowd::a_thousand_at_once),
    ("two_hosts_share_a_subnet", made::two_hosts_share_a_subnet),
    ("a_takeover_keeps_them", made::a_takeover_keeps_them),
    ("what_fails_leaves_nothing", failures::what_fails_leaves_nothing),
    ("what_fails_leaves_what_was_lost", failures::what_fails_leaves_what_was_lost),
    ("planned_with_the_address_of_the_dead", gone::planned_with_the_address_of_the_dead),
    ("nothing_is_looked_for_that_was_never_made", failures::nothing_is_looked_for_that_was_never_made),
    ("what_is_refused", failures::what_is_refused),
    ("handed_over_as_planned", made::handed_over_as_planned),
    ("nothing_of_the_dead_is_kept", gone::nothing_of_the_dead_is_kept),
    ("the_daemons_own_namespace", made::the_daemons_own_namespace),
    ("shown_by_vsctl", made::shown_by_vsctl),
];

/// An answer, or why there is none.
type Said = std::result::Result<Value, ClientError>;

/// A container runtime's plugin, as the daemon sees it.
struct Plugin(Client);

impl Plugin {
    fn of(daemon: &Daemon) -> Result<Self> {
        Ok(Self(Client::connect(daemon.socket(), SOON)?))
    }

    /// The answer to `method`, or the refusal; `fds` go along.
    fn say(&mut self, method: &str, params: Value, fds: &[BorrowedFd<'_>]) -> Said {
        let request = Request::decode(method, params).map_err(ClientError::Refused)?;
        self.0.call_sending(&request, |stream, bytes| fdpass::send(stream, bytes, fds))
    }

    /// Attaches `container`, whose namespace `host` goes along; `more` is merged into the request.
    fn add(&mut self, container: &str, host: &Host, more: Value) -> Result<Value> {
        Ok(self.say("attachment.add", attach(container, &host.path(), more), &[host.netns().as_fd()])?["port"].take())
    }

    fn ask(&mut self, method: &str, params: Value) -> Result<Value> {
        Ok(self.say(method, params, &[])?)
    }

    fn del(&mut self, container: &str) -> Result<Value> {
        Ok(self.ask("attachment.del", json!({"container": container, "ifname": "eth0"}))?["port"].take())
    }

    /// How many addresses of the pool are used.
    fn used(&mut self) -> Result<Value> {
        Ok(self.ask("pool.show", json!({"vlan": 10, "pools": [{"subnet": SUBNET}]}))?[0]["used"].take())
    }

    /// Each attachment with its state.
    fn list(&mut self) -> Result<String> {
        let all = self.ask("attachment.list", json!({}))?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = all.as_array().into_iter().flatten();
        Ok(all.map(|one| word(&one["container"]) + " " + &word(&one["state"])).collect::<Vec<_>>().join(", "))
    }

    /// Waits until [`Self::list`] is this.
    fn wait_for(&mut self, list: &str) -> Result {
        eventually(SOON, "attachments are as they should be", || {
            ensure_eq!(self.list()?, list, "attachments");
            Ok(())
        })
    }
}

const SUBNET: &str = "10.0.0.0/24";

/// `attachment.add` of a port in VLAN 10 with an address from [`SUBNET`].
fn attach(container: &str, netns: &Path, more: Value) -> Value {
    let mut params = json!({
        "port": {
            "name": format!("{container}:eth0"), "netns": netns, "access": 10,
            "attachment": {"network": "net", "container": container},
        },
        "pools": [{"subnet": SUBNET}],
    });
    merge(&mut params, more);
    params
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}

fn daemon(lab: &Lab) -> Result<(Host, Daemon)> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    Ok((host, daemon))
}

/// A name by which the daemon finds the namespace of `host`, and which can go.
fn named(lab: &Lab, name: &str, host: &Host) -> Result<std::path::PathBuf> {
    let path = lab.folder("names")?.join(name);
    symlink(host.path(), &path)?;
    Ok(path)
}

/// What the kernel says.
fn boot() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

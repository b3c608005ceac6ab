use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use netns_tests::traffic::ping::ping;
use netns_tests::{Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Underlay, ensure, eventually};
use serde_json::{Value, json};

use crate::Tests;

#[path = "takeover/after.rs"]
mod after;
#[path = "takeover/failures.rs"]
mod failures;
#[path = "takeover/refused.rs"]
mod refused;
#[path = "takeover/unfelt.rs"]
mod unfelt;

pub(crate) const TESTS: Tests = &[
    ("no_frame_is_lost", |lab| unfelt::no_frame_is_lost(lab, 1)),
    ("no_frame_is_lost_with_two_workers", |lab| unfelt::no_frame_is_lost(lab, 2)),
    ("tcp_feels_nothing", |lab| unfelt::tcp_feels_nothing(lab, 1)),
    ("tcp_feels_nothing_with_two_workers", |lab| unfelt::tcp_feels_nothing(lab, 2)),
    ("what_was_learned_and_counted", after::what_was_learned_and_counted),
    ("clients_feel_nothing", unfelt::clients_feel_nothing),
    ("changes_after_it", after::changes_after_it),
    ("one_that_is_killed", failures::one_that_is_killed),
    ("one_that_falls_silent", failures::one_that_falls_silent),
    ("who_holds_the_state_directory_serves", failures::who_holds_the_state_directory_serves),
    ("an_ordinary_user", refused::an_ordinary_user),
    ("words_out_of_place", failures::words_out_of_place),
    ("other_settings", refused::other_settings),
    ("another_state_directory", refused::another_state_directory),
    ("a_process_that_ended", after::a_process_that_ended),
    ("nobody_to_take_over_from", refused::nobody_to_take_over_from),
    ("a_hundred_ports", unfelt::a_hundred_ports),
];

/// A node whose daemon can be replaced.
struct Site {
    node: Node,
    spec: DaemonSpec,
}

impl Site {
    fn pair(lab: &Lab, workers: u16) -> Result<(Underlay, Self, Node)> {
        let spec = DaemonSpec { config: format!("workers = {workers}\n"), ..DaemonSpec::default() };
        let (underlay, node, other) = Node::pair_with(lab, 1500, &spec)?;
        let spec = DaemonSpec { vtep_ip: Some(node.ip), ..spec };
        Ok((underlay, Self { node, spec }, other))
    }

    /// Puts another daemon in the place of the one that serves.
    fn take_over(self, lab: &Lab) -> Result<Self> {
        let Self { node: Node { daemon, host, ip }, spec } = self;
        let daemon = daemon.taken_over(lab, &host, &spec)?;
        Ok(Self { node: Node { daemon, host, ip }, spec })
    }
}

/// Somebody who speaks to the daemon as another one would.
struct Speaker(BufReader<UnixStream>);

impl Speaker {
    fn new(daemon: &Daemon) -> Result<Self> {
        let stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Says a word; descriptors that come along are closed by the kernel, which has nowhere to put them.
    fn say(&mut self, method: &str, params: &Value) -> Result<Value> {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Asks a question that anybody may ask.
    fn status(socket: &Path) -> Result<Value> {
        let mut speaker = Self(BufReader::new(UnixStream::connect(socket)?));
        speaker.say("status", &json!({}))
    }

    fn begin(&mut self) -> Result<Value> {
        let answer = self.say("takeover.begin", &json!({"format": 1}))?;
        ensure!(answer["result"]["descriptors"].is_array(), "takeover.begin: {answer}");
        Ok(answer)
    }

    fn pause(&mut self) -> Result<Value> {
        let answer = self.say("takeover.pause", &json!({}))?;
        ensure!(answer["result"]["paused_at"].is_u64(), "takeover.pause: {answer}");
        Ok(answer)
    }
}

/// The daemon of `node` serves: changes are accepted, frames move.
fn serves(node: &Node, from: &Host, to: &str) -> Result {
    eventually(SOON, "changes are accepted again", || node.ok("vlan add 77"))?;
    node.ok("vlan del 77")?;
    ping(from, to.parse()?, 56)
}

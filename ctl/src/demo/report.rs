//! What the demo says: each step to people, the measurements to programs.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vswitch_api::FdbInfo;

use super::DemoError;
use super::access::Access;
use super::topology::{Plan, Topology};
use super::traffic::{Ping, Tcp};
use crate::{render, style};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Every step.
    Steps,
    /// The line with the result.
    Result,
    /// The result as one object.
    Json,
}

impl Style {
    /// The style that `--json` and `-q` ask for.
    pub(crate) const fn new(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            (false, true) => Self::Result,
            (false, false) => Self::Steps,
        }
    }
}

/// What came out.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    /// The demo's name.
    pub(super) name: String,
    pub(super) kept: bool,
    /// Whether it ran in a user namespace of its own.
    pub(super) user_namespace: bool,
    pub(super) ping: Ping,
    /// The same with packets as large as the network carries.
    pub(super) ping_full: Ping,
    pub(super) tcp: Tcp,
    pub(super) hosts: Vec<HostOutcome>,
}

/// What came out on one host.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct HostOutcome {
    pub(super) name: &'static str,
    pub(super) netns: String,
    pub(super) socket: PathBuf,
    pub(super) pid: u32,
    pub(super) container: String,
    pub(super) fdb: Vec<FdbInfo>,
}

/// Where it is said.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    style: Style,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, style: Style) -> Self {
        Self { out, style }
    }

    /// What is being built.
    pub(super) fn plan(&mut self, name: &str, plans: &[Plan; 2]) {
        self.text(&drawing(name, plans));
    }

    /// What comes next.
    pub(super) fn step(&mut self, what: &str) {
        self.text(&format!("\n{what}:\n"));
    }

    /// What is done, as one would type it on `place`.
    pub(super) fn command(&mut self, place: &str, command: &str) {
        self.text(&format!("  {place}$ {command}\n"));
    }

    pub(super) fn ping(&mut self, ping: &Ping) {
        let Ping { bytes, sent, received, min_us, avg_us, max_us } = ping;
        let [min, avg, max] = [min_us, avg_us, max_us].map(|us| millis(*us));
        self.text(&format!(
            "    {received} of {sent} with {bytes} bytes answered; round trip {min} / {avg} / {max} ms (min/avg/max)\n"
        ));
    }

    pub(super) fn tcp(&mut self, tcp: &Tcp) {
        let Tcp { bytes, time_us, .. } = tcp;
        self.text(&format!("    {} in {} s: {}\n", megabytes(*bytes), seconds(*time_us), rate(tcp)));
    }

    pub(super) fn fdb(&mut self, fdb: &Vec<FdbInfo>) {
        let mut table = String::new();
        render::fdb(fdb, &mut table);
        self.text(&indented(&style::plain(&table)));
    }

    /// The counters of a host, for the reader of a failure.
    pub(super) fn stats(&mut self, stats: &vswitch_api::Stats) {
        let mut table = String::new();
        render::stats(stats, &mut table);
        self.text(&indented(&style::plain(&table)));
    }

    /// That nothing stays.
    pub(super) fn gone(&mut self, folder: &Path) {
        self.step("Removed again");
        self.text(&format!("    both vswitchd, the four namespaces with all interfaces, {}\n", folder.display()));
    }

    /// What came out; in every style, and the only thing that must be told.
    pub(super) fn outcome(&mut self, outcome: &Outcome) -> Result<(), DemoError> {
        let text = match self.style {
            Style::Json => serde_json::to_string(outcome)? + "\n",
            Style::Result => result(outcome) + "\n",
            Style::Steps => format!("\n{}\n", result(outcome)),
        };
        self.answer(&text)
    }

    /// How to look around in a demo that goes on running.
    pub(super) fn look_around(&mut self, topology: &Topology, access: Access) {
        let places = topology.hosts.each_ref().map(|host| Place {
            socket: host.files.socket.display().to_string(),
            pid: host.pid(),
            container: host.container.name().to_owned(),
        });
        let tools = Tools { vsctl: vsctl(), ip: super::daemon::on_path("ip").is_some() };
        let to = topology.hosts[1].plan.address.to_string();
        self.text(&look_around(topology.folder.name(), &places, &to, access, &tools));
    }

    /// What `--remove` removed.
    pub(super) fn removed(&mut self, names: &[String]) -> Result<(), DemoError> {
        let text = match self.style {
            Style::Json => serde_json::json!({ "removed": names }).to_string() + "\n",
            Style::Result => String::new(),
            Style::Steps if names.is_empty() => "no demo is kept: nothing to remove\n".to_owned(),
            Style::Steps => names.iter().map(|name| format!("{name} removed\n")).collect(),
        };
        self.answer(&text)
    }

    /// Says `text` to people who follow. That nobody does is no reason to stop.
    pub(super) fn text(&mut self, text: &str) {
        if self.style == Style::Steps {
            let _ = self.write(text);
        }
    }

    /// Says what was asked for. Whoever stopped reading (`vsctl demo | head`) has seen enough.
    fn answer(&mut self, text: &str) -> Result<(), DemoError> {
        match self.write(text) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(DemoError::Output(error)),
            _ => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

fn drawing(name: &str, [a, b]: &[Plan; 2]) -> String {
    let rows = [
        [format!("{name}-{}", a.container), String::new(), format!("{name}-{}", b.container)],
        [format!("eth0 {}", a.address), "VLAN 10".to_owned(), format!("eth0 {}", b.address)],
        ["|".to_owned(), String::new(), "|".to_owned()],
        ["vswitchd".to_owned(), "VXLAN, VNI 1000".to_owned(), "vswitchd".to_owned()],
        [format!("uplink {}", a.vtep), "------ veth ------".to_owned(), format!("uplink {}", b.vtep)],
        [format!("{name}-{}", a.host), String::new(), format!("{name}-{}", b.host)],
    ];
    let mut text = "Two hosts and a container on each, in network namespaces:\n\n".to_owned();
    for [left, middle, right] in rows {
        let line = format!("    {left:^26} {middle:^18} {right:^26}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn result(outcome: &Outcome) -> String {
    let Outcome { ping, tcp, name, kept, .. } = outcome;
    let end = if *kept { format!("; {name} goes on running") } else { String::new() };
    format!("It works: ping {} ms, TCP {}{end}", millis(ping.avg_us), rate(tcp))
}

/// A place to look around in.
struct Place {
    socket: String,
    pid: u32,
    container: String,
}

/// What there is to look around with.
struct Tools {
    vsctl: String,
    ip: bool,
}

fn look_around(name: &str, places: &[Place; 2], to: &str, access: Access, tools: &Tools) -> String {
    let Tools { vsctl, ip } = tools;
    let [Place { socket, pid, container }, Place { socket: other, .. }] = places;
    let inside = match access {
        Access::Root if *ip => format!("ip netns exec {container}"),
        Access::Root => format!("nsenter --net=/run/netns/{container}"),
        // Names are known only in the mount namespace of the daemon, and whoever enters stays the user mapped there.
        Access::UserNamespace => {
            format!("nsenter --target {pid} --user --preserve-credentials --net=/proc/{pid}/root/run/netns/{container}")
        }
    };
    format!(
        "
Look around:
  {vsctl} --socket {socket} fdb list
  {vsctl} --socket {socket} stats
  {vsctl} --socket {other} port list
  {inside} ping {to}
Remove it:
  {vsctl} demo --remove {name}
"
    )
}

/// How to call this program: by name where a shell finds it so.
fn vsctl() -> String {
    let Ok(own) = std::env::current_exe() else { return "vsctl".to_owned() };
    let found = super::daemon::on_path("vsctl").and_then(|path| std::fs::canonicalize(path).ok());
    if found.is_some_and(|found| found == own) { "vsctl".to_owned() } else { own.display().to_string() }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + if line.is_empty() { "" } else { "    " } + line + "\n")
}

fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn seconds(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn rate(tcp: &Tcp) -> String {
    match tcp.mbit_per_s {
        mbit @ 0..1000 => format!("{mbit} Mb/s"),
        mbit => format!("{}.{:02} Gb/s", mbit / 1000, mbit % 1000 / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::super::topology::PLANS;
    use super::*;

    fn outcome(kept: bool) -> Outcome {
        let ping = Ping { bytes: 56, sent: 10, received: 10, min_us: 80, avg_us: 123, max_us: 1_004 };
        let tcp = Tcp { bytes: 1_500_000_000, time_us: 2_010_000, mbit_per_s: 5_970 };
        let host = HostOutcome {
            name: "host-a",
            netns: "vsdemo-7-host-a".to_owned(),
            socket: "/run/vsdemo-7/host-a.socket".into(),
            pid: 8,
            container: "vsdemo-7-web".to_owned(),
            fdb: Vec::new(),
        };
        let ping_full = Ping { bytes: 1422, ..ping.clone() };
        let name = "vsdemo-7".to_owned();
        Outcome { name, kept, user_namespace: false, ping, ping_full, tcp, hosts: vec![host] }
    }

    fn said(style: Style, say: impl FnOnce(&mut Report<'_>)) -> String {
        let mut out = Vec::new();
        say(&mut Report::new(&mut out, style));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn styles() {
        let say = |report: &mut Report<'_>| {
            let outcome = outcome(false);
            report.step("First");
            report.command("web", "ping 10.0.0.2");
            report.ping(&outcome.ping);
            report.tcp(&outcome.tcp);
            report.outcome(&outcome).unwrap();
        };
        let result = "It works: ping 0.123 ms, TCP 5.97 Gb/s\n";
        let steps = "
First:
  web$ ping 10.0.0.2
    10 of 10 with 56 bytes answered; round trip 0.080 / 0.123 / 1.004 ms (min/avg/max)
    1500 MB in 2.01 s: 5.97 Gb/s

";
        assert_eq!(said(Style::new(false, false), say), steps.to_owned() + result);
        assert_eq!(said(Style::new(false, true), say), result);
        let json: serde_json::Value = serde_json::from_str(&said(Style::new(true, true), say)).unwrap();
        assert_eq!((&json["tcp"]["mbit_per_s"], &json["hosts"][0]["pid"]), (&5970.into(), &8.into()));
        let kept = said(Style::Result, |report| report.outcome(&outcome(true)).unwrap());
        assert!(kept.ends_with("; vsdemo-7 goes on running\n"), "{kept}");
    }

    #[test]
    fn where_to_look() {
        let places = ["web", "db"].map(|container| Place {
            socket: format!("/s/{container}"),
            pid: 9,
            container: format!("vsdemo-7-{container}"),
        });
        let text = |access, ip| {
            let tools = Tools { vsctl: "/bin/vsctl".to_owned(), ip };
            look_around("vsdemo-7", &places, "10.0.0.2", access, &tools)
        };
        let root = text(Access::Root, true);
        for line in [
            "  /bin/vsctl --socket /s/web fdb list\n",
            "  ip netns exec vsdemo-7-web ping 10.0.0.2\n",
            "  /bin/vsctl demo --remove vsdemo-7\n",
        ] {
            assert!(root.contains(line), "{root}");
        }
        assert!(text(Access::Root, false).contains("nsenter --net=/run/netns/vsdemo-7-web ping 10.0.0.2"));
        let user = text(Access::UserNamespace, true);
        assert!(user.contains("nsenter --target 9 --user") && user.contains("/proc/9/root/run/netns/"), "{user}");
    }

    #[test]
    fn the_drawing_names_everything() {
        let text = drawing("vsdemo-7", &PLANS);
        for plan in PLANS {
            for part in
                [plan.host.to_owned(), plan.container.to_owned(), plan.vtep.to_string(), plan.address.to_string()]
            {
                assert!(text.contains(&part), "{part}: {text}");
            }
        }
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }

    #[test]
    fn what_was_removed() {
        let names = ["vsdemo-7".to_owned()];
        let removed = |style, names: &[String]| said(style, |report| report.removed(names).unwrap());
        assert_eq!(removed(Style::Steps, &names), "vsdemo-7 removed\n");
        assert_eq!(removed(Style::Steps, &[]), "no demo is kept: nothing to remove\n");
        assert_eq!(removed(Style::Json, &names), "{\"removed\":[\"vsdemo-7\"]}\n");
        assert_eq!(removed(Style::Result, &names), "");
    }
}

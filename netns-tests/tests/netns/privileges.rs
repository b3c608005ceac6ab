use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use netns_tests::{
    Account, Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Underlay, ensure, ensure_eq, eventually,
    traffic::ping::ping,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use vswitch_sys::{Tap, fdpass};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("root_keeps_what_serving_takes", root_keeps_what_serving_takes),
    ("root_becomes_a_user", root_becomes_a_user),
    ("an_ordinary_user_with_two_capabilities", an_ordinary_user_with_two_capabilities),
    ("an_ordinary_user_with_nothing", an_ordinary_user_with_nothing),
    ("a_container_without_root", a_container_without_root),
    ("queues_that_are_wrong", queues_that_are_wrong),
    ("who_may_change", who_may_change),
    ("files_out_of_bounds", files_out_of_bounds),
];

/// An ordinary user; no account database need know him.
const USER: u32 = 54_321;

/// Bits of the sets in `/proc/PID/status` (linux/capability.h).
const NET_ADMIN: u64 = 1 << 12;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;

/// What the kernel says of one thread.
#[derive(Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    uids: Vec<u64>,
    /// Inheritable, permitted, effective, ambient.
    capabilities: [u64; 4],
    bounding: u64,
    no_new_privileges: bool,
}

fn threads(daemon: &Daemon) -> Result<Vec<Thread>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| {
            let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            found.context(format_args!("no {name} in {status}"))
        };
        let set = |name| Ok::<_, netns_tests::Failure>(u64::from_str_radix(field(name)?, 16)?);
        all.push(Thread {
            name: field("Name")?.to_owned(),
            uids: field("Uid")?.split('\t').map(str::parse).collect::<std::result::Result<_, _>>()?,
            capabilities: [set("CapInh")?, set("CapPrm")?, set("CapEff")?, set("CapAmb")?],
            bounding: set("CapBnd")?,
            no_new_privileges: field("NoNewPrivs")? == "1",
        });
    }
    Ok(all)
}

/// Every thread of `daemon` has what it should: `kept` the one that configures, nothing the `workers`.
fn ensure_reduced(daemon: &Daemon, uid: u64, kept: u64, workers: usize, bounded: bool) -> Result {
    daemon.vsctl().ok("status")?; // its socket is there before the threads are
    let threads = threads(daemon)?;
    let working = threads.iter().filter(|thread| thread.name.starts_with("worker-")).count();
    ensure_eq!(working, workers, "workers among {threads:?}");
    for thread in &threads {
        let kept = if thread.name.starts_with("worker-") { 0 } else { kept };
        ensure_eq!(thread.uids, vec![uid; 4], "user of {thread:?}");
        ensure_eq!(thread.capabilities, [0, kept, kept, 0], "capabilities of {thread:?}");
        ensure!(thread.no_new_privileges, "{thread:?} could gain privileges");
        // Workers inherit the set of the others, and mean nothing by it.
        ensure!(!bounded || thread.bounding & !(NET_ADMIN | SYS_ADMIN | SYS_PTRACE) == 0, "bounding set of {thread:?}");
    }
    Ok(())
}

/// A container that is a process of `account`, which its user may look at.
struct Container {
    process: Child,
    host: Host,
}

impl Container {
    fn start(lab: &Lab, name: &str, account: &Account) -> Result<Self> {
        let host = lab.quiet_host(name)?;
        let mut command = account.command("sleep");
        command.arg("600").stdin(Stdio::null());
        let process = host.spawn(command)?;
        // Until then it is the tests' own program, and root.
        let comm = format!("/proc/{}/comm", process.id());
        eventually(SOON, "the container runs", || {
            let name = fs::read_to_string(&comm)?;
            ensure_eq!(name.trim(), "sleep", "its program");
            Ok(())
        })?;
        Ok(Self { process, host })
    }

    /// `--netns` of it.
    fn netns(&self) -> String {
        format!("pid:{}", self.process.id())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn args(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn root_keeps_what_serving_takes(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let spec = DaemonSpec { args: args(&["--workers", "2"]), ..DaemonSpec::default() };
    let node = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec)?;
    ensure_reduced(&node.daemon, 0, NET_ADMIN | SYS_ADMIN | SYS_PTRACE, 2, true)?;
    let status = node.ok("status")?;
    ensure_eq!(status["user"], "root", "user");
    ensure_eq!(status["capabilities"], json!(["CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"]), "capabilities");
    ensure_eq!(status["sandbox"], "workers", "sandbox");
    // Threads that come and go with a change have no more.
    node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    node.ok("port set a --mtu 1400")?;
    ensure_reduced(&node.daemon, 0, NET_ADMIN | SYS_ADMIN | SYS_PTRACE, 2, true)
}

/// All that needs more is done before: directories, socket, uplink. What is written later is the user's.
fn root_becomes_a_user(lab: &Lab) -> Result {
    let underlay = Underlay::new(lab, 1500)?;
    let spec = |vtep_ip| DaemonSpec { vtep_ip, args: args(&["--user", "nobody"]), ..DaemonSpec::default() };
    let one = Node::with(lab, &underlay, "h1", |vtep| vtep.v4, spec(None))?;
    let two = Node::with(lab, &underlay, "h2", |vtep| vtep.v4, DaemonSpec::default())?;
    one.join(10, 100, &[two.ip])?;
    two.join(10, 100, &[one.ip])?;
    let nobody = nix::unistd::User::from_name("nobody")?.context("user nobody")?.uid.as_raw();
    ensure_reduced(&one.daemon, nobody.into(), NET_ADMIN | SYS_ADMIN | SYS_PTRACE, 1, true)?;
    ensure_eq!(one.ok("status")?["user"], "nobody", "user");
    let root = Container::start(lab, "a", &Account::user(0))?;
    one.ok(&format!("port add a --netns {} --address 10.0.0.1/24 --access 10", root.netns()))?;
    let a = &root.host;
    let b = two.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
    ping(a, "10.0.0.2".parse()?, 56)?;
    let folder = lab.folder("h1")?;
    for file in ["state", "state/state.json", "state/identity", "socket"] {
        ensure_eq!(fs::metadata(folder.join(file))?.uid(), nobody, "owner of {file}");
    }
    // He may change as well as root.
    one.vsctl().by(&Account { gid: 65_534, ..Account::user(nobody) }).ok("vlan add 20")?;
    // Again, with files that are his; and then as root, who takes them.
    let (host, vtep_ip) = (one.host, Some(one.ip));
    ensure!(one.daemon.end(Signal::SIGTERM)?.success(), "its end");
    let again = Daemon::start(lab, &host, &spec(vtep_ip))?;
    ensure_eq!(again.vsctl().ok("port show a")?["state"], "up", "state of port a after a restart");
    ping(a, "10.0.0.2".parse()?, 56)?;
    again.vsctl().ok("vlan add 30")?;
    again.end(Signal::SIGTERM)?;
    // Another user would not be able to keep what is his.
    let another = DaemonSpec { args: args(&["--user", "daemon"]), ..spec(vtep_ip) };
    let ended = Daemon::refused(lab, &host, &another)?;
    for part in [&nobody.to_string(), "daemon", "--state-dir"] {
        ensure!(ended.output.contains(part), "{part:?} is not in: {}", ended.output);
    }
    let by_root = Daemon::start(lab, &host, &DaemonSpec { vtep_ip, ..DaemonSpec::default() })?;
    ensure_eq!(by_root.vsctl().ok("port show a")?["state"], "up", "state of port a by root");
    ping(&b, "10.0.0.1".parse()?, 56)?;
    ensure_eq!(by_root.vsctl().ok("vlan list")?.as_array().map(Vec::len), Some(3), "VLANs kept");
    ensure_eq!(fs::metadata(folder.join("state"))?.uid(), 0, "owner of the state, now root's");
    Ok(())
}

fn an_ordinary_user_with_two_capabilities(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let user = Account::user(USER);
    let account = Some(user.clone().with(&["net_admin", "sys_admin"]));
    let spec = DaemonSpec { account, args: args(&["--workers", "2"]), ..DaemonSpec::default() };
    let daemon = Daemon::start(lab, &host, &spec)?;
    ensure_reduced(&daemon, USER.into(), NET_ADMIN | SYS_ADMIN, 2, false)?;
    let [a, b] = [Container::start(lab, "a", &user)?, Container::start(lab, "b", &user)?];
    for (name, container, address) in [("a", &a, "10.0.0.1/24"), ("b", &b, "10.0.0.2/24")] {
        let words = format!("port add {name} --netns {} --address {address}", container.netns());
        daemon.vsctl().by(&user).ok(&words)?;
    }
    ping(&a.host, "10.0.0.2".parse()?, 56)?;
    daemon.vsctl().ok("port set a --mtu 1400")?;
    ensure_eq!(a.host.link("eth0")?.mtu, 1400, "MTU");
    // A process of another user is none of its business; the sentence says the ways out.
    let roots = Container::start(lab, "c", &Account::user(0))?;
    let said = daemon.vsctl().refused(1, &format!("port add c --netns {}", roots.netns()))?;
    for part in ["CAP_SYS_PTRACE", "--hand-over", "/run/netns"] {
        ensure!(said.contains(part), "{part:?} is not in: {said}");
    }
    daemon.vsctl().ok(&format!("port add c --netns {} --address 10.0.0.3/24 --hand-over", roots.netns()))?;
    ping(&roots.host, "10.0.0.1".parse()?, 56)?;
    // With the third capability it needs no help.
    ensure!(daemon.end(Signal::SIGTERM)?.success(), "its end");
    let account = Some(user.with(&["net_admin", "sys_admin", "sys_ptrace"]));
    let daemon = Daemon::start(lab, &host, &DaemonSpec { account, ..spec })?;
    ensure_reduced(&daemon, USER.into(), NET_ADMIN | SYS_ADMIN | SYS_PTRACE, 2, false)?;
    ensure_eq!(daemon.vsctl().ok("port show c")?["state"], "up", "port c after the restart");
    ping(&roots.host, "10.0.0.1".parse()?, 56)
}

/// Neither the daemon nor its sandbox stands in the way of a port that is handed over, by one worker and by several.
fn an_ordinary_user_with_nothing(lab: &Lab) -> Result {
    for (workers, name) in [("1", "one"), ("2", "two")] {
        let underlay = Underlay::new(lab, 1500)?;
        let spec = DaemonSpec {
            account: Some(Account::user(USER)),
            underlay: Some("udp"),
            args: args(&["--workers", workers]),
            ..DaemonSpec::default()
        };
        let here = Node::with(lab, &underlay, name, |vtep| vtep.v4, spec.clone())?;
        let there = Node::v4(lab, &underlay, &format!("{name}-peer"))?;
        here.join(10, 100, &[there.ip])?;
        there.join(10, 100, &[here.ip])?;
        handed_over(lab, here, &there, workers.parse()?, &spec).context(format_args!("with {workers} workers"))?;
    }
    Ok(())
}

fn handed_over(lab: &Lab, here: Node, there: &Node, workers: usize, spec: &DaemonSpec) -> Result {
    ensure_reduced(&here.daemon, USER.into(), 0, workers, false)?;
    let status = here.ok("status")?;
    ensure_eq!((&status["user"], &status["capabilities"]), (&json!(USER.to_string()), &json!([])), "status");
    ensure_eq!(status["sandbox"], "daemon", "sandbox");
    let a = lab.quiet_host("a")?;
    let words =
        format!("port add a --netns {} --address 10.0.0.1/24 --gateway 10.0.0.254 --access 10", a.path().display());
    let before = here.vsctl().everything()?;
    let said = here.vsctl().refused(1, &words)?;
    ensure!(said.contains("--hand-over") && said.contains("CAP_SYS_ADMIN"), "{said}");
    ensure_eq!(here.vsctl().everything()?, before, "everything after a refusal");

    ensure_eq!(here.ok(&format!("{words} --hand-over"))?["changed"], true, "whether something changed");
    // All is as the daemon would have made it.
    let port = here.ok("port show a")?;
    let link = a.link("eth0")?;
    let mac: String = link.mac.context("no address")?.map(|byte| format!("{byte:02x}")).join(":");
    ensure_eq!((&port["state"], &port["mac"]), (&json!("up"), &json!(mac)), "the port");
    ensure_eq!((link.mtu, &port["mtu"]), (1450, &json!(1450)), "MTU");
    let b = there.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let routes = a.netlink().has_route(None, Some("10.0.0.254".parse()?), link.index)?;
    ensure!(routes, "no default route");
    ensure_eq!(here.ok(&format!("{words} --hand-over"))?["changed"], false, "the same again");
    ping(&b, "10.0.0.1".parse()?, 56)?;

    // What needs no right over the namespace can be changed; what does says so, and nothing moves.
    here.ok("vlan add 20 --vni 200")?;
    here.ok(&format!("vtep peer add {} --vlan 20", there.ip))?;
    there.join(20, 200, &[here.ip])?;
    there.ok("port set b --access 20")?;
    here.ok("port set a --access 20")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    for words in ["port set a --mtu 1400", "port set a --address 10.0.0.9/24"] {
        let said = here.vsctl().refused(1, words)?;
        ensure!(said.contains("port del a") && said.contains("--hand-over"), "{words}: {said}");
    }
    ping(&a, "10.0.0.2".parse()?, 56)?;

    // A restart loses the port, and adding it again brings it back.
    let Node { daemon, host, ip } = here;
    ensure!(daemon.end(Signal::SIGTERM)?.success(), "its end");
    let daemon = Daemon::start(lab, &host, &DaemonSpec { vtep_ip: Some(ip), ..spec.clone() })?;
    ensure_eq!(daemon.vsctl().ok("port show a")?["state"], "lost", "state after a restart");
    daemon.vsctl().ok(&format!("{} --hand-over", words.replace("--access 10", "--access 20")))?;
    ensure_eq!(daemon.vsctl().ok("port show a")?["state"], "up", "state when added again");
    ping(&a, "10.0.0.2".parse()?, 56)?;

    daemon.vsctl().ok("port del a")?;
    eventually(SOON, "the interface goes", || {
        ensure!(a.netlink().link("eth0")?.is_none(), "it is there");
        Ok(())
    })
}

/// A user with a container without root makes the interface himself: he has rights nowhere else.
fn a_container_without_root(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let (daemons, users) = (Account::user(USER), Account::user(USER + 1));
    let group = nix::unistd::Group::from_name("nogroup")?.or(nix::unistd::Group::from_name("nobody")?);
    let group = group.context("group nogroup or nobody")?;
    let member = Account { groups: vec![group.gid.as_raw()], ..users.clone() };
    let spec = DaemonSpec {
        account: Some(Account { groups: vec![group.gid.as_raw()], ..daemons }),
        args: args(&["--socket-group", &group.name]),
        ..DaemonSpec::default()
    };
    let daemon = Daemon::start(lab, &host, &spec)?;
    let peer = lab.quiet_host("peer")?;
    daemon.vsctl().ok(&format!("port add peer --netns {} --address 10.0.0.9/24 --hand-over", peer.path().display()))?;

    let mut command = users.command("unshare");
    command.args(["--user", "--map-root-user", "--net", "sleep", "600"]).stdin(Stdio::null());
    let container = Container { process: host.spawn(command)?, host: lab.host("unused")? };
    let pid = container.process.id();
    eventually(SOON, "the container runs", || {
        ensure_eq!(fs::read_to_string(format!("/proc/{pid}/comm"))?.trim(), "sleep", "its program");
        Ok(())
    })?;
    // In its user namespace only, where he is root; the network is still the host's.
    let vsctl = &netns_tests::binaries::binaries()?.vsctl;
    let mut command = member.command("nsenter");
    command.args(["--user", "--preserve-credentials", "--target", &pid.to_string()]).arg(vsctl);
    command.arg("--socket").arg(daemon.socket());
    command.args(["port", "add", "c", "--netns", &format!("pid:{pid}"), "--address", "10.0.0.1/24", "--hand-over"]);
    let log = lab.folder("nsenter")?.join("log");
    let output = fs::File::create(&log)?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child = host.spawn(command)?;
    let status = eventually(SOON, "vsctl ends", || child.try_wait()?.context("it runs"))?;
    ensure!(status.success(), "vsctl in the user's namespace: {}", fs::read_to_string(&log)?);
    ensure_eq!(daemon.vsctl().ok("port show c")?["state"], "up", "state");
    ping(&peer, "10.0.0.1".parse()?, 56)
}

/// Speaks JSON-RPC with descriptors.
fn ask(stream: &UnixStream, method: &str, params: Value, fds: &[BorrowedFd<'_>]) -> Result<Value> {
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string() + "\n";
    let sent = fdpass::send(stream, line.as_bytes(), fds)?;
    ensure_eq!(sent, line.len(), "bytes sent");
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while !answer.ends_with(b"\n") {
        let (read, _) = fdpass::recv(stream, &mut chunk).context("answer")?;
        ensure!(read > 0, "the daemon hung up on {method}");
        answer.extend_from_slice(&chunk[..read]);
    }
    Ok(serde_json::from_slice(&answer)?)
}

fn open_files(daemon: &Daemon) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count())
}

/// Waits until `daemon` has `count` files open: it may not have noticed yet that a client is gone.
fn has_open(daemon: &Daemon, count: usize) -> Result {
    eventually(SOON, "open files", || {
        ensure_eq!(open_files(daemon)?, count, "open files");
        Ok(())
    })
}

fn queues_that_are_wrong(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { args: args(&["--workers", "2", "--socket-mode", "0666"]), ..DaemonSpec::default() };
    let daemon = Daemon::start(lab, &host, &spec)?;
    let stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(SOON))?;
    ask(&stream, "status", json!({}), &[])?;
    let files = open_files(&daemon)?;
    let before = daemon.vsctl().everything()?;
    let elsewhere = lab.host("elsewhere")?;
    let tap = |name: &'static str, queues| elsewhere.call(move || Tap::open(name, queues, None));
    let (good, other, single) = (tap("eth0", 2)?, tap("eth1", 2)?, tap("eth2", 1)?);
    let null: OwnedFd = fs::File::open("/dev/null")?.into();
    let unattached: OwnedFd = fs::File::options().read(true).write(true).open("/dev/net/tun")?.into();
    let queue = |tap: &'static str, at: usize| -> BorrowedFd<'_> {
        let tap = match tap {
            "good" => &good,
            "other" => &other,
            _ => &single,
        };
        tap.queues()[at].as_fd()
    };
    let table: [(&str, Vec<BorrowedFd<'_>>, &[&str]); 7] = [
        ("too few", vec![queue("good", 0)], &["1 queues", "2 workers"]),
        ("too many", vec![queue("good", 0), queue("good", 1), queue("good", 0)], &["3 queues", "2 workers"]),
        ("no device", vec![null.as_fd(), null.as_fd()], &["not /dev/net/tun"]),
        ("no interface", vec![unattached.as_fd(), unattached.as_fd()], &["not attached"]),
        ("two devices", vec![queue("good", 0), queue("other", 1)], &["eth0", "eth1", "one"]),
        ("another name", vec![queue("other", 0), queue("other", 1)], &["eth1", "eth0", "--ifname"]),
        ("one of each", vec![queue("good", 0), null.as_fd()], &["not /dev/net/tun"]),
    ];
    let params = || json!({"name": "a", "netns": "/nowhere/but/handed/over"});
    for (what, fds, said) in table {
        let answer = ask(&stream, "port.add", params(), &fds)?;
        let sentence = answer["error"]["message"].as_str().context(format_args!("{what}: {answer}"))?;
        for part in said {
            ensure!(sentence.contains(part), "{what}: {part:?} is not in: {sentence}");
        }
        ensure_eq!(daemon.vsctl().everything()?, before, "everything after {what}");
        has_open(&daemon, files).context(what)?;
    }
    // With what asks for none, they are closed; the request is served.
    let fds = [null.as_fd(); 30];
    ensure_eq!(ask(&stream, "status", json!({}), &fds)?["result"]["pid"], daemon.pid(), "the answer");
    let answer = ask(&stream, "vlan.add", json!({"vlan": 10}), &fds)?;
    ensure_eq!(answer["result"]["changed"], true, "vlan.add with descriptors: {answer}");
    has_open(&daemon, files).context("after requests that take none")?;
    // And what is right is taken, by the same connection.
    let answer = ask(&stream, "port.add", params(), &[queue("good", 0), queue("good", 1)])?;
    ensure_eq!(answer["result"]["changed"], true, "port.add: {answer}");
    has_open(&daemon, files + 2).context("with a port of two queues")?;
    daemon.vsctl().ok("port del a")?;
    has_open(&daemon, files).context("without it")
}

fn who_may_change(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let gid = 65_534;
    let name = nix::unistd::Group::from_gid(gid.into())?.context("group 65534")?.name;
    let (primary, supplementary) =
        (Account { gid, ..Account::user(1_001) }, Account { groups: vec![7, gid, 9], ..Account::user(1_002) });
    let [root, owner, stranger] = [0, USER, 1_003].map(Account::user);
    // What each gets who lists, and who changes: the exit code.
    let (does, may_not, cannot_connect) = (0, 1, 3);
    let open = [
        (&root, does, does),
        (&owner, does, does),
        (&primary, does, does),
        (&supplementary, does, does),
        (&stranger, does, may_not),
    ];
    let closed = [
        (&root, does, does),
        (&owner, does, does),
        (&primary, does, does),
        (&supplementary, does, does),
        (&stranger, cannot_connect, cannot_connect),
    ];
    let no_group = [
        (&root, does, does),
        (&owner, does, does),
        (&primary, does, may_not),
        (&supplementary, does, may_not),
        (&stranger, does, may_not),
    ];
    // The owner must be in a group to give it a file.
    let account = Some(Account { groups: vec![gid], ..owner.clone() });
    for (words, expected) in [
        (vec!["--socket-group", &name, "--socket-mode", "0666"], open),
        (vec!["--socket-group", "65534"], closed),
        (vec!["--socket-mode", "0666"], no_group),
    ] {
        let spec = DaemonSpec { account: account.clone(), args: args(&words), ..DaemonSpec::default() };
        let daemon = Daemon::start(lab, &host, &spec)?;
        for (who, looks, changes) in expected {
            let vsctl = daemon.vsctl().by(who);
            ensure_eq!(vsctl.run("port list")?.code, looks, "{words:?}: port list by {who:?}");
            let capture = "capture --duration 0.01 -w /dev/null"; // who sees frames sees what others say
            for (words, way_back) in
                [("vlan add 77 --vni 77", Some("vlan del 77")), ("fdb flush", None), (capture, None)]
            {
                let answer = vsctl.run(words)?;
                ensure_eq!(answer.code, changes, "{words} by {who:?}: {}", answer.stderr);
                if answer.code == may_not {
                    for part in [&who.uid.to_string(), "root", &USER.to_string(), "group"] {
                        ensure!(answer.stderr.contains(part), "{part:?} is not in: {}", answer.stderr);
                    }
                    ensure_eq!(daemon.vsctl().ok("vlan list")?, json!([]), "VLANs after a refusal");
                } else if let (0, Some(words)) = (answer.code, way_back) {
                    vsctl.ok(words)?;
                }
            }
        }
        ensure!(daemon.end(Signal::SIGTERM)?.success(), "its end");
    }
    // Who is in no group cannot give it the socket, and is told.
    let spec = DaemonSpec { account: Some(stranger), args: args(&["--socket-group", &name]), ..DaemonSpec::default() };
    let ended = Daemon::refused(lab, &lab.host("h2")?, &spec)?;
    ensure!(ended.output.contains("group 65534") && ended.output.contains("member"), "{}", ended.output);
    Ok(())
}

/// A state directory that leads elsewhere: the sandbox keeps a daemon from following, and a change is refused whole.
fn files_out_of_bounds(lab: &Lab) -> Result {
    for (flag, code) in [(None, 1), (Some("--no-sandbox"), 0)] {
        let name = flag.map_or("confined", |_| "free");
        let host = lab.host(name)?;
        let folder = lab.folder(name)?;
        let outside = folder.join("outside");
        let words: Vec<_> = ["--no-enter-namespaces"].into_iter().chain(flag).collect();
        let daemon = Daemon::start(lab, &host, &DaemonSpec { args: args(&words), ..DaemonSpec::default() })?;
        let sandbox = &daemon.vsctl().ok("status")?["sandbox"];
        ensure_eq!(*sandbox, if flag.is_none() { json!("daemon") } else { Value::Null }, "sandbox");
        ensure_reduced(&daemon, 0, 0, 1, true)?;
        daemon.vsctl().ok("vlan add 10")?;
        fs::rename(folder.join("state"), folder.join("moved"))?;
        fs::create_dir(&outside)?;
        symlink(&outside, folder.join("state"))?;
        ensure_eq!(daemon.vsctl().run("vlan add 20")?.code, code, "{name}: a change that is to be saved elsewhere");
        ensure_eq!(outside.join("state.json").exists(), flag.is_some(), "{name}: the state elsewhere");
        let vlans = daemon.vsctl().ok("vlan list")?.as_array().map(Vec::len);
        ensure_eq!(vlans, Some(if flag.is_none() { 1 } else { 2 }), "{name}: VLANs");
        if flag.is_none() {
            // An interface that was made for a port that is refused goes again.
            let container = lab.quiet_host("container")?;
            let add = format!("port add c --netns {} --hand-over", container.path().display());
            daemon.vsctl().refused(1, &add)?;
            eventually(SOON, "the interface goes", || {
                ensure!(container.netlink().link("eth0")?.is_none(), "it is there");
                Ok(())
            })?;
            fs::remove_file(folder.join("state"))?;
            fs::rename(folder.join("moved"), folder.join("state"))?;
            daemon.vsctl().ok("vlan add 20").context("where it belongs")?;
            let log = daemon.log()?;
            ensure!(log.contains("gave up"), "the log says nothing of it: {log}");
        }
        ensure!(Path::new(daemon.socket()).exists(), "the socket");
        let socket = daemon.socket().to_owned();
        ensure!(daemon.end(Signal::SIGTERM)?.success(), "its end");
        ensure!(!socket.exists(), "{name}: the socket's file stays");
    }
    Ok(())
}

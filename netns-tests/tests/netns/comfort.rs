use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use netns_tests::binaries::binaries;
use netns_tests::frames::{BROADCAST, probe};
use netns_tests::tmux::{self, Terminal};
use netns_tests::{
    Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Station, Underlay, ensure, ensure_eq, eventually,
};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("bash_completes", bash_completes),
    ("zsh_completes", zsh_completes),
    ("fish_completes", fish_completes),
    ("watching_on_a_terminal", watching_on_a_terminal),
    ("watching_through_a_pipe", watching_through_a_pipe),
    ("colours_where_they_are_wanted", colours_where_they_are_wanted),
    ("status_says_what_is_wrong", status_says_what_is_wrong),
    ("a_port_with_too_many_addresses", a_port_with_too_many_addresses),
    ("names_that_were_meant", names_that_were_meant),
    ("manual_pages", manual_pages),
];

/// Why a test of these cannot run here.
pub(crate) fn hindrance(test: &str) -> Option<String> {
    let program = |name: &str| {
        let found = Command::new(name).arg("--version").stdin(Stdio::null()).output();
        found.err().map(|error| format!("{name}: {error}"))
    };
    match test {
        "watching_on_a_terminal" | "colours_where_they_are_wanted" => tmux::hindrance(),
        "bash_completes" => tmux::hindrance().or_else(|| program("bash")),
        "zsh_completes" => tmux::hindrance().or_else(|| program("zsh")),
        "fish_completes" => tmux::hindrance().or_else(|| program("fish")),
        "manual_pages" => program("groff"),
        _ => None,
    }
}

/// A daemon without VXLAN on a host of its own.
fn node(lab: &Lab, args: &[&str]) -> Result<Node> {
    let host = lab.host("h1")?;
    let spec = DaemonSpec { args: args.iter().map(|word| (*word).to_owned()).collect(), ..DaemonSpec::default() };
    let daemon = Daemon::start(lab, &host, &spec)?;
    Ok(Node { daemon, host, ip: [127, 0, 0, 1].into() })
}

/// One with things that have names, and the containers.
fn named(lab: &Lab) -> Result<(Node, [Host; 2])> {
    let node = Node::v6(lab, &Underlay::new(lab, 1500)?, "h1")?;
    node.ok("vlan add 10 --vni 5010 --name lab")?;
    node.ok("vlan add 240")?;
    node.ok("vtep peer add fd00::2 --vlan 10")?;
    let containers = [node.attach(lab, "web", "--access 10")?, node.attach(lab, "wiki", "--access 240")?];
    node.ok("fdb add 02:00:00:00:00:07 --vlan 10 --port web")?;
    Ok((node, containers))
}

/// A terminal with `shell` in it that finds our vsctl, and with it this daemon.
fn terminal(lab: &Lab, node: &Node, shell: &str) -> Result<Terminal> {
    let folder = binaries()?.vsctl.parent().context("vsctl lies in no folder")?.to_owned();
    let before = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([folder].into_iter().chain(env::split_paths(&before)))?;
    let (path, home) = (path.to_string_lossy(), lab.folder("home")?);
    let (home, socket) = (home.to_string_lossy(), node.daemon.socket().to_string_lossy());
    let terminal = Terminal::open(lab, (100, 40), &[("VSWITCH_SOCKET", &*socket), ("HOME", &*home)])?;
    // tmux gives a new terminal its own caller's PATH, whatever it is told.
    terminal.runs(&format!("PATH='{path}' PS1='$ ' exec {shell}"))?;
    Ok(terminal)
}

/// Types each line, presses Tab, and expects it to go on so.
fn completes(terminal: &Terminal, lines: &[(&str, &str)]) -> Result {
    for (typed, completed) in lines {
        terminal.presses(&["C-l"])?;
        terminal.types(typed)?;
        terminal.presses(&["Tab"])?;
        let last = |screen: &str| screen.lines().any(|line| line.trim_end().ends_with(completed));
        terminal.until(&format!("{typed:?} becomes {completed:?}"), last)?;
        terminal.presses(&["C-u"])?; // Ctrl-C would throw away what is typed behind it
    }
    Ok(())
}

/// What every shell is to complete.
const LINES: &[(&str, &str)] = &[
    ("vsctl por", "vsctl port"),
    ("vsctl port show we", "vsctl port show web"),
    ("vsctl port add x --acc", "vsctl port add x --access"),
    ("vsctl port set web --access 2", "vsctl port set web --access 240"),
    ("vsctl port set web --trunk 240,", "vsctl port set web --trunk 240,10"),
    ("vsctl fdb list --vlan=2", "vsctl fdb list --vlan=240"),
    ("vsctl fdb list --port wi", "vsctl fdb list --port wiki"),
    ("vsctl vtep peer del fd00:", "vsctl vtep peer del fd00::2"),
    ("vsctl fdb del 02:00:", "vsctl fdb del 02:00:00:00:00:07"),
    ("vsctl capture web --mac 02:00:00:00:00:0", "vsctl capture web --mac 02:00:00:00:00:07"),
    ("vsctl trace --live --match po", "vsctl trace --live --match port="),
    ("vsctl trace --live --match port=wi", "vsctl trace --live --match port=wiki"),
    ("vsctl trace --live --match port=web,vlan=2", "vsctl trace --live --match port=web,vlan=240"),
];

fn bash_completes(lab: &Lab) -> Result {
    let (node, _containers) = named(lab)?;
    let terminal = terminal(lab, &node, "bash --noprofile --norc")?;
    terminal.runs("source <(vsctl completions bash) && echo loa''ded")?;
    terminal.until("bash has the script", |screen| screen.contains("loaded"))?;
    completes(&terminal, LINES)?;
    // In the middle of a line, and with several to choose from.
    terminal.presses(&["C-l"])?;
    terminal.types("vsctl port show w")?;
    terminal.presses(&["Tab", "Tab"])?;
    terminal.until("both ports are shown", |screen| {
        screen.lines().any(|line| line.contains("web") && line.contains("wiki"))
    })?;
    terminal.presses(&["C-u"])?;
    // Without a daemon nothing is said, and nobody waits.
    terminal.presses(&["C-l"])?;
    terminal.types("vsctl --socket /nonexistent/s port show we")?;
    terminal.presses(&["Tab"])?;
    terminal.types("x")?;
    terminal.until("nothing is added", |screen| screen.lines().any(|line| line.ends_with("port show wex"))).map(drop)
}

fn zsh_completes(lab: &Lab) -> Result {
    let (node, _containers) = named(lab)?;
    let terminal = terminal(lab, &node, "zsh -f")?;
    terminal.runs("autoload -U compinit && compinit -D -u && source <(vsctl completions zsh) && echo loa''ded")?;
    terminal.until("zsh has the script", |screen| screen.contains("loaded"))?;
    completes(&terminal, LINES)?;
    terminal.presses(&["C-l"])?;
    terminal.types("vsctl port show w")?;
    terminal.presses(&["Tab", "Tab"])?;
    let both = |screen: &str| screen.contains("VLAN 10") && screen.contains("VLAN 240");
    terminal.until("both ports are shown, with what they are", both)?;

    // As it is installed: in a folder of functions, loaded when it is needed.
    let folder = lab.folder("functions")?;
    let script = Command::new(&binaries()?.vsctl).args(["completions", "zsh"]).output()?.stdout;
    fs::write(folder.join("_vsctl"), script)?;
    terminal.presses(&["C-u"])?;
    terminal.runs("exec zsh -f")?;
    let load =
        format!("fpath=({} $fpath) && autoload -U compinit && compinit -D -u && echo loa''ded", folder.display());
    terminal.runs(&load)?;
    terminal.until("zsh knows the folder", |screen| screen.contains("loaded"))?;
    completes(&terminal, &LINES[..3])
}

fn fish_completes(lab: &Lab) -> Result {
    let (node, _containers) = named(lab)?;
    let terminal = terminal(lab, &node, "fish --no-config")?;
    terminal.runs("set -g fish_autosuggestion_enabled 0; vsctl completions fish | source; and echo loa''ded")?;
    terminal.until("fish has the script", |screen| screen.contains("loaded"))?;
    completes(&terminal, LINES)?;
    terminal.presses(&["C-l"])?;
    terminal.types("vsctl port show w")?;
    terminal.presses(&["Tab", "Tab"])?;
    let both = |screen: &str| screen.contains("VLAN 10") && screen.contains("VLAN 240");
    terminal.until("both ports are shown, with what they are", both).map(drop)
}

fn watching_on_a_terminal(lab: &Lab) -> Result {
    let node = node(lab, &[])?;
    let _a = node.attach(lab, "a", "")?;
    let terminal = terminal(lab, &node, "bash --noprofile --norc")?;
    terminal.runs("vsctl port list --watch 0.1")?;
    terminal.until("the ports", |screen| screen.contains("Every 0.1 s") && screen.contains("\na "))?;
    let _b = node.attach(lab, "b", "")?;
    let screen = terminal.until("the new one", |screen| screen.contains("\nb "))?;
    let heads = screen.lines().filter(|line| line.starts_with("NAME")).count();
    ensure_eq!(heads, 1, "heads of tables on\n{screen}");
    node.ok("port del b")?;
    terminal.until("it goes again", |screen| !screen.contains("\nb "))?;
    terminal.presses(&["C-c"])?;
    terminal.runs("echo en''ded")?;
    terminal.until("Ctrl-C ends it", |screen| screen.contains("ended")).map(drop)
}

/// Every list, each until a round shows what was changed while it was watched.
fn watching_through_a_pipe(lab: &Lab) -> Result {
    let node = Node::v6(lab, &Underlay::new(lab, 1500)?, "h1")?;
    let _a = node.attach_quiet(lab, "a", "--access 10")?;
    let table = [
        ("port list", "port set a --mtu 1300", "1300"),
        ("vlan list", "vlan add 10 --name lab", "\"lab\""),
        ("vtep peer list", "vtep peer add fd00::2 --all-vlans", "fd00::2"),
        ("fdb list", "fdb add 02:00:00:00:00:07 --vlan 10 --port a", "02:00:00:00:00:07"),
        ("neighbour list", "port set a --address 10.0.0.7/24", "10.0.0.7"),
        ("stats", "port del a", "[{\"port\":\"tunnel\""),
        // It takes a container runtime to have any: only that there is another round.
        ("attachment list", "vlan add 20", "[]"),
    ];
    for (list, change, shown) in table {
        let mut command = node.vsctl().command()?;
        command.arg("--json").args(list.split(' ')).args(["--watch", "0.1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = node.host.spawn(command)?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let seen = (|| -> Result {
            let first = lines.next().context("it ended")??;
            ensure!(list == "attachment list" || !first.contains(shown), "{list} shows {shown} at once: {first}");
            node.ok(change)?;
            // Some rounds may have been on their way.
            for line in lines.by_ref().take(50) {
                if line?.contains(shown) {
                    return Ok(());
                }
            }
            Err(netns_tests::Failure::new(format!("{list}: {shown} is in no round")))
        })();
        let _ = child.kill();
        child.wait()?;
        seen?;
    }
    Ok(())
}

fn colours_where_they_are_wanted(lab: &Lab) -> Result {
    let node = node(lab, &[])?;
    let _a = node.attach(lab, "a", "")?;
    let said = |variables: &[(&str, &str)], words: &[&str]| -> Result<String> {
        let mut command = node.vsctl().command()?;
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("TERM", "xterm");
        command.args(words).envs(variables.iter().copied());
        Ok(String::from_utf8(command.output()?.stdout)?)
    };
    for words in [["port", "list"].as_slice(), &["status"], &["stats"], &["--help"]] {
        let forced = said(&[("CLICOLOR_FORCE", "1")], words)?;
        ensure!(forced.contains("\x1b["), "{words:?} without colours: {forced}");
        for variables in [&[][..], &[("NO_COLOR", "1")], &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]] {
            let plain = said(variables, words)?;
            ensure!(!plain.contains('\x1b'), "{words:?} with {variables:?} has colours: {plain:?}");
        }
    }
    let json = said(&[("CLICOLOR_FORCE", "1")], &["--json", "status"])?;
    ensure!(!json.contains('\x1b'), "JSON with colours: {json:?}");
    let terminal = terminal(lab, &node, "bash --noprofile --norc")?;
    terminal.runs("vsctl port list")?;
    terminal.until("the list", |screen| screen.contains("\na "))?;
    let coloured = terminal.coloured_screen()?;
    ensure!(coloured.contains("\x1b[32m"), "no green on a terminal: {coloured:?}");
    terminal.runs("clear; NO_COLOR=1 vsctl port list; echo do''ne")?;
    terminal.until("the list again", |screen| screen.starts_with("NAME") && screen.contains("\ndone"))?;
    let plain = terminal.coloured_screen()?;
    ensure!(!plain.contains("\x1b[32m"), "green in spite of NO_COLOR: {plain:?}");
    Ok(())
}

/// The first line of `vsctl status`, and its exit code.
fn status(node: &Node) -> Result<(String, Option<i32>)> {
    let output = node.vsctl().command()?.arg("status").output()?;
    let text = String::from_utf8(output.stdout)?;
    let too_long = text.lines().find(|line| line.chars().count() > 80);
    ensure!(too_long.is_none() && text.lines().count() <= 23, "no screen of 80 by 24:\n{text}");
    Ok((text.lines().next().unwrap_or_default().to_owned(), output.status.code()))
}

fn status_says_what_is_wrong(lab: &Lab) -> Result {
    let node = node(lab, &["--storm-limit", "100", "--fdb-limit", "10"])?;
    let a = node.attach_quiet(lab, "a", "--access 10")?;
    let _b = node.attach_quiet(lab, "b", "--access 10")?;
    ensure_eq!(status(&node)?, ("healthy".to_owned(), Some(0)), "status of a quiet switch");
    let json = node.ok("status")?;
    ensure_eq!((&json["healthy"], json["findings"].as_array().map(Vec::len)), (&true.into(), Some(0)), "JSON");

    // A storm, for as long as it takes to see it.
    let (socket, from) = (a.packet_socket("eth0")?, a.mac("eth0")?);
    let ends = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                // A queue that is full is what a storm makes.
                let _ = socket.send(&probe(BROADCAST, from, None, 7));
            }
        });
        let seen = eventually(SOON, "the storm is told", || {
            let (line, code) = status(&node)?;
            ensure_eq!(code, Some(0), "exit code");
            ensure!(line.starts_with("unhealthy") && line.contains("a storm at port a"), "{line}");
            Ok(())
        });
        ends.store(true, Ordering::Relaxed);
        seen
    });
    seen?;
    eventually(SOON, "it is over", || {
        ensure_eq!(status(&node)?.0, "healthy", "status");
        Ok(())
    })?;

    for last in 1..=8 {
        node.ok(&format!("fdb add 02:00:00:00:00:0{last} --vlan 10 --port a"))?;
    }
    eventually(SOON, "the table is full", || {
        let (line, _) = status(&node)?;
        ensure!(line.contains("of 10 addresses"), "{line}");
        Ok(())
    })?;

    drop(_b);
    eventually(SOON, "the port is lost", || {
        let (line, code) = status(&node)?;
        ensure_eq!(code, Some(0), "exit code");
        ensure!(line.contains("1 of 2 ports lost: b"), "{line}");
        Ok(())
    })?;
    let json = node.ok("status")?;
    ensure_eq!((&json["healthy"], &json["findings"][0]["name"]), (&false.into(), &"port_lost".into()), "JSON");
    Ok(())
}

fn a_port_with_too_many_addresses(lab: &Lab) -> Result {
    let node = node(lab, &["--fdb-limit-per-port", "2"])?;
    let a = Station::new(node.attach_quiet(lab, "a", "--access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--access 10")?)?;
    let station = |last| [2, 0xaa, 0, 0, 0, last];
    // As many as they may have.
    for last in 1..=2 {
        a.probe_as(station(last), BROADCAST)?;
        b.probe_as(station(0x10 + last), BROADCAST)?;
    }
    eventually(SOON, "all are learned", || {
        ensure_eq!(node.ok("status")?["fdb_used"], 4, "addresses");
        Ok(())
    })?;
    ensure_eq!(status(&node)?, ("healthy".to_owned(), Some(0)), "status of ports at their limit");
    a.probe_as(station(3), BROADCAST)?;
    eventually(SOON, "one too many is told", || {
        let (line, code) = status(&node)?;
        ensure_eq!(code, Some(0), "exit code");
        ensure_eq!(
            line,
            "unhealthy    port a has more than 2 addresses: old ones make room for new ones",
            "first line"
        );
        Ok(())
    })?;
    let json = node.ok("status")?;
    let place = serde_json::json!([{"port": "a", "remote": null}]);
    ensure_eq!(
        (&json["fdb_full_ports"], &json["fdb_evicted"], &json["fdb_used"]),
        (&place, &1.into(), &4.into()),
        "JSON"
    );
    let Some([finding]) = json["findings"].as_array().map(Vec::as_slice) else {
        return Err(netns_tests::Failure::new(format!("not one finding: {json}")));
    };
    ensure_eq!(
        (&finding["name"], &finding["look"]),
        (&"fdb_port_full".into(), &"vswitchd --fdb-limit-per-port".into()),
        "finding"
    );
    // Its addresses are forgotten, and so is that.
    node.ok("fdb flush --port a")?;
    ensure_eq!(status(&node)?.0, "healthy", "status when they are forgotten");
    Ok(())
}

fn names_that_were_meant(lab: &Lab) -> Result {
    let (node, _containers) = named(lab)?;
    for words in
        ["port show wbe", "port del wbe", "port set wbe --mtu 1400", "stats wbe", "fdb list --port wbe", "why wbe wiki"]
    {
        let said = node.vsctl().refused(1, words)?;
        ensure!(said.ends_with("did you mean web?"), "vsctl {words}: {said}");
    }
    let said = node.vsctl().refused(1, "port show elsewhere")?;
    ensure!(!said.contains("did you mean"), "{said}");
    Ok(())
}

fn manual_pages(lab: &Lab) -> Result {
    let folder = lab.folder("man")?;
    let done = Command::new(&binaries()?.vsctl).arg("man").arg(&folder).output()?;
    ensure!(done.status.success() && done.stdout.is_empty(), "vsctl man: {done:?}");
    let page = Command::new(&binaries()?.vswitchd).arg("--man").output()?;
    ensure!(page.status.success(), "vswitchd --man: {page:?}");
    fs::write(folder.join("vswitchd.8"), page.stdout)?;
    let pages: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
    ensure!(pages.len() > 20, "{} pages", pages.len());
    for page in &pages {
        let seen = Command::new("groff").args(["-man", "-ww", "-Tutf8"]).arg(page).output()?;
        let complaints = String::from_utf8_lossy(&seen.stderr);
        ensure!(seen.status.success() && complaints.is_empty(), "{}: {complaints}", page.display());
        ensure!(seen.stdout.len() > 300, "{} is empty", page.display());
    }
    Ok(())
}

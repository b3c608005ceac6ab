use std::process::Stdio;

use netns_tests::tmux::Terminal;
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::stream::Stream;
use netns_tests::{Context, Daemon, DaemonSpec, Lab, Node, Result, SOON, ensure, ensure_eq, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("once", once),
    ("objects", objects),
    ("no_terminal", no_terminal),
    ("traffic", traffic),
    ("drops", drops),
    ("probed_peers", probed_peers),
    ("keys", keys),
    ("sizes", sizes),
    ("colours", colours),
    ("a_daemon_that_goes", a_daemon_that_goes),
    ("it_gives_the_terminal_back", it_gives_the_terminal_back),
    ("it_stops_and_goes_on", it_stops_and_goes_on),
];

/// Those that need tmux.
pub(crate) const IN_A_TERMINAL: &[&str] = &[
    "traffic",
    "drops",
    "keys",
    "sizes",
    "colours",
    "a_daemon_that_goes",
    "it_gives_the_terminal_back",
    "it_stops_and_goes_on",
];

const SIZE: (u16, u16) = (110, 24);

/// What is done to a terminal, and how.
type Way<'a> = (&'a str, &'a dyn Fn(&Terminal) -> Result);

/// A switch without VXLAN, with two containers.
fn alone(lab: &Lab, config: &str) -> Result<(Node, [netns_tests::Host; 2])> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { config: config.to_owned(), ..DaemonSpec::default() })?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let red = node.attach_quiet(lab, "red", "--address 10.0.0.1/24")?;
    let blue = node.attach_quiet(lab, "blue", "--address 10.0.0.2/24")?;
    Ok((node, [red, blue]))
}

/// The command line of `vsctl top` for `node`, for a shell.
fn top(node: &Node, words: &str) -> Result<String> {
    let command = node.vsctl().command()?;
    let mut line = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        line.extend([" ", &word.to_string_lossy()]);
    }
    Ok(format!("{line} top --interval 0.2 {words}"))
}

/// A terminal in which it runs, and has counted twice.
fn shown(lab: &Lab, node: &Node, size: (u16, u16), env: &[(&str, &str)]) -> Result<Terminal> {
    let terminal = Terminal::open(lab, size, env)?;
    terminal.runs(&top(node, "")?)?;
    terminal.shows("all ports: rx ")?;
    Ok(terminal)
}

/// The cells of the row called `name`, if it is on `screen`.
fn row<'a>(screen: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let rows = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|cells| cells.first() == Some(&name))
}

/// The names in the first column of the table headed by `head`, from the top.
fn names(screen: &str, head: &str) -> Vec<String> {
    let below = screen.lines().skip_while(|line| !line.starts_with(head)).skip(1);
    let rows = below.take_while(|line| !line.trim().is_empty());
    rows.filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// Whether a cell says that much passes: thousands and more.
fn is_much(cell: &str) -> bool {
    cell.ends_with(['k', 'M', 'G'])
}

fn once(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let stream = Stream::start(&c1, &c2, "10.0.0.2".parse()?, lab.random().next_u64())?;
    stream.go_on(1 << 20)?;
    let output = h1.vsctl().command()?.args(["top", "--once", "--interval", "0.5"]).stdin(Stdio::null()).output()?;
    stream.stop()?;
    let text = String::from_utf8(output.stdout).context("what it prints")?;
    ensure!(output.status.success(), "it fails: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.starts_with("vswitchd ") && text.contains("1 port, 1 peer, 1 worker"), "no head:\n{text}");
    ensure!(!text.contains('\x1b'), "what only terminals understand:\n{text}");
    // NAME, RX/s, RX b/s, TX/s, TX b/s, ...: data one way, acknowledgements the other.
    for (name, busy) in [("c1", 2), ("tunnel", 4), (h2.ip.to_string().as_str(), 4)] {
        let cells = row(&text, name).context(format_args!("no row {name}:\n{text}"))?;
        ensure!(cells[busy].ends_with(['M', 'G']), "{name} passes {} bit/s:\n{text}", cells[busy]);
    }
    let worker = row(&text, "0").context(format_args!("no worker:\n{text}"))?;
    ensure!(worker[1] != "-" && worker[1] != "0", "frames read at once: {worker:?}");
    Ok(())
}

fn objects(lab: &Lab) -> Result {
    let (node, [red, blue]) = alone(lab, "")?;
    let mac = blue.mac("eth0")?;
    let flood = Flood::start(&red, "eth0", Kind::KnownUnicast(mac), 2_000)?;
    let output = node.vsctl().command()?.args(["--json", "top", "--once", "--interval", "1"]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).context("an object")?;
    let rate = report["ports"][0]["rx_frames"].as_f64().context(format_args!("no rate: {report}"))?;
    ensure_eq!(report["ports"][0]["port"], "blue", "the first port");
    ensure!(rate < 1.0, "blue sends nothing, and {rate} frames a second were seen");
    let rate = report["ports"][1]["rx_frames"].as_f64().context("a rate")?;
    ensure!((1_000.0..=3_000.0).contains(&rate), "2,000 frames a second are sent, {rate} seen: {report}");
    drop(flood);
    // Without --once, one after the other, until nobody reads any more.
    let mut command = node.vsctl().command()?;
    let mut child = command.args(["--json", "top", "--interval", "0.1"]).stdout(Stdio::piped()).spawn()?;
    let mut reader = std::io::BufReader::new(child.stdout.take().context("its output")?);
    for _ in 0..3 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line)?;
        let report: Value = serde_json::from_str(&line).context("an object a line")?;
        ensure_eq!(report["workers"][0]["worker"], 0, "a worker");
    }
    drop(reader);
    let status = eventually(SOON, "it ends with its reader", || child.try_wait()?.context("it runs"))?;
    ensure_eq!(status.code(), Some(0), "exit code");
    Ok(())
}

fn no_terminal(lab: &Lab) -> Result {
    let (node, _containers) = alone(lab, "")?;
    let output = node.vsctl().command()?.arg("top").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure_eq!(output.status.code(), Some(2), "exit code: {said}");
    ensure!(said.contains("no terminal") && said.contains("--once") && said.contains("--json"), "it says: {said}");
    ensure!(output.stdout.is_empty(), "it prints {:?}", output.stdout);
    drop(node.daemon);
    Ok(())
}

fn traffic(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    h1.attach_quiet(lab, "idle", "--address 10.0.0.3/24 --access 10")?;
    let terminal = shown(lab, &h1, SIZE, &[])?;
    terminal.until("nothing passes", |screen| row(screen, "c1").is_some_and(|cells| cells[2] == "0"))?;
    let peer = h2.ip.to_string();
    let stream = Stream::start(&c1, &c2, "10.0.0.2".parse()?, lab.random().next_u64())?;
    let screen = terminal.until("all that a stream passes is busy", |screen| {
        let busy = |name: &str, column| row(screen, name).is_some_and(|cells| is_much(cells[column]));
        busy("c1", 2) && busy("tunnel", 4) && busy(&peer, 4) && screen.contains('█')
    })?;
    ensure_eq!(row(&screen, "idle").context("the idle port")?[2], "0", "what the idle port sends");
    // The busiest first.
    let ports = names(&screen, "PORT");
    ensure!(ports.last().is_some_and(|name| name == "idle"), "order of ports: {ports:?}");
    stream.stop()?;
    terminal.until("nothing passes any more", |screen| row(screen, "c1").is_some_and(|cells| cells[2] == "0"))?;
    Ok(())
}

fn probed_peers(lab: &Lab) -> Result {
    let args = vec!["--probe-interval".to_owned(), "200ms".to_owned()];
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let peer = h2.ip.to_string();
    let report = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        eventually(SOON, what, || {
            let output = h1.vsctl().command()?.args(["--json", "top", "--once", "--interval", "0.2"]).output()?;
            let report: Value = serde_json::from_slice(&output.stdout).context("an object")?;
            ensure!(is_so(&report), "{report}");
            Ok(report)
        })
    };
    let healthy = report("the peer is healthy", &|report| report["peers"][0]["health"]["state"] == "healthy")?;
    ensure_eq!(healthy["peers"][0]["peer"], peer.as_str(), "the peer");
    let output = h1.vsctl().command()?.args(["top", "--once", "--interval", "0.2"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let cells = row(&text, &peer).context(format_args!("no row of the peer:\n{text}"))?;
    ensure!(cells.contains(&"healthy") && text.contains("TRIP"), "how the way to it is:\n{text}");
    h2.daemon.end(Signal::SIGKILL)?;
    let gone = report("the peer is unreachable", &|report| report["peers"][0]["health"]["state"] == "unreachable")?;
    ensure_eq!(gone["healthy"], false, "all of it");
    ensure!(
        gone["ailments"][0].as_str().is_some_and(|text| text.contains(&peer)),
        "what is wrong: {}",
        gone["ailments"]
    );
    Ok(())
}

fn drops(lab: &Lab) -> Result {
    let (node, [red, _blue]) = alone(lab, "storm-limit = 100\n")?;
    let terminal = shown(lab, &node, SIZE, &[])?;
    let _flood = Flood::start(&red, "eth0", Kind::Broadcast, 2_000)?;
    terminal.until("the reason", |screen| {
        let said = row(screen, "red").is_some_and(|cells| is_much(cells[5]) && cells[6] == "storm_broadcast");
        said && screen.lines().next().is_some_and(|line| line.contains("(storm_broadcast)"))
    })?;
    // And what it means, of the row that is marked.
    terminal.types("/red")?;
    terminal.presses(&["Enter", "Down"])?;
    terminal.until("its meaning", |screen| {
        screen.lines().any(|line| line.starts_with("red: ") && line.contains("/s storm_broadcast (") && line.len() > 50)
    })?;
    Ok(())
}

fn keys(lab: &Lab) -> Result {
    let (node, [red, blue]) = alone(lab, "")?;
    let _flood = Flood::start(&red, "eth0", Kind::KnownUnicast(blue.mac("eth0")?), 2_000)?;
    let terminal = shown(lab, &node, SIZE, &[])?;
    let order = |expected: &'static str| move |screen: &str| names(screen, "PORT").join(" ") == expected;
    // By name, forth and back.
    terminal.types(">")?;
    terminal.until("ports by name", order("blue red tunnel"))?;
    terminal.types("r")?;
    terminal.until("ports by name, from the end", order("tunnel red blue"))?;
    terminal.types(">")?;
    terminal.until("ports by what they send", |screen| {
        names(screen, "PORT").first().is_some_and(|name| name == "red") && screen.contains("RX/s▼")
    })?;
    terminal.presses(&["/"])?;
    terminal.types("blu")?;
    terminal.until("only one", order("blue"))?;
    terminal.presses(&["Enter"])?;
    terminal.shows("only names with \"blu\"")?;
    terminal.presses(&["Escape"])?;
    terminal.until("all of them", |screen| names(screen, "PORT").len() == 3)?;
    terminal.types("?")?;
    terminal.shows("Any key leads back.")?;
    terminal.types("x")?;
    terminal.until("the tables again", |screen| row(screen, "red").is_some())?;
    terminal.types("p")?;
    terminal.shows("PAUSED")?;
    let still = terminal.screen()?;
    let port = lab.quiet_host("green")?;
    node.ok(&format!("port add green --netns {}", port.path().display()))?;
    // It was asked again, and shows what was there.
    eventually(SOON, "time passes", || {
        ensure!(node.ok("status")?["uptime_s"].as_u64() > uptime(&still), "not yet");
        Ok(())
    })?;
    ensure_eq!(terminal.screen()?, still, "a screen that is paused");
    terminal.types("p")?;
    terminal.until("what came meanwhile", |screen| row(screen, "green").is_some() && !screen.contains("PAUSED"))?;
    terminal.types("q")?;
    terminal.until("the shell", |screen| screen.trim_end().ends_with("ready>"))?;
    Ok(())
}

/// Two seconds after what the first line of `screen` says, where that is less than a minute.
fn uptime(screen: &str) -> Option<u64> {
    let (_, after) = screen.split_once("up ")?;
    Some(after.split(' ').next()?.parse::<u64>().ok()? + 2)
}

fn sizes(lab: &Lab) -> Result {
    let (node, _containers) = alone(lab, "")?;
    let terminal = shown(lab, &node, SIZE, &[])?;
    let head =
        |screen: &str| screen.lines().find(|line| line.starts_with("PORT")).map(|line| line.trim_end().to_owned());
    ensure!(head(&terminal.screen()?).is_some_and(|head| head.contains("NOTE")), "columns: {}", terminal.screen()?);
    // Fewer columns, fewer lines; then too few; then all again.
    terminal.resize(40, 9)?;
    terminal.until("fewer columns", |screen| {
        head(screen).is_some_and(|head| head.contains("DROP/s") && !head.contains("TX/s"))
            && screen.lines().count() <= 9
    })?;
    terminal.resize(20, 4)?;
    terminal.shows("too small")?;
    terminal.resize(200, 50)?;
    terminal.until("all again", |screen| {
        head(screen).is_some_and(|head| head.contains("TX b/s")) && screen.contains("WORKER")
    })?;
    Ok(())
}

fn colours(lab: &Lab) -> Result {
    let (node, _containers) = alone(lab, "")?;
    // SGR 30 to 38 are colours of characters; 39 is none.
    let is_coloured = |screen: &str| {
        screen.split('\x1b').any(|part| {
            part.strip_prefix('[').is_some_and(|codes| {
                codes.split_once('m').is_some_and(|(codes, _)| {
                    codes.split(';').any(|code| {
                        code.len() == 2 && ('0'..='8').any(|colour| code.ends_with(colour)) && code.starts_with('3')
                    })
                })
            })
        })
    };
    let with = shown(lab, &node, SIZE, &[])?;
    ensure!(is_coloured(&with.coloured_screen()?), "no colours: {:?}", with.coloured_screen()?);
    drop(with);
    let without = shown(lab, &node, SIZE, &[("NO_COLOR", "1")])?;
    ensure!(!is_coloured(&without.coloured_screen()?), "colours: {:?}", without.coloured_screen()?);
    drop(without);
    // A terminal without more than ASCII gets no more.
    let ascii = shown(lab, &node, SIZE, &[("LC_ALL", "C")])?;
    let screen = ascii.shows("b/sv")?;
    ensure!(screen.is_ascii(), "not ASCII:\n{screen}");
    Ok(())
}

fn a_daemon_that_goes(lab: &Lab) -> Result {
    let (node, [red, blue]) = alone(lab, "")?;
    let terminal = shown(lab, &node, SIZE, &[])?;
    let Node { daemon, host, .. } = node;
    daemon.end(Signal::SIGKILL)?;
    let screen = terminal.until("why, and what to do", |screen| {
        screen.contains("NO ANSWER, trying again") && screen.contains("is vswitchd running?")
    })?;
    ensure!(row(&screen, "red").is_some(), "what was known is there still:\n{screen}");
    let daemon = Daemon::start(lab, &host, &DaemonSpec::default())?;
    terminal.until("it is heard again", |screen| !screen.contains("NO ANSWER") && screen.contains("all ports: rx"))?;
    let _flood = Flood::start(&red, "eth0", Kind::KnownUnicast(blue.mac("eth0")?), 2_000)?;
    terminal.until("and counted", |screen| row(screen, "red").is_some_and(|cells| is_much(cells[1])))?;
    terminal.types("q")?;
    terminal.until("the shell", |screen| screen.trim_end().ends_with("ready>"))?;
    // Not there from the start is an error.
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let line = top(&node, "")?;
    node.daemon.end(Signal::SIGTERM)?;
    terminal.runs(&format!("clear; {line}; echo exit code $?"))?;
    terminal.shows("exit code 3")?;
    ensure!(terminal.screen()?.contains("cannot connect to"), "it says\n{}", terminal.screen()?);
    Ok(())
}

/// Whatever ends it, the shell has its terminal again: its modes, its screen, its cursor.
fn it_gives_the_terminal_back(lab: &Lab) -> Result {
    let (node, _containers) = alone(lab, "")?;
    let terminal = Terminal::open(lab, SIZE, &[])?;
    let line = top(&node, "")?;
    let modes = lab.folder("modes")?;
    let (before, after) = (modes.join("before"), modes.join("after"));
    terminal.runs(&format!("stty -a >{}; echo before", before.display()))?;
    terminal.shows("\nbefore")?;
    let ways: [Way<'_>; 8] = [
        ("q", &|terminal| terminal.types("q")),
        ("Ctrl-C", &|terminal| terminal.presses(&["C-c"])),
        ("Ctrl-C in a filter", &|terminal| terminal.presses(&["/", "C-c"])),
        ("SIGINT", &|terminal| signal(terminal, Signal::SIGINT)),
        ("SIGTERM", &|terminal| signal(terminal, Signal::SIGTERM)),
        ("SIGHUP", &|terminal| signal(terminal, Signal::SIGHUP)),
        ("SIGQUIT", &|terminal| signal(terminal, Signal::SIGQUIT)),
        ("q in the help", &|terminal| terminal.types("?q")),
    ];
    for (what, end) in ways {
        let done = format!("done {}", what.replace(' ', "-"));
        terminal.runs(&format!("clear; {line}; c=$?; stty -a >{}; echo {done} $c", after.display()))?;
        terminal.shows("all ports: rx ")?;
        ensure_eq!(terminal.knows("alternate_on")?, "1", "{what}: a screen of its own");
        ensure_eq!(terminal.knows("cursor_flag")?, "0", "{what}: the cursor is hidden");
        end(&terminal).context(what)?;
        terminal.shows(&format!("{done} 0")).context(what)?;
        ensure_eq!(terminal.knows("alternate_on")?, "0", "{what}: the screen of the shell");
        ensure_eq!(terminal.knows("cursor_flag")?, "1", "{what}: the cursor is there");
        let modes = |path| std::fs::read_to_string(path).context("modes of the terminal");
        ensure_eq!(modes(&after)?, modes(&before)?, "{what}: modes of the terminal");
        let screen = terminal.screen()?;
        ensure!(!screen.contains("all ports"), "{what}: it left something behind:\n{screen}");
    }
    Ok(())
}

/// The process that has the terminal.
fn in_front(terminal: &Terminal) -> Result<Pid> {
    let shell = terminal.knows("pane_pid")?;
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
    let child = children.split_whitespace().next().context("the shell runs nothing")?;
    Ok(Pid::from_raw(child.parse()?))
}

fn signal(terminal: &Terminal, signal: Signal) -> Result {
    kill(in_front(terminal)?, signal).context(signal)
}

fn it_stops_and_goes_on(lab: &Lab) -> Result {
    let (node, _containers) = alone(lab, "")?;
    let terminal = shown(lab, &node, SIZE, &[])?;
    let ways: [Way<'_>; 3] = [
        ("Ctrl-Z", &|terminal| terminal.presses(&["C-z"])),
        ("SIGTSTP", &|terminal| signal(terminal, Signal::SIGTSTP)),
        ("SIGCONT alone", &|terminal| signal(terminal, Signal::SIGCONT)),
    ];
    for (what, stop) in ways {
        stop(&terminal).context(what)?;
        if what != "SIGCONT alone" {
            // The shell has its terminal, and echoes what is typed.
            terminal.until("the shell", |screen| screen.trim_end().ends_with("ready>")).context(what)?;
            ensure_eq!(terminal.knows("alternate_on")?, "0", "{what}: the screen of the shell");
            terminal.runs("clear; echo $((6*7)); fg")?;
        }
        terminal.until("it goes on", |screen| screen.contains("all ports: rx ")).context(what)?;
        eventually(SOON, "a screen of its own", || {
            ensure_eq!(terminal.knows("alternate_on")?, "1", "{what}");
            Ok(())
        })?;
        // Keys are for it again.
        terminal.types("?")?;
        terminal.shows("Any key leads back.").context(what)?;
        terminal.types("x")?;
        terminal.until("the tables again", |screen| row(screen, "red").is_some()).context(what)?;
    }
    Ok(())
}

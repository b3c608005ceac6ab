use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netns_tests::frames::{BROADCAST, cookie, cookie_of, probe, text, vxlan};
use netns_tests::traffic::flood::{Flood, Kind};
use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::traffic::tcp::Connection;
use netns_tests::watching::no_tcpdump;
use netns_tests::{
    Context, Daemon, DaemonSpec, Host, Lab, Node, Result, SOON, Station, Stats, Watching, drops, ensure, ensure_eq,
    eventually,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::{Domain, Type};

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("filters", filters),
    ("a_reader_that_sleeps_under_a_flood", a_reader_that_sleeps_under_a_flood),
    ("a_reader_who_goes", a_reader_who_goes),
    ("too_many", too_many),
    ("lines_at_a_rate", lines_at_a_rate),
    ("the_flight_recorder", the_flight_recorder),
    ("words_that_mean_nothing", words_that_mean_nothing),
    ("a_port_that_comes_and_goes", a_port_that_comes_and_goes),
];

/// With VXLAN between.
pub(crate) const ACROSS: Tests = &[
    ("what_is_counted", |lab| what_is_counted(lab, 1)),
    ("what_is_counted_with_two_workers", |lab| what_is_counted(lab, 2)),
    ("a_takeover_ends_it", a_takeover_ends_it),
];

/// A switch without VXLAN.
fn alone(lab: &Lab, config: &str) -> Result<Node> {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &DaemonSpec { config: config.to_owned(), ..DaemonSpec::default() })?;
    Ok(Node { daemon, host, ip: [127, 0, 0, 1].into() })
}

/// The counters once nothing moves any more.
fn settled(node: &Node) -> Result<Stats> {
    let mut last = node.stats()?;
    eventually(SOON, "the counters come to rest", || {
        let now = node.stats()?;
        let moved = std::mem::replace(&mut last, now.clone()) != now;
        ensure!(!moved, "they move");
        Ok(now)
    })
}

/// A socket of `host` that sends to the VTEP of `node`.
fn underlay_socket(host: &Host, node: &Node) -> Result<UdpSocket> {
    let socket = host.socket(Domain::IPV4, Type::DGRAM, None)?;
    socket.connect(&SocketAddr::new(node.ip, 4789).into())?;
    Ok(socket.into())
}

fn what_is_counted(lab: &Lab, workers: u16) -> Result {
    let spec = DaemonSpec { config: format!("workers = {workers}\n"), ..DaemonSpec::default() };
    let (_underlay, h1, h2) = Node::pair_with(lab, 1500, &spec)?;
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let c3 = h1.attach_quiet(lab, "c3", "--address 10.0.0.3/24 --access 10")?;
    let narrow = h1.attach_quiet(lab, "narrow", "--address 10.0.0.4/24 --access 10 --mtu 1400")?;
    let trunk = Station::new(h1.attach_quiet(lab, "trunk", "--trunk 10,20")?)?.in_vlan(10);
    ping(&c1, "10.0.0.3".parse()?, 56)?;
    let (before, start) = (settled(&h1)?, SystemTime::now());
    let watching = Watching::start(lab, &h1, "all", "")?;
    // At the same time, and of one port only.
    let other = Watching::start(lab, &h1, "one", "c3 --snaplen 60")?;

    for (other, ip) in [(&c3, "10.0.0.3"), (&c2, "10.0.0.2")] {
        ping(&c1, ip.parse()?, 56)?;
        ping(other, "10.0.0.1".parse()?, 1400)?;
        Connection::open(&c1, other, ip.parse()?)?.both_ways(2 << 20, 1 << 16, lab.random().next_u64())?;
    }
    // What is too big for one of them, and so told to its sender.
    ping(&narrow, "10.0.0.1".parse()?, 56)?;
    let socket = c1.socket(Domain::IPV4, Type::DGRAM, None)?;
    socket.send_to(&[0; 1410], &SocketAddr::new("10.0.0.4".parse()?, 9).into())?;
    eventually(SOON, "a datagram is too big", || {
        ensure_eq!(h1.stats()?.dropped("c1", "too_big"), 1, "such drops");
        Ok(())
    })?;
    let wire = Station::new(c3)?;
    let odd = [
        probe(BROADCAST, [0xff; 6], None, cookie()),
        probe(trunk.mac, wire.mac, Some(30), cookie()),
        probe([0x01, 0x80, 0xc2, 0, 0, 0], wire.mac, None, cookie()),
    ];
    for frame in &odd {
        wire.wire.send(frame)?;
    }
    trunk.probe(BROADCAST)?;
    trunk.probe(wire.mac)?;
    let socket = underlay_socket(&h2.host, &h1)?;
    for datagram in [vxlan(0, 100, &odd[0]), vxlan(8, 101, &odd[0]), vxlan(8, 100, &odd[1]), vxlan(8, 100, &[]), vec![]]
    {
        socket.send(&datagram)?;
    }
    socket.send(&vxlan(8, 100, &probe(wire.mac, [0xff; 6], None, cookie())))?;
    let last = cookie();
    socket.send(&vxlan(8, 100, &probe(BROADCAST, [2, 0, 0, 0, 0, 0x77], None, last)))?;
    wire.wire.until("the last frame", |frame| cookie_of(frame) == Some(last))?;

    let after = settled(&h1)?;
    let (all, one, end) = (watching.stop()?, other.stop()?, SystemTime::now());
    ensure_eq!((all.code, one.code), (Some(0), Some(0)), "exit codes: {} {}", all.said, one.said);
    all.is_what_was_counted(&before, &after)?;
    let dropped = all.drops();
    for (port, reason) in [
        ("c1", "too_big"),
        ("c3", "bad_source"),
        ("c3", "vlan_not_allowed"),
        ("c3", "reserved_address"),
        ("tunnel", "vxlan_flags"),
        ("tunnel", "unknown_vni"),
        ("tunnel", "inner_tag"),
        ("tunnel", "vxlan_truncated"),
        ("tunnel", "bad_source"),
    ] {
        ensure!(dropped.contains_key(&(port.to_owned(), reason.to_owned())), "{port}, {reason}: not in {dropped:?}");
    }
    // Times are those of day, in order at each port of one worker; frames are whole, tags as they left.
    let nanos = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_nanos());
    let (start, end) = (nanos(start).context("now")?, nanos(end).context("now")?);
    for seen in &all.frames {
        ensure!((start..end).contains(&seen.at), "at {}, not from {start} to {end}", seen.at);
        ensure_eq!(seen.bytes.len() as u64, seen.len, "bytes of a frame at {}", seen.port);
        let is_tagged = seen.bytes.get(12..14) == Some(&[0x81, 0]);
        ensure!(!is_tagged || seen.port == "trunk" || seen.dropped.is_some(), "a tag at {}", seen.port);
    }
    ensure!(
        all.frames.iter().any(|seen| seen.port == "trunk" && !seen.is_in && seen.bytes[12..16] == [0x81, 0, 0, 10]),
        ""
    );
    ensure!(all.frames.iter().any(|seen| seen.len > 20_000), "no super-frame is whole");
    ensure!(all.frames.iter().any(|seen| seen.port == format!("remote {}", h2.ip)), "no frame of the peer");
    let whole = all.frames.iter().filter(|seen| seen.port == "c3").count();
    ensure_eq!(one.frames.len(), whole, "frames at c3");
    ensure!(one.frames.iter().all(|seen| seen.port == "c3" && seen.bytes.len() <= 60), "more than was asked for");
    ensure!(
        one.interfaces.iter().all(|(name, (there, lost))| name == "c3" && *there == whole as u64 && *lost == 0),
        ""
    );

    match no_tcpdump() {
        Some(why) => eprintln!("skipped: capture::what_is_counted: reading by tcpdump: {why}"),
        None => {
            let read = Command::new("tcpdump").args(["-nn", "-r"]).arg(&all.path).output()?;
            let said = String::from_utf8_lossy(&read.stderr);
            ensure!(read.status.success(), "tcpdump: {said}");
            let text = String::from_utf8_lossy(&read.stdout).into_owned();
            // A frame begins with its time; what follows is about it.
            let is_first = |line: &&str| [2, 5].iter().all(|&at| line.as_bytes().get(at) == Some(&b':'));
            let lines = text.lines().filter(|line| is_first(line) && line.as_bytes().get(8) == Some(&b'.'));
            ensure_eq!(lines.count(), all.frames.len(), "lines of tcpdump, which said {said}");
            for part in ["10.0.0.1 > 10.0.0.2: ICMP echo request", "192.0.2.1.4789: VXLAN, flags [I] (0x08), vni 101"] {
                ensure!(text.contains(part), "tcpdump shows no {part}");
            }
        }
    }
    Ok(())
}

fn filters(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?)?;
    let b = Station::new(node.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?)?;
    let c = Station::new(node.attach_quiet(lab, "c", "--trunk 10,20")?)?;
    ping(&a.host, "10.0.0.2".parse()?, 56)?;
    settled(&node)?;
    let (a_mac, c_mac) = (text(a.mac), text(c.mac));
    // What is asked for, and how many frames of those below are seen: in and out.
    let table: [(&str, String, usize); 11] = [
        ("all", String::new(), 4 + 4 + 1 + 3),
        ("port", "c".to_owned(), 1),
        ("in", "--direction in".to_owned(), 2 + 2 + 1 + 1),
        ("out", "--direction out a".to_owned(), 1 + 1 + 1),
        ("mac", format!("--mac {a_mac}"), 4 + 4 + 1),
        ("other", format!("--mac {c_mac}"), 3),
        ("ip", "--ip 10.0.0.12".to_owned(), 4 + 4),
        ("vlan", "--vlan 20".to_owned(), 0),
        ("drops", "drops".to_owned(), 1),
        ("reason", "--reason bad_source".to_owned(), 0),
        ("both", format!("--reason vlan_not_allowed --mac {a_mac} a"), 1),
    ];
    let mut running = Vec::new();
    for (name, words, expected) in &table {
        if running.len() == 8 {
            break; // as many as may be at one time
        }
        running.push((name, Watching::start(lab, &node, name, words)?, expected));
    }
    frames_for_filters(&a, &b, &c)?;
    settled(&node)?;
    for (name, watching, expected) in running {
        let watched = watching.stop()?;
        ensure_eq!(watched.frames.len(), *expected, "{name}: {:?}", watched.frames);
    }
    let rest = &table[8..];
    let running: Vec<_> = rest
        .iter()
        .map(|(name, words, expected)| Ok((name, Watching::start(lab, &node, name, words)?, expected)))
        .collect::<Result<_>>()?;
    frames_for_filters(&a, &b, &c)?;
    settled(&node)?;
    for (name, watching, expected) in running {
        let watched = watching.stop()?;
        ensure_eq!(watched.frames.len(), *expected, "{name}: {:?}", watched.frames);
    }
    Ok(())
}

/// Two IP packets each way, seen twice each; a frame that is dropped; one to everybody, from c.
fn frames_for_filters(a: &Station, b: &Station, c: &Station) -> Result {
    for (from, to) in [(a, b), (b, a), (a, b), (b, a)] {
        // Addresses that nobody has: nobody answers.
        let ip = |station: &Station| if station.mac == a.mac { [10, 0, 0, 11] } else { [10, 0, 0, 12] };
        let builder = etherparse::PacketBuilder::ethernet2(from.mac, to.mac).ipv4(ip(from), ip(to), 64).udp(9, 9);
        let mut frame = Vec::new();
        builder.write(&mut frame, &[0; 30]).context("build a frame")?;
        from.wire.send(&frame)?;
    }
    a.wire.send(&probe(b.mac, a.mac, Some(30), cookie()))?;
    let last = c.probe_tagged(c.mac, BROADCAST, Some(10))?;
    for station in [a, b] {
        station.wire.until("the last frame", |frame| cookie_of(frame) == Some(last))?;
    }
    Ok(())
}

fn a_reader_that_sleeps_under_a_flood(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let attach = |name: &str, number: u8| node.attach_quiet(lab, name, &format!("--address 10.0.0.{number}/24"));
    let (client, server) = (attach("client", 1)?, attach("server", 2)?);
    let (flooder, sink) = (attach("flooder", 3)?, attach("sink", 4)?);
    for other in [&server, &flooder, &sink] {
        ping(other, "10.0.0.1".parse()?, 56)?;
    }
    let before = settled(&node)?;
    let awake = Watching::start(lab, &node, "awake", "sink")?;
    let asleep = Watching::start(lab, &node, "asleep", "")?;
    asleep.signal(Signal::SIGSTOP)?;
    let flood = Flood::start(&flooder, "eth0", Kind::KnownUnicast(sink.mac("eth0")?), 60_000)?;
    let paced = Paced::start((&client, "10.0.0.1".parse()?), (&server, "10.0.0.2".parse()?), Duration::from_millis(2))?;
    let came = |stats: &Stats| stats.count("flooder", "rx_frames") - before.count("flooder", "rx_frames");
    // Seen twice each, more than there is room for.
    eventually(SOON * 3, "enough frames of the flood have come in", || {
        let came = came(&node.stats()?);
        ensure!(came >= 120_000, "{came}");
        Ok(())
    })?;
    let (sent, trips) = (flood.stop(), paced.stop()?);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    let after = settled(&node)?;
    lab.note(format!("{sent} frames sent, {} came in", came(&after)));
    asleep.signal(Signal::SIGCONT)?;
    // It is told of the rest once it has read: two tenths of a second after that at the latest.
    let asleep = settle_and_stop(&node, asleep)?;
    let awake = awake.stop()?;
    let later = node.stats()?; // hosts look after their neighbours now and then
    for (name, watched) in [("awake", &awake), ("asleep", &asleep)] {
        let mut all = 0;
        for (port, (there, lost)) in &watched.interfaces {
            let count = |stats: &Stats| {
                let grown = |name: &str| stats.count(port, name) - before.count(port, name);
                grown("rx_frames") + grown("tx_frames")
            };
            let (least, most) = (count(&after), count(&later));
            ensure!((least..=most).contains(there), "{name}: {there} frames at {port}, not {least} to {most}");
            all += lost;
        }
        println!("{name}: {} frames, {all} lost", watched.frames.len());
        ensure!(name == "awake" || all > 0, "none is lost: the flood was too small to prove anything");
        ensure!(watched.said.contains(&format!("{all} lost")), "{}", watched.said);
    }
    Ok(())
}

/// Ends a capture once it has read all there is.
fn settle_and_stop(node: &Node, watching: Watching) -> Result<netns_tests::Watched> {
    let size = || Ok::<_, netns_tests::Failure>(fs::metadata(watching.path())?.len());
    let mut last = 0;
    eventually(SOON, "the capture has read all", || {
        node.ok("status")?;
        std::thread::sleep(Duration::from_millis(400)); // as long as it may take to be told, and more
        let now = size()?;
        ensure!(std::mem::replace(&mut last, now) == now, "it grows");
        Ok(())
    })?;
    watching.stop()
}

/// Threads of the daemon that serve captures.
fn threads(node: &Node) -> Result<usize> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.daemon.pid()))?;
    let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    Ok(names.filter(|name| name.trim() == "capture").count())
}

/// Waits until so many threads serve captures.
fn has_threads(node: &Node, expected: usize) -> Result {
    eventually(SOON, "threads come and go", || {
        ensure_eq!(threads(node)?, expected, "threads that serve captures");
        Ok(())
    })
}

fn a_reader_who_goes(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    // By a pipe, as Wireshark reads; it goes after the first bytes.
    let mut piped = node.vsctl().command()?.arg("capture").stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = piped.stdout.take().context("its output")?;
    has_threads(&node, 1)?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let mut magic = [0; 4];
    out.read_exact(&mut magic)?;
    ensure_eq!(magic, [0x0a, 0x0d, 0x0d, 0x0a], "how pcapng begins");
    drop(out);
    let status = eventually(SOON, "vsctl ends with its reader", || piped.try_wait()?.context("it runs"))?;
    ensure_eq!(status.code(), Some(0), "exit code");
    // And one who is killed.
    let watching = Watching::start(lab, &node, "killed", "")?;
    drop(watching);
    has_threads(&node, 0)?;
    ping(&b, "10.0.0.1".parse()?, 56)?;
    // So many frames, or for so long, and it ends by itself; with what was asked for.
    let counted = Watching::start(lab, &node, "counted", "a --count 3")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let counted = counted.ended()?;
    ensure_eq!((counted.code, counted.frames.len()), (Some(0), 3), "{}", counted.said);
    let timed = Watching::start(lab, &node, "timed", "a --duration 0.2s")?.ended()?;
    ensure_eq!((timed.code, timed.frames.len()), (Some(0), 0), "{}", timed.said);
    ensure!(timed.said.contains("0 frames, 0 lost"), "{}", timed.said);
    Ok(())
}

fn too_many(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let names: Vec<_> = (0..8).map(|number| format!("w{number}")).collect();
    let running: Vec<_> = names.iter().map(|name| Watching::start(lab, &node, name, "")).collect::<Result<_>>()?;
    let said = node.vsctl().refused(1, "capture")?;
    ensure!(said.contains("8 captures run already"), "{said}");
    drop(running);
    has_threads(&node, 0)?;
    Watching::start(lab, &node, "again", "")?.stop().map(drop)
}

fn lines_at_a_rate(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    settled(&node)?;
    let follow = |words: &str| -> Result<_> {
        let mut command = node.vsctl().command()?;
        command.args(["trace", "--live"]).args(words.split_whitespace());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        has_threads(&node, 1)?;
        Ok(child)
    };
    let two = follow("--count 2 --match port=b,ip=10.0.0.1")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let output = two.wait_with_output()?;
    let lines = String::from_utf8(output.stdout).context("text")?;
    let lines: Vec<_> = lines.lines().collect();
    ensure_eq!(lines.len(), 2, "{lines:?}");
    for (line, parts) in [
        (lines[0], ["b            out vlan 1", "IPv4 10.0.0.1 > 10.0.0.2 ICMP echo request", "98 bytes"]),
        (lines[1], ["b            in  vlan 1", "IPv4 10.0.0.2 > 10.0.0.1 ICMP echo reply", "98 bytes -> a"]),
    ] {
        ensure!(parts.iter().all(|part| line.contains(part)), "{line}: not {parts:?}");
    }
    has_threads(&node, 0)?;

    // A flood: as many lines as were asked for, and the rest counted.
    let before = settled(&node)?;
    let mut child = follow("--rate 200 --match port=a,direction=in")?;
    let flood = Flood::start(&a, "eth0", Kind::KnownUnicast(b.mac("eth0")?), 20_000)?;
    let came = |stats: &Stats| stats.count("a", "rx_frames") - before.count("a", "rx_frames");
    eventually(SOON, "enough has come", || {
        ensure!(came(&node.stats()?) > 20_000, "not enough");
        Ok(())
    })?;
    let _ = flood.stop();
    let after = settled(&node)?;
    let mut reader = BufReader::new(child.stdout.take().context("its output")?);
    let (mut shown, mut skipped) = (0_u64, 0_u64);
    let mut line = String::new();
    // Until it has told of all.
    while shown + skipped < came(&after) && reader.read_line(&mut line)? > 0 {
        match line.strip_prefix('+').and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok()) {
            Some(frames) => skipped += frames,
            None => shown += 1,
        }
        line.clear();
    }
    println!("{shown} shown, {skipped} counted");
    ensure_eq!(shown + skipped, came(&after), "frames shown and counted");
    ensure!(shown >= 20 && skipped > 10 * shown, "{shown} shown, {skipped} counted");
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn the_flight_recorder(lab: &Lab) -> Result {
    let node = alone(lab, "workers = 2\nflight-recorder = \"60,1M\"\n")?;
    let a = Station::new(node.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?)?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
    ping(&b, "10.0.0.1".parse()?, 1000)?;
    a.wire.send(&probe(BROADCAST, a.mac, Some(30), cookie()))?;
    eventually(SOON, "the drop is counted", || {
        ensure_eq!(node.stats()?.drops, drops([("a", "vlan_not_allowed", 1)]), "drops");
        Ok(())
    })?;
    let stats = settled(&node)?;
    let all = lasting(lab, &node, "all", "")?;
    all.is_what_was_counted(&Stats::default(), &stats)?;
    ensure!(all.said.contains("all frames of the last 60.0 s"), "{}", all.said);
    ensure!(all.frames.iter().all(|seen| seen.bytes.len() as u64 == seen.len.min(96)), "more than headers");
    ensure!(all.frames.windows(2).all(|two| two[0].at <= two[1].at), "not in order of time");
    let dropped = lasting(lab, &node, "dropped", "drops --reason vlan_not_allowed")?;
    ensure_eq!((dropped.frames.len(), dropped.drops()), (1, stats.drops.clone()), "dropped frames");
    // What a port did that is gone is still told; more than there is room for is not.
    node.ok("port del b")?;
    let gone = lasting(lab, &node, "gone", "--ip 10.0.0.2")?;
    ensure!(gone.frames.iter().any(|seen| seen.port == "b"), "nothing of b");
    let flood = Flood::start(&a.host, "eth0", Kind::Broadcast, 20_000)?;
    eventually(SOON, "enough has come", || {
        ensure!(node.stats()?.count("a", "rx_frames") > 12_000, "not enough");
        Ok(())
    })?;
    let _ = flood.stop();
    let full = lasting(lab, &node, "full", "")?;
    ensure!(full.frames.len() <= (1 << 20) / 128, "{} frames in 1M", full.frames.len());
    ensure!(!full.said.contains("all frames of the last 60.0 s"), "{}", full.said);
    let said = node.vsctl().refused(1, "capture --last 61s")?;
    ensure!(said.contains("1 to 60 s"), "{said}");
    Ok(())
}

/// What the flight recorder has.
fn lasting(lab: &Lab, node: &Node, name: &str, words: &str) -> Result<netns_tests::Watched> {
    let path = lab.folder(name)?.join("capture.pcapng");
    let mut command = node.vsctl().command()?;
    command.args(["capture", "--last", "60s", "-w"]).arg(&path).args(words.split_whitespace());
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure_eq!(output.status.code(), Some(0), "exit code: {said}");
    let (frames, interfaces) = netns_tests::watching::read(&path)?;
    Ok(netns_tests::Watched { code: Some(0), said, path, frames, interfaces })
}

fn words_that_mean_nothing(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    node.attach_quiet(lab, "a", "")?;
    for (words, part) in [
        ("capture b", "there is no port \"b\""),
        ("capture 192.0.2.9", "there is no peer 192.0.2.9"),
        ("capture --reason no_reason", "bad_source"),
        ("capture --last 30s", "--flight-recorder"),
        ("trace --live --match port=b", "there is no port"),
    ] {
        let said = node.vsctl().refused(1, words)?;
        ensure!(said.contains(part), "{words}: {said}");
    }
    node.vsctl().refused(2, "capture --ip nine")?;
    ensure_eq!(threads(&node)?, 0, "threads");
    Ok(())
}

fn a_port_that_comes_and_goes(lab: &Lab) -> Result {
    let node = alone(lab, "")?;
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    let watching = Watching::start(lab, &node, "w", "b")?;
    ping(&a, "10.0.0.2".parse()?, 56)?;
    node.ok("port del b")?;
    drop(b);
    // Its number may be another's now; its name comes back with another number.
    let c = node.attach_quiet(lab, "c", "--address 10.0.0.3/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, "10.0.0.3".parse()?, 56)?;
    ping(&b, "10.0.0.1".parse()?, 56)?;
    settled(&node)?;
    let watched = watching.stop()?;
    ensure_eq!(watched.interfaces.keys().collect::<Vec<_>>(), ["b"], "interfaces");
    let echoes = |from: u8, to: u8| {
        let ends = [10, 0, 0, from, 10, 0, 0, to];
        watched.frames.iter().filter(|seen| seen.bytes.get(26..34) == Some(&ends[..])).count()
    };
    ensure_eq!([echoes(1, 2), echoes(2, 1), echoes(1, 3)], [2, 2, 0], "packets: {:?}", watched.frames);
    drop(c);
    Ok(())
}

fn a_takeover_ends_it(lab: &Lab) -> Result {
    let (_underlay, h1, h2) = Node::pair(lab, 1500)?;
    let spec = DaemonSpec { vtep_ip: Some(h1.ip), ..DaemonSpec::default() };
    let c1 = h1.attach_quiet(lab, "c1", "--address 10.0.0.1/24 --access 10")?;
    let c2 = h2.attach_quiet(lab, "c2", "--address 10.0.0.2/24 --access 10")?;
    let watching = Watching::start(lab, &h1, "w", "tunnel")?;
    ping(&c1, "10.0.0.2".parse()?, 56)?;
    let Node { daemon, host, ip } = h1;
    let daemon = daemon.taken_over(lab, &host, &spec)?;
    let h1 = Node { daemon, host, ip };
    let watched = watching.ended()?;
    ensure_eq!(watched.code, Some(1), "exit code");
    ensure!(watched.said.contains("another vswitchd has taken over: capture again"), "{}", watched.said);
    let is_peer = |seen: &netns_tests::watching::Seen| seen.port == format!("remote {}", h2.ip);
    ensure!(watched.frames.len() >= 2 && watched.frames.iter().all(is_peer), "{:?}", watched.frames);
    let again = Watching::start(lab, &h1, "again", "tunnel")?;
    ping(&c2, "10.0.0.1".parse()?, 56)?;
    settled(&h1)?;
    ensure!(again.stop()?.frames.len() >= 2, "nothing is captured any more");
    let _: Value = h1.ok("status")?;
    Ok(())
}

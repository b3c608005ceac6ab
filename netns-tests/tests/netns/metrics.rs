use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::traffic::paced::Paced;
use netns_tests::traffic::ping::ping;
use netns_tests::{
    Context, Daemon, DaemonSpec, Failure, Host, Lab, Node, Result, SOON, Stats, ensure, ensure_eq, eventually,
};
use serde_json::Value;

use crate::Tests;

pub(crate) const TESTS: Tests = &[
    ("values_are_those_of_vsctl", values_are_those_of_vsctl),
    ("series_come_and_go_with_ports", series_come_and_go_with_ports),
    ("malformed_http", malformed_http),
    ("slow_clients_are_felt_by_nobody", slow_clients_are_felt_by_nobody),
    ("by_a_user_in_a_sandbox", by_a_user_in_a_sandbox),
    ("over_a_takeover", over_a_takeover),
    ("rules_and_text_are_as_prometheus_wants_them", rules_and_text_are_as_prometheus_wants_them),
    ("a_real_prometheus", a_real_prometheus),
];

/// Those that need its programs.
pub(crate) const BY_PROMETHEUS: &[&str] = &["rules_and_text_are_as_prometheus_wants_them", "a_real_prometheus"];

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];
/// Where daemons answer, each in its own namespace.
const ADDR: &str = "127.0.0.1:9475";
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";
/// Slow clients; more than the daemon has places for.
const CROWD: usize = 100;

/// Why Prometheus cannot be had here.
pub(crate) fn hindrance() -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_here = |name: &&str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = PROGRAMS.iter().copied().filter(|name| !is_here(name)).collect();
    (!missing.is_empty()).then(|| format!("not installed: {} (Debian: prometheus)", missing.join(", ")))
}

fn spec(more: &[&str]) -> DaemonSpec {
    let args = ["--metrics-addr", ADDR].iter().chain(more).map(|word| (*word).to_owned());
    DaemonSpec { args: args.collect(), ..DaemonSpec::default() }
}

/// What `host` hears at `addr`, where it says `request`, to the end.
fn asked(host: &Host, addr: &str, request: impl Into<Vec<u8>>) -> Result<String> {
    let (addr, request): (SocketAddr, Vec<u8>) = (addr.parse()?, request.into());
    let answer = host.call(move || {
        let mut stream = TcpStream::connect_timeout(&addr, SOON)?;
        stream.set_read_timeout(Some(SOON))?;
        stream.set_write_timeout(Some(SOON))?;
        // One that has refused already may not read the rest.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    });
    Ok(String::from_utf8(answer?)?)
}

/// The body of an answer that is to be a page.
fn page(answer: &str) -> Result<&str> {
    ensure!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "), "answer: {answer}");
    Ok(answer.split_once("\r\n\r\n").context("no end of the head")?.1)
}

fn scrape(host: &Host) -> Result<Series> {
    Series::read(page(&asked(host, ADDR, GET)?)?)
}

/// Series as they are written, with their values.
#[derive(Clone, Debug, PartialEq)]
struct Series(BTreeMap<String, f64>);

impl Series {
    fn read(text: &str) -> Result<Self> {
        let mut all = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').context(line)?;
            let twice = all.insert(series.to_owned(), value.parse()?);
            ensure_eq!(twice, None, "the value before of {series}");
        }
        Ok(Self(all))
    }

    fn value(&self, series: &str) -> Result<f64> {
        self.0.get(series).copied().context(format_args!("no {series}"))
    }

    /// Those whose names begin so.
    fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        self.0.iter().filter(move |(name, _)| name.starts_with(metric)).map(|(name, value)| (name.as_str(), *value))
    }

    /// The counters that `vsctl stats` shows.
    fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        let counts = [
            ("receive_frames", "rx_frames"),
            ("receive_bytes", "rx_bytes"),
            ("transmit_frames", "tx_frames"),
            ("transmit_bytes", "tx_bytes"),
        ];
        for (metric, name) in counts {
            for (series, value) in self.of(&format!("vswitch_port_{metric}_total{{")) {
                stats.counts.insert((label(series, "port")?, name.to_owned()), whole(value)?);
            }
            let value = self.value(&format!("vswitch_tunnel_{metric}_total"))?;
            stats.counts.insert(("tunnel".to_owned(), name.to_owned()), whole(value)?);
        }
        for (series, value) in self.of("vswitch_port_drops_total{") {
            stats.drops.insert((label(series, "port")?, label(series, "reason")?), whole(value)?);
        }
        for (series, value) in self.of("vswitch_tunnel_drops_total{") {
            stats.drops.insert(("tunnel".to_owned(), label(series, "reason")?), whole(value)?);
        }
        Ok(stats)
    }
}

/// A counter's value, which is a whole number.
fn whole(value: f64) -> Result<u64> {
    Ok(value.to_string().parse()?)
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn label(series: &str, name: &str) -> Result<String> {
    let value = series.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    Ok(value.context(format_args!("no {name} in {series}"))?.0.to_owned())
}

/// Two hosts that tell metrics, a container on each that has reached the other, one that is alone in its VLAN and speaks
/// to nobody, and a datagram that is no VXLAN.
struct Scene {
    one: Node,
    two: Node,
    a: Host,
    _b: Host,
    _alone: Host,
    _underlay: netns_tests::Underlay,
}

impl Scene {
    fn new(lab: &Lab, more: &[&str]) -> Result<Self> {
        let (underlay, one, two) = Node::pair_with(lab, 1500, &spec(more))?;
        let a = one.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?;
        let b = two.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
        let alone = one.attach_quiet(lab, "alone", "--address 10.0.1.1/24 --access 99")?;
        let scene = Self { one, two, a, _b: b, _alone: alone, _underlay: underlay };
        scene.speak()?;
        Ok(scene)
    }

    /// Has all of it happen.
    fn speak(&self) -> Result {
        ping(&self.a, [10, 0, 0, 2].into(), 56)?;
        let nobody: SocketAddr = ([10, 0, 1, 9], 9).into();
        let socket = self._alone.call(|| UdpSocket::bind("10.0.1.1:0"))?;
        let _ = socket.send_to(&[0], nobody); // ARP has nobody to ask
        let to = SocketAddr::from((self.one.ip, 4789));
        let from = self.two.host.call(|| UdpSocket::bind("0.0.0.0:0"))?;
        from.send_to(&[0xff; 40], to)?;
        eventually(SOON, "both drops are counted", || {
            let drops = self.one.stats()?.drops;
            let seen = |port: &str| drops.keys().any(|(name, _)| name == port);
            ensure!(seen("alone") && seen("tunnel"), "{drops:?}");
            Ok(())
        })
    }
}

fn values_are_those_of_vsctl(lab: &Lab) -> Result {
    let scene = Scene::new(lab, &["--workers", "2", "--fdb-limit", "1000", "--fdb-limit-per-port", "900"])?;
    let Scene { one, .. } = &scene;
    let series = eventually(SOON, "both tell the same", || {
        let (before, series, after) = (one.stats()?, scrape(&one.host)?, one.stats()?);
        ensure_eq!(before, after, "counters that move meanwhile");
        ensure_eq!(series.stats()?, before, "what is told");
        Ok(series)
    })?;
    ensure!(series.stats()?.count("a", "rx_frames") > 0, "nothing was counted");
    let is = |name: &str, value: f64| -> Result {
        ensure_eq!(series.value(name)?, value, "{name}");
        Ok(())
    };
    // All that came from the peer and went to it is the tunnel's, and more that was no VXLAN.
    let peer = scene.two.ip;
    let frames = |way: &str| series.value(&format!("vswitch_peer_{way}_frames_total{{peer=\"{peer}\"}}"));
    is("vswitch_tunnel_transmit_frames_total", frames("transmit")?)?;
    ensure!(frames("transmit")? > 0.0 && frames("receive")? > 0.0, "the peer's: {series:?}");
    is("vswitch_tunnel_receive_frames_total", frames("receive")? + 1.0)?;
    let fdb = one.fdb()?;
    let behind = |place: &str| fdb.iter().filter(|entry| entry.place.as_deref() == Some(place)).count();
    is("vswitch_fdb_entries", float(fdb.len()))?;
    is("vswitch_port_fdb_entries{port=\"a\"}", float(behind("a")))?;
    is(&format!("vswitch_peer_fdb_entries{{peer=\"{peer}\"}}"), float(behind(&peer.to_string())))?;
    is("vswitch_vlan_fdb_entries{vlan=\"10\"}", float(fdb.iter().filter(|entry| entry.vlan == 10).count()))?;
    for (name, value) in [
        ("vswitch_ports", 2.0),
        ("vswitch_ports_lost", 0.0),
        ("vswitch_peers", 1.0),
        ("vswitch_vlan_ports{vlan=\"10\"}", 1.0),
        ("vswitch_vlan_peers{vlan=\"10\"}", 1.0),
        ("vswitch_vlan_ports{vlan=\"99\"}", 1.0),
        ("vswitch_vlan_info{vlan=\"10\",vni=\"100\",name=\"\"}", 1.0),
        ("vswitch_fdb_limit_entries", 1000.0),
        ("vswitch_fdb_port_limit_entries", 900.0),
    ] {
        is(name, value)?;
    }
    let status = one.ok("status")?;
    is("vswitch_fdb_learned_total", status["fdb_learned"].as_f64().context("fdb_learned")?)?;
    is(&format!("vswitch_build_info{{version={}}}", status["version"]), 1.0)?;
    let shares = status["workers_busy"].as_array().context("workers_busy")?;
    ensure_eq!(shares.len(), 2, "shares of workers");
    ensure!(shares.iter().all(|share| share.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share))), "{shares:?}");
    // Every frame was read in a batch: those of ports that were read, and of the tunnel those that were frames.
    let read: f64 = series.of("vswitch_worker_batch_frames_sum{").map(|(_, frames)| frames).sum();
    let came: f64 = series.of("vswitch_port_receive_frames_total{").map(|(_, frames)| frames).sum();
    ensure_eq!(read, came + frames("receive")?, "frames in batches");
    for worker in 0..2 {
        let turns = series.value(&format!("vswitch_worker_turn_seconds_count{{worker=\"{worker}\"}}"))?;
        let busy = series.value(&format!("vswitch_worker_busy_seconds_total{{worker=\"{worker}\"}}"))?;
        let all = series.value(&format!("vswitch_worker_turn_seconds_bucket{{worker=\"{worker}\",le=\"+Inf\"}}"))?;
        ensure_eq!(all, turns, "turns of worker {worker}");
        ensure!(series.value(&format!("vswitch_worker_sleeps_total{{worker=\"{worker}\"}}"))? > 0.0, "no sleep");
        ensure!(busy >= 0.0 && (turns == 0.0 || busy > 0.0), "{busy} s in {turns} turns");
    }
    ensure!(series.value("process_open_fds").unwrap_or(10.0) >= 10.0, "descriptors");
    let resident = fs::read_to_string(format!("/proc/{}/status", one.daemon.pid()))?;
    let resident = resident.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let resident = resident.context("VmRSS")?.parse::<f64>()? * 1024.0;
    let told = series.value("process_resident_memory_bytes")?;
    ensure!((told / resident - 1.0).abs() < 0.2, "{told} bytes resident, not {resident}");
    ensure_eq!(page(&asked(&one.host, ADDR, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")?)?, "ok\n", "health");
    Ok(())
}

fn series_come_and_go_with_ports(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let of_port = |port: &str| -> Result<Vec<(String, f64)>> {
        let label = format!("port=\"{port}\"");
        let all = scrape(&node.host)?.0.into_iter().filter(|(series, _)| series.contains(&label));
        Ok(all.collect())
    };
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, [10, 0, 0, 2].into(), 56)?;
    let series = eventually(SOON, "both ports are told", || {
        let (a, b) = (of_port("a")?, of_port("b")?);
        ensure!(!a.is_empty() && !b.is_empty(), "{a:?} {b:?}");
        Ok(a)
    })?;
    ensure!(series.iter().any(|(name, up)| name == "vswitch_port_up{port=\"a\"}" && *up == 1.0), "{series:?}");
    node.ok("port del b")?;
    eventually(SOON, "the series of b are gone", || {
        ensure_eq!(of_port("b")?, Vec::new(), "series of b");
        Ok(())
    })?;
    ensure!(!of_port("a")?.is_empty(), "those of a stay");
    // The last descriptor of the namespace goes with its host.
    drop((a, b));
    let frames = |series: &[(String, f64)]| {
        series.iter().find(|(name, _)| name.starts_with("vswitch_port_receive_frames_total")).map(|(_, frames)| *frames)
    };
    eventually(SOON, "port a is lost, and what it counted is not", || {
        let series = of_port("a")?;
        ensure!(series.iter().any(|(name, up)| name == "vswitch_port_up{port=\"a\"}" && *up == 0.0), "{series:?}");
        ensure!(frames(&series) >= Some(1.0), "{series:?}");
        ensure_eq!(scrape(&node.host)?.value("vswitch_ports_lost")?, 1.0, "ports lost");
        Ok(())
    })
}

fn malformed_http(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    daemon.vsctl().ok("status")?; // it listens for vsctl first
    let mut random = lab.random();
    let noise: Vec<u8> = (0..64 << 10).map(|_| random.next_u64().to_le_bytes()[0] | 0x80).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("404", b"GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("405", b"DELETE /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nxxxx".to_vec()),
        ("400", b"GET /metrics HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET /metrics\r\n\r\n".to_vec()),
        ("400", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("400", noise),
        ("431", [b"GET /".as_slice(), &vec![b'a'; 1 << 20]].concat()),
        ("431", [b"GET /metrics HTTP/1.1\r\n".as_slice(), &b"x: y\r\n".repeat(1 << 16)].concat()),
        ("505", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    for (status, request) in cases {
        let start = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
        // What sends on and on may hear of nothing but a reset.
        match asked(&host, ADDR, request.clone()) {
            Ok(answer) => ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{start:?}: {answer}"),
            Err(failure) => ensure!(request.len() > 8 << 10, "{start:?}: {failure}"),
        }
        scrape(&host).context(start)?;
    }
    ensure!(!daemon.log()?.contains("ERROR"), "{}", daemon.log()?);
    Ok(())
}

fn slow_clients_are_felt_by_nobody(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let daemon = Daemon::start(lab, &host, &spec(&[]))?;
    let node = Node { daemon, host, ip: [127, 0, 0, 1].into() };
    let a = node.attach_quiet(lab, "a", "--address 10.0.0.1/24")?;
    let b = node.attach_quiet(lab, "b", "--address 10.0.0.2/24")?;
    ping(&a, [10, 0, 0, 2].into(), 56)?;
    scrape(&node.host)?;
    let files = || Ok::<_, Failure>(fs::read_dir(format!("/proc/{}/fd", node.daemon.pid()))?.count());
    let before = files()?;
    let paced = Paced::start((&a, [10, 0, 0, 1].into()), (&b, [10, 0, 0, 2].into()), Duration::from_millis(1))?;
    let crowd = node.host.call(|| {
        let says: [&[u8]; 3] = [b"", b"GET /metrics HTTP/1.1\r\nHost", GET.as_bytes()];
        (0..CROWD)
            .map(|number| {
                let mut stream = TcpStream::connect(ADDR)?;
                stream.write_all(says[number % 3])?;
                Ok(stream)
            })
            .collect::<std::io::Result<Vec<_>>>()
    })?;
    let (start, mut scrapes) = (Instant::now(), 0_u32);
    let mut most = before;
    while start.elapsed() < Duration::from_secs(6) {
        let begun = Instant::now();
        scrape(&node.host)?;
        node.ok("status")?;
        ensure!(begun.elapsed() < Duration::from_secs(5), "a page took {:?}", begun.elapsed());
        most = most.max(files()?);
        scrapes += 1;
    }
    // By now those that are slow were let go.
    eventually(SOON, "the slow are gone", || {
        let now = files()?;
        ensure!(now <= before + 2, "{now} descriptors, {before} before");
        Ok(())
    })?;
    let trips = paced.stop()?;
    lab.note(format!("{scrapes} pages; {} round trips, half within {:?}", trips.sent, trips.quantile(50)));
    ensure!(most <= before + 64 + 4, "{most} descriptors, {before} before");
    ensure!(trips.sent > 1_000, "{} datagrams are too few to prove anything", trips.sent);
    ensure_eq!(trips.lost, Vec::<usize>::new(), "datagrams lost of {}", trips.sent);
    drop(crowd);
    Ok(())
}

/// With a port that root alone may listen on, and nothing that it may open.
fn by_a_user_in_a_sandbox(lab: &Lab) -> Result {
    let host = lab.host("h1")?;
    let low = "127.0.0.1:475";
    let words = ["--user", "nobody", "--no-enter-namespaces", "--metrics-addr", low];
    let args = words.iter().map(|word| (*word).to_owned()).collect();
    let daemon = Daemon::start(lab, &host, &DaemonSpec { args, ..DaemonSpec::default() })?;
    let status = daemon.vsctl().ok("status")?;
    ensure_eq!((&status["user"], status["capabilities"].as_array().map(Vec::len)), (&"nobody".into(), Some(0)), "who");
    let series = Series::read(page(&asked(&host, low, GET)?)?)?;
    ensure!(series.value("process_resident_memory_bytes")? > 0.0, "memory");
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let thread = fs::read_to_string(task?.path().join("status"))?;
        if thread.starts_with("Name:\tmetrics\n") {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                ensure!(thread.contains(&format!("{set}:\t0000000000000000")), "{thread}");
            }
            return Ok(());
        }
    }
    Err(Failure::new("no thread is called metrics"))
}

/// Nobody is refused, and no counter runs backwards.
fn over_a_takeover(lab: &Lab) -> Result {
    let Scene { one, a, two: _two, _b, _alone, _underlay } = Scene::new(lab, &[])?;
    let Node { mut daemon, host, ip } = one;
    let spec = DaemonSpec { vtep_ip: Some(ip), ..spec(&[]) };
    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut grows = |series: &Series| -> Result {
        for (name, value) in series.0.iter().filter(|(name, _)| name.starts_with("vswitch_port_receive_")) {
            let before = last.insert(name.clone(), *value).unwrap_or(0.0);
            ensure!(*value >= before, "{name} ran from {before} to {value}");
        }
        Ok(())
    };
    for _ in 0..3 {
        grows(&scrape(&host)?)?;
        let old = daemon.pid();
        let asking = host.twin("asking")?;
        let (over, hear) = std::sync::mpsc::channel::<()>();
        let others = thread::spawn(move || -> std::result::Result<(usize, usize), String> {
            let (mut pages, mut busy) = (0, 0);
            loop {
                match asked(&asking, ADDR, GET).map_err(|failure| failure.to_string())? {
                    answer if answer.starts_with("HTTP/1.1 200 ") => pages += 1,
                    answer if answer.starts_with("HTTP/1.1 503 ") => busy += 1,
                    answer => return Err(answer),
                }
                if hear.try_recv().is_ok() {
                    return Ok((pages, busy));
                }
            }
        });
        daemon = daemon.taken_over(lab, &host, &spec)?;
        ping(&a, [10, 0, 0, 2].into(), 56)?;
        let _ = over.send(()); // it has ended where it failed
        let (pages, busy) = others.join().map_err(|_| Failure::new("who asks panicked"))?.map_err(Failure::new)?;
        lab.note(format!("{pages} pages, {busy} times told to come again"));
        ensure!(pages > 0 && daemon.pid() != old, "{pages} pages");
        eventually(SOON, "the new one counts on", || grows(&scrape(&host)?))?;
    }
    // Another address is another listener.
    let args = vec!["--metrics-addr".to_owned(), "127.0.0.1:9476".to_owned()];
    let daemon = daemon.taken_over(lab, &host, &DaemonSpec { args, ..spec })?;
    page(&asked(&host, "127.0.0.1:9476", GET)?)?;
    ensure!(asked(&host, ADDR, GET).is_err(), "somebody listens there still");
    drop(daemon);
    Ok(())
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring").join(name)
}

/// Runs `promtool`, which is to find nothing wrong.
fn promtool(folder: &Path, words: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    stdin.write_all(input.unwrap_or_default().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "promtool {}: {said}", words.join(" "));
    Ok(said)
}

fn rules_and_text_are_as_prometheus_wants_them(lab: &Lab) -> Result {
    let folder = docs("");
    promtool(&folder, &["check", "rules", "alerts.yml"], None)?;
    promtool(&folder, &["test", "rules", "alerts_test.yml"], None)?;
    let scene = Scene::new(lab, &[])?;
    let answer = asked(&scene.one.host, ADDR, GET)?;
    let said = promtool(&folder, &["check", "metrics"], Some(page(&answer)?))?;
    ensure_eq!(said.trim(), "", "what promtool finds in the metrics");
    Ok(())
}

/// Prometheus as Debian has it; it is killed with this.
struct Prometheus<'a> {
    child: Child,
    host: &'a Host,
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const WEB: &str = "127.0.0.1:9090";

impl<'a> Prometheus<'a> {
    fn start(lab: &Lab, host: &'a Host) -> Result<Self> {
        let folder = lab.folder("prometheus")?;
        let config = folder.join("prometheus.yml");
        let rules = fs::canonicalize(docs("alerts.yml"))?;
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\n\
             scrape_configs:\n  - job_name: vswitch\n    static_configs: [{{targets: ['{ADDR}']}}]\n",
            rules.display()
        );
        fs::write(&config, text)?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={WEB}"))
            .arg("--log.level=warn");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: host.spawn(command)?, host })
    }

    /// What it answers on `path`, where that is a success.
    fn get(&self, path: &str) -> Result<Value> {
        let answer = asked(self.host, WEB, format!("GET {path} HTTP/1.0\r\nHost: p\r\n\r\n"))?;
        let (_, body) = answer.split_once("\r\n\r\n").context(answer.clone())?;
        let answer: Value = serde_json::from_str(body)?;
        ensure_eq!(answer["status"], "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }

    /// What an expression comes to: labels and value of each.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}"))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    fn number(&self, expression: &str) -> Result<f64> {
        let found = self.query(expression)?;
        let value = found.first().and_then(|one| one["value"][1].as_str()).context(format_args!("no {expression}"))?;
        Ok(value.parse()?)
    }
}

/// Names of metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("vswitch_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// All expressions of the dashboard: those of panels, and those of variables as `label_values(series, label)`.
fn dashboard() -> Result<(Vec<String>, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(docs("grafana.json"))?)?;
    let (mut panels, mut variables) = (Vec::new(), Vec::new());
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            panels.push(target["expr"].as_str().context("expr")?.to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("variables")? {
        variables.extend(variable["definition"].as_str().map(str::to_owned));
    }
    ensure!(panels.len() > 20 && variables.len() == 2, "{} panels, {} variables", panels.len(), variables.len());
    Ok((panels, variables))
}

/// What Grafana makes of an expression where all is chosen.
fn chosen(expression: &str) -> String {
    expression.replace("$__rate_interval", "5s").replace("$instance", ".*").replace("$port", ".*")
}

fn a_real_prometheus(lab: &Lab) -> Result {
    let scene = Scene::new(lab, &["--probe-interval", "200ms"])?;
    let host = &scene.one.host;
    let answer = asked(host, ADDR, GET)?;
    let declared: BTreeSet<String> = page(&answer)?
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let prometheus = Prometheus::start(lab, host)?;
    eventually(SOON * 3, "Prometheus has scraped the daemon", || {
        ensure_eq!(prometheus.number("up{job=\"vswitch\"}")?, 1.0, "up");
        ensure!(prometheus.number("count_over_time(up[10s])")? >= 3.0, "too few samples");
        Ok(())
    })?;
    // It asks for OpenMetrics, so this is a judge of that too.
    let types = prometheus.get("/api/v1/metadata")?;
    for name in &declared {
        // There the family of a counter is called without its end.
        let known = [name.as_str(), name.trim_end_matches("_total")].iter().any(|name| types.get(name).is_some());
        ensure!(known, "Prometheus has no metadata of {name}: {types}");
    }
    for (port, counts) in [("a", "receive_frames"), ("a", "transmit_bytes"), ("alone", "receive_frames")] {
        let series = format!("vswitch_port_{counts}_total{{port=\"{port}\"}}");
        eventually(SOON, "what it knows is what the daemon tells", || {
            ensure_eq!(prometheus.number(&series)?, scrape(host)?.value(&series)?, "{series}");
            Ok(())
        })?;
    }
    let (panels, variables) = dashboard()?;
    for expression in &panels {
        for name in names(expression) {
            let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_declared = [Some(name.as_str()), plain].into_iter().flatten().any(|name| declared.contains(name));
            ensure!(is_declared, "{name} of the dashboard is no metric: {expression}");
        }
        // Here is no container runtime, and nothing is wrong between the hosts; all else has happened.
        let may_be_empty = ["vswitch_attachments", "vswitch_peer_finding"].iter().any(|name| expression.contains(name));
        eventually(SOON, "the panel shows something", || {
            let found = prometheus.query(&chosen(expression))?;
            ensure!(may_be_empty || !found.is_empty(), "nothing: {expression}");
            Ok(())
        })?;
    }
    for variable in &variables {
        let inner = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (series, label) = inner.and_then(|inner| inner.rsplit_once(", ")).context(variable.clone())?;
        let found = prometheus.query(&chosen(series))?;
        ensure!(found.iter().any(|one| one["metric"][label].is_string()), "{variable}: {found:?}");
    }
    eventually(SOON, "every rule was evaluated", || {
        let rules = prometheus.get("/api/v1/rules")?;
        let rules = rules["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        ensure!(rules.len() > 8, "{} rules", rules.len());
        for rule in &rules {
            ensure_eq!(rule["health"], "ok", "{rule}");
            let query = rule["query"].as_str().context("query")?;
            prometheus.query(query)?;
            for name in names(query) {
                ensure!(declared.contains(&name), "{name} of the rules is no metric: {query}");
            }
        }
        Ok(())
    })?;
    // And one that fires.
    let daemon = &scene.one.daemon;
    ensure_eq!(prometheus.query("ALERTS{alertname=\"VswitchDown\"}")?.len(), 0, "alerts of a daemon that is up");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.pid().try_into()?), nix::sys::signal::Signal::SIGKILL)?;
    eventually(SOON, "the alert is pending", || {
        ensure_eq!(prometheus.query("ALERTS{alertname=\"VswitchDown\"}")?.len(), 1, "alerts");
        Ok(())
    })
}

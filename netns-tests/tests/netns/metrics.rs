use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};

use netns_tests::traffic::ping::ping;
use netns_tests::{Context, DaemonSpec, Host, Lab, Node, Result, SOON, Stats, ensure, ensure_eq, eventually};

use crate::Tests;

#[path = "metrics/clients.rs"]
mod clients;
#[path = "metrics/prometheus.rs"]
mod prometheus;
#[path = "metrics/values.rs"]
mod values;

pub(crate) use prometheus::hindrance;

pub(crate) const TESTS: Tests = &[
    ("values_are_those_of_vsctl", values::values_are_those_of_vsctl),
    ("series_come_and_go_with_ports", values::series_come_and_go_with_ports),
    ("malformed_http", clients::malformed_http),
    ("slow_clients_are_felt_by_nobody", clients::slow_clients_are_felt_by_nobody),
    ("by_a_user_in_a_sandbox", clients::by_a_user_in_a_sandbox),
    ("over_a_takeover", clients::over_a_takeover),
    ("rules_and_text_are_as_prometheus_wants_them", prometheus::rules_and_text_are_as_prometheus_wants_them),
    ("a_real_prometheus", prometheus::a_real_prometheus),
];

/// Those that need its programs.
pub(crate) const BY_PROMETHEUS: &[&str] = &["rules_and_text_are_as_prometheus_wants_them", "a_real_prometheus"];

/// Where daemons answer, each in its own namespace.
const ADDR: &str = "127.0.0.1:9475";
const GET: &str = "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";

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
    alone: Host,
    _underlay: netns_tests::Underlay,
}

impl Scene {
    fn new(lab: &Lab, more: &[&str]) -> Result<Self> {
        let (underlay, one, two) = Node::pair_with(lab, 1500, &spec(more))?;
        let a = one.attach_quiet(lab, "a", "--address 10.0.0.1/24 --access 10")?;
        let b = two.attach_quiet(lab, "b", "--address 10.0.0.2/24 --access 10")?;
        let alone = one.attach_quiet(lab, "alone", "--address 10.0.1.1/24 --access 99")?;
        let scene = Self { one, two, a, _b: b, alone, _underlay: underlay };
        scene.speak()?;
        Ok(scene)
    }

    /// Has all of it happen.
    fn speak(&self) -> Result {
        ping(&self.a, [10, 0, 0, 2].into(), 56)?;
        let nobody: SocketAddr = ([10, 0, 1, 9], 9).into();
        let socket = self.alone.call(|| UdpSocket::bind("10.0.1.1:0"))?;
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

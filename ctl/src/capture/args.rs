//! Which frames are meant, as people say it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use vswitch_api::observe::{Capture, Filter, Last, Observe, Place};
use vswitch_api::record::Direction;
use vswitch_api::{Mac, PortName, Vid};

use crate::complete::names;
use crate::value::{ip, number, number_from};

/// Frames a second that `trace --live` shows if nothing else is said.
const RATE: u32 = 1000;
/// Bytes of a frame that it reads: all that it can name.
const DECODED: u32 = 192;

const NOTES: &str = "\
Frames are seen at ports, as the switch sees them: in with where they go or why they were dropped, out as they leave. Peers
are shown as interfaces `remote IP`, with the frames inside of VXLAN; datagrams that never became a frame are at `tunnel`,
with outer headers written anew. Super-frames are whole, and checksums may be owed, as on any host with offloads.
Without -w the capture goes to the output, for others to read on: vsctl capture | wireshark -k -i -";

/// `vsctl capture`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct CaptureArgs {
    /// Only at this port (or peer, by its address); `tunnel`: at all peers; `drops`: where frames are dropped
    #[arg(value_name = "PORT|IP|tunnel|drops", add = names::places())]
    place: Option<Where>,
    /// Write to this file, in pcapng
    #[arg(short, long, value_name = "FILE")]
    pub(super) write: Option<PathBuf>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = number_from(1_u64))]
    pub(super) count: Option<u64>,
    /// End after this time, like 30s
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) duration: Option<Duration>,
    /// Keep so many bytes of each frame, 14 or more [default: all]
    #[arg(long, value_name = "N", value_parser = number_from(14_u32), conflicts_with = "last")]
    snaplen: Option<u32>,
    /// What the flight recorder has of the last while, like 30s (vswitchd --flight-recorder), and no frame from now on
    #[arg(long, value_name = "TIME", value_parser = time)]
    last: Option<Duration>,
    /// Only from or to this MAC address
    #[arg(long, add = names::macs())]
    mac: Option<Mac>,
    /// Only from or to this IP address, in IP or ARP
    #[arg(long, value_parser = ip, add = names::addresses())]
    ip: Option<IpAddr>,
    /// Only in this VLAN
    #[arg(long, value_name = "VID", add = names::vlans())]
    vlan: Option<Vid>,
    /// Only dropped for this reason, as `vsctl stats` names it
    #[arg(long, add = names::reasons())]
    reason: Option<String>,
    /// Only into the switch, or only out of it
    #[arg(long, value_enum, default_value_t = Way::Both)]
    direction: Way,
}

/// `vsctl trace --live`.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// Only frames to which all of these apply: port=NAME, mac=MAC, ip=IP, vlan=VID, reason=NAME, direction=in|out;
    /// port=tunnel and port=drops as for `capture`
    #[arg(long = "match", requires = "live", value_name = "WORD=VALUE", value_delimiter = ',', num_args = 1.., add = names::conditions())]
    matching: Vec<Match>,
    /// End after so many frames
    #[arg(long, requires = "live", value_name = "N", value_parser = number_from(1_u64))]
    pub(super) count: Option<u64>,
    /// Frames a second that are shown; others are counted
    #[arg(long, requires = "live", value_name = "N", default_value_t = RATE, value_parser = number(1..=1_000_000_u32))]
    rate: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    In,
    Out,
    Both,
}

impl Way {
    const fn direction(self) -> Option<Direction> {
        match self {
            Self::In => Some(Direction::In),
            Self::Out => Some(Direction::Out),
            Self::Both => None,
        }
    }
}

/// Where frames are seen.
#[derive(Debug, Clone)]
struct Where(Place);

impl FromStr for Where {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "tunnel" => Place::Tunnel,
            "drops" => Place::Drops,
            _ => match (text.parse::<IpAddr>(), text.parse::<PortName>()) {
                (Ok(ip), _) => Place::Remote(ip),
                (Err(_), Ok(name)) => Place::Port(name),
                (Err(_), Err(error)) => return Err(error.to_string()),
            },
        }))
    }
}

/// One condition.
#[derive(Debug, Clone)]
enum Match {
    Place(Place),
    Mac(Mac),
    Ip(IpAddr),
    Vlan(Vid),
    Reason(String),
    Direction(Option<Direction>),
}

impl Match {
    const fn word(&self) -> &'static str {
        match self {
            Self::Place(_) => "port",
            Self::Mac(_) => "mac",
            Self::Ip(_) => "ip",
            Self::Vlan(_) => "vlan",
            Self::Reason(_) => "reason",
            Self::Direction(_) => "direction",
        }
    }
}

impl FromStr for Match {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fn value<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
            text.parse::<T>().map_err(|error| error.to_string())
        }
        let said = text;
        let words =
            || format!("{said:?} is no condition: say port=, mac=, ip=, vlan=, reason= or direction= and a value");
        let (word, text) = text.split_once('=').filter(|(_, value)| !value.is_empty()).ok_or_else(words)?;
        Ok(match word {
            "port" => Self::Place(value::<Where>(text)?.0),
            "mac" => Self::Mac(value(text)?),
            "ip" => Self::Ip(ip(text)?),
            "vlan" => Self::Vlan(value(text)?),
            "reason" => Self::Reason(text.to_owned()),
            "direction" => {
                let way =
                    Way::from_str(text, false).map_err(|_| format!("{text:?} is no direction: say in, out or both"))?;
                Self::Direction(way.direction())
            }
            _ => return Err(words()),
        })
    }
}

/// How long `text` says: seconds, or with s, m or h behind.
fn time(text: &str) -> Result<Duration, String> {
    let unit = match text.as_bytes().last() {
        Some(b'm') => 60.0,
        Some(b'h') => 3600.0,
        _ => 1.0,
    };
    let digits = text.strip_suffix(['s', 'm', 'h']).unwrap_or(text);
    let seconds =
        digits.parse::<f64>().ok().map(|count| count * unit).filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text} is no time: say one up to a day, like 30s or 5m"))
}

impl CaptureArgs {
    /// What the daemon is asked for.
    pub(crate) fn request(&self) -> Observe {
        let filter = Filter {
            place: self.place.as_ref().map(|place| place.0.clone()).unwrap_or_default(),
            mac: self.mac,
            ip: self.ip,
            vlan: self.vlan,
            reason: self.reason.clone(),
            direction: self.direction.direction(),
        };
        match self.last {
            Some(last) => {
                let seconds = u32::try_from(last.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
                Observe::Last(Last { seconds, filter })
            }
            None => Observe::Start(Capture { filter, snaplen: self.snaplen, rate: None }),
        }
    }
}

impl LiveArgs {
    /// The word of conditions that is said twice: a filter has one of each, and the second would take the first one's place.
    pub(crate) fn twice(&self) -> Option<&'static str> {
        let mut words: Vec<_> = self.matching.iter().map(Match::word).collect();
        words.sort_unstable();
        words.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
    }

    /// What the daemon is asked for.
    pub(crate) fn request(&self) -> Observe {
        let mut filter = Filter::default();
        for matching in self.matching.clone() {
            match matching {
                Match::Place(place) => filter.place = place,
                Match::Mac(mac) => filter.mac = Some(mac),
                Match::Ip(ip) => filter.ip = Some(ip),
                Match::Vlan(vlan) => filter.vlan = Some(vlan),
                Match::Reason(reason) => filter.reason = Some(reason),
                Match::Direction(direction) => filter.direction = direction,
            }
        }
        Observe::Start(Capture { filter, snaplen: Some(DECODED), rate: Some(self.rate) })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};
    use vswitch_api::Request;

    use super::*;

    #[derive(Parser)]
    struct Capturing {
        #[command(flatten)]
        args: CaptureArgs,
    }

    #[derive(Parser)]
    struct Tracing {
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        args: LiveArgs,
    }

    fn words(words: &str) -> impl Iterator<Item = &str> {
        ["vsctl"].into_iter().chain(words.split_whitespace())
    }

    fn asked(request: Observe) -> (String, Value) {
        Request::Observe(request).encode().unwrap()
    }

    #[test]
    fn what_is_captured() {
        let table = [
            ("", "capture.start", json!({"filter": {"where": "all"}})),
            (
                "web -w x.pcapng --snaplen 64",
                "capture.start",
                json!({"filter": {"where": {"port": "web"}}, "snaplen": 64}),
            ),
            ("192.0.2.2 --count 3", "capture.start", json!({"filter": {"where": {"remote": "192.0.2.2"}}})),
            ("drops --reason too_big", "capture.start", json!({"filter": {"where": "drops", "reason": "too_big"}})),
            (
                "tunnel --mac 02:00:00:00:00:01 --ip fd00::1 --vlan 10 --direction out --duration 1m",
                "capture.start",
                json!({"filter": {
                    "where": "tunnel", "mac": "02:00:00:00:00:01", "ip": "fd00::1", "vlan": 10, "direction": "out",
                }}),
            ),
            ("web --last 30s", "capture.last", json!({"filter": {"where": {"port": "web"}}, "seconds": 30})),
            ("--last 0.5 --direction both", "capture.last", json!({"filter": {"where": "all"}, "seconds": 1})),
        ];
        for (text, method, params) in table {
            let Capturing { args } = Capturing::try_parse_from(words(text)).unwrap();
            assert_eq!(asked(args.request()), (method.to_owned(), params), "{text}");
        }
        for text in
            ["a b", "--count 0", "--snaplen 13", "--duration 0", "--last 2d", "--last 30s --snaplen 64", "--ip x"]
        {
            assert!(Capturing::try_parse_from(words(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_traced() {
        let live = |filter: Value, rate| json!({"filter": filter, "snaplen": DECODED, "rate": rate});
        let all = json!({"where": "all"});
        let table = [
            ("", live(all, 1000)),
            (
                "--rate 5 --match port=web,ip=10.0.0.1 vlan=10",
                live(json!({"where": {"port": "web"}, "ip": "10.0.0.1", "vlan": 10}), 5),
            ),
            (
                "--match port=drops --match reason=too_big,direction=in,mac=02:00:00:00:00:01",
                live(
                    json!({"where": "drops", "reason": "too_big", "direction": "in", "mac": "02:00:00:00:00:01"}),
                    1000,
                ),
            ),
        ];
        for (text, params) in table {
            let Tracing { live, args } = Tracing::try_parse_from(words(&format!("--live {text}"))).unwrap();
            assert!(live);
            assert_eq!(asked(args.request()), ("capture.start".to_owned(), params), "{text}");
        }
        for (word, _) in names::CONDITIONS {
            let value = match word {
                "mac=" => "02:00:00:00:00:01",
                "ip=" => "fd00::1",
                "direction=" => "in",
                _ => "10",
            };
            Match::from_str(&format!("{word}{value}")).unwrap();
        }
        for text in ["--match web", "--match colour=red", "--match vlan=0", "--rate 0", "--match direction=up"] {
            assert!(Tracing::try_parse_from(words(&format!("--live {text}"))).is_err(), "{text}");
        }
    }
}

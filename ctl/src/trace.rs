//! `vsctl trace`: the frame that is meant, from its bytes or from words.

use std::net::IpAddr;

use clap::{Args, ValueEnum};
use etherparse::PacketBuilder;
use vswitch_api::explain::{from_hex, to_hex};
use vswitch_api::{Mac, PortName, Query, Request, TraceAsk, Vid};

use crate::complete::names;
use crate::value::{ip, number};

/// Without checksum (FCS).
const SHORTEST_FRAME: usize = 60;
/// For experiments of one's own (IEEE 802-2014 9.2.4).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];

const EXAMPLES: &str = "\
Examples:
  vsctl trace web --dst 02:00:00:00:00:02
  vsctl trace web --dst 02:00:00:00:00:02 --ip-src 10.0.0.1 --ip-dst 10.0.0.2 --proto tcp --dport 80 --len 1514
  vsctl trace remote:192.0.2.2 --vlan 10 --src 02:00:00:00:00:09 --dst ff:ff:ff:ff:ff:ff
  vsctl trace web ffffffffffff02000000000108060001...";

/// A frame, and where it would come in.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
#[group(skip)]
pub(crate) struct Trace {
    /// Where it comes in: a port's name, or remote:IP for one from a peer
    #[arg(value_name = "PORT|remote:IP", required_unless_present = "live", value_parser = origin, add = names::origins())]
    from: Option<Origin>,
    /// The frame, as hexadecimal digits from its destination address on
    #[arg(value_name = "HEX", conflicts_with_all = ["src", "dst", "ip_src", "ip_dst", "proto", "sport", "dport", "len"], value_parser = hex)]
    frame: Option<Bytes>,
    /// Its source address [default: the port's]
    #[arg(long, value_name = "MAC", add = names::macs())]
    src: Option<Mac>,
    /// Its destination address; groups too
    #[arg(long, value_name = "MAC", required_unless_present_any = ["frame", "live"], value_parser = any_mac, add = names::macs())]
    dst: Option<[u8; 6]>,
    /// The VLAN in its tag; of a frame from a peer, the one whose VNI it comes in
    #[arg(long, value_name = "VID", add = names::vlans())]
    vlan: Option<Vid>,
    /// The sender's IP address
    #[arg(long, value_name = "IP", requires = "ip_dst", value_parser = ip, add = names::addresses())]
    ip_src: Option<IpAddr>,
    /// The receiver's IP address
    #[arg(long, value_name = "IP", requires = "ip_src", value_parser = ip, add = names::addresses())]
    ip_dst: Option<IpAddr>,
    /// What the packet carries
    #[arg(long, requires = "ip_src", default_value = "udp")]
    proto: Proto,
    /// Source port of TCP or UDP
    #[arg(long, requires = "ip_src", default_value = "49152", value_parser = number(0..=u16::MAX))]
    sport: u16,
    /// Destination port of TCP or UDP
    #[arg(long, requires = "ip_src", default_value = "9", value_parser = number(0..=u16::MAX))]
    dport: u16,
    /// Bytes of the frame, without a tag and the checksum (FCS), 60 to 65549
    #[arg(long, value_name = "N", default_value = "60", value_parser = number(60..=65_549_u32))]
    len: u32,
}

/// Where a frame comes in.
#[derive(Debug, Clone)]
enum Origin {
    Port(PortName),
    Remote(IpAddr),
}

#[derive(Debug, Clone)]
struct Bytes(Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Icmp,
}

/// Why there is no such frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("say where the frame comes in: a port's name, or remote:IP")]
    NoOrigin,
    #[error("say with --src from whom the frame is: nothing else tells")]
    NoSource,
    #[error("say with --vlan in whose VNI the peer sends it")]
    NoVlan,
    #[error("--ip-src {0} and --ip-dst {1} are not of the same IP")]
    Mixed(IpAddr, IpAddr),
    #[error("the frame cannot be made: {0}")]
    Build(String),
}

fn origin(text: &str) -> Result<Origin, String> {
    match text.strip_prefix("remote:") {
        Some(ip) => ip.parse().map(Origin::Remote).map_err(|_| {
            format!("{text:?} names no peer: behind remote: stands its IP address, like remote:192.0.2.2")
        }),
        None => text.parse().map(Origin::Port).map_err(|error: vswitch_api::BadValue| error.to_string()),
    }
}

fn hex(text: &str) -> Result<Bytes, String> {
    let wrong = || "a frame is two hexadecimal digits for each byte, like ffffffffffff0200000000010806".to_owned();
    from_hex(text).filter(|bytes| !bytes.is_empty()).map(Bytes).ok_or_else(wrong)
}

/// Six octets; [`Mac`] takes those of stations only.
fn any_mac(text: &str) -> Result<[u8; 6], String> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let wrong = || format!("{text} is no MAC address: six octets like 02:00:00:00:00:01");
    octets.and_then(|octets| octets.try_into().ok()).ok_or_else(wrong)
}

impl Trace {
    /// The port whose address is to be asked for: the frame's source.
    pub(crate) fn asks_for(&self) -> Option<PortName> {
        match (&self.from, self.src, &self.frame) {
            (Some(Origin::Port(name)), None, None) => Some(name.clone()),
            _ => None,
        }
    }

    /// What to ask the daemon; `own` is the address of the port.
    pub(crate) fn request(&self, own: Option<Mac>) -> Result<Request, TraceError> {
        let (port, remote) = match &self.from {
            Some(Origin::Port(name)) => (Some(name.clone()), None),
            Some(Origin::Remote(ip)) => (None, Some(*ip)),
            None => return Err(TraceError::NoOrigin),
        };
        if remote.is_some() && self.vlan.is_none() {
            return Err(TraceError::NoVlan);
        }
        let mut frame = match &self.frame {
            Some(Bytes(bytes)) => bytes.clone(),
            None => self.frame(self.src.or(own).ok_or(TraceError::NoSource)?.octets())?,
        };
        if let (Some(vlan), None, None) = (self.vlan, remote, &self.frame) {
            let [hi, lo] = vlan.get().to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, hi, lo]);
        }
        let vlan = self.vlan.filter(|_| remote.is_some());
        Ok(Query::Trace(TraceAsk { port, remote, vlan, frame: to_hex(&frame) }).into())
    }

    /// The frame without a tag.
    fn frame(&self, source: [u8; 6]) -> Result<Vec<u8>, TraceError> {
        let destination = self.dst.unwrap_or_default();
        let len = usize::try_from(self.len).unwrap_or(SHORTEST_FRAME);
        let ethernet = PacketBuilder::ethernet2(source, destination);
        let ip = match (self.ip_src, self.ip_dst) {
            (Some(IpAddr::V4(from)), Some(IpAddr::V4(to))) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (Some(IpAddr::V6(from)), Some(IpAddr::V6(to))) => ethernet.ipv6(from.octets(), to.octets(), 64),
            (Some(from), Some(to)) => return Err(TraceError::Mixed(from, to)),
            _ => {
                let mut frame = [&destination[..], &source, &EXPERIMENTAL].concat();
                frame.resize(len, 0);
                return Ok(frame);
            }
        };
        let is_v4 = self.ip_src.is_some_and(|ip| ip.is_ipv4());
        let mut frame = Vec::new();
        let payload = |head: usize| vec![0; len.saturating_sub(head)];
        let built = match self.proto {
            Proto::Udp => {
                let packet = ip.udp(self.sport, self.dport);
                let data = payload(packet.size(0));
                packet.write(&mut frame, &data)
            }
            Proto::Tcp => {
                let packet = ip.tcp(self.sport, self.dport, 0, 65_535).syn();
                let data = payload(packet.size(0));
                packet.write(&mut frame, &data)
            }
            Proto::Icmp if is_v4 => {
                let packet = ip.icmpv4_echo_request(0, 0);
                let data = payload(packet.size(0));
                packet.write(&mut frame, &data)
            }
            Proto::Icmp => {
                let packet = ip.icmpv6_echo_request(0, 0);
                let data = payload(packet.size(0));
                packet.write(&mut frame, &data)
            }
        };
        built.map_err(|error| TraceError::Build(error.to_string()))?;
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::words::{Task, task};

    /// The frame that `words` behind `vsctl trace` mean.
    fn frame(words: &str) -> Vec<u8> {
        let args = ["vsctl", "trace"].into_iter().chain(words.split_whitespace());
        let cli = crate::cli::Cli::try_parse_from(args).unwrap();
        let Task::Trace(trace) = task(cli.command).unwrap() else { panic!("{words}") };
        let own = (trace.asks_for().is_some()).then(|| "02:00:00:00:00:0a".parse().unwrap());
        let Request::Query(Query::Trace(ask)) = trace.request(own).unwrap() else { panic!("{words}") };
        from_hex(&ask.frame).unwrap()
    }

    #[test]
    fn frames_from_words() {
        let to = "--dst 02:00:00:00:00:0b";
        let v4 = "--ip-src 10.0.0.1 --ip-dst 10.0.0.2";
        let v6 = "--ip-src fd00::1 --ip-dst fd00::2";
        // Words, bytes, EtherType, and where which protocol stands.
        type Case = (String, usize, [u8; 2], Option<(usize, u8)>);
        let table: [Case; 7] = [
            (format!("a {to}"), 60, EXPERIMENTAL, None),
            (format!("a {to} --len 1514"), 1514, EXPERIMENTAL, None),
            (format!("a {to} {v4}"), 60, [8, 0], Some((23, 17))),
            (format!("a {to} {v4} --proto tcp --dport 80 --len 1514"), 1514, [8, 0], Some((23, 6))),
            (format!("a {to} {v4} --proto icmp"), 60, [8, 0], Some((23, 1))),
            (format!("a {to} {v6} --proto icmp --len 100"), 100, [0x86, 0xdd], Some((20, 58))),
            (format!("a {to} --vlan 7 {v6} --proto udp --len 100"), 104, [0x81, 0], Some((24, 17))),
        ];
        for (words, len, ethertype, protocol) in table {
            let frame = frame(&words);
            assert_eq!(frame.len(), len, "{words}");
            assert_eq!(frame[..12], [2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa], "{words}");
            assert_eq!(frame[12..14], ethertype, "{words}");
            if let Some((at, protocol)) = protocol {
                assert_eq!(frame[at], protocol, "{words}");
            }
        }
    }
}

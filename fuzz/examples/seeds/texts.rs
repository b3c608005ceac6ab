//! Requests as `vsctl` writes them, and files.

use vswitch_api::monitor::{EventKind, Listen};
use vswitch_api::observe::{Capture, Filter, Last, Observe, Place};
use vswitch_api::record::Direction;
use vswitch_api::request::FdbFilter;
use vswitch_api::rpc::write_request;
use vswitch_api::{Attach, Change, Config, Desired, Id, Pool, PortSet, ProbeAsk, Query, Request, TraceAsk, WhyAsk};

use crate::Seeds;

const CONFIG: &str = include_str!("config.toml");

fn config() -> Config {
    toml::from_str(CONFIG).expect("the example is good")
}

/// A value from its text.
fn value<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is good"))
}

fn pools() -> Vec<Pool> {
    let ends = Pool {
        subnet: value("10.0.0.0/24"),
        first: Some(value("10.0.0.7")),
        last: Some(value("10.0.0.9")),
        gateway: Some(value("10.0.0.254")),
    };
    vec![ends, Pool::whole(value("fd00::/64"))]
}

/// The attachment of the example once more, as that of another container.
fn attach(desired: &Desired) -> Attach {
    let mut port = desired.ports().find(|port| port.attachment.is_some()).expect("the example has one").clone();
    if let Some(attachment) = &mut port.attachment {
        attachment.container = value("c2");
    }
    Attach { port, pools: pools(), vni: Some(value("5010")) }
}

/// All that a filter can say.
fn filter() -> Filter {
    Filter {
        place: Place::Port(value("web")),
        mac: Some(value("02:00:00:00:00:01")),
        ip: Some(value("fd00::1")),
        vlan: Some(value("10")),
        reason: Some("queue_full".to_owned()),
        direction: Some(Direction::Out),
    }
}

pub(crate) fn rpc() -> Seeds {
    let desired = config().desired;
    let mut requests: Vec<Request> = desired.additions().map(Request::Change).collect();
    let name = || value("web");
    requests.extend(desired.statics().map(|e| Request::Change(Change::FdbDel { mac: e.mac, vlan: e.vlan })));
    requests.extend(desired.peers().map(|peer| Request::Change(Change::PeerDel { ip: peer.ip, vlan: None })));
    requests.extend([
        Request::Change(Change::PortSet(PortSet {
            name: name(),
            mtu: Some(value("1400")),
            access: None,
            trunk: Some(value("10-20,30")),
            native: Some(value("5")),
            address: Some(vec![value("10.0.0.9/24")]),
            gateway: Some(vec![value("10.0.0.1")]),
            allow_mac: None,
            allow_ip: None,
            rx_limit: Some(value("10M,64k")),
            tx_limit: Some(value("none")),
        })),
        Request::Change(Change::PortDel { name: name() }),
        Request::Change(Change::AttachmentAdd(attach(&desired))),
        Request::Change(Change::AttachmentDel {
            container: value("c2"),
            ifname: value("eth0"),
            network: Some(value("podman")),
            lost: true,
        }),
        Request::Query(Query::AttachmentPlan(attach(&desired))),
        Request::Query(Query::AttachmentList { network: None }),
        Request::Query(Query::PoolShow { vlan: value("10"), pools: pools() }),
        Request::Change(Change::VlanDel { vlan: value("10") }),
        Request::Flush(FdbFilter { vlan: Some(value("10")), port: Some(name()) }),
        Request::Query(Query::PortList {}),
        Request::Query(Query::PortShow { name: name() }),
        Request::Query(Query::VlanList {}),
        Request::Query(Query::VtepShow {}),
        Request::Query(Query::PeerList {}),
        Request::Query(Query::FdbList(FdbFilter::default())),
        Request::Query(Query::Stats { port: Some("tunnel".to_owned()) }),
        Request::Query(Query::Trace(TraceAsk {
            port: Some(name()),
            remote: None,
            vlan: None,
            frame: "ffffffffffff0200000000010806".to_owned(),
        })),
        Request::Query(Query::Why(WhyAsk { a: "web".to_owned(), b: "10.0.0.3".to_owned(), ticket: Some(7) })),
        Request::Query(Query::NeighbourList {}),
        Request::Query(Query::PeerProbe(ProbeAsk { ip: value("fd00::2"), vlan: Some(value("10")), ticket: Some(3) })),
        Request::Query(Query::Status {}),
        Request::Query(Query::WorkerList {}),
        Request::Observe(Observe::Start(Capture { filter: filter(), snaplen: Some(128), rate: Some(1000) })),
        Request::Observe(Observe::Last(Last { seconds: 30, filter: filter() })),
        Request::Query(Query::Monitor(Listen {
            port: Some(name()),
            vlan: Some(value("10")),
            kinds: EventKind::ALL.to_vec(),
        })),
    ]);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let id = if number % 2 == 0 { Id::Number(number as i64) } else { Id::Text(format!("request {number}")) };
        let line = write_request(id, request).expect("a request can be written");
        all.push((format!("request-{number:02}"), line));
    }
    let wrong: [(&str, &[u8]); 6] = [
        ("no-json", b"{\"jsonrpc\""),
        ("no-method", br#"{"jsonrpc":"2.0","id":3,"method":"port.fly"}"#),
        ("old", br#"{"jsonrpc":"1.0","id":"x","method":"status"}"#),
        ("extra", br#"{"jsonrpc":"2.0","id":4,"method":"vlan.del","params":{"vlan":7,"vni":8}}"#),
        ("no-id", br#"{"jsonrpc":"2.0","id":[],"method":"status"}"#),
        ("escapes", br#"{"jsonrpc":"2.0","id":"\u0000\ud83d\ude00","method":"stats","params":{"port":"\n\u007f"}}"#),
    ];
    all.extend(wrong.map(|(name, line)| (name.to_owned(), line.to_vec())));
    ("rpc", all)
}

pub(crate) fn state() -> Seeds {
    let desired = config().desired;
    let toml = toml::to_string(&desired).expect("a state can be a config file");
    // Where the search for addresses goes on only a state says.
    let mut stated = serde_json::to_value(&desired).expect("a state can be saved");
    stated["cursor"] = serde_json::json!([{"vlan": 10, "subnet": "10.0.0.0/24", "last": "10.0.0.7"}]);
    let stated: Desired = serde_json::from_value(stated).expect("what was saved loads");
    let json = serde_json::to_vec_pretty(&stated).expect("a state can be saved");
    let table = |name: &str| {
        let all = serde_json::to_value(&desired).expect("a state can be saved");
        serde_json::to_vec(&serde_json::json!({ name: all[name] })).expect("a table can be saved")
    };
    let mut all = vec![
        ("state.json".to_owned(), json),
        ("state.toml".to_owned(), toml.into_bytes()),
        ("config.toml".to_owned(), CONFIG.as_bytes().to_vec()),
        ("empty.json".to_owned(), b"{}".to_vec()),
    ];
    all.extend(["vlan", "port", "peer"].map(|name| (format!("{name}.json"), table(name))));
    ("state", all)
}

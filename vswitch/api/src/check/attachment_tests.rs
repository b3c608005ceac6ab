//! Attachments: what they come to, one after the other, and what is refused.

use std::collections::BTreeSet;

use super::*;
use crate::request::Request;
use crate::types::{PortName, Vid};
use serde_json::{Value, json};

/// A switch with a port that has an address by hand, a trunk with addresses in its native VLAN, and two attachments.
fn switch() -> Desired {
    let steps = [
        ("vlan.add", json!({"vlan": 10, "vni": 5010})),
        ("vlan.add", json!({"vlan": 20, "name": "lab"})),
        ("port.add", json!({"name": "web", "netns": "web", "access": 10, "address": ["10.0.0.3/24", "fd00::3/64"]})),
        ("port.add", json!({"name": "r", "netns": "r", "trunk": "20", "native": 10, "address": ["10.0.0.5/24"]})),
        ("port.add", json!({"name": "other", "netns": "o", "access": 20, "address": "10.0.0.4/24"})),
    ];
    let state =
        steps.into_iter().fold(Desired::default(), |state, (method, params)| say(&state, method, params).unwrap());
    let add = |state: &Desired, container: &str| say(state, "attachment.add", attach(container, json!({}))).unwrap();
    add(&add(&state, "c1"), "c2")
}

/// `attachment.add` of a port of VLAN 10 with two pools, with `more` in it.
fn attach(container: &str, more: Value) -> Value {
    let mut params = json!({
        "port": {
            "name": format!("{container}:eth0"), "netns": format!("/run/netns/{container}"), "access": 10,
            "attachment": {"network": "net", "container": container},
        },
        "pools": [{"subnet": "10.0.0.0/24", "last": "10.0.0.9"}, {"subnet": "fd00::/64"}],
    });
    merge(&mut params, more);
    params
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, more) => *into = more,
    }
}

fn say(state: &Desired, method: &str, params: Value) -> Result<Desired, RpcError> {
    match Request::decode(method, params)? {
        Request::Change(change) => Ok(state.apply(&change, None)?.0),
        other => panic!("{other:?} changes nothing"),
    }
}

/// The name and the addresses of the port of `container`.
fn port(state: &Desired, container: &str) -> String {
    let port = state.attached(&container.parse().unwrap(), &"eth0".parse().unwrap()).unwrap();
    let addresses = port.addresses.iter().map(ToString::to_string);
    [port.name.to_string()].into_iter().chain(addresses).collect::<Vec<_>>().join(" ")
}

#[test]
fn addresses_are_those_no_port_has() {
    let state = switch();
    assert_eq!(port(&state, "c1"), "c1:eth0 10.0.0.2/24 fd00::2/64");
    assert_eq!(port(&state, "c2"), "c2:eth0 10.0.0.4/24 fd00::4/64", "another VLAN's addresses are no matter");
    let table = [
        // What is asked for, and what comes.
        (json!({}), "c3:eth0 10.0.0.6/24 fd00::5/64"),
        (json!({"pools": []}), "c3:eth0"),
        (json!({"pools": [], "port": {"address": "10.0.0.2/24"}}), "c3:eth0 10.0.0.2/24"),
        (json!({"port": {"address": "10.0.0.8/24"}}), "c3:eth0 10.0.0.8/24 fd00::5/64"),
        (json!({"port": {"address": ["fd00::8/64", "10.0.0.8/24"]}}), "c3:eth0 fd00::8/64 10.0.0.8/24"),
        (json!({"port": {"name": "c1:eth0"}}), "c1:eth0-2 10.0.0.6/24 fd00::5/64"),
        (json!({"port": {"netns": "/run/netns/c1"}}), "c3:eth0 10.0.0.6/24 fd00::5/64"),
        (json!({"port": {"access": 30}}), "c3:eth0 10.0.0.2/24 fd00::2/64"),
        (json!({"port": {"access": null, "trunk": "7", "native": 10}}), "c3:eth0 10.0.0.6/24 fd00::5/64"),
        (json!({"pools": [{"subnet": "10.0.0.0/24", "first": "10.0.0.7"}]}), "c3:eth0 10.0.0.7/24"),
        (
            json!({"pools": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.6", "last": "10.0.0.8"}]}),
            "c3:eth0 10.0.0.7/24",
        ),
        (json!({"pools": [{"subnet": "10.9.0.0/31"}]}), "c3:eth0 10.9.0.1/31"),
        (json!({"pools": [{"subnet": "10.9.0.1/32"}]}), "c3:eth0 10.9.0.1/32"),
    ];
    for (more, expected) in table {
        let next = say(&state, "attachment.add", attach("c3", more.clone())).unwrap();
        assert_eq!(port(&next, "c3"), expected, "{more}");
        let gone = say(&next, "attachment.del", json!({"container": "c3", "ifname": "eth0"})).unwrap();
        assert_eq!(gone.with_cursors_of(&state), state, "{more}");
    }
}

#[test]
fn refusals_leave_nothing_and_name_the_way_out() {
    use Code::{Conflict, Exhausted, InvalidParams};
    let narrow = |last: &str| json!({"pools": [{"subnet": "10.0.0.0/24", "first": "10.0.0.2", "last": last}]});
    #[rustfmt::skip]
    let table: Vec<(Value, Code, &[&str])> = vec![
        (json!({"port": {"attachment": null}}), Conflict, &["port c3:eth0", "network and container"]),
        (json!({"port": {"attachment": {"container": "c1"}}}), Conflict, &["c1", "there already", "c1:eth0", "vsctl port del"]),
        (json!({"port": {"netns": "/run/netns/web", "attachment": {"seen": true}}}), Conflict, &["eth0", "port web"]),
        (json!({"port": {"attachment": {"container": "-c"}}}), InvalidParams, &["-c", "1 to 255"]),
        (json!({"port": {"attachment": {"network": "a b"}}}), InvalidParams, &["a b", "1 to 255"]),
        (json!({"port": {"attachment": {"colour": 1}}}), InvalidParams, &["colour"]),
        (json!({"colour": 1}), InvalidParams, &["colour"]),
        (json!({"pools": [{"subnet": "10.0.0.1/24"}]}), InvalidParams, &["10.0.0.1/24", "10.0.0.0/24"]),
        (json!({"pools": [{"subnet": "10.0.0.0/24", "first": "10.0.1.0"}]}), Conflict, &["10.0.1.0", "10.0.0.254"]),
        (json!({"pools": {"subnet": "10.0.0.0/24"}}), InvalidParams, &["attachment.add", "sequence"]),
        (json!({"port": {"address": "10.0.0.3/24"}}), Conflict, &["10.0.0.3/24", "VLAN 10", "port web"]),
        (json!({"port": {"address": "10.0.0.5/24"}}), Conflict, &["10.0.0.5/24", "port r"]),
        (json!({"port": {"address": "10.0.0.1/24"}}), Conflict, &["10.0.0.1/24", "without the gateway"]),
        (json!({"port": {"address": "10.0.0.10/24"}}), Conflict, &["10.0.0.10/24", "10.0.0.1 to 10.0.0.9"]),
        (json!({"port": {"address": ["10.0.0.8/24", "10.0.0.8/16"]}}), Conflict, &["10.0.0.8", "twice"]),
        (json!({"port": {"access": null, "trunk": "10"}}), Conflict, &["c3:eth0", "trunk 10", "native"]),
        (json!({"vni": 7}), Conflict, &["VLAN 10", "VNI 5010", "not 7"]),
        (json!({"vni": 5010, "port": {"access": 20}}), Conflict, &["VNI 5010", "VLAN 10"]),
        (json!({"vni": 0}), InvalidParams, &["1 to 16777215"]),
        (narrow("10.0.0.5"), Exhausted, &["all 4 addresses", "10.0.0.0/24", "10.0.0.2 to 10.0.0.5", "VLAN 10"]),
        (json!({"pools": [{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/126"}]}), Exhausted, &["all 2", "fd00::/126"]),
    ];
    let state = switch();
    for (more, code, parts) in table {
        let error = say(&state, "attachment.add", attach("c3", more.clone())).unwrap_err();
        assert_eq!(error.code, code, "{more}: {error}");
        for part in parts {
            assert!(error.message.contains(part), "{more}: {error:?} lacks {part:?}");
        }
    }
}

#[test]
fn an_address_rests_while_others_are_free() {
    let mut state = switch();
    let mut given = Vec::new();
    for _ in 0..7 {
        state = say(&state, "attachment.add", attach("c3", json!({}))).unwrap();
        given.push(port(&state, "c3").split(' ').nth(1).unwrap().replace("10.0.0.", "").replace("/24", ""));
        // The place in the search survives a restart.
        state = serde_json::from_value(serde_json::to_value(&state).unwrap()).unwrap();
        state = say(&state, "attachment.del", json!({"container": "c3", "ifname": "eth0"})).unwrap();
    }
    assert_eq!(given.join(" "), "6 7 8 9 6 7 8", "10.0.0.2 to 5 are taken");
}

#[test]
fn an_address_that_is_wished_for_does_not_turn_the_search_back() {
    let add = |state: &Desired, container: &str, more: Value| {
        let state = say(state, "attachment.add", attach(container, more)).unwrap();
        let got = port(&state, container).split(' ').nth(1).unwrap().to_owned();
        (state, got)
    };
    let del = |state: &Desired, container: &str| {
        say(state, "attachment.del", json!({"container": container, "ifname": "eth0"})).unwrap()
    };
    // 10.0.0.2 to 5 are taken, so that these get 6, 7 and 8.
    let three = ["c3", "c4", "c5"].iter().fold(switch(), |state, container| add(&state, container, json!({})).0);
    let freed = del(&del(&three, "c5"), "c4");
    let table = [
        // What one wishes for, and what the next one gets.
        ("10.0.0.7/24", "10.0.0.9/24"),
        ("10.0.0.8/24", "10.0.0.9/24"),
        ("10.0.0.9/24", "10.0.0.7/24"),
    ];
    for (wish, next) in table {
        let (state, got) = add(&freed, "c4", json!({"port": {"address": wish}}));
        assert_eq!((got.as_str(), add(&state, "c6", json!({})).1.as_str()), (wish, next));
    }
}

#[test]
fn pools_are_bounded() {
    let pools = |count: usize| json!({"vlan": 10, "pools": vec![json!({"subnet": "10.0.0.0/24"}); count]});
    let show = |count| match Request::decode("pool.show", pools(count)).unwrap() {
        Request::Query(crate::Query::PoolShow { vlan, pools }) => switch().pools(vlan, &pools, &Held::default()),
        other => panic!("{other:?} asks for no pool"),
    };
    assert_eq!(show(64).unwrap().len(), 64);
    for message in [
        show(65).unwrap_err().to_string(),
        say(&switch(), "attachment.add", attach("c3", json!({"pools": pools(65)["pools"]}))).unwrap_err().message,
    ] {
        assert!(message.contains("65 pools") && message.contains("at most 64"), "{message}");
    }
}

#[test]
fn a_gateway_is_unused_where_nobody_is_attached() {
    let gateway =
        |name: &str, network: &str| json!({"name": name, "netns": "own", "ifname": name, "gateway-of": network});
    let mut state = switch();
    for (name, network) in [("g1", "net"), ("g2", "another")] {
        state = say(&state, "port.add", gateway(name, network)).unwrap();
    }
    let unused = |state: &Desired| {
        let state: Desired = serde_json::from_value(serde_json::to_value(state).unwrap()).unwrap();
        state.unused_gateways().map(|port| port.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(unused(&state), "g2");
    for (container, expected) in [("c1", "g2"), ("c2", "g1 g2")] {
        state = say(&state, "attachment.del", json!({"container": container, "ifname": "eth0"})).unwrap();
        assert_eq!(unused(&state), expected, "without {container}");
    }
    let message = say(&state, "port.add", gateway("g1", "other")).unwrap_err().message;
    assert!(message.contains("gateway-of: net, asked: other"), "{message}");
}

#[test]
fn a_vni_comes_with_the_first_that_names_it() {
    let state = switch();
    let with = |more| say(&state, "attachment.add", attach("c3", more)).unwrap();
    let vni = |state: &Desired, vlan: u16| {
        let spec = state.vlan(Vid::new(vlan).unwrap()).unwrap();
        (spec.vni.unwrap().get(), spec.name.clone().map(String::from))
    };
    assert_eq!(vni(&with(json!({"vni": 7, "port": {"access": 30}})), 30), (7, None));
    assert_eq!(vni(&with(json!({"vni": 7, "port": {"access": 20}})), 20), (7, Some("lab".to_owned())));
    assert_eq!(vni(&with(json!({"vni": 5010})), 10), (5010, None));
}

#[test]
fn what_is_held_is_nobody_elses() {
    let state = switch();
    let Request::Change(Change::AttachmentAdd(wish)) =
        Request::decode("attachment.add", attach("c3", json!({}))).unwrap()
    else {
        panic!("it is a change")
    };
    let vlan = Vid::new(10).unwrap();
    let name: PortName = "c3:eth0".parse().unwrap();
    let ips = ["10.0.0.6", "10.0.0.7", "10.0.0.8", "fd00::5"];
    let addresses = ips.iter().map(|ip| ((vlan, ip.parse().unwrap()), name.clone())).collect();
    let held = Held { names: BTreeSet::from([name]), addresses };
    assert_eq!(port(&state.attach(&wish, &held).unwrap().0, "c3"), "c3:eth0-2 10.0.0.9/24 fd00::6/64");
    let mut wished = wish.clone();
    wished.port.addresses = vec!["10.0.0.7/24".parse().unwrap()];
    assert!(state.attach(&wished, &held).unwrap_err().to_string().contains("that of port c3:eth0"));

    let show = |state: &Desired, held: &Held| state.pools(vlan, &wish.pools, held).unwrap();
    let figures = |shown: &[crate::PoolInfo]| shown.iter().map(|pool| (pool.used, pool.free)).collect::<Vec<_>>();
    assert_eq!(figures(&show(&state, &Held::default())), [(4, 4), (3, u64::MAX - 4)]);
    assert_eq!(figures(&show(&state, &held)), [(7, 1), (4, u64::MAX - 5)]);
    assert_eq!(show(&state, &held)[0].last.to_string(), "10.0.0.9");
}

/// A plan holds addresses, which takes the right to change; the other questions take none.
#[test]
fn who_may_only_look_holds_nothing() {
    let writes = |method: &str, params: Value| Request::decode(method, params).unwrap().writes();
    for method in ["attachment.add", "attachment.plan"] {
        assert!(writes(method, attach("c3", json!({}))), "{method}");
    }
    assert!(writes("attachment.del", json!({"container": "c1", "ifname": "eth0"})));
    assert!(!writes("attachment.list", json!({})));
    assert!(!writes("pool.show", json!({"vlan": 10, "pools": []})));
}

#[test]
fn what_is_not_there_is_gone_already() {
    let state = switch();
    let table = [
        (json!({"container": "c9", "ifname": "eth0"}), 0),
        (json!({"container": "c1", "ifname": "eth1"}), 0),
        (json!({"container": "c1", "ifname": "eth0", "network": "another"}), 0),
        (json!({"container": "c1", "ifname": "eth0", "network": "net"}), 1),
        (json!({"container": "c1", "ifname": "eth0"}), 1),
    ];
    for (which, gone) in table {
        let next = say(&state, "attachment.del", which.clone()).unwrap();
        assert_eq!(state.ports().count() - next.ports().count(), gone, "{which}");
    }
}

#[test]
fn names_are_found_where_the_longest_are_taken() {
    let longest = "a".repeat(128);
    let mut state = Desired::default();
    for container in ["c1", "c2", "c3"] {
        state = say(&state, "attachment.add", attach(container, json!({"port": {"name": longest}}))).unwrap();
    }
    assert_eq!(port(&state, "c3").split(' ').next().unwrap(), "a".repeat(126) + "-3");
}

#[test]
fn a_port_added_again_need_not_know_what_the_daemon_saw() {
    let port =
        |seen: bool| json!({"name": "a", "netns": "a", "attachment": {"network": "n", "container": "c", "seen": seen}});
    let state = say(&Desired::default(), "port.add", port(true)).unwrap();
    assert_eq!(say(&state, "port.add", port(false)).unwrap(), state);
    let other = json!({"name": "b", "netns": "b", "attachment": {"network": "m", "container": "c"}});
    assert!(say(&state, "port.add", other).unwrap_err().message.contains("there already"));
}

#[test]
fn places_in_the_search_are_bounded() {
    let cursors: Vec<_> = (0..5000_u32)
        .map(|n| std::net::Ipv4Addr::from_bits(0x0a00_0000 + (n << 8)))
        .map(|ip| json!({"vlan": 10, "subnet": format!("{ip}/24"), "last": ip}))
        .collect();
    let state: Desired = serde_json::from_value(json!({ "cursor": cursors })).unwrap();
    let state = say(&state, "attachment.add", attach("c1", json!({}))).unwrap();
    let left = serde_json::to_value(&state).unwrap()["cursor"].as_array().unwrap().len();
    assert_eq!(left, 4096);
    assert_eq!(
        port(&say(&state, "attachment.add", attach("c2", json!({}))).unwrap(), "c2"),
        "c2:eth0 10.0.0.3/24 fd00::3/64"
    );
}

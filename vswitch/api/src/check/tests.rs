use super::*;
use crate::request::Request;
use serde_json::{Value, json};

const OWN: &str = "192.0.2.1";

/// A switch as an operator would build it: web and db in VLAN 10, a trunk, two peers, one static address each way.
fn switch() -> Desired {
    let steps = [
        ("vlan.add", json!({"vlan": 10, "vni": 5010})),
        ("vlan.add", json!({"vlan": 20, "vni": 5020, "name": "lab"})),
        ("vlan.add", json!({"vlan": 30})),
        ("port.add", json!({"name": "web", "netns": "web", "access": 10, "address": ["10.0.0.2/24"]})),
        ("port.add", json!({"name": "db", "netns": "db", "access": 10})),
        ("port.add", json!({"name": "router", "netns": "r", "trunk": "10-20", "native": 5})),
        ("peer.add", json!({"ip": "192.0.2.2", "vlan": "10,20"})),
        ("peer.add", json!({"ip": "192.0.2.3", "all-vlans": true})),
        ("fdb.add", json!({"mac": "02:00:00:00:00:01", "vlan": 10, "port": "web"})),
        ("fdb.add", json!({"mac": "02:00:00:00:00:02", "vlan": 20, "remote": "192.0.2.2"})),
    ];
    steps.into_iter().fold(Desired::default(), |state, (method, params)| say(&state, method, params).unwrap().0)
}

fn say(state: &Desired, method: &str, params: Value) -> Result<(Desired, Outcome), RpcError> {
    match Request::decode(method, params)? {
        Request::Change(change) => Ok(state.apply(&change, Some(OWN.parse().unwrap()))?),
        other => panic!("{other:?} changes nothing"),
    }
}

#[test]
fn refusals_name_the_value_and_the_way_out() {
    use Code::{Conflict, InvalidParams, NotFound};
    let web = |more: Value| {
        let mut all = json!({"name": "new", "netns": "new"});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    const MAC: &str = "02:00:00:00:00:09";
    #[rustfmt::skip]
    let table: Vec<(&str, Value, Code, &[&str])> = vec![
        // Values nobody may write.
        ("vlan.add", json!({"vlan": 0}), InvalidParams, &["VLAN 0", "1 to 4094"]),
        ("vlan.add", json!({"vlan": 4095}), InvalidParams, &["VLAN 4095", "1 to 4094"]),
        ("vlan.add", json!({"vlan": 40, "vni": 0}), InvalidParams, &["VNI 0", "1 to 16777215"]),
        ("vlan.add", json!({"vlan": 40, "vni": 16_777_216}), InvalidParams, &["VNI 16777216", "1 to 16777215"]),
        ("port.add", web(json!({"mac": "01:00:5e:00:00:01"})), InvalidParams, &["01:00:5e:00:00:01", "multicast"]),
        ("port.add", web(json!({"address": ["10.0.0.3"]})), InvalidParams, &["10.0.0.3", "10.0.0.3/24"]),
        ("port.add", web(json!({"ifname": "abcdefghijklmnop"})), InvalidParams, &["abcdefghijklmnop", "1 to 15"]),
        ("port.add", web(json!({"ifname": "default"})), InvalidParams, &["default", "choose another"]),
        ("port.add", web(json!({"ifname": "a/b"})), InvalidParams, &["a/b"]),
        ("port.add", web(json!({"mtu": 67})), InvalidParams, &["MTU 67", "68 to 65521"]),
        ("port.add", web(json!({"speed": 10})), InvalidParams, &["speed"]),
        ("port.add", web(json!({"rx-limit": "10MB"})), InvalidParams, &["10MB", "1k to 1T"]),
        ("port.set", json!({"name": "web", "tx-limit": "1M,0"}), InvalidParams, &["\"0\"", "1 to 4294967295"]),
        ("port.add", json!({"name": "new"}), InvalidParams, &["netns"]),
        ("port.add", web(json!({"access": 10, "trunk": "20"})), InvalidParams, &["access 10", "trunk 20"]),
        ("port.add", web(json!({"native": 5})), InvalidParams, &["native VLAN 5", "trunk"]),
        ("port.add", web(json!({"access": 10, "native": 5})), InvalidParams, &["native VLAN 5", "trunk"]),
        ("peer.add", json!({"ip": "192.0.2.9"}), InvalidParams, &["192.0.2.9", "all-vlans"]),
        ("peer.add", json!({"ip": "192.0.2.9", "vlan": 10, "all-vlans": true}), InvalidParams, &["either"]),
        ("fdb.add", json!({"mac": MAC, "vlan": 10}), InvalidParams, &[MAC, "port or remote"]),
        ("fdb.del", json!({"mac": MAC, "vlan": 10, "port": "web"}), InvalidParams, &["port"]),
        // Ports.
        ("port.add", json!({"name": "web", "netns": "web", "access": 20, "mtu": 1400}), Conflict,
            &["port web", "VLANs: access 10, asked: access 20", "MTU: none given, asked: 1400", "address: 10.0.0.2/24",
              "vsctl port set web", "vsctl port del web"]),
        ("port.add", json!({"name": "other", "netns": "/var/run/netns/web"}), Conflict, &["eth0", "port web", "--ifname"]),
        ("port.add", web(json!({"address": ["10.0.0.3/24", "10.0.0.3/16"]})), Conflict, &["10.0.0.3", "twice"]),
        ("port.add", web(json!({"address": ["fd00::3/64"], "mtu": 1279})), Conflict, &["1279", "fd00::3/64", "1280"]),
        ("port.add", web(json!({"address": ["10.0.0.3/24"], "gateway": "10.0.1.1"})), Conflict, &["10.0.1.1", "subnet"]),
        ("port.add", web(json!({"gateway": "10.0.1.1"})), Conflict, &["10.0.1.1", "--address"]),
        ("port.add", web(json!({"address": ["10.0.0.3/24"], "gateway": "10.0.0.3"})), Conflict, &["10.0.0.3", "itself"]),
        ("port.add", web(json!({"address": ["10.0.0.3/24"], "gateway": ["10.0.0.1", "10.0.0.2"]})), Conflict,
            &["10.0.0.2", "at most one"]),
        ("port.set", json!({"name": "nobody", "mtu": 1400}), NotFound, &["no port nobody", "vsctl port list"]),
        ("port.set", json!({"name": "web"}), Conflict, &["nothing to set", "mtu"]),
        ("port.set", json!({"name": "web", "native": 5}), Conflict, &["native VLAN 5", "trunk"]),
        ("port.set", json!({"name": "web", "access": 20}), Conflict, &["02:00:00:00:00:01", "VLAN 10", "vsctl fdb del"]),
        ("port.set", json!({"name": "web", "gateway": ["10.1.0.1"]}), Conflict, &["10.1.0.1"]),
        ("port.set", json!({"name": "web", "ifname": "eth1"}), InvalidParams, &["ifname"]),
        ("port.add", web(json!({"allow-mac": ["33:33:00:00:00:01"]})), InvalidParams, &["33:33:00:00:00:01", "multicast"]),
        ("port.add", web(json!({"allow-ip": ["10.0.0.3/24"]})), InvalidParams, &["10.0.0.3/24", "10.0.0.0/24"]),
        ("port.set", json!({"name": "web", "allow-ip": []}), InvalidParams, &["1 to 64", "any"]),
        ("port.set", json!({"name": "web", "allow-mac": ["any", "default"]}), InvalidParams, &["stand alone"]),
        ("port.del", json!({"name": "nobody"}), NotFound, &["no port nobody"]),
        // VLANs.
        ("vlan.add", json!({"vlan": 10, "vni": 5011}), Conflict, &["VLAN 10", "VNI 5010", "VNI 5011", "vsctl vlan del 10"]),
        ("vlan.add", json!({"vlan": 20, "vni": 5020, "name": "lab", "learning": false}), Conflict, &["learning off"]),
        ("vlan.add", json!({"vlan": 40, "vni": 5010}), Conflict, &["VNI 5010", "VLAN 10", "VLAN 40"]),
        ("vlan.del", json!({"vlan": 40}), NotFound, &["no VLAN 40", "vsctl vlan list"]),
        ("vlan.del", json!({"vlan": 5}), NotFound, &["VLAN 5 has no settings", "port router"]),
        ("vlan.del", json!({"vlan": 10}), Conflict, &["VLAN 10", "vsctl vtep peer del 192.0.2.2 --vlan 10"]),
        // Peers.
        ("peer.add", json!({"ip": OWN, "vlan": 10}), Conflict, &[OWN, "own"]),
        ("peer.add", json!({"ip": "2001:db8::2", "vlan": 10}), Conflict, &["2001:db8::2", OWN, "both"]),
        ("peer.add", json!({"ip": "127.0.0.2", "vlan": 10}), Conflict, &["127.0.0.2", "loopback", "another host"]),
        ("peer.add", json!({"ip": "239.1.1.1", "vlan": 10}), Conflict, &["239.1.1.1", "multicast"]),
        ("peer.add", json!({"ip": "255.255.255.255", "vlan": 10}), Conflict, &["broadcast"]),
        ("peer.add", json!({"ip": "0.0.0.0", "all-vlans": true}), Conflict, &["unspecified"]),
        ("peer.add", json!({"ip": "192.0.2.9", "vlan": 30}), Conflict, &["VLAN 30 has no VNI", "vsctl vlan add 30 --vni"]),
        ("peer.add", json!({"ip": "192.0.2.9", "vlan": 99}), Conflict, &["VLAN 99 has no VNI"]),
        ("peer.del", json!({"ip": "192.0.2.9"}), NotFound, &["no peer 192.0.2.9"]),
        ("peer.del", json!({"ip": "192.0.2.2", "vlan": 30}), NotFound, &["not in VLAN 30", "10,20"]),
        ("peer.del", json!({"ip": "192.0.2.3", "vlan": 10}), Conflict, &["all VLANs", "vsctl vtep peer del 192.0.2.3"]),
        ("peer.del", json!({"ip": "192.0.2.2"}), Conflict, &["02:00:00:00:00:02", "vsctl fdb del 02:00:00:00:00:02 --vlan 20"]),
        ("peer.del", json!({"ip": "192.0.2.2", "vlan": 20}), Conflict, &["02:00:00:00:00:02"]),
        // Static addresses.
        ("fdb.add", json!({"mac": MAC, "vlan": 10, "port": "nobody"}), NotFound, &["no port nobody"]),
        ("fdb.add", json!({"mac": MAC, "vlan": 20, "port": "web"}), Conflict, &["port web", "not in VLAN 20", "access 10"]),
        ("fdb.add", json!({"mac": MAC, "vlan": 10, "remote": "192.0.2.9"}), NotFound,
            &["192.0.2.9", "vsctl vtep peer add 192.0.2.9 --vlan 10"]),
        ("fdb.add", json!({"mac": MAC, "vlan": 30, "remote": "192.0.2.3"}), NotFound, &["192.0.2.3", "VLAN 30"]),
        ("fdb.add", json!({"mac": "02:00:00:00:00:01", "vlan": 10, "port": "db"}), Conflict, &["port web", "vsctl fdb del"]),
        ("fdb.del", json!({"mac": MAC, "vlan": 10}), NotFound, &[MAC, "VLAN 10"]),
    ];
    let state = switch();
    for (method, params, code, parts) in table {
        match say(&state, method, params.clone()) {
            Ok(_) => panic!("{method} {params} was done"),
            Err(error) => {
                assert_eq!(error.code, code, "{method} {params}: {error}");
                for part in parts {
                    assert!(error.message.contains(part), "{method} {params}: {error:?} lacks {part:?}");
                }
            }
        }
    }
}

#[test]
fn saying_it_twice_changes_nothing() {
    let state = switch();
    for change in state.additions() {
        let (next, outcome) = state.apply(&change, Some(OWN.parse().unwrap())).unwrap();
        assert_eq!((next, outcome.changed), (state.clone(), false), "{change:?}");
    }
    let narrower = json!({"ip": "192.0.2.3", "vlan": 10});
    assert!(!say(&state, "peer.add", narrower).unwrap().1.changed, "it is in all VLANs already");
}

#[test]
fn names_that_mean_something_else() {
    // What an older version took stays, and can be said again.
    let there = json!({"port": [{"name": "total", "netns": "a"}, {"name": "10.0.0.2", "netns": "b"}]});
    let there: Desired = serde_json::from_value(there).unwrap();
    for (name, what) in [
        ("total", Some("a word of vsctl")),
        ("drops", Some("a word of vsctl")),
        ("10.0.0.2", Some("an address")),
        ("fd00::2", Some("an address")),
        ("02:00:00:00:00:01", Some("an address")),
        ("totals", None),
        ("10.0.0", None),
    ] {
        let name: PortName = name.parse().unwrap();
        let said = Desired::default().may_be_named(&name).map_err(|error| error.to_string());
        assert_eq!(said.is_err(), what.is_some(), "{name}: {said:?}");
        assert!(what.is_none_or(|what| said.unwrap_err().contains(what)), "{name}");
        assert_eq!(there.may_be_named(&name).is_ok(), what.is_none() || there.port(&name).is_some(), "{name}");
    }
    assert!(!say(&there, "port.add", json!({"name": "total", "netns": "a"})).unwrap().1.changed);
}

#[test]
fn changes_and_their_effect() {
    let state = switch();
    let port = |state: &Desired, name: &str| state.port(&name.parse().unwrap()).unwrap().clone();

    let (next, _) = say(&state, "port.set", json!({"name": "router", "native": 7})).unwrap();
    assert_eq!(port(&next, "router").mode.to_string(), "trunk 10-20 native 7");
    let (next, _) = say(&state, "port.set", json!({"name": "router", "trunk": "30"})).unwrap();
    assert_eq!(port(&next, "router").mode.to_string(), "trunk 30");
    let set =
        json!({"name": "web", "mtu": 1300, "trunk": "10,11", "address": ["10.9.0.2/24"], "gateway": ["10.9.0.1"]});
    let (next, outcome) = say(&state, "port.set", set.clone()).unwrap();
    assert!(outcome.changed && port(&next, "web").mtu.is_some());
    assert!(!say(&next, "port.set", set).unwrap().1.changed);

    let set = json!({"name": "web", "allow-mac": "02:00:00:00:00:01", "allow-ip": ["10.0.0.2", "fd00::/64"]});
    let (next, _) = say(&state, "port.set", set.clone()).unwrap();
    assert_eq!(port(&next, "web").allow_ip.to_string(), "10.0.0.2/32 fd00::/64");
    assert!(!say(&next, "port.set", set).unwrap().1.changed);
    let (next, _) = say(&next, "port.set", json!({"name": "web", "allow-mac": "any"})).unwrap();
    assert_eq!(port(&next, "web").allow_mac.to_string(), "any");
    let (next, _) =
        say(&next, "port.set", json!({"name": "web", "allow-mac": "default", "allow-ip": "default"})).unwrap();
    assert_eq!(next, state);

    let (next, outcome) = say(&state, "port.del", json!({"name": "web"})).unwrap();
    assert_eq!(next.statics().count(), 1, "the address behind the port went with it");
    assert!(outcome.notes[0].contains("02:00:00:00:00:01"), "{outcome:?}");

    let (next, _) = say(&state, "peer.add", json!({"ip": "192.0.2.4", "vlan": 10})).unwrap();
    let (next, _) = say(&next, "peer.add", json!({"ip": "192.0.2.4", "vlan": 20})).unwrap();
    assert_eq!(next.peer("192.0.2.4".parse().unwrap()).unwrap().vlans.to_string(), "VLAN 10,20");
    let (next, _) = say(&next, "peer.del", json!({"ip": "192.0.2.4", "vlan": 10})).unwrap();
    let (next, _) = say(&next, "peer.del", json!({"ip": "192.0.2.4", "vlan": 20})).unwrap();
    assert_eq!(next, state, "a peer in no VLAN is no peer");

    let (next, _) = say(&state, "peer.del", json!({"ip": "192.0.2.2", "vlan": 10})).unwrap();
    let (next, outcome) = say(&next, "vlan.del", json!({"vlan": 10})).unwrap();
    assert!(outcome.notes[0].contains("port db, port web"), "{outcome:?}");
    assert!(say(&next, "vlan.add", json!({"vlan": 10, "vni": 5999})).unwrap().1.changed);
}

#[test]
fn a_state_must_suit_the_vtep() {
    let state = switch();
    let suits = |vtep: Option<&str>| state.suits(vtep.map(|ip| ip.parse().unwrap())).map_err(|e| e.to_string());
    assert_eq!(suits(Some(OWN)), Ok(()));
    assert!(suits(None).unwrap_err().contains("--vtep-ip"));
    assert!(suits(Some("192.0.2.2")).unwrap_err().contains("own"));
    assert!(suits(Some("2001:db8::1")).unwrap_err().contains("both"));
    assert_eq!(Desired::default().suits(None), Ok(()));

    let reachable = |ip: &str, own: &str| super::peer::reachable(ip.parse().unwrap(), Some(own.parse().unwrap()));
    let refused = |ip, own| reachable(ip, own).unwrap_err().to_string();
    assert!(refused("fe80::2", "2001:db8::1").contains("fe80::2 is link-local"));
    assert!(refused("febf::2", "fe80::1").contains("global"));
    assert!(refused("::1", "2001:db8::1").contains("loopback"));
    assert_eq!(reachable("127.0.0.2", "127.0.0.1"), Ok(()), "two on one host, as for a test");
    assert_eq!(reachable("fd00::2", "2001:db8::1"), Ok(()));
}

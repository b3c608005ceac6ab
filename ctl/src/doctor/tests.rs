use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use vswitch_sys::{Offloads, UplinkError};

use super::*;
use crate::condition::tests::status;
use crate::style::plain;

fn daemon(more: Value) -> Daemon {
    Daemon { status: status(more), ports: Vec::new(), vlans: Vec::new(), peers: Vec::new() }
}

#[test]
fn one_line_a_check_and_what_it_comes_to() {
    let checks = [
        Check::ok("tun", "is there"),
        Check::note("caller", "sees less").mended("run it as root"),
        Check::warning("mtu", "small"),
        Check::wrong("vxlan-port", "taken").mended("stop it"),
    ];
    let mut out = String::new();
    report(&checks, &mut out);
    let expected = "\
ok       tun         is there
note     caller      sees less; to mend it: run it as root
warning  mtu         small
WRONG    vxlan-port  taken; to mend it: stop it
1 wrong, 1 warning
";
    assert_eq!(plain(&out), expected);
    let said = |checks: &[Check]| {
        let mut out = String::new();
        report(checks, &mut out);
        plain(out.lines().last().unwrap())
    };
    assert_eq!(said(&checks[..2]), "nothing is wrong");
    assert_eq!(said(&checks[..3]), "nothing is wrong, 1 warning");
    let value = serde_json::to_value(&checks[3]).unwrap();
    assert_eq!(value, json!({"check": "vxlan-port", "state": "wrong", "text": "taken", "mend": "stop it"}));
}

#[test]
fn the_device() {
    let folder = tempfile::tempdir().unwrap();
    let missing = device::tun(&folder.path().join("tun"));
    assert_eq!(missing.state, State::Wrong);
    assert!(missing.mend.unwrap().contains("modprobe tun"));
    assert_eq!(device::tun(Path::new("/dev/null")).state, State::Ok);
    assert_eq!(device::tun(folder.path()).state, State::Wrong);
}

#[test]
fn what_kernels_grant() {
    let all = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };
    let table = [
        (Ok(all), State::Ok),
        (Ok(Offloads { uso: false, ..all }), State::Warning),
        (Ok(Offloads { checksum: true, ..Offloads::default() }), State::Warning),
        (Err(vswitch_sys::TapError::Gone("x".to_owned())), State::Wrong),
    ];
    for (granted, state) in table {
        let check = device::offloads(granted, "5.10");
        assert_eq!((check.state, check.mend.is_some()), (state, state != State::Ok), "{check:?}");
    }
    assert_eq!(device::super_frames(Ok(()), "6.18").state, State::Ok);
    let old = device::super_frames(Err(UplinkError::TooOld(io::ErrorKind::InvalidInput.into())), "6.1");
    assert!(old.state == State::Note && old.mend.as_ref().unwrap().contains("6.17"), "{old:?}");
    assert_eq!(device::batches(true, true, "").state, State::Ok);
    assert!(device::batches(true, false, "4.19").text.contains("no UDP_GRO"));
}

#[test]
fn rights() {
    let caller = |bits: u64| rights::caller(&format!("Name:\tx\nCapEff:\t{bits:016x}\n")).unwrap();
    assert_eq!(caller(u64::MAX).state, State::Ok);
    let poor = caller(1 << 12);
    assert!(poor.state == State::Note && poor.text.contains("without CAP_SYS_ADMIN:"), "{poor:?}");
    assert_eq!(rights::caller("nonsense"), None);

    for (capabilities, state) in [
        (json!(["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]), State::Ok),
        (json!(["CAP_NET_ADMIN"]), State::Note),
        (json!([]), State::Warning),
    ] {
        let check = rights::capabilities(&daemon(json!({"capabilities": capabilities})));
        assert_eq!(check.state, state, "{check:?}");
    }

    let folder = tempfile::tempdir().unwrap();
    let limits = folder.path().join("limits");
    let said = |soft: &str, daemon: Option<&Daemon>| {
        let text = format!(
            "Limit                     Soft Limit           Hard Limit           Units\nMax open files            {soft}                 4096               files\n"
        );
        fs::write(&limits, text).unwrap();
        rights::descriptors(&limits, daemon).state
    };
    let large = daemon(json!({"ports": 1000, "workers": 4}));
    assert_eq!(said("1024", Some(&large)), State::Wrong);
    assert_eq!(said("9000", Some(&large)), State::Ok);
    assert_eq!(said("unlimited", Some(&large)), State::Ok);
    assert_eq!(said("1024", None), State::Ok);
    assert_eq!(rights::descriptors(Path::new("/nonexistent"), None).state, State::Note);
}

#[test]
fn queues_and_bridges() {
    let patient = |capabilities: Value| Patient {
        words: words(Path::new("/nonexistent")),
        socket: PathBuf::new(),
        daemon: Ok(daemon(json!({"capabilities": capabilities}))),
    };
    let said = |capabilities, most| sysctls::receive_queue(&patient(capabilities), most).state;
    assert_eq!(said(json!([]), Some(212_992)), State::Warning);
    assert_eq!(said(json!([]), Some(8 << 20)), State::Ok);
    assert_eq!(said(json!(["CAP_NET_ADMIN"]), Some(212_992)), State::Ok);
    assert_eq!(said(json!([]), None), State::Note);
    assert_eq!(sysctls::bridges(Some(0)), None);
    assert_eq!(sysctls::bridges(None), None);
    assert_eq!(sysctls::bridges(Some(1)).unwrap().state, State::Note);
}

#[test]
fn versions() {
    assert_eq!(daemon::version(&status(json!({"version": env!("CARGO_PKG_VERSION")}))).state, State::Ok);
    let other = daemon::version(&status(json!({"version": "9.9.9"})));
    assert!(other.state == State::Warning && other.text.contains("vswitchd is 9.9.9"), "{other:?}");
}

#[test]
fn routers_need_forwarding() {
    let said = |addresses: Value, v4: u64, v6: u64| {
        let port = json!({"name": "gw", "netns": "a", "ifname": "eth0", "mac": null, "addresses": addresses, "mtu": 1500,
            "mode": "access", "vlan": 1, "vlans": [], "native": null, "state": "up", "offloads": [], "gateway_of": "n"});
        sysctls::forwarding(&serde_json::from_value(port).unwrap(), Some(v4), Some(v6))
    };
    let off = said(json!(["10.0.0.1/24"]), 0, 1);
    assert!(off.state == State::Wrong && off.mend.as_deref() == Some("sysctl -w net.ipv4.ip_forward=1"), "{off:?}");
    assert_eq!(said(json!(["10.0.0.1/24"]), 1, 0).state, State::Ok);
    let off = said(json!(["10.0.0.1/24", "fd00::1/64"]), 1, 0);
    assert!(off.state == State::Wrong && off.text.contains("IPv6"), "{off:?}");
    assert_eq!(said(json!(["10.0.0.1/24", "fd00::1/64"]), 1, 1).state, State::Ok);
}

#[test]
fn who_has_the_port() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
        1: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0000000000000000 0\n \
        2: 0100007F:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n \
        3: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 99 2 0000000000000000 0\n";
    assert_eq!(underlay::holders(table, 4789), [0, 4711]);
    assert_eq!(underlay::holders(table, 53), [99]);
    assert_eq!(underlay::holders("", 53), [0; 0]);
}

#[test]
fn ports_that_are_too_wide() {
    let port = |name: &str, mtu: u16, vlan: u16| {
        let port = json!({"name": name, "netns": "a", "ifname": "eth0", "mac": null, "addresses": [], "mtu": mtu,
            "mode": "access", "vlan": vlan, "vlans": [], "native": null, "state": "up", "offloads": []});
        serde_json::from_value::<PortInfo>(port).unwrap()
    };
    let vlan = |vlan: u16, vni: Value| {
        let vlan = json!({"vlan": vlan, "vni": vni, "name": null, "learning": true, "ports": [], "peers": []});
        serde_json::from_value::<VlanInfo>(vlan).unwrap()
    };
    let ports = [port("a", 1500, 10), port("b", 1450, 10), port("c", 1500, 20)];
    let vlans = [vlan(10, json!(100)), vlan(20, Value::Null)];
    let names: Vec<_> = underlay::too_wide(&ports, &vlans, 1450).iter().map(|port| port.name.to_string()).collect();
    assert_eq!(names, ["a"]);
}

const IP: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// A chain on a hook, and rules in it.
fn ruleset(policy: &str, rules: &[Value]) -> Value {
    let mut objects = vec![
        json!({"metainfo": {"version": "1.0.6"}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "in", "type": "filter", "hook": "input", "policy": policy}}),
    ];
    objects.extend(rules.iter().enumerate().map(|(handle, expr)| {
        json!({"rule": {"family": "inet", "table": "t", "chain": "in", "handle": handle, "expr": expr}})
    }));
    json!({"nftables": objects})
}

#[test]
fn packet_filters() {
    let port = |right: Value, end: &str| json!([{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}}, {end: null}]);
    let from =
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.9"}});
    let mut narrow = port(json!(4789), "drop");
    narrow.as_array_mut().unwrap().insert(0, from);
    let tcp = json!([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 4789}}, {"drop": null}]);
    let of_iptables = json!({"xt": {"type": "match", "name": "conntrack"}});
    let table = [
        ("accept", vec![], State::Ok),
        ("accept", vec![port(json!(4789), "drop")], State::Wrong),
        ("accept", vec![port(json!(4789), "reject")], State::Wrong),
        ("accept", vec![port(json!({"set": [53, 4789]}), "drop")], State::Wrong),
        ("accept", vec![port(json!({"range": [4000, 5000]}), "drop")], State::Wrong),
        ("accept", vec![port(json!(4789), "accept"), port(json!(4789), "drop")], State::Ok),
        ("accept", vec![port(json!(53), "drop")], State::Ok),
        ("accept", vec![tcp], State::Ok),
        ("accept", vec![narrow.clone()], State::Note),
        ("accept", vec![json!([{"drop": null}])], State::Wrong),
        ("drop", vec![], State::Wrong),
        ("drop", vec![port(json!(4789), "accept")], State::Ok),
        ("drop", vec![port(json!({"set": [22, 53]}), "accept")], State::Wrong),
        ("drop", vec![json!([{"jump": {"target": "more"}}])], State::Warning),
        ("drop", vec![json!([of_iptables, {"accept": null}])], State::Warning),
        ("accept", vec![json!([of_iptables, {"drop": null}])], State::Note),
        ("accept", vec![json!([{"limit": {"rate": 5, "per": "second", "inv": true}}, {"drop": null}])], State::Note),
        ("drop", vec![port(json!("@vxlan"), "accept")], State::Warning),
    ];
    for (policy, rules, state) in table {
        let check = firewall::judge(&ruleset(policy, &rules), IP, 4789);
        assert_eq!(check.state, state, "{policy} {rules:?}: {check:?}");
    }
    let check = firewall::judge(&ruleset("drop", &[]), IP, 4789);
    assert_eq!(check.mend.unwrap(), "nft insert rule inet t in udp dport 4789 accept");
    assert_eq!(firewall::judge(&json!({"nftables": []}), IP, 4789).state, State::Ok);
    let other = std::net::Ipv6Addr::LOCALHOST.into();
    let of_ipv4 = serde_json::from_str(&ruleset("drop", &[]).to_string().replace("inet", "ip")).unwrap();
    assert_eq!(firewall::judge(&of_ipv4, IP, 4789).state, State::Wrong);
    assert_eq!(firewall::judge(&of_ipv4, other, 4789).state, State::Ok);
}

#[test]
fn clocks() {
    assert_eq!(time::synchronized(Ok(true)).state, State::Ok);
    assert_eq!(time::synchronized(Ok(false)).state, State::Note);
    assert_eq!(time::synchronized(Err(io::ErrorKind::PermissionDenied.into())).state, State::Note);
}

fn words(folder: &Path) -> Doctor {
    Doctor {
        vtep_ip: None,
        vtep_port: 4789,
        state_dir: Some(folder.join("state")),
        cni_bin_dir: folder.join("bin"),
        cni_conf_dir: folder.join("net.d"),
    }
}

#[test]
fn cni_networks() {
    let folder = tempfile::tempdir().unwrap();
    let words = words(folder.path());
    let said = || cni::checks(&words, Path::new("/nonexistent/s")).remove(0);
    assert_eq!((said().state, said().text.as_str()), (State::Ok, "not in use"));

    fs::create_dir_all(&words.cni_conf_dir).unwrap();
    let network = words.cni_conf_dir.join("10-vswitch.conflist");
    let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "vswitch-cni", "vlan": 10}]});
    fs::write(&network, list.to_string()).unwrap();
    assert!(said().state == State::Wrong && said().text.contains("there is no"), "{:?}", said());

    // A plugin that judges by the network's name, as it is handed over.
    fs::create_dir_all(&words.cni_bin_dir).unwrap();
    let plugin = words.cni_bin_dir.join("vswitch-cni");
    let script = "#!/bin/sh\ninput=$(cat)\ncase $CNI_COMMAND$input in STATUS*'\"name\":\"n\"'*) exit 0 ;; esac\n\
        echo '{\"code\": 7, \"msg\": \"bad\", \"details\": \"key x\"}'\nexit 1\n";
    fs::write(&plugin, script).unwrap();
    assert!(said().state == State::Wrong && said().text.contains("does not run"), "{:?}", said());
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(said().state, State::Ok, "{:?}", said());

    fs::write(&network, list.to_string().replace("\"n\"", "\"m\"")).unwrap();
    assert!(said().state == State::Wrong && said().text.contains("bad (key x)"), "{:?}", said());
    fs::write(&network, "{ vswitch-cni").unwrap();
    assert!(said().state == State::Wrong && said().text.contains("no JSON"), "{:?}", said());
}

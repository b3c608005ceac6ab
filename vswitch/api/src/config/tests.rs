use super::*;

const FILE: &str = r#"
socket = "/run/vswitch/vswitch.sock"
state-dir = "/var/lib/vswitch"
vtep-ip = "192.0.2.1"
vtep-port = 4789
workers = 2
log = "info"
ageing = 0
source-guard = true

[[vlan]]
vlan = 10
vni = 5010
name = "office"

[[vlan]]
vlan = 20
vni = 5020
learning = false

[[port]]
name = "web"
netns = "web"
address = ["10.0.0.2/24", "fd00::2/64"]
gateway = "10.0.0.1"
mtu = 1400
access = 10

[[port]]
name = "router"
netns = "/proc/1/ns/net"
ifname = "lan0"
mac = "02:00:00:00:00:01"
trunk = "10-20,30"
native = 5
allow-mac = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
allow-ip = "any"
rx-limit = "10M,64k"
tx-limit = "1.5G"

[[port]]
name = "plain"
netns = "pid:7"

[[port]]
name = "c1:eth0"
netns = "/run/netns/cni-1"
address = "10.0.0.3/24"
access = 10

[port.attachment]
network = "podman"
container = "c1"
delegated = true

[[peer]]
ip = "192.0.2.2"
all-vlans = true

[[peer]]
ip = "192.0.2.3"
vlan = [10, 20]

[[fdb]]
mac = "02:00:00:00:00:aa"
vlan = 10
port = "web"

[[fdb]]
mac = "02:00:00:00:00:bb"
vlan = 20
remote = "192.0.2.3"
"#;

#[test]
fn a_config_file_says_what_vsctl_says() {
    let Config { settings, desired } = toml::from_str(FILE).unwrap();
    assert_eq!(settings.state_dir.unwrap().to_str(), Some("/var/lib/vswitch"));
    assert_eq!(settings.vtep_port.unwrap().get(), 4789);
    assert_eq!(settings.workers.unwrap().get(), 2);
    assert_eq!(settings.ageing, Some(Ageing::Never));
    assert_eq!(desired.ageing().duration(), None);

    let port = |name: &str| desired.port(&name.parse().unwrap()).unwrap().clone();
    assert_eq!(port("web").mode, PortMode::Access("10".parse().unwrap()));
    assert_eq!(port("web").ifname.as_str(), "eth0");
    assert_eq!(port("web").gateways.len(), 1);
    assert_eq!(port("web").allow_mac, crate::Allowed::Unsaid);
    assert_eq!(port("router").allow_mac.to_string(), "02:00:00:00:00:01 02:00:00:00:00:02");
    assert_eq!(port("router").allow_ip, crate::Allowed::Any);
    assert_eq!(port("router").limits.rx.map(|limit| (limit.rate(), limit.burst())), Some((10_000_000, Some(65_536))));
    assert_eq!(port("router").limits.tx.map(|limit| (limit.rate(), limit.burst())), Some((1_500_000_000, None)));
    assert!(port("web").limits.is_none());
    assert_eq!(settings.source_guard, Some(true));
    assert_eq!(port("router").mode.to_string(), "trunk 10-20,30 native 5");
    let attachment = port("c1:eth0").attachment.unwrap();
    assert_eq!((attachment.container.as_str(), attachment.delegated, attachment.seen), ("c1", true, false));
    assert_eq!(port("plain").mode.to_string(), "access 1");

    let vlans: Vec<_> = desired.known_vlans().iter().map(|vlan| vlan.get()).collect();
    assert_eq!(vlans, [1, 5, 10, 20]);
    let in_vlan = |vlan: u16| {
        let vlan = crate::Vid::new(vlan).unwrap();
        let ports: Vec<_> = desired.ports_in(vlan).map(|port| port.name.to_string()).collect();
        let peers: Vec<_> = desired.peers_in(vlan).map(|ip| ip.to_string()).collect();
        (ports.join(" "), peers.join(" "))
    };
    assert_eq!(in_vlan(10), ("c1:eth0 router web".to_owned(), "192.0.2.2 192.0.2.3".to_owned()));
    assert_eq!(in_vlan(5), ("router".to_owned(), String::new()));
    assert_eq!(in_vlan(1), ("plain".to_owned(), String::new()));
}

#[test]
fn the_state_file_holds_the_same() {
    let mut value = serde_json::to_value(toml::from_str::<Config>(FILE).unwrap().desired).unwrap();
    value["cursor"] = serde_json::json!([{"vlan": 10, "subnet": "10.0.0.0/24", "last": "10.0.0.7"}]);
    let desired: Desired = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(&desired).unwrap(), value);
    let json = serde_json::to_string(&desired).unwrap();
    assert_eq!(serde_json::from_str::<Desired>(&json).unwrap(), desired);

    let again = desired.additions().try_fold(Desired::default(), |state, change| {
        state.apply(&change, Some("192.0.2.1".parse().unwrap())).map(|(state, _)| state)
    });
    assert_eq!(again.unwrap().with_ageing(Ageing::Never).with_cursors_of(&desired), desired);
    assert_eq!(serde_json::from_str::<Desired>("{}").unwrap(), Desired::default());
}

#[test]
fn an_error_in_the_file_names_its_line() {
    let table = [
        ("colour = 1", "line 1", "colour"),
        ("workers = 0", "line 1", "nonzero"),
        ("\n[[vlan]]\nvlan = 4095", "line 3", "1 to 4094"),
        ("[[vlan]]\nvlan = 10\nvnid = 5", "line 3", "vnid"),
        ("[[port]]\nname = \"a\"\nnetns = \"a\"\naddress = \"10.0.0.1\"", "line 4", "no prefix length"),
        ("[[port]]\nname = \"a\"\nnetns = \"a\"\nspeed = 1", "line 4", "speed"),
        ("[[port]]\nname = \"a\"", "line 1", "netns"),
        ("[[port]]\nname = \"a\"\nnetns = \"a\"\nallow-ip = \"10.0.0.5/24\"", "line 4", "10.0.0.0/24"),
        ("[[port]]\nname = \"a\"\nnetns = \"a\"\nnative = 5", "line 1", "native VLAN 5 needs a trunk"),
        ("[[port]]\nname = \"a\"\nnetns = \"a\"\n[port.attachment]\nnetwork = \"n\"", "line 4", "container"),
        // The daemon's own, of its state alone.
        ("[[cursor]]\nvlan = 1\nsubnet = \"10.0.0.0/24\"", "line 1", "unknown field `cursor`"),
        ("[[peer]]\nip = \"192.0.2.2\"", "line 1", "either vlan or all-vlans"),
        ("[[peer]]\nip = \"192.0.2.2\"\nall_vlans = true", "line 3", "all-vlans"),
        ("[[fdb]]\nmac = \"02:00:00:00:00:01\"\nvlan = 1", "line 1", "either port or remote"),
    ];
    for (file, line, part) in table {
        let error = toml::from_str::<Config>(file).unwrap_err().to_string();
        assert!(error.contains(line) && error.contains(part), "{file}\n{error}");
    }
}

#[test]
fn a_file_meets_the_refusals_of_the_socket() {
    let table = [
        ("[[vlan]]\nvlan = 1\nvni = 7\n[[vlan]]\nvlan = 2\nvni = 7", "VNI 7 is that of VLAN 1"),
        ("[[peer]]\nip = \"192.0.2.2\"\nvlan = 10", "VLAN 10 has no VNI"),
        ("[[fdb]]\nmac = \"02:00:00:00:00:01\"\nvlan = 1\nport = \"a\"", "there is no port a"),
    ];
    for (file, part) in table {
        let error = toml::from_str::<Config>(file).unwrap_err().to_string();
        assert!(error.contains(part), "{file}\n{error}");
    }
}

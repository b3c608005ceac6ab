//! What runtimes say to the CNI plugin.

use crate::Seeds;

/// Variables, each with a zero behind, and a configuration.
pub(crate) fn cni() -> Seeds {
    let whole = |command: &str, args: &str, config: &str| {
        let netns = "/var/run/netns/cni-5d1f";
        let variables = [command, "0123456789abcdef", "eth0", netns, args, "/opt/cni/bin:/usr/lib/cni"];
        let mut bytes = Vec::new();
        for variable in variables {
            bytes.extend_from_slice(variable.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(config.as_bytes());
        bytes
    };
    let kubelet = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c";
    let seeds = [
        ("add-embedded", whole("ADD", kubelet, EMBEDDED)),
        ("add-delegated", whole("ADD", "IP=10.1.0.7;MAC=02:00:00:00:00:07", DELEGATED)),
        ("add-trunk", whole("ADD", "", TRUNK)),
        ("check", whole("CHECK", "", CHECK)),
        ("del", whole("DEL", "", r#"{"cniVersion":"0.4.0","name":"net","type":"vswitch-cni","prevResult":null}"#)),
        ("gc", whole("GC", "", GC)),
        ("status", whole("STATUS", "", EMBEDDED)),
        ("version", whole("VERSION", "", r#"{"cniVersion":"1.1.0"}"#)),
    ];
    ("cni", seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

const EMBEDDED: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"vswitch-cni","vlan":10,"vni":100,"mtu":1400,
"subnets":[{"subnet":"10.1.0.0/16","rangeStart":"10.1.1.0","rangeEnd":"10.1.1.255","gateway":"10.1.0.1"},
{"subnet":"fd00:1::/64"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"10.9.0.0/16","gw":"10.1.0.9","mtu":1300,"advmss":1260,
"priority":7,"table":100,"scope":0}],"dns":{"nameservers":["10.1.0.53"],"domain":"lab","search":["lab"],"options":[]},
"isDefaultGateway":true,"ipMasq":true,"sourceGuard":true,"runtimeConfig":{"mac":"02:00:00:00:00:05","ips":["10.1.1.5/16"],
"bandwidth":{"ingressRate":8000000,"ingressBurst":80000,"egressRate":1000000,"egressBurst":0},
"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]},"args":{"cni":{"mac":"","ips":[]}}}"#;

const DELEGATED: &str = r#"{"cniVersion":"1.0.0","name":"net","type":"vswitch-cni","socket":"/run/vswitch/vswitch.sock",
"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]},"isGateway":true}"#;

const TRUNK: &str =
    r#"{"cniVersion":"0.3.1","name":"net","type":"vswitch-cni","trunk":[10,"20-30"],"native":5,"mac":null}"#;

const CHECK: &str = r#"{"cniVersion":"0.4.0","name":"net","type":"vswitch-cni","subnet":"10.1.0.0/24","prevResult":{
"cniVersion":"0.4.0","interfaces":[{"name":"vsw-net","mac":"02:00:00:00:00:fe"},{"name":"eth0","mac":"02:00:00:00:00:02",
"sandbox":"/var/run/netns/cni-5d1f"}],"ips":[{"version":"4","interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],
"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}],"dns":{}}}"#;

const GC: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"vswitch-cni","subnet":"10.1.0.0/24",
"cni.dev/valid-attachments":[{"containerID":"0123456789abcdef","ifname":"eth0"}]}"#;

//! What the configuration, the runtime and the user ask for, as one: what ADD makes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};
use vswitch_api::{Allowed, Cidr, Limits, Mac, Mtu, Net, NetworkName, Pool, PortMode, Vid, VlanList, Vni};

use crate::args::Args;
use crate::bandwidth;
use crate::protocol::{Code, Config, Failure, Route};

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// Its name.
    pub(crate) name: NetworkName,
    /// The VLANs of a container.
    pub(crate) mode: PortMode,
    /// What the VLAN is called on the underlay.
    pub(crate) vni: Option<Vni>,
    /// The MTU, where not what the underlay leaves.
    pub(crate) mtu: Option<Mtu>,
    /// The MAC address, where one is asked for.
    pub(crate) mac: Option<Mac>,
    /// Addresses asked for; with a pool they are all of it.
    pub(crate) addresses: Vec<Cidr>,
    /// Who chooses addresses.
    pub(crate) ipam: Ipam,
    /// Routes inside, beside what IPAM brings.
    pub(crate) routes: Vec<Route>,
    /// For the runtime.
    pub(crate) dns: Map<String, Value>,
    /// Whether the host has an address in the network and routes for it.
    pub(crate) gateway: Option<Gateway>,
    /// Whether frames from other addresses are dropped; `None`: as the daemon does.
    pub(crate) source_guard: Option<bool>,
    /// How much the container may send and receive.
    pub(crate) limits: Limits,
}

/// Who chooses addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ipam {
    /// Nobody: there are those asked for, if any.
    None,
    /// Another plugin.
    Delegated(String),
    /// The daemon.
    Embedded(Vec<Pool>),
}

/// What the host does for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// Whether containers' default routes lead to it.
    pub(crate) default_route: bool,
    /// Whether it hides their addresses from other networks.
    pub(crate) masquerade: bool,
}

/// A subnet as the configuration says it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subnet {
    subnet: Net,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

impl Network {
    /// Reads what ADD needs.
    ///
    /// # Errors
    /// Keys that contradict each other, and values that cannot be.
    pub(crate) fn read(config: &Config, args: &Args) -> Result<Self, Failure> {
        let ipam = ipam(config)?;
        // An empty text is how some say that they ask for none.
        let asked: [Option<String>; 4] = [
            config.get_in(&["runtimeConfig"], "mac")?,
            config.get_in(&["args", "cni"], "mac")?,
            args.mac.clone(),
            config.get("mac")?,
        ];
        let mac = asked.into_iter().flatten().find(|mac| !mac.is_empty());
        let mac = mac.map(|mac| mac.parse::<Mac>()).transpose().map_err(|error| invalid(&error))?;
        Ok(Self {
            name: config.name()?,
            mode: mode(config)?,
            vni: config.get("vni")?,
            mtu: mtu(config)?,
            mac,
            addresses: addresses(config, args, &ipam)?,
            ipam,
            routes: config.get("routes")?.unwrap_or_default(),
            dns: config.get("dns")?.unwrap_or_default(),
            gateway: gateway(config)?,
            source_guard: config.get("sourceGuard")?,
            limits: bandwidth::read(config)?,
        })
    }

    /// The VLAN of untagged frames, where addresses are used.
    pub(crate) fn vlan(&self) -> Option<Vid> {
        self.mode.untagged()
    }

    /// What a container may send from, if it has this MAC address and these addresses.
    pub(crate) fn allowed(&self, mac: Mac, addresses: &[Cidr]) -> (Allowed<Mac>, Allowed<Net>) {
        match self.source_guard {
            None => (Allowed::Unsaid, Allowed::Unsaid),
            Some(false) => (Allowed::Any, Allowed::Any),
            Some(true) => {
                let own: Vec<_> = addresses.iter().map(|address| Net::host(address.ip())).collect();
                (Allowed::Only(vec![mac]), if own.is_empty() { Allowed::Any } else { Allowed::Only(own) })
            }
        }
    }
}

/// The router of `subnet` where none is named: its first host, as other plugins have it.
pub(crate) fn first_host(subnet: IpNet) -> IpAddr {
    let network = subnet.network();
    if subnet.max_prefix_len() - subnet.prefix_len() <= 1 {
        return network;
    }
    match network {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() | 1).into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits() | 1).into(),
    }
}

fn invalid(why: &impl ToString) -> Failure {
    Failure::new(Code::Config, why.to_string())
}

fn mode(config: &Config) -> Result<PortMode, Failure> {
    let (vlan, trunk): (Option<Vid>, Option<VlanList>) = (config.get("vlan")?, config.get("trunk")?);
    if trunk.is_some() && vlan.is_some() {
        let why = "it stands beside \"trunk\"; a trunk's VLAN of untagged frames is \"native\"";
        return Err(config.unsupported("vlan", why));
    }
    if trunk.is_none() && config.has("native") {
        return Err(config.unsupported("native", "it is for a \"trunk\"; \"vlan\" is the VLAN of untagged frames"));
    }
    let mode = PortMode::from_words(vlan, trunk, config.get("native")?).map_err(|refusal| invalid(&refusal))?;
    let mode = mode.unwrap_or_default();
    if mode.untagged().is_none() {
        for key in ["vni", "subnet", "subnets", "isGateway", "isDefaultGateway"] {
            if config.has(key) && !config.is_false(key) {
                let why = "it is about untagged frames, and this trunk has none: give it a \"native\" VLAN";
                return Err(config.unsupported(key, why));
            }
        }
    }
    Ok(mode)
}

/// Zero is no MTU, as other plugins have it.
fn mtu(config: &Config) -> Result<Option<Mtu>, Failure> {
    if config.get::<i64>("mtu").is_ok_and(|mtu| mtu == Some(0)) { Ok(None) } else { config.get("mtu") }
}

/// What the host does for the network.
pub(crate) fn gateway(config: &Config) -> Result<Option<Gateway>, Failure> {
    let flag = |key| config.get::<bool>(key).map(Option::unwrap_or_default);
    let (is, default_route, masquerade) = (flag("isGateway")?, flag("isDefaultGateway")?, flag("ipMasq")?);
    if masquerade && !is && !default_route {
        let why = "only a gateway can masquerade: set \"isGateway\" or \"isDefaultGateway\" too";
        return Err(config.unsupported("ipMasq", why));
    }
    Ok((is || default_route).then_some(Gateway { default_route, masquerade }))
}

/// Who chooses addresses.
fn ipam(config: &Config) -> Result<Ipam, Failure> {
    let (one, many) = (config.has("subnet"), config.has("subnets"));
    if let Some(plugin) = config.ipam()? {
        for key in ["subnet", "subnets"] {
            if config.has(key) {
                return Err(config.unsupported(key, "\"ipam\" chooses the addresses: give one of the two"));
            }
        }
        return Ok(Ipam::Delegated(plugin));
    }
    if one && many {
        return Err(config.unsupported("subnet", "it stands beside \"subnets\": give one of the two"));
    }
    let subnets: Vec<Subnet> = match (one, many) {
        (false, false) => return Ok(Ipam::None),
        (true, _) => {
            let (subnet, range_start) = (config.get("subnet")?, config.get("rangeStart")?);
            let (range_end, gateway) = (config.get("rangeEnd")?, config.get("gateway")?);
            subnet.map(|subnet| Subnet { subnet, range_start, range_end, gateway }).into_iter().collect()
        }
        (false, true) => config.get("subnets")?.unwrap_or_default(),
    };
    let v4 = subnets.iter().filter(|subnet| subnet.subnet.net().addr().is_ipv4()).count();
    if v4 > 1 || subnets.len() - v4 > 1 {
        return Err(config.unsupported("subnets", "a container gets one address of each: give one of each family"));
    }
    let pool = |subnet: Subnet| {
        let Subnet { subnet, range_start, range_end, gateway } = subnet;
        let pool = Pool { subnet, first: range_start, last: range_end, gateway };
        pool.range().map(|_| pool).map_err(|refusal| invalid(&refusal))
    };
    Ok(Ipam::Embedded(subnets.into_iter().map(pool).collect::<Result<_, _>>()?))
}

/// The addresses that the runtime or the user asks for, each once: Podman says them twice when it reloads a network. An
/// IPAM plugin reads them itself.
fn addresses(config: &Config, args: &Args, ipam: &Ipam) -> Result<Vec<Cidr>, Failure> {
    let pools: &[Pool] = match ipam {
        Ipam::Delegated(_) => return Ok(Vec::new()),
        Ipam::None => &[],
        Ipam::Embedded(pools) => pools,
    };
    let by_runtime: Option<Vec<String>> = config.get_in(&["runtimeConfig"], "ips")?;
    let said = |ips: &Vec<String>| !ips.is_empty();
    let asked = by_runtime.filter(said).or(config.get_in(&["args", "cni"], "ips")?).filter(said);
    let asked = asked.unwrap_or_else(|| args.ips.clone());
    let mut addresses = Vec::new();
    for text in &asked {
        let address = address(text, pools)?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// An address with the length of its pool, which the writer need not know.
fn address(text: &str, pools: &[Pool]) -> Result<Cidr, Failure> {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return text.parse().map_err(|error| invalid(&error));
    };
    let Some(pool) = pools.iter().find(|pool| pool.subnet.net().contains(&ip)) else {
        if pools.is_empty() {
            return text.parse().map_err(|error| invalid(&error));
        }
        let subnets: Vec<_> = pools.iter().map(|pool| pool.subnet.to_string()).collect();
        return Err(invalid(&format!("address {ip} is not in {}: ask for one that is", subnets.join(" or "))));
    };
    let net = IpNet::new(ip, pool.subnet.net().prefix_len()).map_err(|error| invalid(&error))?;
    Cidr::new(net).map_err(|error| invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Config;

    fn read_with(keys: &str, args: &str) -> Result<Network, Failure> {
        let text = format!("{{\"cniVersion\":\"1.1.0\",\"name\":\"net\",\"type\":\"vswitch-cni\"{keys}}}");
        Network::read(&Config::read(text.into_bytes())?, &Args::read(args)?)
    }

    fn read(keys: &str) -> Result<Network, Failure> {
        read_with(keys, "")
    }

    #[test]
    fn nothing_said() {
        let network = read("").unwrap();
        assert_eq!(network.mode, PortMode::Access(Vid::MIN));
        assert_eq!((network.ipam, network.addresses, network.gateway), (Ipam::None, Vec::new(), None));
        assert_eq!(network.source_guard, None);
    }

    #[test]
    fn unknown_keys_are_nobodys_business() {
        assert_eq!(read(r#","bridge":"cni0","x":{"y":[]},"capabilities":{"mac":true}"#).unwrap(), read("").unwrap());
    }

    #[test]
    fn vlans() {
        let mode = |keys: &str| read(keys).map(|network| network.mode.to_string());
        assert_eq!(mode(r#","vlan":10"#).unwrap(), "access 10");
        assert_eq!(mode(r#","trunk":"10-20,30""#).unwrap(), "trunk 10-20,30");
        assert_eq!(mode(r#","trunk":[10,"12-13"],"native":5"#).unwrap(), "trunk 10,12-13 native 5");
        for (keys, code, text) in [
            (r#","vlan":4095"#, 7, "VLAN 4095"),
            (r#","vlan":"10x""#, 7, "\"vlan\""),
            (r#","vlan":10,"trunk":"11""#, 2, "\"vlan\" with value 10"),
            (r#","native":5"#, 2, "\"native\" with value 5"),
            (r#","trunk":"10","vni":7"#, 2, "\"vni\" with value 7"),
            (r#","trunk":"10","subnet":"10.0.0.0/24""#, 2, "\"subnet\" with value \"10.0.0.0/24\""),
            (r#","vni":16777216"#, 7, "VNI 16777216"),
            (r#","mtu":67"#, 7, "MTU 67"),
        ] {
            let failure = mode(keys).unwrap_err();
            assert_eq!(failure.code, code, "{keys}: {failure}");
            assert!(failure.details.contains(text), "{keys}: {failure}");
        }
        assert_eq!(read(r#","mtu":0"#).unwrap().mtu, None);
        assert!(read(r#","trunk":"10","native":5,"vni":7"#).is_ok());
    }

    #[test]
    fn what_is_switched_off_stands_in_nobodys_way() {
        let network = read(r#","trunk":"10","isGateway":false,"isDefaultGateway":false,"ipMasq":false"#).unwrap();
        assert_eq!((network.mode.to_string().as_str(), network.gateway), ("trunk 10", None));
    }

    #[test]
    fn who_chooses_addresses() {
        let ipam = |keys: &str| read(keys).map(|network| network.ipam);
        assert_eq!(ipam(r#","ipam":{"type":"static"}"#).unwrap(), Ipam::Delegated("static".to_owned()));
        let keys = r#","subnet":"10.0.0.0/24","rangeStart":"10.0.0.10","rangeEnd":"10.0.0.20","gateway":"10.0.0.254""#;
        let Ipam::Embedded(pools) = ipam(keys).unwrap() else { panic!("{keys}") };
        let [Pool { subnet, first, last, gateway }] = pools[..] else { panic!("{pools:?}") };
        assert_eq!(subnet.to_string(), "10.0.0.0/24");
        let ends = [first, last, gateway].map(|ip| ip.unwrap().to_string());
        assert_eq!(ends, ["10.0.0.10", "10.0.0.20", "10.0.0.254"]);
        let Ipam::Embedded(pools) = ipam(r#","subnets":[{"subnet":"10.0.0.0/24"},{"subnet":"fd00::/64"}]"#).unwrap()
        else {
            panic!("two subnets")
        };
        assert_eq!(pools.len(), 2);
        for (keys, code) in [
            (r#","subnet":"10.0.0.0/24","ipam":{"type":"static"}"#, 2),
            (r#","subnet":"10.0.0.0/24","subnets":[{"subnet":"fd00::/64"}]"#, 2),
            (r#","subnets":[{"subnet":"10.0.0.0/24"},{"subnet":"10.0.1.0/24"}]"#, 2),
            (r#","subnet":"10.0.0.7/24""#, 7),
            (r#","subnet":"10.0.0.0/24","rangeStart":"10.0.1.1""#, 7),
            (r#","subnet":"10.0.0.0/24","rangeStart":"10.0.0.9","rangeEnd":"10.0.0.8""#, 7),
            (r#","subnets":[{}]"#, 7),
            (r#","ipam":{"type":"../x"}"#, 7),
        ] {
            let failure = ipam(keys).unwrap_err();
            assert_eq!(failure.code, code, "{keys}: {failure}");
        }
    }

    #[test]
    fn addresses_and_macs_are_asked_for_in_three_ways() {
        let subnet = r#","subnet":"10.0.0.0/24""#;
        let asked = |keys: &str, args: &str| {
            let network = read_with(&format!("{subnet}{keys}"), args).unwrap();
            let addresses: Vec<_> = network.addresses.iter().map(ToString::to_string).collect();
            (addresses.join(" "), network.mac.map_or_else(String::new, |mac| mac.to_string()))
        };
        let runtime = r#","runtimeConfig":{"ips":["10.0.0.5"],"mac":"02:00:00:00:00:05"}"#;
        let twice = r#","runtimeConfig":{"ips":["10.0.0.5","10.0.0.5"]}"#;
        let in_args = r#","args":{"cni":{"ips":["10.0.0.6/24"],"mac":"02:00:00:00:00:06"}}"#;
        let variable = "IP=10.0.0.7;MAC=02:00:00:00:00:07";
        let (five, six, seven) = ("02:00:00:00:00:05", "02:00:00:00:00:06", "02:00:00:00:00:07");
        assert_eq!(asked(&format!("{runtime}{in_args}"), variable), ("10.0.0.5/24".to_owned(), five.to_owned()));
        assert_eq!(asked(in_args, variable), ("10.0.0.6/24".to_owned(), six.to_owned()));
        assert_eq!(asked("", variable), ("10.0.0.7/24".to_owned(), seven.to_owned()));
        assert_eq!(asked(r#","mac":"02:00:00:00:00:08""#, "").1, "02:00:00:00:00:08");
        assert_eq!(asked(r#","runtimeConfig":{"ips":[],"mac":""}"#, ""), (String::new(), String::new()));
        // What is empty hides nothing.
        assert_eq!(asked(r#","runtimeConfig":{"mac":""},"mac":"02:00:00:00:00:08""#, "").1, "02:00:00:00:00:08");
        assert_eq!(asked(twice, "").0, asked(runtime, "").0);

        for (keys, text) in [
            (r#","subnet":"10.0.0.0/24","runtimeConfig":{"ips":["10.0.1.5"]}"#, "10.0.1.5 is not in 10.0.0.0/24"),
            (r#","runtimeConfig":{"ips":["10.0.1.5"]}"#, "10.0.1.5/24"),
            (r#","subnet":"10.0.0.0/24","runtimeConfig":{"ips":["10.0.0.255"]}"#, "broadcast"),
            (r#","runtimeConfig":{"ips":["x"]}"#, "\"x\" is not an address"),
            (r#","mac":"03:00:00:00:00:01""#, "multicast"),
            (r#","mac":7"#, "\"mac\""),
        ] {
            let failure = read(keys).unwrap_err();
            assert_eq!(failure.code, 7, "{keys}");
            assert!(failure.details.contains(text), "{keys}: {failure}");
        }
    }

    #[test]
    fn gateways() {
        let gateway = |keys: &str| read(keys).map(|network| network.gateway);
        let is = |default_route, masquerade| Some(Gateway { default_route, masquerade });
        assert_eq!(gateway("").unwrap(), None);
        assert_eq!(gateway(r#","isGateway":true"#).unwrap(), is(false, false));
        assert_eq!(gateway(r#","isDefaultGateway":true,"ipMasq":true"#).unwrap(), is(true, true));
        assert_eq!(gateway(r#","ipMasq":true"#).unwrap_err().code, 2);
        let hosts = [
            ("10.0.0.0/24", "10.0.0.1"),
            ("fd00::/64", "fd00::1"),
            ("10.0.0.4/31", "10.0.0.4"),
            ("10.0.0.9/24", "10.0.0.1"),
        ];
        for (subnet, host) in hosts {
            assert_eq!(first_host(subnet.parse().unwrap()).to_string(), host);
        }
    }
}

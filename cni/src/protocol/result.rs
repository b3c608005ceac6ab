//! What ADD came to, in the form of each version: section 5 of the specification.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Version;
use super::error::{Code, Failure};

/// A "success" result: our own, an IPAM plugin's, or that of the plugins before us.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Success {
    /// Interfaces, in the order that [`Ip::interface`] counts.
    #[serde(default, deserialize_with = "or_default")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub ips: Vec<Ip>,
    /// Routes.
    #[serde(default, deserialize_with = "or_default")]
    pub routes: Vec<Route>,
    /// `nameservers`, `domain`, `search`, `options`: for the runtime, as they came.
    #[serde(default, deserialize_with = "or_default")]
    pub dns: Map<String, Value>,
    /// What a plugin before us says beside.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its address; empty where it has none.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace it is in; empty for the host's.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// `socketPath`, `pciID`, and what later versions may bring.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ip {
    /// The address, with the length of its subnet.
    pub address: IpNet,
    /// The subnet's router.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of [`Success::interfaces`] has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// `version` before 1.0.0, which the address tells as well.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>")]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// The router; where there is none, the gateway of the addresses of this family.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub gw: Option<IpAddr>,
    /// The largest packet, in bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// The maximal segment size to advertise, in bytes.
    #[serde(default)]
    pub advmss: Option<u32>,
    /// The metric: the least is taken.
    #[serde(default)]
    pub priority: Option<u32>,
    /// The table; the main one where none is given.
    #[serde(default)]
    pub table: Option<u32>,
    /// The scope: 0 is global, 253 link, 254 host.
    #[serde(default)]
    pub scope: Option<u32>,
    /// What a plugin before us says beside.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Route {
    /// The route to `dst` without more to it.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None, other: Map::new() }
    }
}

impl From<Route> for Map<String, Value> {
    fn from(route: Route) -> Self {
        let Route { dst, gw, mtu, advmss, priority, table, scope, mut other } = route;
        other.insert("dst".to_owned(), dst.to_string().into());
        if let Some(gw) = gw {
            other.insert("gw".to_owned(), gw.to_string().into());
        }
        let numbers = [("mtu", mtu), ("advmss", advmss), ("priority", priority), ("table", table), ("scope", scope)];
        for (key, number) in numbers {
            if let Some(number) = number {
                other.insert(key.to_owned(), number.into());
            }
        }
        other
    }
}

impl Success {
    /// Reads a result; `whose` it is stands in the error.
    ///
    /// # Errors
    /// One that is none.
    pub fn read(value: Value, whose: &str) -> Result<Self, Failure> {
        serde_json::from_value(value).map_err(|error| Failure::new(Code::Decode, format!("{whose}: {error}")))
    }

    /// In the form of `version`.
    ///
    /// # Errors
    /// Where JSON cannot hold it, which cannot happen with the types there are.
    pub fn to_json(&self, version: Version) -> Result<Value, Failure> {
        let mut form = self.clone();
        for ip in &mut form.ips {
            if version < Version::V1_0_0 {
                let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
                ip.other.insert("version".to_owned(), family.into());
            } else {
                ip.other.remove("version");
            }
        }
        if version < Version::V1_1_0 {
            for interface in &mut form.interfaces {
                interface.mtu = None;
            }
            for route in &mut form.routes {
                let Route { dst: _, gw: _, mtu, advmss, priority, table, scope, other: _ } = route;
                (*mtu, *advmss, *priority, *table, *scope) = (None, None, None, None, None);
            }
        }
        form.other.insert("cniVersion".to_owned(), version.as_str().into());
        serde_json::to_value(form).map_err(|error| Failure::new(Code::Decode, error.to_string()))
    }

    /// The interface `name` in `sandbox` and where it stands in the list.
    #[must_use]
    pub fn interface(&self, name: &str, sandbox: &str) -> Option<(usize, &Interface)> {
        let mut all = self.interfaces.iter().enumerate();
        all.find(|(_, interface)| interface.name == name && interface.sandbox == sandbox)
    }
}

/// Null, as Go writes a list that is not there, is nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// An empty text, as Go writes an address that is not there, is none.
fn empty_is_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ours() -> Success {
        let interface = |name: &str, sandbox: &str| Interface {
            name: name.to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            mtu: Some(1450),
            sandbox: sandbox.to_owned(),
            other: Map::new(),
        };
        let ip = |address: &str, gateway: &str| Ip {
            address: address.parse().unwrap(),
            gateway: gateway.parse().ok(),
            interface: Some(1),
            other: Map::new(),
        };
        let route = Route {
            dst: "0.0.0.0/0".parse().unwrap(),
            gw: "10.0.0.1".parse().ok(),
            mtu: Some(1400),
            advmss: None,
            priority: Some(7),
            table: None,
            scope: None,
            other: Map::new(),
        };
        Success {
            interfaces: vec![interface("vsw-a", ""), interface("eth0", "/run/netns/x")],
            ips: vec![ip("10.0.0.2/24", "10.0.0.1"), ip("fd00::2/64", "")],
            routes: vec![route],
            dns: Map::new(),
            other: Map::new(),
        }
    }

    #[test]
    fn each_version_has_its_form() {
        let mac = "02:00:00:00:00:01";
        let latest = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "vsw-a", "mac": mac, "mtu": 1450},
                {"name": "eth0", "mac": mac, "mtu": 1450, "sandbox": "/run/netns/x"},
            ],
            "ips": [
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "fd00::2/64", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1", "mtu": 1400, "priority": 7}],
            "dns": {},
        });
        assert_eq!(ours().to_json(Version::V1_1_0).unwrap(), latest);

        let plain = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "vsw-a", "mac": mac}, {"name": "eth0", "mac": mac, "sandbox": "/run/netns/x"}],
            "ips": [
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "fd00::2/64", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
            "dns": {},
        });
        assert_eq!(ours().to_json(Version::V1_0_0).unwrap(), plain);

        for (version, name) in [(Version::V0_3_0, "0.3.0"), (Version::V0_3_1, "0.3.1"), (Version::V0_4_0, "0.4.0")] {
            let mut old = plain.clone();
            old["cniVersion"] = name.into();
            old["ips"][0]["version"] = "4".into();
            old["ips"][1]["version"] = "6".into();
            assert_eq!(ours().to_json(version).unwrap(), old);
        }
    }

    #[test]
    fn what_others_say_is_passed_on() {
        let theirs = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "a", "socketPath": "/s", "pciID": "1", "later": [1]}],
            "ips": [{"address": "10.0.0.2/24", "later": 2}],
            "routes": [{"dst": "10.1.0.0/16", "later": 3}],
            "dns": {"nameservers": ["10.0.0.1"], "later": 4},
            "later": {"x": null},
        });
        let read = Success::read(theirs.clone(), "theirs").unwrap();
        assert_eq!(read.to_json(Version::V1_1_0).unwrap(), theirs);
    }

    #[test]
    fn what_go_writes_is_understood() {
        let read = json!({"interfaces": null, "ips": [{"address": "10.0.0.2/24", "gateway": "", "version": "4"}],
            "routes": null, "dns": null});
        let read = Success::read(read, "it").unwrap();
        assert_eq!((read.interfaces.len(), read.ips[0].gateway, read.dns.len()), (0, None, 0));
        assert_eq!(read.to_json(Version::V1_1_0).unwrap()["ips"], json!([{"address": "10.0.0.2/24"}]));

        for bad in [json!([]), json!({"ips": [{}]}), json!({"ips": [{"address": "10.0.0.2"}]}), json!({"routes": 1})] {
            let failure = Success::read(bad, "prevResult").unwrap_err();
            assert_eq!(failure.code, 6);
            assert!(failure.details.starts_with("prevResult: "), "{failure}");
        }
    }
}

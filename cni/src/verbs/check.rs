//! CHECK: whether the attachment is as ADD, and the plugins after us, left it.

use ipnet::IpNet;
use vswitch_api::{Mac, ModeInfo, PortInfo, PortState, Query};

use super::{Call, attachments, gateway_spec, routed};
use crate::args::Args;
use crate::attach;
use crate::daemon::{Daemon, PATIENCE};
use crate::gateway;
use crate::inside::{self, Expected};
use crate::network::Network;
use crate::protocol::{Attachment, Code, Failure, Route, Success};

/// Compares with `prevResult`, which is what the last plugin of the chain said: what they changed is right.
pub(super) fn check(call: &Call<'_>, attachment: &Attachment) -> Result<(), Failure> {
    let network = Network::read(call.config, &Args::read(&attachment.args)?)?;
    let result = call.config.prev_result()?.ok_or_else(|| {
        Failure::new(Code::Config, "key \"prevResult\" is missing: CHECK compares with what ADD answered")
    })?;
    let path = attachment.netns.as_deref().unwrap_or_default();
    let expected = expected(&result, attachment.ifname.as_str(), path)?;
    let netns = attach::open(path)?;
    let mut daemon = Daemon::connect(call.config, PATIENCE)?;
    check_port(&mut daemon, &network, attachment)?;
    inside::check(&netns, &expected).map_err(|error| Failure::new(Code::Differs, error.to_string()))?;
    let own: Vec<_> = result.ips.iter().filter(|ip| expected.addresses.contains(&ip.address)).cloned().collect();
    if let Some(spec) = gateway_spec(&network, &own) {
        gateway::check(&mut daemon, &spec)?;
    }
    match call.delegate()? {
        Some(delegate) => delegate.check(),
        None => Ok(()),
    }
}

/// Whether the daemon carries frames to and from the container, in the right VLAN.
fn check_port(daemon: &mut Daemon, network: &Network, attachment: &Attachment) -> Result<(), Failure> {
    let Attachment { container, ifname, .. } = attachment;
    let differs = |why: String| Err(Failure::new(Code::Differs, why));
    let all = attachments(daemon, &network.name)?;
    let Some(found) = all.into_iter().find(|found| found.container == *container && found.ifname == *ifname) else {
        let name = &network.name;
        return differs(format!(
            "vswitchd has no port for interface {ifname} of container {container} in network {name}"
        ));
    };
    let name = found.port;
    let port: PortInfo = daemon.call(&Query::PortShow { name: name.clone() }.into())?;
    if port.state != PortState::Up {
        return differs(format!("port {name} is lost: its interface or namespace is gone"));
    }
    if port.mode != ModeInfo::from(&network.mode) {
        return differs(format!("port {name} is not {}, as the network configuration says", network.mode));
    }
    if let (Some(vlan), Some(vni)) = (network.vlan(), network.vni) {
        let vlans: Vec<vswitch_api::VlanInfo> = daemon.call(&Query::VlanList {}.into())?;
        let there = vlans.into_iter().find(|there| there.vlan == vlan).and_then(|there| there.vni);
        if there != Some(vni) {
            let there = there.map_or_else(|| "no VNI".to_owned(), |vni| format!("VNI {vni}"));
            return differs(format!("VLAN {vlan} has {there}, not {vni}, as the network configuration says"));
        }
    }
    Ok(())
}

/// What `result` says of interface `ifname` in the namespace `sandbox`.
fn expected(result: &Success, ifname: &str, sandbox: &str) -> Result<Expected, Failure> {
    let Some((index, interface)) = result.interface(ifname, sandbox) else {
        let why = format!("prevResult has no interface {ifname} in {sandbox}");
        return Err(Failure::new(Code::Differs, why));
    };
    let mac = Some(interface.mac.as_str()).filter(|mac| !mac.is_empty()).map(str::parse::<Mac>).transpose();
    let mac = mac.map_err(|error| Failure::new(Code::Config, format!("prevResult: {error}")))?;
    let own = result.ips.iter().filter(|ip| ip.interface == Some(index));
    let addresses: Vec<IpNet> = own.clone().map(|ip| ip.address).collect();
    // Routes by other interfaces of the container are other plugins' business; one that names no router can be told from
    // theirs only where there is no other.
    let alone = result.interfaces.iter().filter(|interface| !interface.sandbox.is_empty()).count() == 1;
    let gateways: Vec<_> = own.filter_map(|ip| ip.gateway).collect();
    let ours = |route: &&Route| match route.gw {
        Some(gw) => addresses.iter().any(|address| address.contains(&gw)),
        None => alone,
    };
    let routes = result.routes.iter().filter(ours).map(|route| routed(route, &gateways)).collect();
    Ok(Expected { ifname: ifname.to_owned(), mac: mac.map(Mac::octets), addresses, routes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_the_last_plugin_said_counts() {
        let mut result = json!({
            "interfaces": [
                {"name": "vsw-net", "mac": "02:00:00:00:00:fe"},
                {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/a"},
            ],
            "ips": [
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "10.0.9.9/24", "interface": 2},
                {"address": "10.0.8.8/24"},
            ],
            "routes": [
                {"dst": "0.0.0.0/0"},
                {"dst": "10.1.0.0/16", "gw": "10.0.0.7"},
                {"dst": "10.2.0.0/16", "gw": "10.0.9.1"},
            ],
        });
        let read = |result: &Value| Success::read(result.clone(), "it").unwrap();
        let routes = |result: &Value| {
            let routes = expected(&read(result), "eth0", "/run/netns/a").unwrap().routes;
            routes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let Expected { ifname, mac, addresses, .. } = expected(&read(&result), "eth0", "/run/netns/a").unwrap();
        assert_eq!((ifname.as_str(), mac), ("eth0", Some([2, 0, 0, 0, 0, 2])));
        assert_eq!(addresses, ["10.0.0.2/24".parse().unwrap()]);
        assert_eq!(routes(&result), ["0.0.0.0/0 via 10.0.0.1", "10.1.0.0/16 via 10.0.0.7"]);
        // With another interface nobody can tell whose the default route is.
        result["interfaces"].as_array_mut().unwrap().push(json!({"name": "eth1", "sandbox": "/run/netns/a"}));
        assert_eq!(routes(&result), ["10.1.0.0/16 via 10.0.0.7"]);
        let result = read(&result);
        for (ifname, sandbox) in [("eth2", "/run/netns/a"), ("eth0", "/run/netns/c")] {
            assert_eq!(expected(&result, ifname, sandbox).unwrap_err().code, 105);
        }
    }
}

//! What each verb does.

mod add;
mod check;
mod del;
mod gc;
mod status;
mod sweep;
mod version;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use vswitch_api::{AttachmentInfo, Change, Detached, NetworkName, PortName, PortState, Query};

use crate::daemon::{Daemon, DaemonError};
use crate::gateway::{self, GatewayError, GatewaySpec};
use crate::ipam::Delegate;
use crate::network::{self, Network};
use crate::protocol::{Attachment, Code, Command, Config, Environment, Failure, Ip, Route, Version};
use crate::routes;

pub(crate) use version::version;

/// One run of the plugin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// What the environment says.
    pub(crate) environment: &'a Environment,
    /// What standard input says.
    pub(crate) config: &'a Config,
    /// The version the two agree on.
    pub(crate) version: Version,
}

/// Does it; what is to be printed, if anything.
///
/// # Errors
/// What went wrong. What had been done until then is undone, where ADD fails, and stays done where another verb does.
pub(crate) fn perform(call: &Call<'_>) -> Result<Option<Value>, Failure> {
    match (call.environment.command, &call.environment.attachment) {
        (Command::Add, Some(attachment)) => add::add(call, attachment).map(Some),
        (Command::Del, Some(attachment)) => del::del(call, attachment).map(|()| None),
        (Command::Check, Some(attachment)) => check::check(call, attachment).map(|()| None),
        (Command::Gc, _) => gc::gc(call).map(|()| None),
        (Command::Status, _) => status::status(call).map(|()| None),
        // VERSION is answered without a configuration, and the others come with an attachment.
        _ => version(None).map(Some),
    }
}

impl Call<'_> {
    /// The IPAM plugin, where the configuration names one.
    fn delegate(&self) -> Result<Option<Delegate<'_>>, Failure> {
        // By its own key alone: DEL and GC work where a key that only ADD needs is wrong.
        let Some(name) = self.config.ipam()? else { return Ok(None) };
        Delegate::find(&name, &self.environment.path, self.config).map(Some)
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        Self::new(if error.is_passing() { Code::TryAgain } else { Code::Gateway }, error.to_string())
    }
}

/// What the host shall be for containers with `ips`, where the configuration asks for a gateway.
fn gateway_spec(network: &Network, ips: &[Ip]) -> Option<GatewaySpec> {
    let (gateway, vlan) = network.gateway.zip(network.vlan())?;
    let address = |ip: &Ip| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok();
    Some(GatewaySpec {
        network: network.name.clone(),
        vlan,
        addresses: ips.iter().filter_map(address).collect(),
        mtu: network.mtu,
        masquerade: gateway.masquerade,
    })
}

/// The attachments of `network` on this host.
fn attachments(daemon: &mut Daemon, network: &NetworkName) -> Result<Vec<AttachmentInfo>, DaemonError> {
    daemon.call(&Query::AttachmentList { network: Some(network.clone()) }.into())
}

/// Removes the port of an attachment; where there is none, that is as good.
fn detach(daemon: &mut Daemon, network: &NetworkName, attachment: &Attachment) -> Result<(), DaemonError> {
    let Attachment { container, ifname, .. } = attachment;
    let (container, ifname) = (container.clone(), ifname.clone());
    daemon.call::<Detached>(
        &Change::AttachmentDel { container, ifname, network: Some(network.clone()), lost: false }.into(),
    )?;
    Ok(())
}

/// Removes an attachment that nobody needs any more: its addresses are given back, and its port goes.
fn release(daemon: &mut Daemon, delegate: Option<&Delegate<'_>>, dead: &AttachmentInfo) -> Result<(), Failure> {
    let AttachmentInfo { network, container, ifname, delegated, state, .. } = dead;
    let delegate = delegate.filter(|_| *delegated);
    // A lost port is what remembers, and stays where its address could not be given back. One that is up uses its address
    // until it is gone.
    let before = *state == PortState::Lost || delegate.is_some_and(Delegate::needs_interface);
    let give_back = || delegate.map_or(Ok(()), |delegate| delegate.del(Some((container, ifname))));
    if before {
        give_back()?;
    }
    let (of, name, network) = (container.clone(), ifname.clone(), Some(network.clone()));
    // One that came back meanwhile is somebody's.
    let lost = *state == PortState::Lost;
    daemon.call::<Detached>(&Change::AttachmentDel { container: of, ifname: name, network, lost }.into())?;
    if before { Ok(()) } else { give_back() }
}

/// Removes the gateway of network `name` with its last attachment, whatever the configuration says: the one that made it
/// may have been another.
fn tidy(call: &Call<'_>, daemon: &mut Daemon, name: &NetworkName) -> Result<(), Failure> {
    let masquerades = network::gateway(call.config).is_ok_and(|gateway| gateway.is_some_and(|it| it.masquerade));
    Ok(gateway::remove_unused(daemon, name, masquerades)?)
}

/// A route for the kernel: where it names no router, that is the one of its family among `gateways`.
fn routed(route: &Route, gateways: &[IpAddr]) -> routes::Route {
    let &Route { dst, gw, mtu, advmss, priority, table, scope, other: _ } = route;
    let of_family = || gateways.iter().copied().find(|gateway| gateway.is_ipv4() == dst.addr().is_ipv4());
    // On the link, a router would contradict the scope.
    let on_link = scope.is_some_and(|scope| scope >= 253);
    let gw = gw.or_else(|| if on_link { None } else { of_family() });
    routes::Route { mtu, advmss, priority, table, scope, ..routes::Route::new(dst, gw) }
}

/// What the port of an attachment shall be called: by its pod, where there is one, else by its container.
fn port_name(attachment: &Attachment, pod: Option<&(String, String)>) -> Result<PortName, Failure> {
    let Attachment { container, ifname, .. } = attachment;
    // Most of what an interface may be called, a port may not.
    let ifname: String =
        ifname.as_str().chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if let Some((namespace, name)) = pod
        && let Ok(name) = format!("{namespace}.{name}:{ifname}").parse()
    {
        return Ok(name);
    }
    let id = container.as_str();
    let hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A name has 128 characters at most; an id is ASCII.
    let shown = if hex { 12 } else { id.len().min(128 - 1 - ifname.len()) };
    let name = format!("{}:{ifname}", id.get(..shown).unwrap_or(id));
    name.parse().map_err(|error| Failure::new(Code::Environment, format!("CNI_CONTAINERID: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports() {
        let hex = "0123456789abcdef".repeat(4);
        let long = "c".repeat(255);
        let pod = |namespace: &str, name: &str| Some((namespace.to_owned(), name.to_owned()));
        for (container, ifname, pod, expected) in [
            ("web", "eth0", None, "web:eth0".to_owned()),
            (&*hex, "eth0", None, "0123456789ab:eth0".to_owned()),
            (&*hex, "net1", pod("default", "web-1"), "default.web-1:net1".to_owned()),
            (&*hex, "eth0", pod("default", "a b"), "0123456789ab:eth0".to_owned()),
            (&*long, "eth0", pod(&"n".repeat(63), &"p".repeat(253)), format!("{}:eth0", "c".repeat(123))),
            ("web", "a@b~c", None, "web:a_b_c".to_owned()),
        ] {
            let (container, ifname) = (container.parse().unwrap(), ifname.parse().unwrap());
            let attachment = Attachment { container, ifname, netns: None, args: String::new() };
            assert_eq!(port_name(&attachment, pod.as_ref()).unwrap().as_str(), expected);
        }
    }
}

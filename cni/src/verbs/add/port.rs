//! The port of a container, and its addresses: which of the two comes first.

use serde_json::{Map, Value};
use vswitch_api::{
    Allowed, Attach, Attachment as Owner, Change, Cidr, Code as Refused, PortInfo, PortPlan, PortSet, PortSpec, Query,
};
use vswitch_sys::Netns;

use super::Made;
use crate::args::Args;
use crate::attach::{self, AttachError};
use crate::daemon::DaemonError;
use crate::ipam::Delegate;
use crate::network::{Ipam, Network, first_host};
use crate::protocol::{Attachment, Code, Failure, Ip, Success};
use crate::verbs::port_name;

/// A port with addresses.
pub(super) struct Addressed {
    pub(super) port: PortInfo,
    pub(super) ips: Vec<Ip>,
    /// What came with the addresses: routes and DNS.
    pub(super) brought: Success,
}

/// The port as far as the configuration says.
pub(super) fn wish(
    network: &Network,
    Attachment { container, ifname, .. }: &Attachment,
    args: &Args,
    path: &str,
) -> Result<PortSpec, Failure> {
    let owner = Owner {
        network: network.name.clone(),
        container: container.clone(),
        delegated: matches!(network.ipam, Ipam::Delegated(_)),
        seen: false,
        sight: None,
    };
    let attachment =
        Attachment { container: container.clone(), ifname: ifname.clone(), netns: None, args: String::new() };
    Ok(PortSpec {
        ifname: ifname.clone(),
        mac: network.mac,
        // Without gateways: routes are added when the interface is there. Where a container has a default route already, by
        // another of its networks, that one stays.
        addresses: network.addresses.clone(),
        mtu: network.mtu,
        mode: network.mode.clone(),
        limits: network.limits,
        attachment: Some(owner),
        ..PortSpec::new(port_name(&attachment, args.pod.as_ref())?, attach::named(path)?)
    })
}

impl Made<'_> {
    /// Makes the port, with its addresses.
    pub(super) fn addressed(&mut self, wish: PortSpec, netns: &Netns) -> Result<Addressed, Failure> {
        let vni = self.network.vni;
        let without = |pools| Attach { port: wish.clone(), pools, vni };
        let Some(by_interface) = self.delegate.as_ref().map(Delegate::needs_interface) else {
            let pools = if let Ipam::Embedded(pools) = &self.network.ipam { pools.clone() } else { Vec::new() };
            let attach = without(pools);
            let port = self.attach(&attach, netns)?;
            let ips = given(&port, &attach);
            return Ok(Addressed { port, ips, brought: Success::default() });
        };
        if by_interface {
            let port = self.attach(&without(Vec::new()), netns)?;
            let (addresses, ips, brought) = self.ask()?;
            let port = self.give(port, addresses, netns)?;
            return Ok(Addressed { port, ips, brought });
        }
        let (addresses, ips, brought) = self.ask()?;
        let attach = Attach { port: PortSpec { addresses, ..wish }, pools: Vec::new(), vni };
        Ok(Addressed { port: self.attach(&attach, netns)?, ips, brought })
    }

    fn attach(&mut self, attach: &Attach, netns: &Netns) -> Result<PortInfo, Failure> {
        let guarded = self.guarded(attach)?;
        let attach = guarded.map_or_else(|| attach.clone(), |port| Attach { port, ..attach.clone() });
        let fresh = !attach::has(netns, &attach.port.ifname);
        let attached = attach::attach(&mut self.daemon, netns, &attach, fresh);
        // What was refused was not made: a port of that attachment is another's, of an ADD before. So it may be where the
        // interface was there already.
        self.port = match &attached {
            Ok(_) => true,
            Err(AttachError::Daemon(DaemonError::Refused(_))) => false,
            Err(_) => fresh,
        };
        self.held = None;
        Ok(attached?)
    }

    /// Asks the IPAM plugin: addresses as the daemon and as a result have them, and what comes with them.
    fn ask(&mut self) -> Result<(Vec<Cidr>, Vec<Ip>, Success), Failure> {
        let Some(delegate) = &self.delegate else { return Ok(Default::default()) };
        // One that fails may have reserved something all the same.
        self.ipam = true;
        let mut brought = delegate.add()?;
        if brought.ips.is_empty() {
            return Err(Failure::new(Code::Ipam, "the IPAM plugin succeeded and gave no address"));
        }
        let mut addresses = Vec::new();
        for ip in &mut brought.ips {
            let address = Cidr::new(ip.address);
            addresses.push(address.map_err(|error| Failure::new(Code::Ipam, format!("the IPAM plugin: {error}")))?);
            ip.interface = Some(0);
            if self.network.gateway.is_some() {
                ip.gateway = ip.gateway.or_else(|| Some(first_host(ip.address)));
            }
        }
        Ok((addresses, std::mem::take(&mut brought.ips), brought))
    }

    /// Gives a port that is up its addresses, and lets it send from no others where that is asked for. An interface that
    /// we handed over gets them from us: the daemon may not enter its namespace, and knows of them by the list of what it
    /// may send from alone.
    fn give(&mut self, port: PortInfo, addresses: Vec<Cidr>, netns: &Netns) -> Result<PortInfo, Failure> {
        let is_guarded = self.network.source_guard.unwrap_or(port.allow_mac.is_some());
        let own = || addresses.iter().map(|address| vswitch_api::Net::host(address.ip())).collect();
        let set = PortSet {
            name: port.name.clone(),
            mtu: None,
            access: None,
            trunk: None,
            native: None,
            address: Some(addresses.clone()),
            gateway: None,
            allow_mac: None,
            // Where the daemon guards by itself it takes the addresses.
            allow_ip: (self.network.source_guard == Some(true)).then(|| Allowed::Only(own())),
            rx_limit: None,
            tx_limit: None,
        };
        match self.daemon.call::<Value>(&Change::PortSet(set.clone()).into()) {
            Ok(_) => {}
            Err(DaemonError::Refused(refusal))
                if refusal.code == Refused::Host && !attach::enters(&mut self.daemon)? =>
            {
                attach::give_addresses(netns, &port.ifname, &addresses)
                    .map_err(|error| Failure::new(Code::Inside, error.to_string()))?;
                if is_guarded {
                    let set = PortSet { address: None, allow_ip: Some(Allowed::Only(own())), ..set };
                    self.daemon.call::<Value>(&Change::PortSet(set).into())?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(PortInfo { addresses, ..port })
    }

    /// The port with the lists of what it may send from, where the configuration says that they be its own addresses: those
    /// are known only once the daemon has chosen them, and held for it then.
    fn guarded(&mut self, attach: &Attach) -> Result<Option<PortSpec>, Failure> {
        let port = match self.network.source_guard {
            None => return Ok(None),
            Some(false) => PortSpec { allow_mac: Allowed::Any, allow_ip: Allowed::Any, ..attach.port.clone() },
            Some(true) => {
                let plan: PortPlan = self.daemon.call(&Query::AttachmentPlan(attach.clone()).into())?;
                let (allow_mac, allow_ip) = self.network.allowed(plan.mac, &plan.addresses);
                let (mac, addresses) = (Some(plan.mac), plan.addresses);
                PortSpec { mac, addresses, allow_mac, allow_ip, ..attach.port.clone() }
            }
        };
        Ok(Some(port))
    }
}

/// The addresses that the port was given, with the routers of their pools.
fn given(port: &PortInfo, attach: &Attach) -> Vec<Ip> {
    let ip = |address: &Cidr| {
        let pool = attach.pools.iter().find(|pool| pool.subnet.net().contains(&address.ip()));
        let gateway = pool.map(|pool| pool.gateway.unwrap_or_else(|| first_host(pool.subnet.net())));
        Ip { address: address.net(), gateway, interface: Some(0), other: Map::new() }
    };
    port.addresses.iter().map(ip).collect()
}

//! Changes of attachments: a port, its addresses and its VLAN's VNI come at once or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Applied, Outcome, Refusal, port, vlan};
use crate::config::{Attach, Desired, Pool, PoolRange, PortSpec, VlanSpec};
use crate::reply::PoolInfo;
use crate::types::{Cidr, ContainerId, IfName, Net, NetworkName, PortName, Vid, Vni};

/// Subnets whose place in the search is remembered; past this one of them begins anew.
const CURSORS: usize = 4096;

/// Pools of a request at most: each takes time that others wait for.
const POOLS: usize = 64;

/// The longest name a port may have.
const NAME: usize = 128;

/// Names and addresses that are promised to attachments which are not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// Names of ports.
    pub names: BTreeSet<PortName>,
    /// Addresses in a VLAN, and the port that is to have them.
    pub addresses: BTreeMap<(Vid, IpAddr), PortName>,
}

impl Desired {
    /// The state with another attachment, which gets nothing of what is `held`.
    ///
    /// # Errors
    /// Where it is refused; the state is then as it was.
    pub fn attach(&self, attach: &Attach, held: &Held) -> Applied {
        add(self.clone(), attach, held)
    }

    /// How full `pools`, at most 64, are in `vlan`, where what is `held` counts as used.
    ///
    /// # Errors
    /// Where one is no pool, or they are too many.
    pub fn pools(&self, vlan: Vid, pools: &[Pool], held: &Held) -> Result<Vec<PoolInfo>, Refusal> {
        let ranges = ranges(pools)?;
        let taken = taken(self, vlan, held);
        let info = |(pool, range): (&Pool, PoolRange)| {
            let used = taken.iter().filter(|ip| range.contains(**ip)).count();
            let used = u64::try_from(used).unwrap_or(u64::MAX);
            let free = range.size().saturating_sub(used);
            PoolInfo { subnet: pool.subnet, first: range.first(), last: range.last(), used, free }
        };
        Ok(pools.iter().zip(ranges).map(info).collect())
    }
}

pub(super) fn add(mut desired: Desired, attach: &Attach, held: &Held) -> Applied {
    let Attach { port: wish, pools, vni } = attach;
    let Some(attachment) = &wish.attachment else { return Err(Refusal::NoAttachment { name: wish.name.clone() }) };
    if let Some(by) = desired.attached(&attachment.container, &wish.ifname) {
        let (container, ifname, by) = (attachment.container.clone(), wish.ifname.clone(), by.name.clone());
        return Err(Refusal::AttachmentExists { container, ifname, by });
    }
    let untagged = || {
        let refuse = || Refusal::NoUntagged { name: wish.name.clone(), mode: wish.mode.clone() };
        wish.mode.untagged().ok_or_else(refuse)
    };
    if let Some(vni) = *vni {
        desired = with_vni(desired, untagged()?, vni)?;
    }
    let mut spec = PortSpec { name: free_name(&desired, &wish.name, held), ..wish.clone() };
    if !pools.is_empty() {
        spec.addresses = addresses(&mut desired, untagged()?, pools, &wish.addresses, held)?;
    }
    port::add(desired, &spec)
}

/// What is not there is not removed, and that is no error: a runtime may say so twice, or before it was there.
pub(super) fn del(
    desired: Desired,
    container: &ContainerId,
    ifname: &IfName,
    network: Option<&NetworkName>,
) -> Applied {
    let of_network = |port: &&PortSpec| network.is_none() || port.attachment.as_ref().map(|a| &a.network) == network;
    match desired.attached(container, ifname).filter(of_network).map(|port| port.name.clone()) {
        Some(name) => port::del(desired, &name),
        None => Ok((desired, Outcome::UNCHANGED)),
    }
}

/// The state in which `vlan` is called `vni`.
fn with_vni(mut desired: Desired, vlan: Vid, vni: Vni) -> Result<Desired, Refusal> {
    let spec = match desired.vlans.remove(&vlan) {
        Some(spec) if spec.vni.is_none_or(|there| there == vni) => VlanSpec { vni: Some(vni), ..spec },
        Some(VlanSpec { vni: there, .. }) => return Err(Refusal::OtherVni { vlan, there, asked: vni }),
        None => VlanSpec { vlan, vni: Some(vni), name: None, learning: true },
    };
    vlan::add(desired, &spec).map(|(desired, _)| desired)
}

/// `wish`, or with a number behind it where another port has that name, or none may.
fn free_name(desired: &Desired, wish: &PortName, held: &Held) -> PortName {
    let is_free =
        |name: &PortName| desired.port(name).is_none() && !held.names.contains(name) && port::nameable(name).is_ok();
    if is_free(wish) {
        return wish.clone();
    }
    let numbered = (2_u64..).filter_map(|number| {
        let suffix = format!("-{number}");
        let kept = wish.as_str().len().min(NAME - suffix.len()); // names are ASCII
        (wish.as_str()[..kept].to_owned() + &suffix).parse().ok()
    });
    numbered.into_iter().find(is_free).unwrap_or_else(|| wish.clone())
}

/// What `pools` come to.
fn ranges(pools: &[Pool]) -> Result<Vec<PoolRange>, Refusal> {
    if pools.len() > POOLS {
        return Err(Refusal::TooManyPools { given: pools.len(), most: POOLS });
    }
    pools.iter().map(Pool::range).collect()
}

/// The addresses of `vlan` that are somebody's.
fn taken(desired: &Desired, vlan: Vid, held: &Held) -> BTreeSet<IpAddr> {
    let ports = desired.ports().filter(|port| port.mode.untagged() == Some(vlan));
    let ports = ports.flat_map(|port| port.addresses.iter().map(|address| address.ip()));
    ports.chain(held.addresses.keys().filter(|(at, _)| *at == vlan).map(|(_, ip)| *ip)).collect()
}

/// The addresses wished for, and one of each pool that has none of them.
fn addresses(
    desired: &mut Desired,
    vlan: Vid,
    pools: &[Pool],
    wished: &[Cidr],
    held: &Held,
) -> Result<Vec<Cidr>, Refusal> {
    let ranges = ranges(pools)?;
    let mut taken = taken(desired, vlan, held);
    for &address in wished {
        let ip = address.ip();
        if !ranges.iter().any(|range| range.contains(ip)) {
            let ranges = ranges.iter().map(PoolRange::to_string).collect::<Vec<_>>().join(", ");
            return Err(Refusal::AddressOutside { address, ranges });
        }
        if !taken.insert(ip) {
            let has =
                |port: &&PortSpec| port.mode.untagged() == Some(vlan) && port.addresses.iter().any(|a| a.ip() == ip);
            let by = desired.ports().find(has).map(|port| &port.name).or_else(|| held.addresses.get(&(vlan, ip)));
            return Err(match by {
                Some(by) => Refusal::AddressTaken { address, vlan, by: by.clone() },
                None => Refusal::AddressTwice { ip },
            });
        }
    }
    let mut given = wished.to_vec();
    for (pool, range) in pools.iter().zip(ranges) {
        let after = desired.cursors.get(&(vlan, pool.subnet)).copied();
        if let Some(wished) = wished.iter().map(|wished| wished.ip()).find(|ip| range.contains(*ip)) {
            // The search goes on behind what it would have found, as where a plan is carried out; for any other it does
            // not turn back, lest what was just freed is given before what rests longer.
            taken.remove(&wished);
            if range.next(after, &taken) == Some(wished) {
                desired.cursors.insert((vlan, pool.subnet), wished);
            }
            taken.insert(wished);
            continue;
        }
        let Some(ip) = range.next(after, &taken) else {
            let (first, last, size) = (range.first(), range.last(), range.size());
            return Err(Refusal::Exhausted { vlan, subnet: pool.subnet, first, last, size });
        };
        given.push(range.with_length(ip)?);
        taken.insert(ip);
        desired.cursors.insert((vlan, pool.subnet), ip);
    }
    let is_one = |key: &(Vid, Net)| key.0 == vlan && pools.iter().any(|pool| pool.subnet == key.1);
    while desired.cursors.len() > CURSORS
        && let Some(other) = desired.cursors.keys().copied().find(|key| !is_one(key))
    {
        desired.cursors.remove(&other);
    }
    Ok(given)
}

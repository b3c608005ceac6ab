//! The switch as one would explain it: lists searched from end to end, no hashing, no links, nothing incremental.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vswitch_core::switch::Counters;
use vswitch_core::{Instant, Limits, MacAddr, PortMode, VlanId};

/// Ports a frame leaves on, each with its tag; or the name of the reason for none.
pub type Outcome = Result<BTreeMap<u16, Option<u16>>, &'static str>;

/// `seen` is `None` for a static address. Learned ones stand in the order of their stamps.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub vlan: VlanId,
    pub mac: MacAddr,
    pub port: u16,
    pub seen: Option<Instant>,
}

#[derive(Debug)]
pub struct Naive {
    pub limits: Limits,
    pub ageing: Option<Duration>,
    pub ports: BTreeMap<u16, PortMode>,
    pub unlearned: BTreeSet<VlanId>,
    /// The MAC addresses that a port may use, where it may not use all.
    pub allowed: BTreeMap<u16, Vec<MacAddr>>,
    pub fdb: Vec<Address>,
    pub counters: Counters,
}

impl Naive {
    /// `remote`: the VLAN of the VNI where the frame came out of the tunnel. `tag`: `None` where it has none; with one,
    /// `is_double` says that a second stands behind it.
    pub fn ingress(
        &mut self,
        now: Instant,
        port: u16,
        remote: Option<VlanId>,
        (to, from, tag, is_double): (MacAddr, MacAddr, Option<u16>, bool),
    ) -> Outcome {
        let vid = tag.map_or(0, |bits| bits & 0xfff);
        let vlan = match (self.ports.get(&port).ok_or("unknown_port")?, remote) {
            (PortMode::Remote { vlans }, Some(vlan)) if tag.is_none() && vlans.contains(vlan) => vlan,
            (PortMode::Remote { .. }, Some(_)) => return Err("vlan_not_allowed"),
            (PortMode::Remote { .. }, None) | (_, Some(_)) => return Err("unknown_port"),
            (PortMode::Access(vlan), None) if vid == 0 => *vlan,
            (PortMode::Trunk { native, .. }, None) if vid == 0 => native.ok_or("untagged_not_allowed")?,
            (PortMode::Trunk { vlans, .. }, None) => {
                VlanId::new(vid).filter(|vlan| vlans.contains(*vlan)).ok_or("vlan_not_allowed")?
            }
            _ => return Err("vlan_not_allowed"),
        };
        if self.allowed.get(&port).is_some_and(|allowed| !allowed.contains(&from)) {
            return Err("spoofed_mac");
        }
        if from.is_multicast() || from == MacAddr::ZERO {
            return Err("bad_source");
        }
        let is_static = |known: &Address| (known.vlan, known.mac, known.port, known.seen) == (vlan, from, port, None);
        let is_at_home = self.lives(port, from) || self.fdb.iter().any(is_static);
        if !self.homes(vlan, from).is_empty() && !is_at_home {
            return Err("spoofed_mac");
        }
        if remote.is_none() || !self.unlearned.contains(&vlan) {
            self.learn(now, vlan, from, port);
        }
        if to.is_bridge_reserved() {
            return Err("reserved_address");
        }
        let is_remote = |port: &u16| matches!(self.ports[port], PortMode::Remote { .. });
        let known = self.fdb.iter().find(|known| known.vlan == vlan && known.mac == to).map(|known| known.port);
        let known = known.or_else(|| self.homes(vlan, to).first().copied());
        let bares = |port: &u16| is_double && tag.is_some() && tagless(&self.ports[port], vlan);
        let targets: Vec<u16> = match known {
            Some(target) if target == port => return Err("same_port"),
            Some(target) if remote.is_some() && is_remote(&target) => return Err("split_horizon"),
            Some(target) if bares(&target) => return Err("double_tag"),
            Some(target) => vec![target],
            None => (self.ports.iter().filter(|(_, mode)| mode.is_member(vlan)).map(|(target, _)| *target))
                .filter(|target| *target != port && !(remote.is_some() && is_remote(target)) && !bares(target))
                .collect(),
        };
        let tag = |target: &u16| match tagless(&self.ports[target], vlan) {
            false => Some(tag.unwrap_or(0) & 0xf000 | vlan.get()),
            true => None,
        };
        if targets.is_empty() { Err("no_member") } else { Ok(targets.iter().map(|to| (*to, tag(to))).collect()) }
    }

    /// Whether `port` is one of those on which `mac` lives.
    fn lives(&self, port: u16, mac: MacAddr) -> bool {
        self.allowed.get(&port).is_some_and(|allowed| allowed.contains(&mac))
    }

    /// The ports of `vlan` on which `mac` lives.
    fn homes(&self, vlan: VlanId, mac: MacAddr) -> Vec<u16> {
        let members = self.ports.iter().filter(|(_, mode)| mode.is_member(vlan)).map(|(port, _)| *port);
        members.filter(|port| self.lives(*port, mac)).collect()
    }

    pub fn set_allowed(&mut self, port: u16, allowed: Option<Vec<MacAddr>>) -> bool {
        let is_local = self.ports.get(&port).is_some_and(|mode| !matches!(mode, PortMode::Remote { .. }));
        if is_local {
            self.allowed.remove(&port);
            self.allowed.extend(allowed.map(|allowed| (port, allowed)));
            self.forget_strangers();
        }
        is_local
    }

    fn forget_strangers(&mut self) {
        let fdb = std::mem::take(&mut self.fdb);
        let is_stranger = |known: &Address| {
            let may = self.allowed.get(&known.port).is_none_or(|allowed| allowed.contains(&known.mac));
            known.seen.is_some()
                && (!may || !self.homes(known.vlan, known.mac).is_empty() && !self.lives(known.port, known.mac))
        };
        self.fdb = fdb.into_iter().filter(|known| !is_stranger(known)).collect();
    }

    fn learn(&mut self, now: Instant, vlan: VlanId, mac: MacAddr, port: u16) {
        let address = Address { vlan, mac, port, seen: Some(now) };
        let fresh = self.ageing.map_or(Duration::from_secs(1), |ageing| (ageing / 64).min(Duration::from_secs(1)));
        let known = self.fdb.iter().position(|known| known.vlan == vlan && known.mac == mac);
        match known.map(|place| (place, self.fdb[place].seen, self.fdb[place].port)) {
            Some((_, None, _)) => {}
            Some((place, Some(seen), there)) if there == port => {
                if now.since(seen) >= fresh {
                    self.fdb.remove(place);
                    self.fdb.push(address);
                }
            }
            Some(_) if self.learned(port) < self.limits.per_port || self.evict(port) => {
                self.fdb.retain(|known| known.vlan != vlan || known.mac != mac);
                self.fdb.push(address);
                self.counters.moved += 1;
            }
            None if self.make_room(port) => {
                self.fdb.push(address);
                self.counters.learned += 1;
            }
            _ => self.counters.limited += 1,
        }
    }

    fn make_room(&mut self, port: u16) -> bool {
        if self.learned(port) >= self.limits.per_port {
            return self.evict(port);
        }
        self.fdb.len() < usize::try_from(self.limits.entries).unwrap() || self.evict(self.greediest(Some(port)))
    }

    /// The port with most learned addresses; among equals `ingress` if it is one, else the last.
    fn greediest(&self, ingress: Option<u16>) -> u16 {
        (0..=64).max_by_key(|port| (self.learned(*port), Some(*port) == ingress)).unwrap()
    }

    fn learned(&self, port: u16) -> u32 {
        let learned = self.fdb.iter().filter(|known| known.port == port && known.seen.is_some());
        u32::try_from(learned.count()).unwrap()
    }

    fn evict(&mut self, port: u16) -> bool {
        let oldest = self.fdb.iter().position(|known| known.port == port && known.seen.is_some());
        if let Some(place) = oldest {
            self.fdb.remove(place);
            self.counters.evicted += 1;
        }
        oldest.is_some()
    }

    pub fn set_port(&mut self, port: u16, mode: PortMode) {
        let is_remote = |mode: &PortMode| matches!(mode, PortMode::Remote { .. });
        let turned = self.ports.get(&port).is_some_and(|old| is_remote(old) != is_remote(&mode));
        self.fdb.retain(|known| known.port != port || (!turned && mode.is_member(known.vlan)));
        if is_remote(&mode) {
            self.allowed.remove(&port);
        }
        self.ports.insert(port, mode);
        self.forget_strangers();
    }

    pub fn remove_port(&mut self, port: u16) {
        self.fdb.retain(|known| known.port != port);
        self.ports.remove(&port);
        self.allowed.remove(&port);
    }

    pub fn add_static(&mut self, vlan: VlanId, mac: MacAddr, port: u16) -> bool {
        if !self.ports.get(&port).is_some_and(|mode| mode.is_member(vlan)) || !mac.is_station() {
            return false;
        }
        let known = self.fdb.iter().position(|known| known.vlan == vlan && known.mac == mac);
        match known {
            Some(place) => drop(self.fdb.remove(place)),
            None if self.fdb.len() < usize::try_from(self.limits.entries).unwrap() => {}
            None if self.evict(self.greediest(None)) => {}
            None => return false,
        }
        self.fdb.push(Address { vlan, mac, port, seen: None });
        true
    }

    pub fn flush(&mut self, vlan: Option<VlanId>, port: Option<u16>) -> usize {
        let before = self.fdb.len();
        self.fdb.retain(|known| {
            known.seen.is_none() || vlan.is_some_and(|v| v != known.vlan) || port.is_some_and(|p| p != known.port)
        });
        before - self.fdb.len()
    }

    pub fn expire(&mut self, now: Instant) {
        let before = self.fdb.len();
        let Some(ageing) = self.ageing else { return };
        self.fdb.retain(|known| known.seen.is_none_or(|seen| now.since(seen) < ageing));
        self.counters.aged += u64::try_from(before - self.fdb.len()).unwrap();
    }

    /// When the next address ages.
    pub fn deadline(&self) -> Option<Instant> {
        let ageing = self.ageing?;
        self.fdb.iter().filter_map(|known| known.seen).map(|seen| seen + ageing).min()
    }
}

/// Whether frames of `vlan` leave without a tag.
fn tagless(mode: &PortMode, vlan: VlanId) -> bool {
    !matches!(mode, PortMode::Trunk { native, .. } if *native != Some(vlan))
}

//! The switch as one would explain it: lists searched from end to end, no hashing, no links, nothing incremental.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vswitch_core::switch::{Counters, Flapping};
use vswitch_core::{Instant, Limits, MacAddr, PortId, PortMode, VlanId};

/// Ports a frame leaves on, each with its tag; or the name of the reason for none.
pub type Outcome = Result<BTreeMap<u16, Option<u16>>, &'static str>;

/// `seen` is `None` for a static address. Learned ones stand in the order of their stamps.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub vlan: VlanId,
    pub mac: MacAddr,
    pub port: u16,
    pub seen: Option<Instant>,
    /// Where it was seen beside, and until when it is held.
    pub held: Option<(u16, Instant)>,
}

impl Address {
    pub fn flapping(&self) -> Option<Flapping> {
        let (other, until) = self.held?;
        let (port, other) = (PortId::new(self.port), PortId::new(other));
        Some(Flapping { mac: self.mac, vlan: self.vlan, port, other, until })
    }
}

/// One move of an address, with where it last stayed for ten seconds.
#[derive(Clone, Copy, Debug)]
struct Move {
    at: Instant,
    home: u16,
}

/// What is remembered of an address that moved.
#[derive(Debug, Default)]
pub struct Restless {
    moves: Vec<Move>,
    /// When holds ended, or will, and how long they were.
    holds: Vec<(Instant, Duration)>,
    /// How many of the last moves began the second that is watched.
    counted: usize,
}

/// How many frames of one kind a port may flood a second, and how many nanoseconds of a tenth of one are left.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    left: u64,
    at: Instant,
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
    pub restless: BTreeMap<(VlanId, MacAddr), Restless>,
    pub storm_limit: Option<u32>,
    pub budgets: BTreeMap<(u16, &'static str), Bucket>,
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
            self.learn(now, vlan, from, port)?;
        }
        if to.is_bridge_reserved() {
            return Err("reserved_address");
        }
        let is_remote = |port: &u16| matches!(self.ports[port], PortMode::Remote { .. });
        let known = self.fdb.iter().find(|known| known.vlan == vlan && known.mac == to).map(|known| known.port);
        let known = known.or_else(|| match self.homes(vlan, to)[..] {
            [only] => Some(only),
            _ => None,
        });
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
        if targets.is_empty() {
            return Err("no_member");
        }
        let ways = targets.iter().map(|to| (*to, tag(to))).collect();
        let kind = match to {
            _ if known.is_some() => return Ok(ways),
            // There is one place for it to be, and no way to know.
            to if !to.is_multicast()
                && matches!(&targets[..], [only] if is_remote(only) && self.unlearned.contains(&vlan)) =>
            {
                return Ok(ways);
            }
            MacAddr::BROADCAST => "storm_broadcast",
            to if to.is_multicast() => "storm_multicast",
            _ => "storm_unknown_unicast",
        };
        if self.may_flood(now, port, kind) { Ok(ways) } else { Err(kind) }
    }

    /// A bucket that fills with time, from which each flooded frame takes its share.
    fn may_flood(&mut self, now: Instant, port: u16, kind: &'static str) -> bool {
        let Some(limit) = self.storm_limit else { return true };
        let share = 1_000_000_000 / u64::from(limit);
        let most = share.max(100_000_000);
        let bucket = self.budgets.entry((port, kind)).or_insert(Bucket { left: most, at: now });
        let passed = u64::try_from(now.since(bucket.at).as_nanos()).unwrap();
        *bucket = Bucket { left: bucket.left.saturating_add(passed).min(most), at: now };
        let may = bucket.left >= share;
        bucket.left -= if may { share } else { 0 };
        may
    }

    /// Where the address that moves `from` is to be held instead, beside which port and until when.
    fn flaps(
        &mut self,
        now: Instant,
        (vlan, mac): (VlanId, MacAddr),
        from: u16,
        to: u16,
    ) -> Option<(u16, u16, Instant)> {
        let Restless { moves, holds, counted } = self.restless.entry((vlan, mac)).or_default();
        let stayed = moves.last().is_none_or(|last| now.since(last.at) > Duration::from_secs(10));
        let home = if stayed { from } else { moves[moves.len() - 1].home };
        let watched = &moves[moves.len() - *counted..];
        if watched.first().is_none_or(|first| now.since(first.at) > Duration::from_secs(1)) {
            *counted = 0;
        }
        moves.push(Move { at: now, home });
        *counted += 1;
        if *counted < 5 {
            return None;
        }
        *counted = 0;
        let length = match holds.last() {
            Some(&(end, length)) if now.since(end) <= length => (length * 2).min(Duration::from_secs(160)),
            _ => Duration::from_secs(10),
        };
        holds.push((now + length, length));
        Some((home, if to == home { from } else { to }, now + length))
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
            if !self.allowed.is_empty() {
                self.forget_strangers();
            }
        }
        is_local
    }

    fn forget_strangers(&mut self) {
        let (mut fdb, mut restless) = (std::mem::take(&mut self.fdb), std::mem::take(&mut self.restless));
        let is_stranger = |vlan, mac, port: u16| {
            let may = self.allowed.get(&port).is_none_or(|allowed| allowed.contains(&mac));
            !may || !self.homes(vlan, mac).is_empty() && !self.lives(port, mac)
        };
        fdb.retain(|known| known.seen.is_none() || !is_stranger(known.vlan, known.mac, known.port));
        let known: BTreeSet<_> = fdb.iter().map(|known| (known.vlan, known.mac)).collect();
        restless.retain(|key, Restless { moves, .. }| {
            known.contains(key) && moves.last().is_none_or(|last| !is_stranger(key.0, key.1, last.home))
        });
        (self.fdb, self.restless) = (fdb, restless);
    }

    fn learn(&mut self, now: Instant, vlan: VlanId, mac: MacAddr, port: u16) -> Result<(), &'static str> {
        let mut address = Address { vlan, mac, port, seen: Some(now), held: None };
        let fresh = self.ageing.map_or(Duration::from_secs(1), |ageing| (ageing / 64).min(Duration::from_secs(1)));
        let known = self.fdb.iter().position(|known| known.vlan == vlan && known.mac == mac);
        match known.map(|place| (place, self.fdb[place].seen, self.fdb[place].port)) {
            Some((_, None, _)) => {}
            Some((place, Some(seen), there)) if there == port => {
                if now.since(seen) >= fresh {
                    address.held = self.fdb[place].held;
                    self.fdb.remove(place);
                    self.fdb.push(address);
                }
            }
            Some((place, ..)) if self.fdb[place].held.is_some() => return Err("mac_flapping"),
            Some((_, _, there)) => {
                let flaps = self.flaps(now, (vlan, mac), there, port);
                let to = flaps.map_or(port, |(home, ..)| home);
                if to != there && self.learned(to) >= self.limits.per_port && !self.evict(to) {
                    self.counters.limited += 1;
                    return Ok(());
                }
                self.fdb.retain(|known| known.vlan != vlan || known.mac != mac);
                let held = flaps.map(|(_, other, until)| (other, until));
                self.fdb.push(Address { port: to, held, ..address });
                *(if held.is_some() { &mut self.counters.flapping } else { &mut self.counters.moved }) += 1;
                if to != port {
                    return Err("mac_flapping");
                }
            }
            None if self.make_room(port) => {
                self.fdb.push(address);
                self.counters.learned += 1;
            }
            _ => self.counters.limited += 1,
        }
        Ok(())
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
        self.retain(port, |vlan| !turned && mode.is_member(vlan));
        if is_remote(&mode) {
            self.allowed.remove(&port);
        }
        self.ports.insert(port, mode);
        if self.allowed.contains_key(&port) {
            self.forget_strangers();
        }
    }

    pub fn remove_port(&mut self, port: u16) {
        self.retain(port, |_| false);
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
        self.fdb.push(Address { vlan, mac, port, seen: None, held: None });
        true
    }

    pub fn flush(&mut self, vlan: Option<VlanId>, port: Option<u16>) -> usize {
        let before = self.fdb.len();
        self.fdb.retain(|known| {
            known.seen.is_none() || vlan.is_some_and(|v| v != known.vlan) || port.is_some_and(|p| p != known.port)
        });
        let Self { restless, fdb, .. } = self;
        restless.retain(|key, _| fdb.iter().any(|known| (known.vlan, known.mac) == *key));
        before - self.fdb.len()
    }

    /// Forgets the addresses, learned and static, of a port in the VLANs that are not `kept`.
    fn retain(&mut self, port: u16, kept: impl Fn(VlanId) -> bool) {
        self.fdb.retain(|known| known.port != port || kept(known.vlan));
        let stays =
            |key: &(VlanId, MacAddr), moves: &[Move]| moves.last().is_some_and(|last| last.home != port) || kept(key.0);
        self.restless.retain(|key, restless| stays(key, &restless.moves));
    }

    pub fn expire(&mut self, now: Instant) {
        for known in self.fdb.iter_mut().filter(|known| known.held.is_some_and(|(_, until)| until <= now)) {
            known.held = None;
        }
        let before = self.fdb.len();
        let Some(ageing) = self.ageing else { return };
        self.fdb.retain(|known| known.seen.is_none_or(|seen| now.since(seen) < ageing));
        self.counters.aged += u64::try_from(before - self.fdb.len()).unwrap();
    }

    /// When the next address ages, or may move again.
    pub fn deadline(&self) -> Option<Instant> {
        let ages = |known: &Address| Some(known.seen? + self.ageing?);
        let moves = |known: &Address| known.held.map(|(_, until)| until);
        self.fdb.iter().flat_map(|known| [ages(known), moves(known)]).flatten().min()
    }
}

/// Whether frames of `vlan` leave without a tag.
fn tagless(mode: &PortMode, vlan: VlanId) -> bool {
    !matches!(mode, PortMode::Trunk { native, .. } if *native != Some(vlan))
}

//! A datapath with real TAP devices and a tunnel that does as it is told, and what is sent to both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

use vswitch_api::{Carried, PortName};
use vswitch_core::switch::{Guard, Limits, PortId, PortMode};
use vswitch_core::{Frame, Instant, MacAddr, Offload, VlanId};
use vswitch_sys::{Inbox, Netlink, Netns, NetnsThread, Offloads, PacketSocket, Received, Tap};
use vtep::{Directory, EncapDrop, Failure, SendDrop, Vni};

use super::super::Datapath;
use crate::bounds::Bounds;
use crate::drops::Drop;
use crate::observe::RecorderSpec;
use crate::port::carrier::{Carrier, Entrance, Parcel, Pushed, Receipt};
use crate::port::tap::TapPort;
use crate::port::tunnel::TunnelPort;
use crate::takeover::Name;
use crate::underlay::Underlay;

pub(super) const A: PortId = PortId::new(0);
pub(super) const NARROW: PortId = PortId::new(1);
pub(super) const TRUNK: PortId = PortId::new(2);
pub(super) const GUARDED: PortId = PortId::new(3);
pub(super) const LONELY: PortId = PortId::new(4);
pub(super) const REMOTE: PortId = PortId::new(5);
const OTHER: PortId = PortId::new(6);
const NAMES: [&str; 5] = ["a", "narrow", "trunk", "guarded", "lonely"];
pub(super) const ALL: [u8; 6] = [0xff; 6];

/// What the tunnel is to do next.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Datagrams: from where, with which TOS, and the stride of the train that they are said to be.
    comes: VecDeque<(SocketAddr, u8, Option<usize>, Vec<u8>)>,
    /// Packets whose virtio header makes no sense.
    pub(super) malformed: Vec<Vec<u8>>,
    pub(super) refuses: Option<EncapDrop>,
    pub(super) fails: Option<SendDrop>,
    pushed: Vec<(usize, SocketAddr)>,
}

#[derive(Clone, Debug, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Carrier for Scripted {
    fn kind(&self) -> Carried {
        Carried::Udp
    }

    fn entrances(&self) -> Vec<(Entrance, RawFd)> {
        Vec::new()
    }

    fn receive(
        &mut self,
        _: Entrance,
        inbox: &mut Inbox,
        _: &mut Vec<Offload>,
        malformed: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Receipt> {
        inbox.clear();
        let mut script = self.0.lock().unwrap();
        script.malformed.drain(..).for_each(|packet| malformed(&packet));
        if let Some((from, tos, stride, datagram)) = script.comes.pop_front() {
            inbox.fill(|room| {
                room[..datagram.len()].copy_from_slice(&datagram);
                let (len, stride) = (datagram.len(), stride.unwrap_or(datagram.len()));
                Ok::<_, io::Error>(Received { from, tos, stride, at: 0, len, truncated: false })
            })?;
        }
        Ok(Receipt { more: false })
    }

    fn dropped(&self) -> u64 {
        0
    }

    fn descriptors(&self, _: u16) -> io::Result<Vec<(Name, OwnedFd)>> {
        Ok(Vec::new())
    }

    fn is_silent(&self) -> bool {
        false
    }

    fn push(&mut self, parcel: &Parcel<'_>) -> Result<Pushed, EncapDrop> {
        let mut script = self.0.lock().unwrap();
        match script.refuses.take() {
            Some(why) => Err(why),
            None => {
                script.pushed.push((parcel.index, parcel.to));
                Ok(Pushed::Waits)
            }
        }
    }

    fn send(&mut self, _: IpAddr, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.0.lock().unwrap().pushed.len()
    }

    fn flush(&mut self, _: &[Frame], failures: &mut Vec<Failure>) {
        let mut script = self.0.lock().unwrap();
        let pushed = std::mem::take(&mut script.pushed);
        if let Some(why) = script.fails.take() {
            failures.extend(pushed.into_iter().map(|(frame, to)| Failure { frame, to, why }));
        }
    }
}

pub(super) struct Scene {
    pub(super) datapath: Datapath,
    pub(super) script: Arc<Mutex<Script>>,
    pub(super) netlink: Netlink,
    wires: Vec<PacketSocket>,
    pub(super) now: Instant,
    /// What was made so far.
    pub(super) made: BTreeSet<&'static str>,
}

fn vlan(number: u16) -> VlanId {
    VlanId::new(number).unwrap()
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 4789))
}

pub(super) fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

pub(super) fn frame(to: [u8; 6], from: [u8; 6], behind: &[u8], len: usize) -> Vec<u8> {
    let mut frame = [&to[..], &from, behind].concat();
    frame.resize(len.max(frame.len()), 0);
    frame
}

/// An IPv4 packet of UDP without a checksum, as long as `len` says.
pub(super) fn udp(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut bytes = frame(to, from, &[0x08, 0x00, 0x45, 0], len);
    let total = |skip: usize| u16::try_from(len - skip).unwrap().to_be_bytes();
    bytes[16..18].copy_from_slice(&total(14));
    (bytes[22], bytes[23]) = (64, 17);
    bytes[26..34].copy_from_slice(&[10, 0, 0, 7, 10, 0, 0, 8]);
    bytes[38..40].copy_from_slice(&total(34));
    bytes
}

pub(super) fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    [&vtep::encode(Vni::new(vni).unwrap())[..], inner].concat()
}

impl Scene {
    /// `Err` where no devices can be made here.
    pub(super) fn new() -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let netns = Netns::create().map_err(|error| said(&error))?;
        netns.set_sysctl("ipv6/conf/default/disable_ipv6", "1").map_err(|error| said(&error))?;
        let (netlink, thread) = (Netlink::open_in(&netns).unwrap(), NetnsThread::spawn(&netns).unwrap());
        let scripted = Scripted::default();
        let underlay = Underlay { address: "192.0.2.1".parse().unwrap(), index: 1, prefix: None, mtu: 1500 };
        let carrier: Box<dyn Carrier> = Box::new(scripted.clone());
        let tunnels = TunnelPort::all(underlay, vec![carrier]).into_iter().map(Some).collect();
        let storm = std::num::NonZeroU32::new(100);
        let bounds = Bounds { fdb: Limits { entries: 1000, per_port: 1000 }, storm };
        let mut datapath = Datapath::siblings(tunnels, bounds, 7).remove(0);
        let now = Instant::from_nanos(1 << 40);
        datapath.observer(now).record(RecorderSpec { seconds: 60, size: 1 << 20 });
        let mut directory = Directory::new();
        directory.add_network(vlan(10), Vni::new(100).unwrap()).unwrap();
        for (id, number) in [(REMOTE, 2), (OTHER, 3)] {
            directory.add_remote(peer(number).ip(), id, [vlan(10)].into_iter().collect()).unwrap();
        }
        datapath.set_directory(Arc::new(directory));
        let trunk = PortMode::Trunk { vlans: [vlan(10), vlan(20)].into_iter().collect(), native: None };
        let modes = [
            PortMode::Access(vlan(10)),
            PortMode::Access(vlan(10)),
            trunk,
            PortMode::Access(vlan(10)),
            PortMode::Access(vlan(30)),
        ];
        let mut wires = Vec::new();
        for ((number, name), mode) in (0..).zip(NAMES).zip(modes) {
            let tap = Tap::open(name, 1, Some(&netns)).map_err(|error| said(&error))?;
            netlink.set_up(netlink.link(name).unwrap().unwrap().index, true).unwrap();
            let queue = tap.into_queues().remove(0);
            let all = Offloads { checksum: true, tso4: true, tso6: true, tso_ecn: true, uso: true };
            let mtu = if name == "narrow" { 100 } else { 1500 };
            let guard = match name {
                "guarded" => Guard::new(Some(vec![MacAddr(mac(0x60))]), Some(Vec::new())),
                _ => Guard::default(),
            };
            let name: PortName = name.parse().unwrap();
            datapath.add_tap(PortId::new(number), &name, TapPort::new(queue, all, mtu), mode, guard);
            wires.push(thread.call(move || PacketSocket::open(name.as_str()).unwrap()));
        }
        for (id, number) in [(REMOTE, 2), (OTHER, 3)] {
            datapath.set_remote(id, peer(number), PortMode::Remote { vlans: [vlan(10)].into_iter().collect() });
        }
        for (last, port) in [(1, A), (2, NARROW), (3, TRUNK), (5, REMOTE), (6, OTHER)] {
            datapath.switch_mut().fdb_add_static(vlan(10), MacAddr(mac(last)), port).unwrap();
        }
        Ok(Self { datapath, script: scripted.0, netlink, wires, now, made: BTreeSet::new() })
    }

    /// Drops by reason, as they are counted.
    fn counted(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.datapath.stats();
        let mut all = BTreeMap::new();
        for counters in stats.ports.values().chain([&stats.tunnel]) {
            for (name, count) in counters.drops() {
                let known = Drop::all().map(Drop::name).find(|known| *known == name).unwrap();
                *all.entry(known).or_default() += count;
            }
        }
        all
    }

    /// Does `what`, which is to drop for `reason`, and asserts that all drops so far were told as often as they are counted.
    pub(super) fn makes(&mut self, reason: &str, what: impl FnOnce(&mut Self)) {
        let before = self.counted();
        self.now = self.now + std::time::Duration::from_secs(10);
        self.datapath.handle_timeout(self.now);
        what(self);
        let after = self.counted();
        assert_eq!(self.datapath.observed().unwrap().told, after, "told and counted, after {reason}");
        let (&name, _) = after
            .iter()
            .find(|(name, count)| **name == reason && **count > before.get(*name).copied().unwrap_or(0))
            .unwrap_or_else(|| panic!("{reason} was not made: {before:?}, then {after:?}"));
        self.made.insert(name);
    }

    /// The container of `port` sends `bytes`.
    pub(super) fn send(&mut self, port: PortId, bytes: &[u8]) {
        self.wires[port.index()].send(bytes).unwrap();
        self.datapath.serve_tap(self.now, port, 1);
    }

    /// The peer with this number sends a datagram.
    pub(super) fn datagram(&mut self, from: u8, tos: u8, stride: Option<usize>, bytes: Vec<u8>) {
        self.script.lock().unwrap().comes.push_back((peer(from), tos, stride, bytes));
        self.datapath.serve_tunnel(self.now, Entrance::Socket);
    }
}

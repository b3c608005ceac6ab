//! Random operations, carried out on the switch and on the model of it.

mod naive;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use vswitch_core::switch::{Explained, FdbKind, Step};
use vswitch_core::{Egress, Guard, Instant, Limits, MacAddr, PortId, PortMode, Switch, Tag, Verdict, VlanId, VlanSet};

use naive::{Naive, Outcome};

/// Stamps are kept to this many nanoseconds. Time moves in whole ones, so that both sides round alike.
pub const TICK: Duration = Duration::from_nanos(1 << 24);
pub const PORTS: u16 = 6;
pub const VLANS: u16 = 3;

/// Destination, source, tag, and whether a second tag stands behind it.
pub type Header = (MacAddr, MacAddr, Option<u16>, bool);

/// What is done to both, from the first port on.
#[derive(Clone, Debug)]
pub struct Program {
    pub limits: Limits,
    pub seed: u64,
    /// Those of the first ports.
    pub modes: Vec<PortMode>,
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum Op {
    Local(u16, Header),
    Remote(u16, VlanId, Header),
    /// Frames that come in as one batch.
    LocalBatch(u16, Vec<Header>),
    RemoteBatch(Vec<(u16, VlanId, Header)>),
    /// The next frames are for the other worker.
    Turn,
    /// A station's broadcasts that come in on one port after the other.
    Loop(MacAddr, Vec<u16>),
    /// A frame cut to this length.
    Cut(u16, usize),
    Wait(u32),
    SetPort(u16, PortMode),
    RemovePort(u16),
    SetAgeing(Option<Duration>),
    SetLearning(VlanId, bool),
    SetStormLimit(Option<NonZeroU32>),
    /// The MAC addresses a port may use.
    SetGuard(u16, Option<Vec<MacAddr>>),
    AddStatic(VlanId, MacAddr, u16),
    Remove(VlanId, MacAddr),
    Flush(Option<VlanId>, Option<u16>),
}

fn vlan() -> impl Strategy<Value = VlanId> {
    (1..=VLANS).prop_map(|vid| VlanId::new(vid).unwrap())
}

fn port() -> impl Strategy<Value = u16> {
    0..PORTS
}

fn vlans() -> impl Strategy<Value = VlanSet> {
    vec(vlan(), 0..=3).prop_map(|vlans| vlans.into_iter().collect())
}

fn mode() -> impl Strategy<Value = PortMode> {
    prop_oneof![
        vlan().prop_map(PortMode::Access),
        (vlans(), proptest::option::of(vlan())).prop_map(|(vlans, native)| PortMode::Trunk { vlans, native }),
        vlans().prop_map(|vlans| PortMode::Remote { vlans }),
    ]
}

fn station() -> impl Strategy<Value = MacAddr> {
    (0..10_u64).prop_map(|n| MacAddr::from_u64(0x0200_0000_0000 | n))
}

fn mac() -> impl Strategy<Value = MacAddr> {
    let special = [[0; 6], [0xff; 6], [1, 0x80, 0xc2, 0, 0, 3], [1, 0x80, 0xc2, 0, 0, 0x14], [0x33, 0x33, 0, 0, 0, 1]];
    prop_oneof![9 => station(), 1 => select(special.map(MacAddr).to_vec())]
}

fn header() -> impl Strategy<Value = Header> {
    let vid = prop_oneof![8 => 0..=VLANS + 1, 1 => Just(4095_u16)];
    let tag = proptest::option::of((vid, 0..16_u16).prop_map(|(vid, priority)| priority << 12 | vid));
    (mac(), mac(), tag, proptest::bool::weighted(0.1))
}

fn op() -> impl Strategy<Value = Op> {
    let untagged = || (mac(), mac(), proptest::option::weighted(0.1, 0..5_u16), Just(false));
    prop_oneof![
        30 => (port(), header()).prop_map(|(port, header)| Op::Local(port, header)),
        15 => (port(), vlan(), untagged()).prop_map(|(port, vlan, header)| Op::Remote(port, vlan, header)),
        2 => (port(), vec(header(), 0..70)).prop_map(|(port, headers)| Op::LocalBatch(port, headers)),
        1 => vec((port(), vlan(), untagged()), 0..70).prop_map(Op::RemoteBatch),
        10 => Just(Op::Turn),
        1 => (port(), 0..18_usize).prop_map(|(port, len)| Op::Cut(port, len)),
        8 => prop_oneof![0..5_u32, 0..100_000_u32].prop_map(Op::Wait),
        4 => (port(), mode()).prop_map(|(port, mode)| Op::SetPort(port, mode)),
        1 => port().prop_map(Op::RemovePort),
        1 => select(vec![None, Some(Duration::from_secs(300)), Some(TICK * 20_000), Some(TICK * 192), Some(TICK * 2)]).prop_map(Op::SetAgeing),
        1 => (vlan(), any::<bool>()).prop_map(|(vlan, learning)| Op::SetLearning(vlan, learning)),
        1 => select(vec![0, 1, 7, 20, 100]).prop_map(|limit| Op::SetStormLimit(NonZeroU32::new(limit))),
        2 => (station(), vec(port(), 5..12)).prop_map(|(mac, ports)| Op::Loop(mac, ports)),
        2 => (port(), proptest::option::weighted(0.7, vec(station(), 0..4)))
            .prop_map(|(port, allowed)| Op::SetGuard(port, allowed)),
        3 => (vlan(), mac(), port()).prop_map(|(vlan, mac, port)| Op::AddStatic(vlan, mac, port)),
        2 => (vlan(), station()).prop_map(|(vlan, mac)| Op::Remove(vlan, mac)),
        1 => (proptest::option::of(vlan()), proptest::option::of(port())).prop_map(|(vlan, port)| Op::Flush(vlan, port)),
    ]
}

fn bytes((to, from, tag, is_double): Header) -> Vec<u8> {
    let mut bytes = [to.0, from.0].concat();
    if let Some(bits) = tag {
        bytes.extend([0x81, 0x00]);
        bytes.extend(bits.to_be_bytes());
        if is_double {
            bytes.extend([0x81, 0x00, 0x00, 0x02]);
        }
    }
    bytes.extend([0x08, 0x00]);
    bytes
}

fn outcome(switch: &Switch, verdict: Verdict) -> Outcome {
    let way = |egress: Egress| (egress.port.get(), egress.tag.map(Tag::bits));
    match verdict {
        Verdict::Unicast(egress) => Ok(BTreeMap::from([way(egress)])),
        Verdict::Flood(flood) => Ok(switch.flood_targets(&flood).map(way).collect()),
        Verdict::Drop(reason) => Err(reason.name()),
    }
}

/// Whether what was told of a frame before is what became of it. That telling changed nothing shows in what follows.
fn is_explained(explained: &Explained, verdict: Verdict) -> Result<(), TestCaseError> {
    prop_assert_eq!(explained.verdict, verdict, "{:?}", explained.steps);
    let stops: Vec<_> = explained.steps.iter().copied().filter(|step| matches!(step, Step::Stop(_))).collect();
    match verdict {
        Verdict::Drop(reason) => prop_assert_eq!(stops, [Step::Stop(reason)]),
        _ => prop_assert!(stops.is_empty(), "{:?}", explained.steps),
    }
    Ok(())
}

/// Carries `op` out on both and compares what they answer. The first of `workers` gets the frames, all of them the
/// configuration.
fn step(workers: &mut [Switch; 2], naive: &mut Naive, now: &mut Instant, op: Op) -> Result<(), TestCaseError> {
    let [real, other] = workers;
    match op {
        Op::Turn => core::mem::swap(real, other),
        Op::LocalBatch(port, headers) => {
            let frames: Vec<_> = headers.iter().copied().map(bytes).collect();
            let mut outcomes = Vec::new();
            real.ingress_batch(*now, PortId::new(port), frames.iter().map(Vec::as_slice), |switch, place, verdict| {
                assert_eq!(place, outcomes.len());
                outcomes.push(outcome(switch, verdict));
            });
            let wanted: Vec<_> = headers.into_iter().map(|header| naive.ingress(*now, port, None, header)).collect();
            prop_assert_eq!(outcomes, wanted);
        }
        Op::RemoteBatch(arrivals) => {
            let frames: Vec<_> =
                arrivals.iter().map(|&(port, vlan, header)| (PortId::new(port), vlan, bytes(header))).collect();
            let mut outcomes = Vec::new();
            let frames = frames.iter().map(|(port, vlan, frame)| (*port, *vlan, frame.as_slice()));
            real.ingress_remote_batch(*now, frames, |switch, place, verdict| {
                assert_eq!(place, outcomes.len());
                outcomes.push(outcome(switch, verdict));
            });
            let wanted: Vec<_> = arrivals
                .into_iter()
                .map(|(port, vlan, header)| naive.ingress(*now, port, Some(vlan), header))
                .collect();
            prop_assert_eq!(outcomes, wanted);
        }
        Op::Local(port, header) => {
            let explained = real.explain(*now, PortId::new(port), &bytes(header));
            let verdict = real.ingress(*now, PortId::new(port), &bytes(header));
            is_explained(&explained, verdict)?;
            prop_assert_eq!(outcome(real, verdict), naive.ingress(*now, port, None, header));
        }
        Op::Remote(port, vlan, header) => {
            let explained = real.explain_remote(*now, PortId::new(port), vlan, &bytes(header));
            let verdict = real.ingress_remote(*now, PortId::new(port), vlan, &bytes(header));
            is_explained(&explained, verdict)?;
            prop_assert_eq!(outcome(real, verdict), naive.ingress(*now, port, Some(vlan), header));
        }
        Op::Cut(port, len) => {
            let whole = bytes((MacAddr::BROADCAST, MacAddr::from_u64(0x0200_0000_0001), Some(1), false));
            let explained = real.explain(*now, PortId::new(port), &whole[..len.min(17)]);
            let verdict = real.ingress(*now, PortId::new(port), &whole[..len.min(17)]);
            is_explained(&explained, verdict)?;
            let local = naive.ports.get(&port).is_some_and(|mode| !matches!(mode, PortMode::Remote { .. }));
            prop_assert_eq!(outcome(real, verdict), Err(if local { "truncated" } else { "unknown_port" }));
        }
        Op::Wait(ticks) => {
            *now = *now + TICK * ticks;
            while real.poll_timeout().is_some_and(|deadline| deadline <= *now) {
                real.handle_timeout(*now);
            }
            naive.expire(*now);
        }
        Op::SetPort(port, mode) => {
            real.add_port(PortId::new(port), mode.clone());
            other.add_port(PortId::new(port), mode.clone());
            naive.set_port(port, mode);
        }
        Op::RemovePort(port) => {
            prop_assert_eq!(real.remove_port(PortId::new(port)), naive.ports.contains_key(&port));
            prop_assert_eq!(other.remove_port(PortId::new(port)), naive.ports.contains_key(&port));
            naive.remove_port(port);
        }
        Op::SetAgeing(ageing) => {
            real.set_ageing(ageing);
            other.set_ageing(ageing);
            naive.ageing = ageing;
        }
        Op::SetLearning(vlan, learning) => {
            real.set_learning(vlan, learning);
            other.set_learning(vlan, learning);
            if learning {
                naive.unlearned.remove(&vlan)
            } else {
                naive.unlearned.insert(vlan)
            };
        }
        Op::SetStormLimit(limit) => {
            real.set_storm_limit(limit);
            other.set_storm_limit(limit);
            naive.storm_limit = limit.map(NonZeroU32::get);
            // Other shares of time: begin anew, as nobody does while frames come.
            *now = *now + TICK * 200;
            naive.expire(*now);
            while real.poll_timeout().is_some_and(|deadline| deadline <= *now) {
                real.handle_timeout(*now);
            }
        }
        Op::SetGuard(port, allowed) => {
            let is_local = naive.set_allowed(port, allowed.clone());
            for worker in [real, other] {
                prop_assert_eq!(worker.set_guard(PortId::new(port), Guard::new(allowed.clone(), None)), is_local);
            }
        }
        Op::Loop(mac, ports) => {
            for port in ports {
                let header = (MacAddr::BROADCAST, mac, None, false);
                let explained = real.explain(*now, PortId::new(port), &bytes(header));
                let verdict = real.ingress(*now, PortId::new(port), &bytes(header));
                is_explained(&explained, verdict)?;
                prop_assert_eq!(outcome(real, verdict), naive.ingress(*now, port, None, header));
            }
        }
        Op::AddStatic(vlan, mac, port) => {
            let added = real.fdb_add_static(vlan, mac, PortId::new(port));
            prop_assert_eq!(added.is_ok(), naive.add_static(vlan, mac, port), "{:?}", added);
        }
        Op::Remove(vlan, mac) => {
            let known = naive.fdb.iter().position(|known| known.vlan == vlan && known.mac == mac);
            prop_assert_eq!(real.fdb_remove(vlan, mac).is_some(), known.is_some());
            known.map(|place| naive.fdb.remove(place));
            naive.restless.remove(&(vlan, mac));
        }
        Op::Flush(vlan, port) => {
            let flushed = real.fdb_flush(vlan, port.map(PortId::new));
            prop_assert_eq!(usize::try_from(flushed).unwrap(), naive.flush(vlan, port));
        }
    }
    compare_state(&workers[0], naive)
}

fn compare_state(real: &Switch, naive: &Naive) -> Result<(), TestCaseError> {
    let mut have: Vec<_> = real
        .fdb_entries()
        .map(|entry| {
            let seen = match entry.kind {
                FdbKind::Static => None,
                FdbKind::Learned { last_seen } => Some(last_seen),
            };
            (entry.vlan, entry.mac, entry.port.get(), seen, entry.flapping)
        })
        .collect();
    let mut want: Vec<_> =
        naive.fdb.iter().map(|known| (known.vlan, known.mac, known.port, known.seen, known.flapping())).collect();
    have.sort_unstable_by_key(|entry| (entry.0, entry.1));
    want.sort_unstable_by_key(|entry| (entry.0, entry.1));
    prop_assert_eq!(have, want);
    prop_assert_eq!(real.counters(), naive.counters);
    if let Some(deadline) = naive.deadline() {
        prop_assert!(real.poll_timeout().is_some_and(|early| early <= deadline), "an address would age late");
    }
    Ok(())
}

/// Any program.
pub fn program() -> impl Strategy<Value = Program> {
    let limits = (0..16_u32, 0..8_u32).prop_map(|(entries, per_port)| Limits { entries, per_port });
    let parts = (limits, any::<u64>(), vec(mode(), usize::from(PORTS)), vec(op(), 1..250));
    parts.prop_map(|(limits, seed, modes, ops)| Program { limits, seed, modes, ops })
}

impl Program {
    /// Carries it out.
    pub fn run(self) -> Result<(), TestCaseError> {
        let Self { limits, seed, modes, ops } = self;
        let first = Switch::new(limits, seed);
        let mut real = [first.sibling(), first];
        let mut naive = Naive {
            limits,
            ageing: Some(Duration::from_secs(300)),
            ports: BTreeMap::new(),
            unlearned: Default::default(),
            allowed: BTreeMap::new(),
            fdb: Vec::new(),
            restless: BTreeMap::new(),
            storm_limit: None,
            budgets: BTreeMap::new(),
            counters: Default::default(),
        };
        let mut now = Instant::from_nanos(0) + TICK * 1000;
        for (port, mode) in (0..).zip(modes) {
            step(&mut real, &mut naive, &mut now, Op::SetPort(port, mode))?;
        }
        for op in ops {
            step(&mut real, &mut naive, &mut now, op)?;
        }
        Ok(())
    }
}

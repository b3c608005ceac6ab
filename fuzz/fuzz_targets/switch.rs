//! The switch, with a sibling, against the naive model of it: programs such as those of
//! `cargo test -p vswitch-core --test model`, steered by the fuzzer.
//!
//! Input: limits (2), seed of the hashes (8), modes of the ports, operations.
#![no_main]

use std::num::NonZeroU32;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use vswitch_core::{Limits, MacAddr, PortMode, VlanId, VlanSet};

#[allow(unreachable_pub, dead_code, reason = "it is a test's, which has no outside and draws its programs otherwise")]
#[path = "../../vswitch/core/tests/model/program.rs"]
mod program;

use program::{Header, Op, PORTS, Program, TICK, VLANS};

/// Operations in a program at most.
const OPS: usize = 120;
/// Frames in a batch at most: more than the switch looks ahead for.
const BATCH: u8 = 70;

fuzz_target!(|data: &[u8]| {
    let mut input = Unstructured::new(data);
    let Ok(program) = program(&mut input) else { return };
    if let Err(error) = program.clone().run() {
        panic!("{error}\n{program:#?}");
    }
});

fn program(input: &mut Unstructured<'_>) -> Result<Program> {
    let limits = Limits { entries: u32::from(byte(input, 16)?), per_port: u32::from(byte(input, 8)?) };
    let seed = input.arbitrary()?;
    let modes = (0..PORTS).map(|_| mode(input)).collect::<Result<_>>()?;
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < OPS {
        ops.push(op(input)?);
    }
    Ok(Program { limits, seed, modes, ops })
}

fn op(input: &mut Unstructured<'_>) -> Result<Op> {
    Ok(match byte(input, 27)? {
        0..=6 => Op::Local(port(input)?, header(input)?),
        7..=9 => Op::Remote(port(input)?, vlan(input)?, header(input)?),
        10 => {
            let (port, count) = (port(input)?, byte(input, BATCH)?);
            Op::LocalBatch(port, (0..count).map(|_| header(input)).collect::<Result<_>>()?)
        }
        11 => {
            let count = byte(input, BATCH)?;
            let arrival = |_| Ok((port(input)?, vlan(input)?, header(input)?));
            Op::RemoteBatch((0..count).map(arrival).collect::<Result<_>>()?)
        }
        12 | 13 => Op::Turn,
        14 => Op::Cut(port(input)?, usize::from(byte(input, 18)?)),
        15 => Op::Wait(u32::from(byte(input, 5)?)),
        16 => Op::Wait(u32::from(input.arbitrary::<u16>()?)),
        17 => Op::SetPort(port(input)?, mode(input)?),
        18 => Op::RemovePort(port(input)?),
        19 => Op::SetAgeing(match byte(input, 5)? {
            0 => None,
            1 => Some(Duration::from_secs(300)),
            2 => Some(TICK * 20_000),
            3 => Some(TICK * 192),
            _ => Some(TICK * 2),
        }),
        20 => Op::SetLearning(vlan(input)?, input.arbitrary()?),
        21 => Op::AddStatic(vlan(input)?, mac(input)?, port(input)?),
        22 => Op::Remove(vlan(input)?, mac(input)?),
        23 => Op::SetStormLimit(NonZeroU32::new(u32::from(byte(input, 100)?))),
        24 => {
            let allowed = (0..byte(input, 4)?).map(|_| mac(input)).collect::<Result<_>>()?;
            Op::SetGuard(port(input)?, if input.arbitrary()? { Some(allowed) } else { None })
        }
        25 => {
            let ports = (0..byte(input, 12)?).map(|_| port(input)).collect::<Result<_>>()?;
            Op::Loop(mac(input)?, ports)
        }
        _ => {
            let vlan = if input.arbitrary()? { Some(vlan(input)?) } else { None };
            Op::Flush(vlan, if input.arbitrary()? { Some(port(input)?) } else { None })
        }
    })
}

fn byte(input: &mut Unstructured<'_>, below: u8) -> Result<u8> {
    Ok(input.arbitrary::<u8>()? % below)
}

fn port(input: &mut Unstructured<'_>) -> Result<u16> {
    Ok(input.arbitrary::<u16>()? % PORTS)
}

fn vlan(input: &mut Unstructured<'_>) -> Result<VlanId> {
    let vid = 1 + input.arbitrary::<u16>()? % VLANS;
    Ok(VlanId::new(vid).expect("1 to the number of VLANs"))
}

fn vlans(input: &mut Unstructured<'_>) -> Result<VlanSet> {
    let bits = input.arbitrary::<u8>()?;
    Ok((1..=VLANS).filter(|vid| bits >> vid & 1 != 0).filter_map(VlanId::new).collect())
}

fn mode(input: &mut Unstructured<'_>) -> Result<PortMode> {
    Ok(match byte(input, 4)? {
        0 => PortMode::Access(vlan(input)?),
        1 => PortMode::Trunk { vlans: vlans(input)?, native: None },
        2 => PortMode::Trunk { vlans: vlans(input)?, native: Some(vlan(input)?) },
        _ => PortMode::Remote { vlans: vlans(input)? },
    })
}

fn mac(input: &mut Unstructured<'_>) -> Result<MacAddr> {
    Ok(match byte(input, 16)? {
        station @ 0..=10 => MacAddr::from_u64(0x0200_0000_0000 | u64::from(station)),
        11 => MacAddr::ZERO,
        12 => MacAddr::BROADCAST,
        13 => MacAddr([1, 0x80, 0xc2, 0, 0, 3]),
        14 => MacAddr([1, 0x80, 0xc2, 0, 0, 0x14]),
        _ => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
    })
}

fn header(input: &mut Unstructured<'_>) -> Result<Header> {
    let (to, from) = (mac(input)?, mac(input)?);
    let tag = match byte(input, 4)? {
        0 => Some(input.arbitrary::<u16>()?),
        1 => {
            let (priority, vid) = (input.arbitrary::<u8>()?, input.arbitrary::<u16>()?);
            Some((u16::from(priority) << 12) | (vid % (VLANS + 2)))
        }
        _ => None,
    };
    let is_double = tag.is_some() && byte(input, 4)? == 0;
    Ok((to, from, tag, is_double))
}

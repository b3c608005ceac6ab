//! `peer.probe`: a self-test begins, and its ticket is asked for until it is over.

use std::collections::BTreeMap;
use std::net::IpAddr;

use vswitch_api::{Code, HealthState, Probe, ProbeAsk, Refusal, RpcError, Vid, Vni};

use super::super::Control;
use crate::clock;
use crate::health::Finding;

/// Tickets remembered.
const TICKETS: usize = 256;

/// Self-tests that were asked for, and not told the outcome of.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    open: BTreeMap<u64, (IpAddr, Option<Vni>)>,
    next: u64,
}

impl Tickets {
    /// A ticket for a self-test of `peer`, in one network or all; the oldest of too many is forgotten.
    fn give(&mut self, peer: IpAddr, vni: Option<Vni>) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (peer, vni));
        while self.open.len() > TICKETS {
            self.open.pop_first();
        }
        self.next
    }

    /// Whether `ticket` is for `peer`.
    fn is_for(&self, ticket: u64, peer: IpAddr) -> bool {
        self.open.get(&ticket).is_some_and(|(asked, _)| *asked == peer)
    }

    /// Takes a ticket back; the network it was asked for.
    fn take(&mut self, ticket: u64) -> Option<Vni> {
        self.open.remove(&ticket)?.1
    }
}

impl Control {
    /// `peer.probe`: begins a self-test, or says how the one of this ticket is or was.
    pub(in crate::control) fn probe(&mut self, ask: &ProbeAsk) -> Result<Probe, RpcError> {
        let ProbeAsk { ip, vlan, ticket } = *ask;
        let ip = ip.to_canonical();
        let ticket = match ticket {
            Some(ticket) if self.probes.tickets.is_for(ticket, ip) => ticket,
            Some(ticket) => {
                let message = format!("there is no probe {ticket} of {ip}: ask anew, without a ticket");
                return Err(RpcError::new(Code::NotFound, message));
            }
            None => self.begin_probe(ip, vlan)?,
        };
        self.tend_probes();
        let now = clock::now();
        let path = self.probes.paths.get(&ip).ok_or_else(|| no_peer(ip))?;
        let verdict = path.tested_verdict(now).filter(|_| !path.is_busy());
        let Some(verdict) = verdict else {
            return Ok(Probe {
                ip,
                answered: false,
                round_trip_us: None,
                path_mtu: None,
                foreign: false,
                state: HealthState::Unreachable,
                vnis: None,
                findings: Vec::new(),
                pending: Some(ticket),
            });
        };
        let verdict = match self.probes.tickets.take(ticket) {
            Some(vni) => verdict.within(vni),
            None => verdict,
        };
        let best = path.tested().flatten();
        let foreign = verdict.state == HealthState::Foreign;
        let trip = best.or_else(|| self.host_trip(ip).filter(|_| foreign));
        let shared = path.shared().iter().filter(|(_, has_it)| **has_it).map(|(vni, _)| *vni);
        Ok(Probe {
            ip,
            answered: best.is_some(),
            round_trip_us: trip.map(|trip| u64::try_from(trip.as_micros()).unwrap_or(u64::MAX)),
            path_mtu: path.path_mtu().filter(|_| best.is_some()).map(u32::from),
            foreign,
            state: verdict.state,
            vnis: best.map(|_| shared.collect()),
            findings: verdict.findings.into_iter().map(Finding::shown).collect(),
            pending: None,
        })
    }

    fn begin_probe(&mut self, ip: IpAddr, vlan: Option<Vid>) -> Result<u64, RpcError> {
        if !self.network.remotes.contains_key(&ip) {
            return Err(no_peer(ip));
        }
        let networks = self.networks_of(ip);
        let vni = vlan.map(|vlan| {
            let vni = networks.iter().find(|(_, other)| **other == vlan).map(|(vni, _)| *vni);
            vni.ok_or_else(|| {
                let message = format!(
                    "{ip} is no peer in VLAN {vlan}, or that has no VNI: `vsctl vlan add {vlan} --vni N` and \
                     `vsctl vtep peer add {ip} --vlan {vlan}`"
                );
                RpcError::new(Code::NotFound, message)
            })
        });
        let vni = vni.transpose()?;
        self.test_peer(ip);
        Ok(self.probes.tickets.give(ip, vni))
    }
}

fn no_peer(ip: IpAddr) -> RpcError {
    let refusal = Refusal::NoPeer { ip };
    RpcError::new(refusal.code(), refusal.to_string())
}

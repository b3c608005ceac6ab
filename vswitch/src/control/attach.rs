//! Ports that container runtimes ask for.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vswitch_api::{
    Attach, Attached, Attachment, AttachmentInfo, Cidr, ContainerId, Desired, Detached, FdbTarget, Held, IfName,
    NetworkName, Pool, PoolInfo, PortName, PortPlan, PortSpec, PortState, Refusal, RpcError, Vid,
};

use super::{Control, ControlError, Wish};
use crate::counters::Counters;
use crate::host;

/// How long what was planned is held for whoever asked.
const HOLD: Duration = Duration::from_secs(60);
/// Plans held at once; for one more, the one that would end first is forgotten.
const HOLDS: usize = 1024;

/// Names and addresses of attachments that are planned, until they are made or time is up.
#[derive(Debug, Default)]
pub(super) struct Holds(Vec<Hold>);

#[derive(Debug)]
struct Hold {
    container: ContainerId,
    ifname: IfName,
    name: PortName,
    vlan: Option<Vid>,
    addresses: Vec<Cidr>,
    until: Instant,
}

impl Holds {
    /// What is held at `now` for others than interface `ifname` of `container`.
    fn of_others(&self, container: &ContainerId, ifname: &IfName, now: Instant) -> Held {
        self.held(now, |hold| (&hold.container, &hold.ifname) != (container, ifname))
    }

    /// What is held at `now` for those that `which` chooses.
    fn held(&self, now: Instant, which: impl Fn(&Hold) -> bool) -> Held {
        let mut held = Held::default();
        for hold in self.0.iter().filter(|hold| hold.until > now && which(hold)) {
            held.names.insert(hold.name.clone());
            let addresses = hold.addresses.iter().filter_map(|address| Some((hold.vlan?, address.ip())));
            held.addresses.extend(addresses.map(|key| (key, hold.name.clone())));
        }
        held
    }

    /// `attach`, with the name and the addresses that are held for it at `now`.
    fn claimed(&self, attach: &Attach, container: &ContainerId, now: Instant) -> Attach {
        let mut attach = attach.clone();
        let own =
            |hold: &&Hold| hold.until > now && (&hold.container, &hold.ifname) == (container, &attach.port.ifname);
        if let Some(hold) = self.0.iter().find(own) {
            if attach.port.addresses.is_empty() && !attach.pools.is_empty() && hold.vlan == attach.port.mode.untagged()
            {
                attach.port.addresses = hold.addresses.clone();
            }
            attach.port.name = hold.name.clone();
        }
        attach
    }

    fn hold(&mut self, spec: &PortSpec, container: &ContainerId, now: Instant) {
        self.release(container, &spec.ifname, now);
        if self.0.len() >= HOLDS {
            self.0.remove(0); // they are in order of their ends
        }
        self.0.push(Hold {
            container: container.clone(),
            ifname: spec.ifname.clone(),
            name: spec.name.clone(),
            vlan: spec.mode.untagged(),
            addresses: spec.addresses.clone(),
            until: now + HOLD,
        });
    }

    /// Forgets what is held for interface `ifname` of `container`, and what is over at `now`.
    fn release(&mut self, container: &ContainerId, ifname: &IfName, now: Instant) {
        self.0.retain(|hold| hold.until > now && (&hold.container, &hold.ifname) != (container, ifname));
    }
}

impl Control {
    /// `attachment.add`. On return it is safe on disk.
    pub(super) fn attach(&mut self, attach: &Attach, fds: Vec<OwnedFd>) -> Result<Attached, ControlError> {
        let now = Instant::now();
        let (container, ifname) = (attachment(attach)?.container.clone(), attach.port.ifname.clone());
        let brought = self.brought(&attach.port, fds)?;
        let mut attach = attach.clone();
        if let Some(attachment) = &mut attach.port.attachment {
            self.look_at(attachment, &attach.port.netns, brought.as_ref());
        }
        if self.desired.port(&attach.port.name).is_some() {
            self.look_after_lost_ports()?;
        }
        let (desired, spec) = self.attached(&attach, now)?;
        self.brought = brought.map(|brought| (spec.name.clone(), brought));
        let made = match self.lost_attachment(&container, &ifname) {
            Some(lost) => self.make_instead_of(&lost, desired),
            None => self.make(desired),
        };
        self.brought = None;
        made?;
        self.holds.release(&container, &ifname, now);
        Ok(Attached { port: self.port_info(&spec) })
    }

    /// `attachment.del`; `only_lost` leaves alone what is up.
    pub(super) fn detach(
        &mut self,
        wish: &Wish,
        (container, ifname): (&ContainerId, &IfName),
        only_lost: bool,
    ) -> Result<Detached, ControlError> {
        let port = self.desired.attached(container, ifname).map(|spec| self.port_info(spec));
        if only_lost && port.as_ref().is_some_and(|port| port.state == PortState::Up) {
            return Ok(Detached { port: None });
        }
        let outcome = self.change(wish)?;
        self.holds.release(container, ifname, Instant::now());
        Ok(Detached { port: port.filter(|_| outcome.changed) })
    }

    /// `attachment.plan`.
    pub(super) fn plan_attachment(&mut self, attach: &Attach) -> Result<PortPlan, ControlError> {
        let now = Instant::now();
        let (desired, spec) = self.attached(attach, now)?;
        let plan = self.planned(&desired, &spec)?;
        self.holds.hold(&spec, &attachment(attach)?.container, now);
        Ok(plan)
    }

    /// Makes `desired`, in which another port takes the place of `lost`, which stays where that fails.
    fn make_instead_of(&mut self, lost: &PortName, desired: Desired) -> Result<(), ControlError> {
        let before = self.network.clone();
        let (counted, known) = (self.counted_before.remove(lost), self.lost.forget(lost));
        // Nothing of it is in the switch: without it the network is what is made already.
        if let Some(setup) = self.network.ports.remove(lost)
            && self.rights.privileges.enters()
            && let Err(error) = host::remove_interface(&setup, &self.site.mark(lost))
        {
            tracing::warn!(port = %lost, %error, "the lost port's interface may have stayed in its namespace");
        }
        self.network.statics.retain(|_, target| *target != FdbTarget::Port(lost.clone()));
        self.tell_last_drops(lost, counted.as_ref().unwrap_or(&Counters::default()));
        let made = self.make(desired);
        if made.is_err() {
            self.network = before;
            self.probes_follow();
            self.counted_before.extend(counted.map(|counted| (lost.clone(), counted)));
            self.lost.remember(lost, known);
        }
        made
    }

    /// The state with the attachment, and its port: instead of one that is lost, and with what is held for it.
    fn attached(&mut self, attach: &Attach, now: Instant) -> Result<(Desired, PortSpec), ControlError> {
        match self.applied(attach, now) {
            // Where that is for a container that has just gone, another look tells.
            Err(ControlError::Refused(_)) => {
                self.look_after_lost_ports()?;
                self.applied(attach, now)
            }
            outcome => outcome,
        }
    }

    /// As [`Self::attached`], as far as is known of who is gone.
    fn applied(&self, attach: &Attach, now: Instant) -> Result<(Desired, PortSpec), ControlError> {
        let Attachment { container, .. } = attachment(attach)?;
        let ifname = &attach.port.ifname;
        let held = self.holds.of_others(container, ifname, now);
        let attach = self.holds.claimed(attach, container, now);
        let (desired, _) = match self.lost_attachment(container, ifname) {
            Some(name) => self.desired.apply(&Wish::PortDel { name }, self.vtep_ip())?.0.attach(&attach, &held)?,
            None => self.desired.attach(&attach, &held)?,
        };
        let missing = || Refusal::NoPort { name: attach.port.name.clone() };
        let spec = desired.attached(container, ifname).cloned().ok_or_else(missing)?;
        Ok((desired, spec))
    }

    /// The port that is interface `ifname` of `container`, where it is lost.
    fn lost_attachment(&self, container: &ContainerId, ifname: &IfName) -> Option<PortName> {
        let port = self.desired.attached(container, ifname)?;
        (!self.live.contains_key(&port.name)).then(|| port.name.clone())
    }

    /// `attachment.list`.
    pub(super) fn attachments(&self, network: Option<&NetworkName>) -> Vec<AttachmentInfo> {
        let state = |spec: &PortSpec| if self.live.contains_key(&spec.name) { PortState::Up } else { PortState::Lost };
        let all = self.desired.ports().filter_map(|spec| attachment_info(spec, state(spec)));
        all.filter(|info| network.is_none_or(|network| info.network == *network)).collect()
    }

    /// `pool.show`.
    pub(super) fn pools(&self, vlan: Vid, pools: &[Pool]) -> Result<Vec<PoolInfo>, RpcError> {
        let held = self.holds.held(Instant::now(), |_| true);
        Ok(self.desired.pools(vlan, pools, &held)?)
    }
}

/// The attachment that `spec` is the port of, in that state.
pub(super) fn attachment_info(spec: &PortSpec, state: PortState) -> Option<AttachmentInfo> {
    let Attachment { network, container, delegated, seen: _, sight: _ } = spec.attachment.clone()?;
    Some(AttachmentInfo {
        network,
        container,
        ifname: spec.ifname.clone(),
        port: spec.name.clone(),
        netns: spec.netns.clone(),
        addresses: spec.addresses.clone(),
        delegated,
        state,
    })
}

fn attachment(attach: &Attach) -> Result<&Attachment, Refusal> {
    attach.port.attachment.as_ref().ok_or_else(|| Refusal::NoAttachment { name: attach.port.name.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attach(container: &str, name: &str) -> Attach {
        let attachment = json!({"network": "net", "container": container});
        let port = json!({"name": name, "netns": "a", "access": 10, "attachment": attachment});
        serde_json::from_value(json!({"port": port, "pools": [{"subnet": "10.0.0.0/24"}]})).unwrap()
    }

    fn id(container: &str) -> ContainerId {
        container.parse().unwrap()
    }

    /// The port that comes of it in an empty switch.
    fn spec(attach: &Attach, held: &Held) -> PortSpec {
        let (desired, _) = Desired::default().attach(attach, held).unwrap();
        desired.ports().next().unwrap().clone()
    }

    #[test]
    fn what_is_held_is_held_for_one_and_for_a_minute() {
        let (start, eth0) = (Instant::now(), IfName::default());
        let mut holds = Holds::default();
        let (a, b) = (attach("a", "web"), attach("b", "web"));
        holds.hold(&spec(&a, &Held::default()), &id("a"), start);
        let shown = |spec: PortSpec| format!("{} {}", spec.name, spec.addresses[0]);
        let at = |holds: &Holds, container: &str, seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            let wish = if container == "a" { &a } else { &b };
            let claimed = holds.claimed(wish, &id(container), now);
            shown(spec(&claimed, &holds.of_others(&id(container), &eth0, now)))
        };
        assert_eq!(at(&holds, "a", 59), "web 10.0.0.2/24");
        assert_eq!(at(&holds, "b", 59), "web-2 10.0.0.3/24");
        assert_eq!(at(&holds, "b", 60), "web 10.0.0.2/24");
        // It is claimed by its addresses too: a client says again what it was told.
        let told = Attach { port: spec(&holds.claimed(&a, &id("a"), start), &Held::default()), ..a.clone() };
        assert_eq!(holds.claimed(&told, &id("a"), start), told);
        holds.release(&id("a"), &eth0, start);
        assert_eq!(at(&holds, "b", 0), "web 10.0.0.2/24");
    }

    #[test]
    fn holds_are_bounded() {
        let start = Instant::now();
        let mut holds = Holds::default();
        for number in 0..HOLDS + 10 {
            let attach = attach(&format!("c{number}"), &format!("p{number}"));
            holds.hold(&spec(&attach, &Held::default()), &id(&format!("c{number}")), start);
        }
        let held = holds.held(start, |_| true);
        assert_eq!(held.names.len(), HOLDS);
        assert!(!held.names.contains(&"p9".parse().unwrap()) && held.names.contains(&"p10".parse().unwrap()));
        assert_eq!(holds.held(start + HOLD, |_| true), Held::default());
    }
}

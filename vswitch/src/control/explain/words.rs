//! What core's steps mean to people, and what mends what stops a frame.

use vswitch_api::{ExplainStep, PortName, RateLimit};
use vswitch_core::MacAddr;
use vswitch_core::switch::explain::Destination;
use vswitch_core::switch::{Explained, FloodKind, GuardDrop, PortMode, Reason, Step, fdb};

use super::super::Control;

impl Control {
    /// The steps of `explained`, a frame from `sender` where it came in on a port.
    pub(super) fn told(&self, explained: &Explained, sender: Option<&PortName>) -> Vec<ExplainStep> {
        let source = explained.steps.iter().find_map(|step| match step {
            Step::Ethernet { source, .. } => Some(*source),
            _ => None,
        });
        explained.steps.iter().map(|step| self.told_step(step, sender, source)).collect()
    }

    fn told_step(&self, step: &Step, sender: Option<&PortName>, from: Option<MacAddr>) -> ExplainStep {
        match *step {
            Step::Port(port) => {
                ExplainStep::ok("port", format!("comes in on {}{}", self.title(port), mode(self, port)))
            }
            Step::Ethernet { destination, source, tag } => {
                let tag = match tag {
                    None => "untagged".to_owned(),
                    Some(tag) => match tag.vlan() {
                        Some(vlan) => format!("tagged for VLAN {vlan}"),
                        None => "with a priority tag".to_owned(),
                    },
                };
                ExplainStep::ok("ethernet", format!("from {source} to {destination}, {tag}"))
            }
            Step::Vlan(vlan) => {
                let vni = self.vni(vlan).map_or_else(|| "local: no VNI".to_owned(), |vni| format!("VNI {vni}"));
                ExplainStep::ok("vlan", format!("belongs to VLAN {vlan} ({vni})"))
            }
            Step::Guard(true) => ExplainStep::ok("guard", "its port's guard lets its sender pass"),
            Step::Guard(false) => ExplainStep::ok("guard", "its port has no guard: every sender is believed"),
            Step::Source(source) => match source {
                fdb::Source::Known => ExplainStep::ok("source", "the source is known here"),
                fdb::Source::Static(port) => {
                    ExplainStep::ok("source", format!("the source is static, behind {}", self.title(port)))
                }
                fdb::Source::Ignored => {
                    ExplainStep::note("source", "the source is not learned: learning is off in this VLAN")
                }
                fdb::Source::New => ExplainStep::ok("source", "the source is new, and learned here"),
                fdb::Source::Moves(port) => {
                    ExplainStep::note("source", format!("the source moves here from {}", self.title(port)))
                }
                fdb::Source::NoRoom => ExplainStep::note("source", "the source is not learned: the FDB has no room"),
            },
            Step::Destination(found) => ExplainStep::ok(
                "destination",
                match found {
                    Destination::Known(port) => format!("the FDB says: behind {}", self.title(port)),
                    Destination::Only(port) => {
                        format!("nobody sent from it yet; it can only be behind {}", self.title(port))
                    }
                    Destination::Many(FloodKind::Broadcast) => "for everybody in the VLAN".to_owned(),
                    Destination::Many(FloodKind::Multicast) => "for a group: everybody in the VLAN gets it".to_owned(),
                    Destination::Many(FloodKind::UnknownUnicast) => {
                        "the FDB does not know it: everybody in the VLAN gets it".to_owned()
                    }
                },
            ),
            Step::Storm(_) => ExplainStep::ok("storm", "within what its port may flood"),
            Step::Stop(reason) => {
                ExplainStep::stop(stage(reason), reason.name(), reason.explanation(), self.mend(reason, sender, from))
            }
        }
    }

    /// The command that mends it that frames of port `sender`, with the source address `from`, are dropped.
    pub(super) fn mend(&self, reason: Reason, sender: Option<&PortName>, from: Option<MacAddr>) -> Option<String> {
        let name = sender?;
        let setup = self.network.ports.get(name)?;
        match reason {
            Reason::Guard(GuardDrop::SpoofedMac) => {
                let mut macs: Vec<_> = setup.allow_macs.iter().flatten().map(ToString::to_string).collect();
                macs.push(from?.to_string());
                macs.dedup();
                setup.allow_macs.is_some().then(|| format!("vsctl port set {name} --allow-mac {}", macs.join(" ")))
            }
            Reason::Guard(GuardDrop::SpoofedIp) => {
                let allowed = setup.allow_ips.iter().flatten().map(ToString::to_string);
                let own = setup.addresses.iter().map(|address| vswitch_api::Net::host(address.ip()).to_string());
                let mut all: Vec<_> = allowed.chain(own).collect();
                let mut seen = std::collections::BTreeSet::new();
                all.retain(|net| seen.insert(net.clone()));
                setup.allow_ips.is_some().then(|| format!("vsctl port set {name} --allow-ip {}", all.join(" ")))
            }
            Reason::Storm(_) => self.calm(name),
            _ => None,
        }
    }

    /// The command that slows a port that floods, so much that its frames for many are no more than it may bring in.
    pub(super) fn calm(&self, name: &PortName) -> Option<String> {
        /// Bits of the shortest frame.
        const SHORTEST: u64 = 60 * 8;
        let usage = self.workers.one(|worker| worker.datapath.fdb_usage()).ok()?;
        let rate = u64::from(usage.bounds.storm?.get()) * SHORTEST / 2;
        let limit = RateLimit::new(rate.clamp(1_000, 1_000_000_000_000), Some(2_048)).ok()?;
        Some(format!("vsctl port set {name} --rx-limit {limit}"))
    }
}

/// How a port takes part in VLANs, in brackets.
fn mode(control: &Control, port: vswitch_core::PortId) -> String {
    let name = control.live.iter().find(|(_, live)| live.id == port).map(|(name, _)| name);
    match name.and_then(|name| control.network.ports.get(name)).map(|setup| &setup.mode) {
        Some(PortMode::Access(vlan)) => format!(" (access, VLAN {vlan})"),
        Some(PortMode::Trunk { native: Some(native), .. }) => format!(" (trunk, native VLAN {native})"),
        Some(PortMode::Trunk { native: None, .. }) => " (trunk without a native VLAN)".to_owned(),
        Some(PortMode::Remote { .. }) | None => String::new(),
    }
}

/// The stage that gives this reason.
const fn stage(reason: Reason) -> &'static str {
    match reason {
        Reason::Port(_) => "port",
        Reason::Ethernet(_) => "ethernet",
        Reason::Vlan(_) => "vlan",
        Reason::Guard(_) => "guard",
        Reason::Source(_) => "source",
        Reason::Forward(_) => "destination",
        Reason::Storm(_) => "storm",
    }
}

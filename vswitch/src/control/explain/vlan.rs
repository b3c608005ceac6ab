//! The part of `why` about VLANs: one that both stations are in, and how the near one's frames are tagged there.

use vswitch_api::{ExplainStep, PortMode as Mode, PortName, Vid};
use vswitch_core::VlanId;

use super::super::Control;
use super::ends::untagged;
use super::why::Pair;

impl Control {
    /// The VLAN that both are in and whether the near one's frames in it are tagged; else the one the far one should be in.
    pub(super) fn shared_vlan(&self, pair: &Pair) -> Result<(VlanId, bool), Option<VlanId>> {
        let near = &pair.setup.mode;
        let first = untagged(near).or_else(|| near.vlans().next());
        let vlan = match (pair.far.port().and_then(|name| self.network.ports.get(name)), pair.far.vlan) {
            (Some(far), _) => {
                let both = |vlan: &VlanId| near.is_member(*vlan) && far.mode.is_member(*vlan);
                let best = [untagged(near), untagged(&far.mode)].into_iter().flatten().find(both);
                best.or_else(|| near.vlans().find(both))
            }
            (None, Some(vlan)) => Some(vlan).filter(|vlan| near.is_member(*vlan)),
            (None, None) => first,
        };
        vlan.map(|vlan| (vlan, untagged(near) != Some(vlan))).ok_or(first)
    }

    pub(super) fn walk_vlan(&self, pair: &Pair, steps: &mut Vec<ExplainStep>) -> Result<(VlanId, bool), ()> {
        match self.shared_vlan(pair) {
            Ok((vlan, is_tagged)) => {
                let how = if is_tagged { "tagged" } else { "untagged" };
                steps.push(ExplainStep::ok("vlan", format!("both are in VLAN {vlan}; port {} {how}", pair.port)));
                Ok((vlan, is_tagged))
            }
            Err(wanted) => {
                let (text, mend) = match (pair.far.port(), pair.far.vlan) {
                    (Some(far), _) => (
                        format!(
                            "port {} is in {}, port {far} in {}",
                            pair.port,
                            self.vlans(&pair.port),
                            self.vlans(far)
                        ),
                        wanted.and_then(|vlan| self.join(far, vlan)),
                    ),
                    (None, vlan) => (
                        format!(
                            "port {} is in {}, {} was seen in VLAN {}",
                            pair.port,
                            self.vlans(&pair.port),
                            pair.far.text,
                            vlan.map_or(0, VlanId::get)
                        ),
                        vlan.and_then(|vlan| self.join(&pair.port, vlan)),
                    ),
                };
                steps.push(ExplainStep::stop("vlan", "wrong_vlan", text, mend));
                Err(())
            }
        }
    }

    /// The VLANs of a port, in words.
    fn vlans(&self, name: &PortName) -> String {
        match self.desired.port(name).map(|spec| &spec.mode) {
            Some(Mode::Access(vlan)) => format!("VLAN {vlan}"),
            Some(Mode::Trunk { vlans, native: None }) => format!("VLANs {vlans}, tagged"),
            Some(Mode::Trunk { vlans, native: Some(native) }) => format!("VLANs {vlans}, tagged, and {native}"),
            None => "no VLAN".to_owned(),
        }
    }

    /// The command that puts a port in a VLAN.
    fn join(&self, name: &PortName, vlan: VlanId) -> Option<String> {
        Some(match &self.desired.port(name)?.mode {
            Mode::Access(_) => format!("vsctl port set {name} --access {vlan}"),
            Mode::Trunk { vlans, native } => {
                let vlans = vlans.with(&Vid::new(vlan.get()).ok()?.into());
                let native = native.map(|native| format!(" --native {native}")).unwrap_or_default();
                format!("vsctl port set {name} --trunk {vlans}{native}")
            }
        })
    }
}

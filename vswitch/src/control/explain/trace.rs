//! `trace`: the journey of a frame that is not sent.

use vswitch_api::explain::from_hex;
use vswitch_api::{Code, ExplainStep, FdbTarget, Journey, OuterInfo, RpcError, TraceAsk, TraceVerdict, Vid, Vni, Way};
use vswitch_core::switch::Verdict;
use vswitch_core::{Frame, VlanId};

use super::super::Control;
use crate::network::vlan_id;
use crate::worker::Exit;

/// The longest frame that is read: what a TAP gives.
const LONGEST: usize = 65_536 + 14;

impl Control {
    /// What would become of the frame that `ask` brings.
    pub(in super::super) fn trace(&self, ask: &TraceAsk) -> Result<Journey, RpcError> {
        let refused = |code, message: String| RpcError::new(code, message);
        let frame = from_hex(&ask.frame).filter(|frame| frame.len() <= LONGEST).ok_or_else(|| {
            refused(Code::InvalidParams, format!("a frame is at most {LONGEST} bytes, as two hexadecimal digits each"))
        })?;
        let (id, vlan) = match (&ask.port, ask.remote) {
            (Some(name), None) => {
                self.port(name)?;
                match self.live_id(name) {
                    Some(id) => (id, None),
                    None => return Ok(self.lost_journey(name)),
                }
            }
            (None, Some(ip)) => {
                let no_peer = format!("{ip} is no peer; `vsctl vtep peer list` shows those there are");
                let id = self.remote_id(ip).ok_or_else(|| refused(Code::NotFound, no_peer))?;
                let no_vlan = || refused(Code::InvalidParams, "of a remote, say in which VLAN it comes".to_owned());
                (id, Some(vlan_id(ask.vlan.ok_or_else(no_vlan)?)))
            }
            _ => return Err(refused(Code::InvalidParams, "say either a port or a remote".to_owned())),
        };
        let bytes = frame.clone();
        let (explained, exits) = self.ask(move |worker| {
            let now = worker.now();
            worker.datapath.explain(now, id, vlan, &bytes)
        })?;
        let (verdict, reason) = match explained.verdict {
            Verdict::Unicast(_) => (TraceVerdict::Unicast, None),
            Verdict::Flood(_) => (TraceVerdict::Flood, None),
            Verdict::Drop(reason) => (TraceVerdict::Drop, Some(reason.name().to_owned())),
        };
        let steps = self.told(&explained, ask.port.as_ref());
        let ways = exits.iter().filter_map(|exit| self.way(exit, &frame)).collect();
        Ok(Journey { steps, verdict, reason, ways })
    }

    fn lost_journey(&self, name: &vswitch_api::PortName) -> Journey {
        let text = "the port is lost: nothing comes in on it";
        let stop = ExplainStep::stop("port", "port_lost", text, self.add_again(name));
        Journey { steps: vec![stop], verdict: TraceVerdict::Drop, reason: Some("port_lost".to_owned()), ways: vec![] }
    }

    /// How `frame` would leave by `exit`.
    fn way(&self, exit: &Exit, frame: &[u8]) -> Option<Way> {
        let (port, remote) = match self.targets().remove(&exit.port)? {
            FdbTarget::Port(name) => (Some(name), None),
            FdbTarget::Remote(ip) => (None, Some(ip)),
        };
        let mut untagged = Frame::from_bytes(frame);
        untagged.retag(None);
        let packet = untagged.len().saturating_sub(14);
        let outer = remote.zip(self.site.underlay).map(|(destination, underlay)| OuterInfo {
            vni: self.vni(exit.vlan),
            source: underlay.address,
            destination,
            port: self.vtep_port,
            bytes: packet + usize::from(underlay.overhead()),
        });
        Some(Way {
            port,
            remote,
            vlan: Vid::new(exit.vlan.get()).ok()?,
            tag: exit.tag.and_then(vswitch_core::Tag::vlan).map(VlanId::get),
            outer,
            packet,
            mtu: exit.mtu,
            fits: packet <= usize::from(exit.mtu),
        })
    }

    /// The VNI of a VLAN.
    pub(super) fn vni(&self, vlan: VlanId) -> Option<Vni> {
        self.network.vlans.get(&Vid::new(vlan.get()).ok()?)?.vni
    }
}

//! The part of `why` that asks the switch what it would do with frames both ways.

use vswitch_api::{ExplainStep, PortName};
use vswitch_core::switch::{PortId, Verdict};
use vswitch_core::{Frame, MacAddr, Tag, VlanId};

use super::super::Control;
use super::ends::{Place, untagged};
use super::frames;
use super::why::{Pair, Walked};

impl Control {
    /// What the switch would do with frames both ways.
    pub(super) fn walk_switch(
        &self,
        pair: &Pair,
        (near_mac, far_mac): (MacAddr, Option<MacAddr>),
        (vlan, is_tagged): (VlanId, bool),
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let Some(near) = self.live_id(&pair.port) else { return Ok(()) };
        let tagged = |bytes: Vec<u8>, is_tagged: bool| {
            let mut frame = Frame::from_bytes(&bytes);
            frame.retag(is_tagged.then(|| Tag::from_bits(0).in_vlan(vlan)));
            frame.bytes().to_vec()
        };
        let near_ips = &pair.own;
        // By a router, packets go to its MAC address and to B's of IP.
        let far_ips = pair.target.map_or_else(|| pair.far.ips.clone(), |target| vec![target]);
        let question = pair.far.ips.first().map(|ip| tagged(frames::who_has(near_mac, near_ips, *ip), is_tagged));
        let there = far_mac.map(|mac| tagged(frames::packet((near_mac, near_ips), (mac, &far_ips)), is_tagged));
        for (bytes, what) in [(question, "asks who has the address"), (there, "sends a packet")] {
            let Some(bytes) = bytes else { continue };
            let way = format!("{} {what}", pair.near.name());
            self.walk_frame((near, None, Some(&pair.port)), bytes, &way, steps)?;
        }
        let (Some(mac), from) = (far_mac, &pair.far) else { return Ok(()) };
        let back = frames::packet((mac, &far_ips), (near_mac, near_ips));
        let way = format!("{} answers", from.name());
        match &from.place {
            Place::Port(name) => {
                let Some(id) = self.live_id(name) else { return Ok(()) };
                let is_tagged = self.network.ports.get(name).is_some_and(|setup| untagged(&setup.mode) != Some(vlan));
                self.walk_frame((id, None, Some(name)), tagged(back, is_tagged), &way, steps)
            }
            Place::Remote(ip) => {
                let Some(id) = self.remote_id(*ip) else { return Ok(()) };
                self.walk_frame((id, Some(vlan), None), back, &way, steps)
            }
            Place::Unknown => Ok(()),
        }
    }

    /// What the switch would do with one frame: one step where it passes, all of them where it does not.
    fn walk_frame(
        &self,
        (id, vlan, sender): (PortId, Option<VlanId>, Option<&PortName>),
        frame: Vec<u8>,
        way: &str,
        steps: &mut Vec<ExplainStep>,
    ) -> Walked {
        let explained = self.ask(move |worker| {
            let now = worker.now();
            worker.datapath.explain(now, id, vlan, &frame).0
        });
        let Ok(explained) = explained else { return Ok(()) };
        let mut told = self.told(&explained, sender);
        match explained.verdict {
            Verdict::Drop(_) => {
                if let Some(last) = told.last_mut() {
                    last.text = format!("{way}: {}", last.text);
                }
                steps.extend(told);
                Err(())
            }
            Verdict::Unicast(egress) => {
                steps.push(ExplainStep::ok("switch", format!("{way}: it leaves on {}", self.title(egress.port))));
                Ok(())
            }
            Verdict::Flood(_) => {
                steps.push(ExplainStep::ok("switch", format!("{way}: all in the VLAN get it")));
                Ok(())
            }
        }
    }
}

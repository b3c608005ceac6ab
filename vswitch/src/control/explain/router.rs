//! The part of `why` behind a router that is a container here: whether it forwards, and by which of its ports.

use vswitch_api::{ExplainStep, PortName};

use super::super::Control;
use super::route::{Elsewhere, Route, Sends, route};
use super::why::{Pair, Walked, stop};

impl Control {
    /// The port by which the router of the two sends on to the far one's link, and its way there.
    pub(super) fn exit(&self, pair: &Pair) -> Option<(PortName, Route)> {
        let (name, target) = (pair.far.port()?, pair.target?);
        let inside = self.inside(name)?;
        let way = route(Some(&inside), self.network.ports.get(name)?, target);
        match &way.elsewhere {
            Some(Elsewhere { ifname, .. }) => Some((self.port_at(&inside.netns, ifname)?, way)),
            None => Some((name.clone(), way)),
        }
    }

    /// What lies behind the router between the two, as far as that can be told from here.
    pub(super) fn walk_router(&self, pair: &Pair, steps: &mut Vec<ExplainStep>) -> Walked {
        let (Some(end), Some(target)) = (&pair.beyond, pair.target) else { return Ok(()) };
        let Some((name, setup)) = pair.far.port().and_then(|name| Some((name, self.network.ports.get(name)?))) else {
            return Ok(());
        };
        let Some(inside) = self.inside(name) else { return Ok(()) };
        let way = route(Some(&inside), setup, target);
        match &way.sends {
            Sends::ToItself => {
                steps.push(ExplainStep::ok("router", format!("{target} is an address of the router itself")));
                return Ok(());
            }
            Sends::NoRoute(said) => {
                let text = format!("the router, the container of port {name}, has no route to {target}: {said}");
                return stop(steps, ExplainStep::stop("router", "no_route", text, None));
            }
            Sends::NoAddress | Sends::Straight | Sends::By(_) => {}
        }
        let sysctl = if target.is_ipv4() { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
        let path = format!("/proc/sys/{}", sysctl.replace('.', "/"));
        // Elsewhere than in the container the file tells of this thread's own namespace.
        if let Ok(Ok(set)) = inside.netns.run(|| std::fs::read_to_string(&path))
            && set.trim() == "0"
        {
            let text = format!("the router, the container of port {name}, does not forward: {sysctl} is 0");
            let mend = self.sysctl_in(name, &format!("{sysctl}=1"));
            return stop(steps, ExplainStep::stop("router", "no_forwarding", text, mend));
        }
        let Some((exit, way)) = self.exit(pair) else { return Ok(()) };
        let by = match way.sends {
            Sends::By(next) => format!("{next}, the next router"),
            _ => target.to_string(),
        };
        steps.push(ExplainStep::ok("router", format!("the router sends on to {by}, by port {exit}")));
        let far = end.clone();
        if way.sends != Sends::Straight || far.port() == Some(&exit) {
            return Ok(());
        }
        let Ok(next) = self.end(exit.as_str()).and_then(|near| self.pair(near, far)) else { return Ok(()) };
        let (vlan, is_tagged) = self.walk_vlan(&next, steps)?;
        self.walk_switch(&next, (self.mac(&next), next.far.mac), (vlan, is_tagged), steps)
    }
}

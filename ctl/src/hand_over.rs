//! A port whose interface is made here, with the caller's rights, and handed to the daemon, which then needs none.

use std::os::fd::AsFd as _;

use serde_json::Value;
use vswitch_api::{Change, Client, ClientError, NetnsRef, PortPlan, PortSpec, Query};
use vswitch_sys::interface::Origin;
use vswitch_sys::{InterfaceError, InterfaceSpec, Netns, NetnsError, Tap, fdpass};

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    /// The daemon refused, or is not there.
    #[error(transparent)]
    Daemon(#[from] ClientError),
    /// The namespace cannot be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The interface cannot be made.
    #[error("{error}{}", way_out(error))]
    Interface {
        /// Why.
        error: InterfaceError,
    },
}

fn way_out(error: &InterfaceError) -> &'static str {
    if error.is_forbidden() {
        "; --hand-over takes your own rights: CAP_NET_ADMIN and CAP_SYS_ADMIN over the namespace, as root has them and as \
         `podman unshare` gives them over a container without root"
    } else {
        ""
    }
}

/// Adds a port; returns the daemon's answer. A port that is up already is left alone.
///
/// # Errors
/// Where the daemon refuses or the interface cannot be made. Nothing stays then that was not there before.
pub(crate) fn add(client: &mut Client, spec: &PortSpec) -> Result<Value, HandOverError> {
    let plan: PortPlan = client.call(&Query::PortPlan(spec.clone()).into())?;
    let request = Change::PortAdd(spec.clone()).into();
    if plan.up {
        return Ok(client.call_value(&request)?);
    }
    let (tap, origin) = make(spec, &plan)?;
    let queues: Vec<_> = tap.queues().iter().map(|queue| queue.as_fd()).collect();
    let answer = client.call_sending(&request, |stream, bytes| fdpass::send(stream, bytes, &queues));
    if matches!((&answer, origin), (Err(ClientError::Refused(_)), Origin::New)) {
        // It goes with its descriptors. Where there is no answer the daemon may have taken it.
        tap.set_persistent(false).map_err(|error| HandOverError::Interface { error: error.into() })?;
    }
    Ok(answer?)
}

fn make(spec: &PortSpec, plan: &PortPlan) -> Result<(Tap, Origin), HandOverError> {
    let netns = match &spec.netns {
        NetnsRef::Pid(pid) => Netns::open_pid(*pid)?,
        named => Netns::open_path(&named.path())?,
    };
    let interface = InterfaceSpec {
        name: spec.ifname.to_string(),
        mac: plan.mac.octets(),
        mtu: plan.mtu,
        addresses: spec.addresses.iter().map(|address| address.net()).collect(),
        gateways: spec.gateways.clone(),
        mark: plan.mark.clone(),
    };
    let made = interface.obtain(&netns, plan.queues);
    let inside = || Ok((interface.create_inside(&netns, plan.queues)?, Origin::New));
    // Whoever has rights over the container alone cannot make a device where he is.
    let made = made.or_else(|error| if error.is_forbidden() { inside() } else { Err(error) });
    made.map_err(|error| HandOverError::Interface { error })
}

//! The container's interface: made by the daemon in the namespace we open for it, or by us where it may not enter any.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use vswitch_api::{
    Attach, Attached, Change, Client, ClientError, Code as Refused, NetnsRef, PortInfo, PortPlan, PortSpec, Query,
    Request, Status,
};
use vswitch_sys::interface::Origin;
use vswitch_sys::{InterfaceError, InterfaceSpec, Netns, NetnsError, Tap, fdpass};

use crate::daemon::{Daemon, DaemonError};
use crate::protocol::{Code, Failure};

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The daemon refused, or is not there.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The daemon may not make it, and neither may we.
    #[error("{0}; vswitchd may not enter namespaces, so that the rights of whoever runs vswitch-cni count")]
    Interface(#[from] InterfaceError),
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Daemon(error) => error.into(),
            AttachError::Interface(error) => Self::new(Code::Interface, error.to_string()),
        }
    }
}

/// Opens the namespace that `CNI_NETNS` names.
///
/// # Errors
/// None there (the container is unknown), and our own, in which the host's interfaces would be taken for a container's.
pub(crate) fn open(path: &str) -> Result<Netns, Failure> {
    let netns = Netns::open_path(Path::new(path)).map_err(|error| {
        let code = match error {
            NetnsError::NotFound(_) | NetnsError::NoProcess(_) | NetnsError::NotNamespace(_) => Code::UnknownContainer,
            _ => Code::Environment,
        };
        Failure::new(code, format!("CNI_NETNS: {error}"))
    })?;
    let same = Netns::current().and_then(|own| Ok(own.identity()? == netns.identity()?));
    match same {
        Ok(false) => Ok(netns),
        Ok(true) => {
            let why = format!("CNI_NETNS is {path:?}, the namespace that vswitch-cni runs in: a container has its own");
            Err(Failure::new(Code::Environment, why))
        }
        Err(error) => Err(Failure::new(Code::Environment, format!("CNI_NETNS: {error}"))),
    }
}

/// How the daemon calls the namespace `CNI_NETNS` names.
///
/// # Errors
/// A path with control characters.
pub(crate) fn named(path: &str) -> Result<NetnsRef, Failure> {
    path.parse().map_err(|error| Failure::new(Code::Environment, format!("CNI_NETNS: {error}")))
}

/// Attaches `netns` as `attach` says; returns the port there is then.
///
/// # Errors
/// Where the daemon refuses, is gone, or the interface cannot be made. Where it went away in the middle the attachment
/// may be there.
pub(crate) fn attach(daemon: &mut Daemon, netns: &Netns, attach: &Attach) -> Result<PortInfo, AttachError> {
    let mut again = false;
    let added = daemon.persist(|daemon| {
        // A daemon that went away may have done it before, and would refuse to do it twice.
        if again {
            forget(&mut daemon.client, attach)?;
        }
        again = true;
        sending::<Attached>(&mut daemon.client, &Change::AttachmentAdd(attach.clone()).into(), &[netns.as_fd()])
    });
    match added {
        Ok(attached) => Ok(attached.port),
        Err(DaemonError::Refused(refusal)) if refusal.code == Refused::Host && !enters(daemon)? => {
            let plan: PortPlan = daemon.call(&Query::AttachmentPlan(attach.clone()).into())?;
            let port = PortSpec {
                name: plan.name.clone(),
                mac: Some(plan.mac),
                addresses: plan.addresses.clone(),
                ..attach.port.clone()
            };
            let request = Change::AttachmentAdd(Attach { port: port.clone(), ..attach.clone() });
            let attached: Attached = hand_over(daemon, netns, &port, &plan, &request.into())?;
            Ok(attached.port)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes what an earlier attempt may have left.
fn forget(client: &mut Client, Attach { port, .. }: &Attach) -> Result<(), ClientError> {
    let Some(attachment) = &port.attachment else { return Ok(()) };
    let (container, ifname) = (attachment.container.clone(), port.ifname.clone());
    client.call_value(&Change::AttachmentDel { container, ifname, network: None }.into()).map(drop)
}

/// Makes the interface of `port` in `netns` as `plan` says, with our own rights, and sends its queues with `request`.
///
/// # Errors
/// As [`attach`]; an interface that the daemon refused is gone.
pub(crate) fn hand_over<T: DeserializeOwned>(
    daemon: &mut Daemon,
    netns: &Netns,
    port: &PortSpec,
    plan: &PortPlan,
    request: &Request,
) -> Result<T, AttachError> {
    let interface = InterfaceSpec {
        name: port.ifname.to_string(),
        mac: plan.mac.octets(),
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|address| address.net()).collect(),
        gateways: port.gateways.clone(),
        mark: plan.mark.clone(),
    };
    let (tap, origin) = make(&interface, netns, plan.queues)?;
    let mut descriptors: Vec<_> = tap.queues().iter().map(|queue| queue.as_fd()).collect();
    // A daemon without rights over it cannot ask the queues where they lead.
    descriptors.push(netns.as_fd());
    let answer = daemon.persist(|daemon| sending(&mut daemon.client, request, &descriptors));
    if matches!((&answer, origin), (Err(DaemonError::Refused(_)), Origin::New)) {
        // It goes with its descriptors. Where there is no answer the daemon may have taken it.
        tap.set_persistent(false).map_err(InterfaceError::from)?;
    }
    Ok(answer?)
}

fn make(interface: &InterfaceSpec, netns: &Netns, queues: u16) -> Result<(Tap, Origin), InterfaceError> {
    let made = interface.obtain(netns, queues);
    let inside = || Ok((interface.create_inside(netns, queues)?, Origin::New));
    // Whoever has rights over the container alone cannot make a device where he is.
    made.or_else(|error| if error.is_forbidden() { inside() } else { Err(error) })
}

/// Whether the daemon makes interfaces in namespaces itself.
pub(crate) fn enters(daemon: &mut Daemon) -> Result<bool, DaemonError> {
    let status: Status = daemon.call(&Query::Status {}.into())?;
    Ok(status.capabilities.iter().any(|name| name.eq_ignore_ascii_case("cap_sys_admin")))
}

/// Asks, and sends copies of `fds` along.
///
/// # Errors
/// As [`Client::call`].
pub(crate) fn sending<T: DeserializeOwned>(
    client: &mut Client,
    request: &Request,
    fds: &[BorrowedFd<'_>],
) -> Result<T, ClientError> {
    let answer: Value =
        client.call_sending(request, |stream, bytes| -> io::Result<usize> { fdpass::send(stream, bytes, fds) })?;
    serde_json::from_value(answer).map_err(|error| ClientError::Garbage(error.to_string()))
}

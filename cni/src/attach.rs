//! The container's interface: made by the daemon in the namespace we open for it, or by us where it may not enter any.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use vswitch_api::{
    Attach, Attached, Change, Cidr, Client, ClientError, Code as Refused, IfName, NetnsRef, PortInfo, PortPlan,
    PortSpec, Query, Request, Status,
};
use vswitch_sys::interface::Origin;
use vswitch_sys::{InterfaceError, InterfaceSpec, Netlink, Netns, NetnsError, Tap, fdpass};

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

/// Whether `netns` has an interface of this name; where that cannot be told, it may have.
pub(crate) fn has(netns: &Netns, ifname: &IfName) -> bool {
    let link = Netlink::open_in(netns).and_then(|netlink| netlink.link(ifname.as_str()));
    link.map_or(true, |link| link.is_some())
}

/// Attaches `netns` as `attach` says; returns the port there is then. `fresh` says that the interface was not there before:
/// what is found of the attachment where a connection broke is then what this call made, and may be removed. Else it may
/// be what an ADD before made, which stays.
///
/// # Errors
/// Where the daemon refuses, is gone, or the interface cannot be made. Where it went away in the middle the attachment
/// may be there.
pub(crate) fn attach(
    daemon: &mut Daemon,
    netns: &Netns,
    attach: &Attach,
    fresh: bool,
) -> Result<PortInfo, AttachError> {
    let forget = |client: &mut Client| if fresh { forget(client, attach) } else { Ok(()) };
    let request = Change::AttachmentAdd(attach.clone()).into();
    let added =
        daemon.persist_once(|daemon| sending::<Attached>(&mut daemon.client, &request, &[netns.as_fd()]), forget);
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
            let attached: Attached = hand_over(daemon, netns, &port, &plan, &request.into(), forget)?;
            Ok(attached.port)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes what an earlier attempt may have left.
fn forget(client: &mut Client, Attach { port, .. }: &Attach) -> Result<(), ClientError> {
    let Some(attachment) = &port.attachment else { return Ok(()) };
    let (container, ifname) = (attachment.container.clone(), port.ifname.clone());
    client.call_value(&Change::AttachmentDel { container, ifname, network: None, lost: false }.into()).map(drop)
}

/// Makes the interface of `port` in `netns` as `plan` says, with our own rights, and sends its queues with `request`.
/// Where a connection broke, `forget` removes what may have been made of it, and both are done again.
///
/// # Errors
/// As [`attach`]; an interface that the daemon refused is gone.
pub(crate) fn hand_over<T: DeserializeOwned>(
    daemon: &mut Daemon,
    netns: &Netns,
    port: &PortSpec,
    plan: &PortPlan,
    request: &Request,
    forget: impl Fn(&mut Client) -> Result<(), ClientError>,
) -> Result<T, AttachError> {
    let interface = InterfaceSpec {
        name: port.ifname.to_string(),
        mac: plan.mac.octets(),
        mtu: plan.mtu,
        addresses: plan.addresses.iter().map(|address| address.net()).collect(),
        gateways: port.gateways.clone(),
        mark: plan.mark.clone(),
    };
    let attempt = |daemon: &mut Daemon| {
        let (tap, origin) = match make(&interface, netns, plan.queues) {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let mut descriptors: Vec<_> = tap.queues().iter().map(|queue| queue.as_fd()).collect();
        // A daemon without rights over it cannot ask the queues where they lead.
        descriptors.push(netns.as_fd());
        let answer = sending(&mut daemon.client, request, &descriptors);
        if matches!((&answer, origin), (Err(ClientError::Refused(_)), Origin::New)) {
            // It goes with its descriptors. Where there is no answer the daemon may have taken it.
            if let Err(error) = tap.set_persistent(false) {
                return Ok(Err(error.into()));
            }
        }
        answer.map(Ok)
    };
    Ok(daemon.persist_once(attempt, forget)??)
}

/// Gives an interface that we handed over addresses, with our own rights; those that it has are no error.
///
/// # Errors
/// What the kernel answers.
pub(crate) fn give_addresses(netns: &Netns, ifname: &IfName, addresses: &[Cidr]) -> Result<(), InterfaceError> {
    let netlink = Netlink::open_in(netns)?;
    let vanished = || InterfaceError::Vanished(ifname.to_string());
    let index = netlink.link(ifname.as_str())?.ok_or_else(vanished)?.index;
    for address in addresses {
        match netlink.add_address(index, address.net()) {
            Err(error) if error.is_exists() => {}
            outcome => outcome?,
        }
    }
    Ok(())
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "so a test fails")]
mod tests {
    use super::*;
    use crate::testing::{Container, no_container};
    use serde_json::json;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What a daemon is asked that hangs up on these requests, counted from one, says [`Refused::Busy`] to those, and
    /// refuses all others.
    fn asked(fresh: bool, hangs_up: &'static [usize], busy: &'static [usize]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let request: Value = serde_json::from_str(&line).unwrap();
                    let method = request["method"].as_str().unwrap().to_owned();
                    let mut all = all.lock().unwrap();
                    all.push(method.clone());
                    if hangs_up.contains(&all.len()) {
                        break;
                    }
                    let code = if busy.contains(&all.len()) { 6 } else { 1 };
                    let mut answer = json!({"jsonrpc": "2.0", "id": request["id"]});
                    if method == "attachment.del" {
                        answer["result"] = json!({"port": null});
                    } else {
                        answer["error"] = json!({"code": code, "message": "no"});
                    }
                    let _ = writeln!(&stream, "{answer}");
                }
            }
        });
        let container = Container::new(&[]);
        let attachment = json!({"network": "net", "container": "c1"});
        let port = json!({"name": "c1:eth0", "netns": "/run/netns/c1", "attachment": attachment});
        let wish: Attach = serde_json::from_value(json!({"port": port})).unwrap();
        let mut daemon = Daemon::connect_to(path, Duration::from_secs(5)).unwrap();
        assert!(matches!(
            attach(&mut daemon, &container.netns, &wish, fresh),
            Err(AttachError::Daemon(DaemonError::Refused(_)))
        ));
        heard.lock().unwrap().clone()
    }

    /// A second ADD whose connection breaks must not remove what the first one made.
    #[test]
    fn only_what_may_be_its_own_is_forgotten() {
        crate::require!(no_container());
        let (add, del) = ("attachment.add", "attachment.del");
        assert_eq!(asked(true, &[1], &[]), [add, del, add]);
        assert_eq!(asked(true, &[1, 2], &[]), [add, del, del, add], "what may not have been forgotten is, again");
        assert_eq!(asked(false, &[1], &[]), [add, add]);
        // What was refused was not made.
        assert_eq!(asked(true, &[], &[1, 2]), [add, add, add]);
        assert_eq!(asked(true, &[1], &[3]), [add, del, add, add]);
    }

    #[test]
    fn whether_an_interface_is_there() {
        crate::require!(no_container());
        let container = Container::new(&[]);
        let has = |name: &str| has(&container.netns, &name.parse().unwrap());
        assert!(has("eth0") && !has("eth1"));
    }
}

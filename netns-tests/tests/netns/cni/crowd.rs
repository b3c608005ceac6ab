//! Many at once.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use netns_tests::cni::{Attachment, Cni};
use netns_tests::{Failure, Host, Lab, Result, ensure, ensure_eq};
use serde_json::json;

use super::{address, alone, network, nothing_left};

/// Attachments, and who makes them.
const ATTACHMENTS: usize = 1_000;
const RUNTIMES: usize = 32;
/// Containers; each gets many interfaces, so that the machine need not hold a thousand namespaces.
const CONTAINERS: usize = 25;

/// 1,000 ADDs by 32 runtimes give no address twice; then GC with an empty list leaves nothing.
pub(super) fn a_thousand_at_once(lab: &Lab) -> Result {
    let node = alone(lab)?;
    let containers: Vec<Host> =
        (0..CONTAINERS).map(|number| lab.quiet_host(&format!("c{number}"))).collect::<Result<_>>()?;
    let attachments: Vec<_> = (0..ATTACHMENTS)
        .map(|number| {
            let container = &containers[number % CONTAINERS];
            Attachment::named(container.name(), &format!("net{}", number / CONTAINERS), Some(container.path()))
        })
        .collect();
    let (next, given) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
    let (socket, keys) = (node.daemon.socket(), json!({"subnet": "10.1.0.0/16"}));
    let runtime = |host: Host| -> Result {
        let net = Cni::new(&host, socket, "net", keys.clone());
        while let Some(attachment) = attachments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let ip = address(&net.add(attachment)?)?;
            let mut given = given.lock().map_err(|error| Failure::new(error.to_string()))?;
            ensure!(given.insert(ip), "{ip} was given twice");
        }
        Ok(())
    };
    let hosts: Vec<_> = (0..RUNTIMES).map(|_| node.host.twin("h1")).collect::<Result<_>>()?;
    thread::scope(|scope| {
        let runtime = &runtime;
        let runtimes: Vec<_> = hosts.into_iter().map(|host| scope.spawn(move || runtime(host))).collect();
        let mut ended = runtimes.into_iter().map(|runtime| runtime.join());
        ended.try_for_each(|ended| ended.unwrap_or_else(|_| Err(Failure::new("a runtime panicked"))))
    })?;
    ensure_eq!(node.ok("port list")?.as_array().map(Vec::len), Some(ATTACHMENTS), "ports");
    network(&node, keys).gc(&[])?;
    nothing_left(&node, &containers.iter().collect::<Vec<_>>())
}

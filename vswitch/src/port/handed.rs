//! The descriptors that carry VXLAN, on their way from one daemon to the next.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::takeover::Name;

/// The descriptors of a VTEP, by worker.
#[derive(Debug, Default)]
pub(crate) struct VxlanDescriptors {
    receive: BTreeMap<u16, OwnedFd>,
    lanes: BTreeMap<u16, Vec<OwnedFd>>,
    uplinks: BTreeMap<u16, OwnedFd>,
    divert: Option<OwnedFd>,
    forward: Option<OwnedFd>,
}

/// A worker's sockets: to receive by, and to send from.
pub(crate) type SocketSet = (OwnedFd, Vec<OwnedFd>);

/// The queues of an uplink, in order of the workers, and its programs.
pub(crate) type UplinkSet = (Vec<OwnedFd>, [OwnedFd; 2]);

impl VxlanDescriptors {
    /// Adds a descriptor, which is closed where it carries no VXLAN.
    pub(crate) fn add(&mut self, name: &Name, descriptor: OwnedFd) {
        match name {
            Name::Receive(worker) => drop(self.receive.insert(*worker, descriptor)),
            Name::Lane(worker) => self.lanes.entry(*worker).or_default().push(descriptor),
            Name::Uplink(worker) => drop(self.uplinks.insert(*worker, descriptor)),
            Name::Divert => self.divert = Some(descriptor),
            Name::Forward => self.forward = Some(descriptor),
            Name::Control | Name::Metrics | Name::Kept | Name::Tap(_) => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { receive, lanes, uplinks, divert, forward } = self;
        receive.is_empty() && lanes.is_empty() && uplinks.is_empty() && divert.is_none() && forward.is_none()
    }

    /// The whole of them, where they are a whole for `workers`.
    pub(crate) fn for_workers(self, workers: u16) -> Option<(Vec<SocketSet>, Option<UplinkSet>)> {
        let Self { mut receive, mut lanes, mut uplinks, divert, forward } = self;
        let sockets = (0..workers).map(|worker| Some((receive.remove(&worker)?, lanes.remove(&worker)?)));
        let sockets = sockets.collect::<Option<Vec<_>>>()?;
        let uplink = match (uplinks.is_empty(), divert, forward) {
            (true, None, None) => None,
            (false, Some(divert), Some(forward)) => {
                let queues = (0..workers).map(|worker| uplinks.remove(&worker)).collect::<Option<Vec<_>>>()?;
                Some((queues, [divert, forward]))
            }
            _ => return None,
        };
        let is_all = receive.is_empty() && lanes.is_empty() && uplinks.is_empty();
        is_all.then_some((sockets, uplink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn only_a_whole_is_used() {
        let sockets = |worker| [Name::Receive(worker), Name::Lane(worker), Name::Lane(worker)];
        let two = [sockets(0), sockets(1)].concat();
        let uplink = vec![Name::Uplink(1), Name::Divert, Name::Uplink(0), Name::Forward];
        let with = |more: &[Name]| [&two[..], more].concat();
        type Table = Vec<(&'static str, Vec<Name>, Option<bool>)>;
        let table: Table = vec![
            ("sockets", two.clone(), Some(false)),
            ("and an uplink", with(&uplink), Some(true)),
            ("one worker's only", sockets(0).to_vec(), None),
            ("of one worker more", with(&sockets(2)), None),
            ("no lanes", vec![Name::Receive(0), Name::Receive(1)], None),
            ("an uplink without a program", with(&uplink[..3]), None),
            ("an uplink of one queue", with(&uplink[1..]), None),
            ("programs alone", with(&[Name::Divert, Name::Forward]), None),
        ];
        for (what, names, expected) in table {
            let mut set = VxlanDescriptors::default();
            assert!(set.is_empty());
            names.iter().for_each(|name| set.add(name, File::open("/dev/null").unwrap().into()));
            assert!(!set.is_empty());
            let whole = set.for_workers(2);
            assert_eq!(
                whole.map(|(sockets, uplink)| (sockets.len(), uplink.is_some())),
                expected.map(|up| (2, up)),
                "{what}"
            );
        }
    }
}

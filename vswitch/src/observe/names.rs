//! What people call ports, and called those that are gone.

use std::sync::Arc;
use std::time::Duration;

use vswitch_core::Instant;
use vswitch_core::switch::PortId;

use super::Place;

/// How long the name of a port that is gone is known: as long as anything may be recorded.
const KEPT: Duration = Duration::from_secs(super::recorder::SECONDS_MAX as u64);
/// Names at one time: every port there can be, and as many that are gone.
const MOST: usize = 1 << 17;
/// No name's number.
pub(super) const NONE: u32 = u32::MAX;
/// That of what concerns no remote.
const TUNNEL: u32 = 0;

/// A port, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: Arc<str>,
    /// Whether it is at the tunnel.
    pub(crate) is_tunnel: bool,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    gone: Option<Instant>,
}

/// The names of one worker's ports, each with a number that stays when the port goes.
#[derive(Debug)]
pub(super) struct Names {
    all: Vec<Entry>,
    /// The number of each port's name, by port.
    current: Vec<u32>,
}

/// What numbers stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameTable(Vec<Name>);

impl Default for Names {
    fn default() -> Self {
        let name = Name { text: vswitch_api::reply::TUNNEL.into(), is_tunnel: true };
        Self { all: vec![Entry { name, gone: None }], current: Vec::new() }
    }
}

impl Names {
    pub(super) fn set(&mut self, now: Instant, port: PortId, text: &str, is_tunnel: bool) {
        if let Some(entry) = self.all.get(self.number_of(port))
            && &*entry.name.text == text
        {
            return;
        }
        self.remove(now, port);
        if self.current.len() <= port.index() {
            self.current.resize(port.index() + 1, NONE);
        }
        let entry = Entry { name: Name { text: text.into(), is_tunnel }, gone: None };
        let is_old = |entry: &Entry| entry.gone.is_some_and(|gone| now.since(gone) > KEPT);
        let is_gone = |entry: &Entry| entry.gone.is_some();
        let free = self.all.iter().position(is_old);
        let free = free.or_else(|| if self.all.len() < MOST { None } else { self.all.iter().position(is_gone) });
        let number = free.unwrap_or(self.all.len());
        match self.all.get_mut(number) {
            Some(slot) => *slot = entry,
            None => self.all.push(entry),
        }
        self.current[port.index()] = u32::try_from(number).unwrap_or(NONE);
    }

    pub(super) fn remove(&mut self, now: Instant, port: PortId) {
        let number = self.number_of(port);
        if let Some(entry) = self.all.get_mut(number) {
            entry.gone = Some(now);
            self.current[port.index()] = NONE;
        }
    }

    fn number_of(&self, port: PortId) -> usize {
        self.current.get(port.index()).and_then(|&number| usize::try_from(number).ok()).unwrap_or(usize::MAX)
    }

    /// The number of the name of `place`.
    #[inline]
    pub(super) fn number(&self, place: Place) -> u32 {
        match place {
            Place::Port(port) => self.current.get(port.index()).copied().unwrap_or(NONE),
            Place::Tunnel => TUNNEL,
        }
    }

    /// The name with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Name> {
        Some(&self.all.get(usize::try_from(number).ok()?)?.name)
    }

    pub(super) fn table(&self) -> NameTable {
        NameTable(self.all.iter().map(|entry| entry.name.clone()).collect())
    }
}

impl NameTable {
    pub(crate) fn get(&self, number: u32) -> Option<&Name> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

/// What a port is called that has no name any more.
pub(crate) const GONE: &str = "a port that is gone";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_name_while_anything_may_be_recorded() {
        let port = Place::Port(PortId::new(3));
        let at = |seconds: u64| Instant::from_nanos((seconds + 1) * 1_000_000_000);
        let mut names = Names::default();
        assert_eq!(names.number(port), NONE);
        names.set(at(0), PortId::new(3), "a", false);
        let a = names.number(port);
        names.set(at(1), PortId::new(3), "a", false);
        assert_eq!(names.number(port), a);
        names.remove(at(2), PortId::new(3));
        assert_eq!(names.number(port), NONE);
        names.set(at(3), PortId::new(3), "b", true);
        let b = names.number(port);
        let text = |names: &Names, number| names.get(number).map(|name| name.text.to_string());
        assert_eq!((text(&names, a), text(&names, b)), (Some("a".to_owned()), Some("b".to_owned())));
        // Ports that come and go without end take no memory without end.
        for turn in 0..10_000 {
            names.set(at(KEPT.as_secs() * (turn + 1)), PortId::new(4), &format!("c{turn}"), false);
        }
        assert!(names.all.len() < 10, "{}", names.all.len());
        assert_eq!(text(&names, b), Some("b".to_owned()));
        assert_eq!(text(&names, names.number(Place::Tunnel)), Some("tunnel".to_owned()));
        assert_eq!(names.table().get(b), names.get(b));
    }
}

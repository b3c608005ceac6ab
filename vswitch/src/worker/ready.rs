//! The sources that have frames, each once, in the order they are served.

use super::{Entrance, Source};

/// A list with a mark for each source, so that a thousand of them are no thousand comparisons each.
#[derive(Debug, Default)]
pub(super) struct Ready {
    list: Vec<Source>,
    /// By [`place`].
    marked: Vec<bool>,
}

/// Where the mark of a source is.
fn place(source: Source) -> usize {
    match source {
        Source::Tunnel(Entrance::Socket) => 0,
        Source::Tunnel(Entrance::Uplink) => 1,
        Source::Tap(port) => 2 + port.index(),
    }
}

impl Ready {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Puts `source` at the end, if it is not there.
    pub(super) fn mark(&mut self, source: Source) {
        let place = place(source);
        if self.marked.len() <= place {
            self.marked.resize(place + 1, false);
        }
        if !std::mem::replace(&mut self.marked[place], true) {
            self.list.push(source);
        }
    }

    /// Serves each in turn; those stay for which `serve` says that there is more.
    pub(super) fn retain(&mut self, mut serve: impl FnMut(Source) -> bool) {
        let marked = &mut self.marked;
        self.list.retain(|&source| {
            let stays = serve(source);
            marked[place(source)] = stays;
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use vswitch_core::PortId;

    use super::*;

    #[test]
    fn each_is_served_once_a_turn_in_order() {
        let tap = |number| Source::Tap(PortId::new(number));
        let mut ready = Ready::default();
        for source in [tap(7), Source::Tunnel(Entrance::Socket), tap(7), tap(0), Source::Tunnel(Entrance::Uplink)] {
            ready.mark(source);
        }
        let mut served = Vec::new();
        ready.retain(|source| {
            served.push(source);
            source == tap(7) || source == tap(0)
        });
        assert_eq!(served, [tap(7), Source::Tunnel(Entrance::Socket), tap(0), Source::Tunnel(Entrance::Uplink)]);
        ready.mark(Source::Tunnel(Entrance::Socket));
        ready.mark(tap(7));
        served.clear();
        ready.retain(|source| {
            served.push(source);
            false
        });
        assert_eq!(served, [tap(7), tap(0), Source::Tunnel(Entrance::Socket)]);
        assert!(ready.is_empty());
    }
}

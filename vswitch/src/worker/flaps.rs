//! Telling the log of addresses that flap: with the names that people know, and no more lines than they read.

use std::time::Duration;

use vswitch_core::Instant;
use vswitch_core::switch::{PortId, Switch};

use super::ports::Ports;

/// Lines in [`EVERY`] at most.
const LINES: u32 = 10;
const EVERY: Duration = Duration::from_secs(10);

/// What one worker has told of late.
#[derive(Debug, Default)]
pub(super) struct FlapLog {
    since: Instant,
    lines: u32,
}

impl FlapLog {
    /// Tells of the addresses that were held since the last call.
    pub(super) fn tell(&mut self, now: Instant, switch: &Switch, ports: &Ports) {
        for flapping in switch.take_flapping() {
            if now.since(self.since) > EVERY {
                *self = Self { since: now, lines: 0 };
            }
            self.lines += 1;
            if self.lines <= LINES {
                tracing::warn!(
                    mac = %flapping.mac,
                    vlan = %flapping.vlan,
                    at = %name(ports, flapping.port),
                    also_at = %name(ports, flapping.other),
                    held_s = flapping.until.since(now).as_secs(),
                    "an address moves to and fro, as where two ports are bridged together: it is held where it was"
                );
            } else if self.lines == LINES + 1 {
                tracing::warn!("more addresses move to and fro; `vsctl fdb list` shows all, the log goes on in 10 s");
            }
        }
    }
}

/// What people call a port.
fn name(ports: &Ports, id: PortId) -> String {
    ports.get(id).map_or_else(|| "a port that is gone".to_owned(), |port| port.name.clone())
}

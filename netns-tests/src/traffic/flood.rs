//! A container that sends small frames without end, at a rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vswitch_sys::PacketSocket;

use crate::frames::{BROADCAST, Mac, ethernet};
use crate::random::mix;
use crate::{Context, Host, Result};

/// Local experimental EtherType 2 (IEEE 802-2014 9.2.4): nobody answers it.
const EXPERIMENTAL: u16 = 0x88b6;
/// Between two bursts.
const TICK: Duration = Duration::from_millis(1);
/// Ticks that are made up for after the sender had no core.
const LATE: u32 = 5;

/// Who the frames are for, and from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To a station that the switch knows.
    KnownUnicast(Mac),
    /// To everybody.
    Broadcast,
    /// To a group (all hosts).
    Multicast,
    /// To a station that is nowhere.
    UnknownUnicast,
    /// To a station that the switch knows, each from an address of its own.
    RandomSources(Mac),
}

impl Kind {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KnownUnicast(_) => "known unicast",
            Self::Broadcast => "broadcast",
            Self::Multicast => "multicast",
            Self::UnknownUnicast => "unknown unicast",
            Self::RandomSources(_) => "random sources",
        }
    }

    fn destination(self) -> Mac {
        match self {
            Self::KnownUnicast(mac) | Self::RandomSources(mac) => mac,
            Self::Broadcast => BROADCAST,
            Self::Multicast => [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01],
            Self::UnknownUnicast => [0x02, 0xff, 0x00, 0x00, 0x00, 0x01],
        }
    }
}

/// A flood; it ends with this.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Sends frames of 60 bytes (64 on a wire) out of `interface` of `host`, `rate` a second or as many as can be sent.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn start(host: &Host, interface: &str, kind: Kind, rate: u32) -> Result<Self> {
        let (socket, mac) = (host.packet_socket(interface)?, host.mac(interface)?);
        let mut frame = ethernet(kind.destination(), mac, None, EXPERIMENTAL, &[]);
        frame.resize(60, 0);
        let (sent, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let work = {
            let (sent, end) = (Arc::clone(&sent), Arc::clone(&end));
            move || send(&socket, frame, matches!(kind, Kind::RandomSources(_)), rate, &sent, &end)
        };
        let thread = thread::Builder::new().name(format!("flood {}", host.name())).spawn(work);
        Ok(Self { sent, end, thread: Some(thread.context("a thread that floods")?) })
    }

    /// Frames that the interface took so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it; returns how many frames the interface took.
    #[must_use]
    pub fn stop(mut self) -> u64 {
        self.join();
        self.sent()
    }

    fn join(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.join();
    }
}

fn send(socket: &PacketSocket, mut frame: Vec<u8>, new_sources: bool, rate: u32, sent: &AtomicU64, end: &AtomicBool) {
    let each = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now();
    let mut number = 0_u64;
    while !end.load(Ordering::Relaxed) {
        let now = Instant::now();
        due = due.max(now.checked_sub(TICK * LATE).unwrap_or(now));
        while due <= now && !end.load(Ordering::Relaxed) {
            due += each;
            number += 1;
            if new_sources {
                let [_, _, _, a, b, c, d, e] = mix(number).to_be_bytes();
                frame[6..12].copy_from_slice(&[0x02, a, b, c, d, e]);
            }
            // A queue that is full loses the frame, as it would any sender's.
            if socket.send(&frame).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        thread::sleep(TICK);
    }
}

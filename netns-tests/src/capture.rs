//! Frames as they come out of an interface, and stations that send their own.

use std::time::{Duration, Instant};

use vswitch_sys::PacketSocket;

use crate::frames::{self, BROADCAST, Mac, cookie, cookie_of, probe};
use crate::{Context, Failure, Host, Result, SOON, ensure};

/// How often a listener is looked at again after a frame: what comes late is to be seen too.
const ROUNDS: usize = 3;

/// What arrives at one interface.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
    place: String,
}

impl Capture {
    /// Listens on interface `name` of `host` from now on.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn open(host: &Host, name: &str) -> Result<Self> {
        Ok(Self { socket: host.packet_socket(name)?, place: format!("{name} of {}", host.name()) })
    }

    /// The socket.
    #[must_use]
    pub const fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send(&self, frame: &[u8]) -> Result {
        self.socket.send(frame).context(format_args!("send a frame by {}", self.place))
    }

    /// The next frame; `None` where none comes in time.
    ///
    /// # Errors
    /// Where the interface is gone.
    pub fn next(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 1 << 17];
        let len = self.socket.recv(&mut frame, timeout).context(format_args!("capture on {}", self.place))?;
        Ok(len.map(|len| {
            frame.truncate(len);
            frame
        }))
    }

    /// The frames up to and with the first that `wanted` likes.
    ///
    /// # Errors
    /// Where there is none within [`SOON`].
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let start = Instant::now();
        let mut frames = Vec::new();
        while let Some(frame) = self.next(SOON.saturating_sub(start.elapsed()))? {
            let found = wanted(&frame);
            frames.push(frame);
            if found {
                return Ok(frames);
            }
        }
        Err(Failure::new(format!("{what}: not among the {} frames at {}", frames.len(), self.place)))
    }

    /// The first frame that `wanted` makes something of.
    ///
    /// # Errors
    /// Where there is none within [`SOON`].
    pub fn find<T>(&self, what: &str, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Result<T> {
        let mut found = None;
        self.until(what, |frame| {
            found = wanted(frame);
            found.is_some()
        })?;
        found.context(what)
    }
}

/// A container whose frames the test makes itself.
#[derive(Debug)]
pub struct Station {
    /// The container.
    pub host: Host,
    /// Its interface.
    pub wire: Capture,
    /// The interface's address.
    pub mac: Mac,
    /// The tag that what it sends bears by default.
    pub tag: Option<u16>,
}

impl Station {
    /// The station at `eth0` of `host`.
    ///
    /// # Errors
    /// Where there is no such interface.
    pub fn new(host: Host) -> Result<Self> {
        let (wire, mac) = (Capture::open(&host, "eth0")?, host.mac("eth0")?);
        Ok(Self { host, wire, mac, tag: None })
    }

    /// The same station on a trunk, where its frames are of VLAN `vlan`.
    #[must_use]
    pub fn in_vlan(self, vlan: u16) -> Self {
        Self { tag: Some(vlan), ..self }
    }

    /// Sends a probe to `to`; returns its cookie.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn probe(&self, to: Mac) -> Result<u64> {
        self.probe_as(self.mac, to)
    }

    /// Sends a probe from an address that is not its own.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn probe_as(&self, from: Mac, to: Mac) -> Result<u64> {
        self.probe_tagged(from, to, self.tag)
    }

    /// Sends a probe with the tag given.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn probe_tagged(&self, from: Mac, to: Mac, tag: Option<u16>) -> Result<u64> {
        let cookie = cookie();
        self.wire.send(&probe(to, from, tag, cookie))?;
        Ok(cookie)
    }

    /// Every copy of probe `wanted` that arrives here.
    ///
    /// The switch keeps the order of frames, so it has dealt with the probe once broadcasts that `friend`, who is in the
    /// same VLAN, sends later have come through; several in turn, since copies could be on longer ways.
    ///
    /// # Errors
    /// Where `friend` is not heard.
    pub fn copies(&self, wanted: u64, friend: &Self) -> Result<Vec<Vec<u8>>> {
        let mut copies = Vec::new();
        // An address of its own, lest listening teach the switch where the friend is.
        let [_, _, c, d, e, f] = friend.mac;
        for _ in 0..ROUNDS {
            let last = friend.probe_as([0x02, 0x5e, c, d, e, f], BROADCAST)?;
            let frames = self
                .wire
                .until(&format!("broadcast from {}", friend.host.name()), |frame| cookie_of(frame) == Some(last))?;
            copies.extend(frames.into_iter().filter(|frame| cookie_of(frame) == Some(wanted)));
        }
        Ok(copies)
    }

    /// Checks that probe `wanted` arrives here `times` times.
    ///
    /// # Errors
    /// Where it does not.
    #[track_caller]
    pub fn expect(&self, wanted: u64, times: usize, friend: &Self, what: &str) -> Result {
        let copies = self.copies(wanted, friend)?;
        let (name, got) = (self.host.name(), copies.len());
        if got != times {
            return Err(Failure::new(format!("{what}: {name} got {got} copies, expected {times}")));
        }
        ensure!(copies.iter().all(|frame| frames::addresses(frame).is_some()), "{what}: cut short");
        Ok(())
    }
}

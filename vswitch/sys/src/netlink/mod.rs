//! rtnetlink (rtnetlink(7)): links, addresses, routes and neighbours of one namespace.

mod address;
mod link;
mod neighbour;
mod route;
mod table;

use std::cell::Cell;
use std::fmt;
use std::io;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::netns::{Netns, NetnsError};
use crate::syscall::uninterrupted;

pub use link::{Link, VxlanSpec};
pub use neighbour::Neighbour;
pub use route::Route;
pub use table::RouteEntry;

/// How often a dump is begun anew because the table changed under it.
const DUMP_TRIES: usize = 16;

/// Why the kernel's network settings could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel refused, or the exchange failed.
    #[error("cannot {operation}: {source}")]
    Refused {
        /// What was tried, with the object.
        operation: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel answered something else.
    #[error("cannot {operation}: the kernel's answer makes no sense: {reason}")]
    BadAnswer {
        /// What was tried, with the object.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// IPv6 is off for the link.
    #[error(
        "cannot give interface {index} the address {address}: IPv6 is off there (sysctl net.ipv6.conf.*.disable_ipv6); turn it \
         on for new interfaces by `sysctl -w net.ipv6.conf.default.disable_ipv6=0` in that namespace, or give no IPv6 address"
    )]
    Ipv6Off {
        /// The link's number.
        index: u32,
        /// The address it was to get.
        address: IpNet,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
}

impl NetlinkError {
    /// The errno the kernel answered with, if it did.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Refused { source, .. } => source.raw_os_error(),
            Self::BadAnswer { .. } | Self::Ipv6Off { .. } | Self::Netns(_) => None,
        }
    }

    /// Whether what was to be added is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether what was to be removed is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        // A route, an address, a neighbour.
        matches!(self.errno(), Some(libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENOENT))
    }

    fn bad(operation: fmt::Arguments<'_>, reason: impl fmt::Display) -> Self {
        Self::BadAnswer { operation: operation.to_string(), reason: reason.to_string() }
    }
}

/// A socket to the network settings of the namespace it was opened in, which it keeps alive.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    /// Tells the answers to one request from late ones to another.
    sequence: Cell<u32>,
}

impl Netlink {
    /// The settings of the calling thread's namespace.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn open() -> Result<Self, NetlinkError> {
        let connected = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        Ok(Self { socket: connected().map_err(NetlinkError::Open)?, sequence: Cell::new(0) })
    }

    /// The settings of `netns`; the socket belongs to it from wherever it is used.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Netns::run`].
    pub fn open_in(netns: &Netns) -> Result<Self, NetlinkError> {
        netns.run(Self::open)?
    }

    /// Asks for one change and waits until it is made.
    fn change(
        &self,
        operation: fmt::Arguments<'_>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.request(operation, message, flags | NLM_F_ACK).map(drop)
    }

    /// Asks for one object.
    fn get(
        &self,
        operation: fmt::Arguments<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, NetlinkError> {
        // With an acknowledgement, so that the socket is empty afterwards.
        let answers = self.request(operation, message, NLM_F_ACK)?;
        answers.into_iter().next().ok_or_else(|| NetlinkError::bad(operation, "it is empty"))
    }

    /// Asks for all objects of a kind.
    fn dump(
        &self,
        operation: fmt::Arguments<'_>,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 1..DUMP_TRIES {
            match self.request(operation, message.clone(), NLM_F_DUMP) {
                Err(NetlinkError::Refused { source, .. }) if source.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
        self.request(operation, message.clone(), NLM_F_DUMP)
    }

    /// One exchange: the request, and its answers up to the end of a dump or the acknowledgement.
    fn request(
        &self,
        operation: fmt::Arguments<'_>,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let refused = |source| NetlinkError::Refused { operation: operation.to_string(), source };
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        uninterrupted(|| self.socket.send(&bytes, 0)).map_err(refused)?;

        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            let (datagram, _) = uninterrupted(|| self.socket.recv_from_full()).map_err(refused)?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| NetlinkError::bad(operation, error))?;
                // Messages are padded to 4 bytes, the last one not always.
                let len = usize::try_from(answer.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or_default();
                if answer.header.sequence_number != sequence {
                    continue;
                }
                interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Done(_) if interrupted => {
                        return Err(refused(io::ErrorKind::Interrupted.into()));
                    }
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(refused(io::Error::from_raw_os_error(done.code.saturating_abs())));
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) => match error.code {
                        None => return Ok(answers),
                        Some(code) => {
                            return Err(refused(io::Error::from_raw_os_error(code.get().saturating_abs())));
                        }
                    },
                    NetlinkPayload::Overrun(_) => return Err(NetlinkError::bad(operation, "part of it is lost")),
                    _ => {}
                }
            }
        }
    }
}

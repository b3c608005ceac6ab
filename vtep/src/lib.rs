//! VXLAN (RFC 7348): one Ethernet frame in one UDP datagram, and super-frames cut into trains of them and merged back.
//!
//! Outward: [`Trains::push`] lets [`Segments`] cut a frame, writes the headers of each segment to a scratch buffer and
//! leaves the payload where it lies; [`Tunnel::flush`] hands the pieces to the kernel, one send for a train of equal
//! datagrams. Inward: [`Merge::receive`] checks each datagram of a received train against the [`Directory`] and joins
//! segments of a flow to one super-frame again, likewise without touching the payload but to verify its checksum.
//!
//! Everything but `socket` is pure: bytes in, bytes out, so tests carry a tunnel in memory.
#![forbid(unsafe_code)]

pub mod checksum;
mod cut;
mod decap;
mod ecn;
mod encap;
mod entropy;
mod growth;
mod header;
mod inner;
mod merge;
pub mod oam;
mod outer;
mod remotes;
mod run;
mod socket;
mod split;
pub mod uplink;
pub mod vnet;

pub use cut::{BadOffload, MAX_SEGMENTS, Segments, header_len};
pub use decap::{DatagramTrain, DecapDrop, Inner, decap};
pub use ecn::outer as outer_tos;
pub use encap::{EncapDrop, MAX_TRAIN_BYTES, MAX_TRAIN_DATAGRAMS, Piece, Train, Trains, largest_inner_frame};
pub use entropy::{flow_hash, lane};
pub use growth::MAX_MERGED_SEGMENTS;
pub use header::{HEADER_LEN, Vni, encode, parse};
pub use merge::{Inbound, Merge, Tail};
pub use outer::{Outer, outer_len, parse_outer, write_outer};
pub use remotes::{Directory, DirectoryError, Remote};
pub use run::Run;
pub use socket::{Failure, SendDrop, Tunnel, TunnelError, TunnelOptions};
pub use split::Parts;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

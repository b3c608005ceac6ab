//! Real traffic between hosts, every byte of it checked.
//!
//! The bytes are a function of a seed and their place in the stream, so that a byte lost, doubled, moved or changed shows.

pub mod flood;
pub mod paced;
pub mod ping;
pub mod stream;
pub mod tcp;
pub mod udp;

use std::net::IpAddr;
use std::time::Duration;

use crate::random::mix;
use crate::{Host, Result, ensure};

/// How long a socket waits for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container, and one of its addresses.
pub type End<'a> = (&'a Host, IpAddr);

/// Everything that ordinary hosts do with each other, up to packets of `mtu` bytes: ping both ways, TCP with `bytes` each
/// way, UDP.
///
/// # Errors
/// Where something does not come through, or comes through changed.
pub fn everything(a: End<'_>, b: End<'_>, mtu: u16, bytes: u64, seed: u64) -> Result {
    let headers = if a.1.is_ipv4() { 20 } else { 40 };
    let largest = usize::from(mtu) - headers - 8;
    for size in [0, 56, largest] {
        ping::ping(a.0, b.1, size)?;
        ping::ping(b.0, a.1, size)?;
    }
    let tcp = tcp::Connection::open(a.0, b.0, b.1)?;
    tcp.echo(1, seed)?;
    tcp.both_ways(bytes, 100_000, seed)?;
    let tcp = tcp::Connection::open(b.0, a.0, a.1)?;
    tcp.both_ways(bytes, 1 << 16, seed)?;
    let udp = udp::Pair::open(a.0, b.0, b.1)?;
    for size in [1, largest - 1, largest, largest + 1, 20_000] {
        udp.echo(size, seed)?;
    }
    udp::train(a, b, 20_001, 1000, seed)?;
    udp::train(a, b, 30_000, u16::try_from(largest)?, seed)
}

/// Writes the bytes of stream `seed` from place `offset` on into `bytes`.
pub fn fill(seed: u64, offset: u64, bytes: &mut [u8]) {
    let mut place = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = mix(seed ^ (place / 8)).to_le_bytes();
        let from = usize::from(place.to_le_bytes()[0] & 7);
        let len = (8 - from).min(rest.len());
        let (now, later) = rest.split_at_mut(len);
        now.copy_from_slice(&word[from..from + len]);
        place += u64::from(word.len().to_le_bytes()[0]) - u64::from(from.to_le_bytes()[0]);
        rest = later;
    }
}

/// Compares bytes with those of stream `seed` from place `offset` on.
///
/// # Errors
/// Where they differ: at which place.
pub fn check(seed: u64, offset: u64, bytes: &[u8], what: &str) -> Result {
    let mut expected = vec![0; bytes.len()];
    fill(seed, offset, &mut expected);
    let differs = bytes.iter().zip(&expected).position(|(got, want)| got != want);
    if let Some(at) = differs {
        let len = bytes.len();
        ensure!(
            false,
            "{what}: byte {at} of {len} at place {offset}: got {:#04x}, sent {:#04x}",
            bytes[at],
            expected[at]
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_in_any_pieces() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        let mut random = crate::Random::new(1);
        for _ in 0..200 {
            let from = random.below(100);
            let len = random.below(101 - from);
            check(7, u64::try_from(from).unwrap(), &whole[from..from + len], "piece").unwrap();
        }
        whole[50] ^= 1;
        assert!(check(7, 0, &whole, "changed").is_err());
    }
}

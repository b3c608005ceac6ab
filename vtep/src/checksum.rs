//! The internet checksum (RFC 1071).

/// A running one's complement sum of 16-bit words.
///
/// It is kept in the machine's byte order: the sum is indifferent to it (RFC 1071 section 2 B) as long as the result is
/// stored the same way, and so no word is ever swapped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no bytes.
    pub const ZERO: Self = Self(0);

    /// The sum of `bytes`, a last odd byte padded with zero.
    #[must_use]
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        // Headers are shorter than a block, and most sums are theirs.
        let mut sum = if blocks.is_empty() { 0 } else { sum_blocks(blocks) };
        let (words, rest) = rest.as_chunks::<4>();
        sum += words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        Self((sum & 0xffff_ffff) + (sum >> 32) + u64::from(u32::from_ne_bytes(last)))
    }

    /// The sum with one word more.
    #[must_use]
    #[inline]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The sum with `other` added; `other` must begin at an even byte.
    #[must_use]
    #[inline]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum of a TCP or UDP pseudo-header (RFC 9293 3.1, RFC 8200 8.1): `addresses` are source and destination as
    /// they stand in the IP header, `length` is that of transport header and payload.
    #[must_use]
    #[inline]
    pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Self {
        Self::of(addresses).word(u16::from(protocol)).word(length)
    }

    /// The sum itself as a checksum field holds it while the checksum is still owed.
    #[must_use]
    #[inline]
    pub fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// The checksum: the complement of the sum, as a field holds it.
    #[must_use]
    #[inline]
    pub fn complete(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum where a field of zero means "none" (UDP): zero is stored as its other representation.
    #[must_use]
    #[inline]
    pub fn complete_nonzero(self) -> [u8; 2] {
        match self.complete() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether what was summed held a correct checksum.
    #[must_use]
    #[inline]
    pub fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }

    #[inline]
    fn fold(self) -> u16 {
        // Three folds take any u64 to 16 bits with its end-around carries; the mask makes the conversion exact.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        u16::try_from(sum & 0xffff).unwrap_or(u16::MAX)
    }
}

/// Bytes summed side by side.
const BLOCK: usize = 8 * LANES;
const LANES: usize = 8;

/// The sum of all 32-bit words, in lanes that the compiler turns into vector additions.
fn sum_blocks(blocks: &[[u8; BLOCK]]) -> u64 {
    // Upper halves, and whole words modulo 2^64: the lower halves follow, since their sum cannot overflow.
    let (mut whole, mut upper) = ([0_u64; LANES], [0_u64; LANES]);
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            whole[lane] = whole[lane].wrapping_add(word);
            upper[lane] += word >> 32;
        }
    }
    whole.iter().zip(&upper).map(|(whole, upper)| whole.wrapping_sub(upper << 32) + upper).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 word for word.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn examples() {
        let table: &[(&[u8], u16)] = &[
            (&[], 0),
            (&[0x12], 0x1200),
            (&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0xddf2), // RFC 1071 section 3
            (&[0xff; 1501], 0xff00),
        ];
        for (bytes, sum) in table {
            assert_eq!(u16::from_be_bytes(Sum::of(bytes).partial()), *sum, "{bytes:02x?}");
            assert_eq!(u16::from_be_bytes(Sum::of(bytes).complete()), !sum);
        }
        assert_eq!(Sum::of(&[0xff, 0xff]).complete(), [0, 0]);
        assert_eq!(Sum::of(&[0xff, 0xff]).complete_nonzero(), [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..3000), cut in 0_usize..1500) {
            prop_assert_eq!(u16::from_be_bytes(Sum::of(&bytes).partial()), naive(&bytes));
            let cut = (cut * 2).min(bytes.len() & !1);
            let parts = Sum::of(&bytes[..cut]).plus(Sum::of(&bytes[cut..]));
            prop_assert_eq!(u16::from_be_bytes(parts.partial()), naive(&bytes));
        }

        #[test]
        fn ones_do_not_overflow(len in 60_000_usize..70_000) {
            prop_assert_eq!(u16::from_be_bytes(Sum::of(&vec![0xff; len]).partial()), naive(&vec![0xff; len]));
        }
    }
}

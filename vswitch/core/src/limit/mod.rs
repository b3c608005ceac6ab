//! How much a port may carry: a rate, and what passes at once after a pause.
//!
//! A frame passes whole as long as not all of the burst is spent, and is paid for with what it has, if need be
//! afterwards: so no frame is too long for a limit, and over any time no more passes than rate and burst give, and one
//! frame for each worker.

mod budget;

/// The atomics of `budget`.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicU64, Ordering};
}

use core::num::NonZeroU64;

use self::budget::Budget;
use crate::offload::Offload;
use crate::time::Instant;

/// Ticks of a nanosecond. At 100 Gbit/s the least frame takes 5.12 ns, so rounding to ticks is an error of a thousandth;
/// 64 bits of them last 36 years.
const TICKS: u64 = 16;

/// Ticks that a byte takes at 1 bit/s.
const TICKS_OF_A_BYTE: u64 = 8 * 1_000_000_000 * TICKS;

/// A rate and what is left of it: shared by the workers, who each ask and pay for their own frames.
#[derive(Debug)]
#[repr(align(64))]
pub struct RateLimit {
    budget: Budget,
    /// In bit/s.
    rate: NonZeroU64,
    /// In ticks.
    burst: u64,
}

impl RateLimit {
    /// A limit of `rate` bit/s after a burst of `burst` bytes, of which nothing is spent.
    #[must_use]
    pub fn new(rate: NonZeroU64, burst: u64) -> Self {
        Self { budget: Budget::new(), rate, burst: ticks(rate, burst).max(1) }
    }

    /// Whether a frame may pass at `now`.
    ///
    /// # Errors
    /// When one may at the earliest; later where another worker's passes before.
    #[inline]
    pub fn check(&self, now: Instant) -> Result<(), Instant> {
        let now = now.as_nanos().saturating_mul(TICKS);
        self.budget.check(now, self.burst).map_err(|until| Instant::from_nanos(until / TICKS + 1))
    }

    /// Takes the `bytes` of a frame that passes.
    #[inline]
    pub fn charge(&self, now: Instant, bytes: u64) {
        self.budget.spend(now.as_nanos().saturating_mul(TICKS), ticks(self.rate, bytes));
    }
}

/// How long `bytes` take at `rate`, rounded up.
fn ticks(rate: NonZeroU64, bytes: u64) -> u64 {
    let ticks = (u128::from(bytes) * u128::from(TICKS_OF_A_BYTE)).div_ceil(u128::from(rate.get()));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// What a frame of `len` bytes with these debts counts for: itself, and for each further frame that it is cut to another
/// header. So a rate is the same however frames come, as with the kernel's queueing disciplines (`qdisc_pkt_len_init`).
#[must_use]
#[inline]
pub fn wire_bytes(len: usize, offload: &Offload) -> u64 {
    let more = offload.gso.map_or(0, |gso| u64::from(gso.frames(len) - 1) * u64::from(gso.header));
    len as u64 + more
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::{Gso, GsoKind};

    const START: u64 = 60 * 1_000_000_000;

    fn limit(rate: u64, burst: u64) -> RateLimit {
        RateLimit::new(NonZeroU64::new(rate).unwrap(), burst)
    }

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(START + micros * 1_000)
    }

    /// How many frames of `bytes` pass at one moment.
    fn passed(limit: &RateLimit, micros: u64, bytes: u64) -> u64 {
        let pass = |_: &u64| limit.check(at(micros)).map(|()| limit.charge(at(micros), bytes)).is_ok();
        (0..1_000_000).take_while(pass).count() as u64
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        // Rate, burst, bytes of a frame; frames that pass at 0, at 0 again, after 1 ms, 10 ms, 1 s, an hour.
        type Case = ((u64, u64, u64), [u64; 6]);
        let table: [Case; 6] = [
            ((8_000_000, 10_000, 1_000), [10, 0, 1, 9, 10, 10]),
            ((8_000_000, 10_000, 1_500), [7, 0, 1, 6, 7, 7]),
            // A frame that is longer than the burst passes, and is paid for.
            ((8_000_000, 100, 1_000), [1, 0, 1, 1, 1, 1]),
            ((8_000_000, 1, 65_000), [1, 0, 0, 0, 1, 1]),
            ((100_000_000_000, 64_000, 64), [1_000, 0, 1_000, 1_000, 1_000, 1_000]),
            ((1_000, 1, 125), [1, 0, 0, 0, 1, 1]),
        ];
        for ((rate, burst, bytes), expected) in table {
            let limit = limit(rate, burst);
            let passed = [0, 0, 1_000, 10_000, 1_000_000, 3_600_000_000].map(|micros| passed(&limit, micros, bytes));
            assert_eq!(passed, expected, "{rate} bit/s, burst {burst}, {bytes} bytes");
        }
    }

    #[test]
    fn a_second_is_the_rate_and_a_burst() {
        for (rate, bytes) in [(1_000_000, 64), (10_000_000, 1_500), (100_000_000, 1_500), (10_000_000_000, 9_000)] {
            let limit = limit(rate, 1_000_000);
            let sent: u64 = (0..=2_000).map(|turn| passed(&limit, turn * 500, bytes) * bytes).sum();
            let most = rate / 8 + 1_000_000;
            assert!(sent <= most + bytes && sent + rate / 8 / 100 >= most, "{rate}: {sent} of {most}");
        }
    }

    #[test]
    fn what_is_refused_passes_when_it_was_told() {
        for rate in [1_000, 999_999, 10_000_000, 1_000_000_007, 1_000_000_000_000] {
            let limit = limit(rate, 3_000);
            let mut now = at(0);
            for _ in 0..1_000 {
                match limit.check(now) {
                    Ok(()) => limit.charge(now, 1_514),
                    Err(until) => {
                        assert!(until > now, "{rate}");
                        let before = Instant::from_nanos(until.as_nanos() - 1);
                        assert!(limit.check(before).is_err() && limit.check(until).is_ok(), "{rate}");
                        now = until;
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_overflows() {
        let limit = limit(1, u64::MAX);
        limit.charge(Instant::from_nanos(u64::MAX), u64::MAX);
        assert!(limit.check(Instant::from_nanos(u64::MAX)).is_err());
    }

    #[test]
    fn a_super_frame_counts_as_what_it_is_cut_to() {
        let gso = Gso { kind: GsoKind::TcpV4, segment: 1_448, header: 66, ecn: false };
        let whole = Offload::default();
        let cut = Offload { gso: Some(gso), ..whole };
        for (len, offload, bytes) in [
            (60, whole, 60),
            (1_514, cut, 1_514),
            (1_515, cut, 1_515 + 66),
            (66 + 10 * 1_448, cut, 10 * 1_514),
            (66 + 9 * 1_448 + 1, cut, 9 * 1_514 + 67),
        ] {
            assert_eq!(wire_bytes(len, &offload), bytes, "{len}");
        }
    }
}

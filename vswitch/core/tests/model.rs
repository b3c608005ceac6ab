//! The switch against a naive model of it: under random operations both must agree on every verdict, every address
//! and every counter. The switch is two siblings that take turns: whichever a frame comes to, both must be as one.
//!
//! The fuzz target `switch` runs such programs too.
#![allow(unreachable_pub, reason = "a test has no outside")]
#![allow(clippy::unwrap_used, reason = "a test may stop where it finds itself wrong")]

#[path = "model/program.rs"]
mod program;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn agrees_on_every_verdict(program in program::program()) {
        program.run()?;
    }
}

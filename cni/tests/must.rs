//! Each MUST of the CNI specification 1.1.0 that concerns a plugin, as a test named after it; the program is run as a
//! runtime runs it. `runtime` is that runtime, `world` a daemon that says what it is told and IPAM plugins made of a few
//! words. Where a MUST needs real namespaces its test is in netns-tests, area `cni`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so a test fails")]

#[path = "must/delegation.rs"]
mod delegation;
#[path = "must/errors.rs"]
mod errors;
#[path = "must/runtime.rs"]
mod runtime;
#[path = "must/verbs.rs"]
mod verbs;
#[path = "must/world.rs"]
mod world;

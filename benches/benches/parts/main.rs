//! The parts in memory, each beside the figure of the limit it is held against.
fn main() {}

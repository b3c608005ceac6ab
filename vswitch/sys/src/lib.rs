//! What the kernel does.

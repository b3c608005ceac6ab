//! What is told is what is counted.

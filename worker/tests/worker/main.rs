//! The worker as a process, driven frame by frame over a real socket pair.
//!
//! The components are small ones in text form where that is enough, and those of `scripts/guests` where it is not.

#[path = "../harness/mod.rs"]
mod harness;

mod bodies;
mod compile;
mod handshake;
mod interrupt;
mod requests;
mod sandbox;
mod wat;

//! The harness of the end-to-end tests: starts the real `rusmd` with real components and talks to it over real sockets.
//!
//! | room | owns |
//! | --- | --- |
//! | `manifest` | the text of a test's `rusm.toml` |
//! | `server` | one running `rusmd`, its log, and the proof at its end that nothing leaked |
//! | `daemon` | a `rusmd` in the background, with its pidfile and its log |
//! | `client`, `wire` | one connection of raw bytes, and what it is over |
//! | `http2` | one connection of raw frames |
//! | `authority` | certificates |
//! | `process` | what `/proc` says |
//! | `programs` | clients of others: curl, Python, Node |
//! | `paths` | binaries, components, scratch directories |
//! | `wait` | the clock |
//!
//! Every server that a test starts is checked when it is dropped: it must stop cleanly, leave no process behind, have given
//! back every descriptor, have stayed small and single-threaded, and have logged no error that the test did not declare.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails by panicking")]

pub mod authority;
pub mod client;
pub mod daemon;
pub mod http2;
pub mod manifest;
pub mod paths;
pub mod process;
pub mod programs;
pub mod server;
pub mod wait;
pub mod wire;

pub use authority::{Authority, Certificate};
pub use client::{Client, ClientError, Response};
pub use daemon::Daemon;
pub use http2::Http2;
pub use server::{Server, Setup};

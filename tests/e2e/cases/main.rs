//! The end-to-end tests: one binary, a module for each part of what `rusmd` promises.
//!
//! Owns no code but the list of modules; the harness is this package's library.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails by panicking")]

mod assets;
mod blame;
mod bodies;
mod cache;
mod cli;
mod clients;
mod clients_load;
mod clients_scripts;
mod common;
mod compression;
mod contract;
mod control;
mod corpus;
mod crowds;
mod daemon;
mod floods;
mod forwarded;
mod http;
mod http2;
mod http2_framing;
mod http2_limits;
mod hung;
mod identity;
mod ledger;
mod listeners;
mod mistrust;
mod pacing;
mod proxy_protocol;
mod reframing;
mod renewal;
mod resting;
mod sandbox;
mod shutdown;
mod standstill;
mod succession;
mod tls;
mod uploads;
mod workers;

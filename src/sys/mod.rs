//! The system: processes, descriptors, shared pages, sockets' options. Every `unsafe` block of this crate is in here.
//!
//! Knows nothing of HTTP, of the wire or of the pool. Driven by the reactor and by start-up.

#![allow(unsafe_code, reason = "system calls that std and nix do not wrap; each block carries its proof")]

mod fds;
mod heap;
mod page;
mod process;
mod socket;
mod spawn;
mod usage;

pub use fds::{open_descriptors_max, reserve_worker_descriptors};
pub use heap::give_back_large_blocks;
pub use page::SharedPage;
pub use process::{Exit, Process, Usage, keep_ended_children};
pub use socket::{bind_private, bind_tcp, peer_uid, reset_on_close};
pub use spawn::{SpawnError, Spawned, spawn_worker};
pub use usage::LiveUsage;

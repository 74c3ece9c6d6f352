//! The system: processes, descriptors, shared pages, sockets' options. Every `unsafe` block of this crate is in here.
//!
//! Knows nothing of HTTP, of the wire or of the pool. Driven by the reactor and by start-up.

#![allow(unsafe_code, reason = "system calls that std and nix do not wrap; each block carries its proof")]

mod cgroup;
mod daemon;
mod descriptors;
mod environment;
mod fds;
mod files;
mod heap;
mod identity;
mod output;
mod page;
mod priority;
mod process;
mod socket;
mod spawn;
mod terminal;
mod usage;

pub use cgroup::Cgroups;
pub use daemon::{Side, leave_session};
pub use descriptors::{DESCRIPTORS_MAX, receive_with_descriptors, send_with_descriptors};
pub use environment::{keep_descriptors_to_ourselves, remove_variable, take_descriptor};
pub use fds::{open_descriptors_max, reserve_worker_descriptors, set_nonblocking};
pub use files::{open_beneath, open_directory, open_regular, read_file, send_file};
pub use heap::give_back_large_blocks;
pub use identity::{Identity, IdentityError, change_directory, may_change_identity, set_umask};
pub use output::{Output, Standard, keep, redirect, redirect_input, survive_file_size_limit};
pub use page::SharedPage;
pub use priority::Priorities;
pub use process::{Exit, Process, Usage, adopt_orphans, keep_ended_children, monotonic_ns, reap_strangers};
pub use socket::{
    bind_private, bind_tcp, packet_pair, peek, peer_process, peer_uid, reset_on_close, set_backlog,
    unacknowledged_bytes,
};
pub use spawn::{OurEnds, SpawnError, Spawned, TheirEnds, make_ends, spawn_successor, spawn_template};
pub use terminal::terminal_columns;
pub use usage::LiveUsage;

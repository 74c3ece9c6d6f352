//! What the operator set, as far as the loop needs it. Made from the manifest, once for each generation.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::config::settings::OnTrap;
use crate::config::{Config, Server};
use crate::pool::Recycling;
use crate::{blame, http, sys};

use super::clients::FAREWELLS_MAX;

/// Descriptors kept for everything that is not a client, or is one that is turned away.
const DESCRIPTORS_RESERVED: usize = 64 + FAREWELLS_MAX;

/// Descriptors for each worker: its link and its pidfd, and as many again while one is replaced.
const DESCRIPTORS_PER_WORKER: usize = 4;

#[derive(Clone, Debug)]
pub struct Settings {
    pub workers: usize,
    pub spare_workers: usize,
    pub recycling: Recycling,
    pub on_trap: OnTrap,
    pub blame: blame::Settings,
    pub worker_binary: PathBuf,
    /// For workers with a ceiling of memory, where control groups are delegated to this process.
    pub cgroups: Option<Rc<sys::Cgroups>>,
    /// Client connections at a time, over all listeners.
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub queue_length: usize,
    pub queue_timeout: Duration,
    /// How long a handler may take between two signs of life: the start, its response's head, body bytes either way.
    pub request_timeout: Duration,
    /// From the interruption of a request to the kill of its worker.
    pub kill_grace: Duration,
    /// From the first signal to stop to the end of patience with what is in flight.
    pub shutdown_timeout: Duration,
    /// How long an upload may pause at a worker while others wait for one.
    pub busy_body_timeout: Duration,
    pub limits: http::Limits,
    pub timeouts: http::Timeouts,
}

impl Settings {
    pub fn of(config: &Config, worker_binary: PathBuf) -> Settings {
        let server = &config.server;
        let min_rate = |bytes_per_s: usize| http::MinRate { bytes_per_s: bytes_per_s as u64, grace: server.rate_grace };
        Settings {
            workers: server.workers,
            spare_workers: server.spare_workers,
            recycling: Recycling {
                requests_max: server.requests_max as u64,
                age_max: Some(server.worker_age_max).filter(|age| !age.is_zero()),
            },
            on_trap: server.on_trap,
            blame: blame::Settings {
                poison_deaths: server.poison_deaths,
                poison_window: server.poison_window,
                poison_refuse: server.poison_refuse,
                crash_loop_deaths: server.crash_loop_deaths,
            },
            worker_binary,
            cgroups: cgroups(server),
            connections_max: connections_max(config),
            connections_per_address_max: server.connections_per_address_max,
            queue_length: server.queue_length,
            queue_timeout: server.queue_timeout,
            request_timeout: server.request_timeout,
            kill_grace: server.kill_grace,
            shutdown_timeout: server.shutdown_timeout,
            busy_body_timeout: server.busy_body_timeout,
            limits: http::Limits {
                head_bytes_max: server.head_bytes_max,
                target_bytes_max: server.target_bytes_max,
                headers_max: server.headers_max,
                streams_max: u32::try_from(server.streams_max).unwrap_or(u32::MAX),
                body_bytes_max: if server.body_bytes_max == 0 { u64::MAX } else { server.body_bytes_max },
                ..http::Limits::default()
            },
            timeouts: http::Timeouts {
                head: server.head_timeout,
                body: server.body_timeout,
                write: server.write_timeout,
                keep_alive: server.keep_alive_timeout,
                receive: min_rate(server.receive_rate_min),
                send: min_rate(server.send_rate_min),
                ..http::Timeouts::default()
            },
        }
    }
}

/// As many as the manifest says, and no more than there are descriptors for.
fn connections_max(config: &Config) -> usize {
    let server = &config.server;
    let workers = (server.workers + server.spare_workers) * DESCRIPTORS_PER_WORKER;
    let descriptors = sys::open_descriptors_max().map_or(1024, |max| usize::try_from(max).unwrap_or(usize::MAX));
    // A client that downloads has a file beside its socket.
    let of_client = if config.serves_files() { 2 } else { 1 };
    let left = (descriptors.saturating_sub(workers + DESCRIPTORS_RESERVED) / of_client).max(1);
    if left < server.connections_max {
        log::warn!(
            "max-connections is {}, but the limit of open files (ulimit -n) leaves {left}",
            server.connections_max
        );
    }
    server.connections_max.min(left)
}

/// Only for who has set a ceiling: otherwise there is nothing for a group to do.
fn cgroups(server: &Server) -> Option<Rc<sys::Cgroups>> {
    if server.worker_memory_bytes == 0 {
        return None;
    }
    match sys::Cgroups::delegated(server.worker_memory_bytes) {
        Ok(Some(groups)) => Some(Rc::new(groups)),
        Ok(None) => {
            log::debug!("no control groups are delegated to this process: worker-memory-mb holds by RLIMIT_DATA alone");
            None
        }
        Err(error) => {
            log::warn!("the control groups that are delegated to this process cannot be used: {error}");
            None
        }
    }
}

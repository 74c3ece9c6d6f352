//! The most memory that a manifest lets clients take: what `rusmd check` tells.
//!
//! Pure arithmetic over the limits that the rooms keep; counts nothing while the server runs. A limit that changes changes the sum.

use std::fmt;

use rusmd_proto::limits::{BODY_CHUNK_BYTES_MAX, FRAME_HEADER_BYTES, HEAD_BYTES_MAX, WINDOW_BYTES};

use crate::config::{Config, Server};
use crate::control::render::size;
use crate::http::{H2_OUTPUT_BYTES_HIGH, HELD_BYTES_MAX, Limits, SMALL_PIECE_BYTES};
use crate::logs::BUFFER_BYTES_MAX as LOG_BYTES_MAX;
use crate::tls::BUFFER_BYTES_MAX as TLS_BYTES_MAX;

use super::READ_BYTES;
use super::clients::{Client, FAREWELLS_MAX};
use super::uploads::{COLLECT_BYTES, RETAIN_BYTES};

/// What the process has without a client: measured with some room above it, for code and tables that no limit counts.
const ITSELF_BYTES: usize = 8 * MIB;

/// Entries of timers and places in lists for each connection.
const BOOKKEEPING_BYTES: usize = 512;

/// A TLS session without its buffers.
const TLS_SESSION_BYTES: usize = 16 * 1024;

/// A session of HTTP/2 without a request: the library's tables and buffers, measured.
const SESSION_BYTES: usize = 24 * 1024;

/// What framing adds to each field line of a head.
const LINE_BYTES: usize = 32;

const MIB: usize = 1 << 20;

/// Bytes of memory, by what they are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footprint {
    connections: usize,
    /// Requests that can be in progress: one on each connection, and as many again as streams of HTTP/2 (`Clients::insert_stream`).
    requests: usize,
    workers: usize,
    /// A connection on which nothing is in progress.
    idle: usize,
    /// A request that waits for its body or for a worker.
    waiting: usize,
    /// A response that its client has yet to read.
    answered: usize,
    /// What a worker with a request adds.
    at_work: usize,
    others: usize,
}

impl Footprint {
    pub fn of(config: &Config) -> Footprint {
        let has_tls = config.serves.iter().any(|serve| serve.tls.is_some());
        let log_files = 1 + usize::from(config.log.access.is_some());
        let has_http2 = config.serves.iter().any(|serve| serve.http2);
        Footprint::new(&config.server, has_tls, has_http2, log_files)
    }

    fn new(server: &Server, has_tls: bool, has_http2: bool, log_files: usize) -> Footprint {
        let limits = Limits {
            head_bytes_max: server.head_bytes_max,
            target_bytes_max: server.target_bytes_max,
            headers_max: server.headers_max,
            ..Limits::default()
        };
        let tls = if has_tls { TLS_SESSION_BYTES + 2 * TLS_BYTES_MAX } else { 0 };
        let session = if has_http2 { SESSION_BYTES + 2 * H2_OUTPUT_BYTES_HIGH + READ_BYTES } else { 0 };
        let idle = size_of::<Client>() + BOOKKEEPING_BYTES + tls + session;
        let connections = server.connections_max + FAREWELLS_MAX;
        Footprint {
            connections,
            requests: connections + if has_http2 { server.connections_max } else { 0 },
            workers: server.workers + server.spare_workers,
            idle,
            waiting: size_of::<Client>() + input_bytes(&limits) + frames_bytes(&limits),
            answered: size_of::<Client>() + output_bytes(&limits) + READ_BYTES,
            at_work: at_work_bytes(),
            others: ITSELF_BYTES + log_files * LOG_BYTES_MAX,
        }
    }

    /// The most that the supervisor can have.
    fn bytes(&self) -> usize {
        let of_requests = self.requests.saturating_mul(self.waiting.max(self.answered));
        let of_connections = self.connections.saturating_mul(self.idle).saturating_add(of_requests);
        self.others.saturating_add(of_connections).saturating_add(self.workers * self.at_work)
    }
}

/// What has been read of a client and not been taken, with the places of the fields in it.
fn input_bytes(limits: &Limits) -> usize {
    let mark = limits.input_bytes_high.max(limits.head_bytes_max + 1);
    mark + READ_BYTES + limits.headers_max * LINE_BYTES
}

/// A request as a worker will be sent it: its head, with parts of the path as parameters, and what is collected of its body.
fn frames_bytes(limits: &Limits) -> usize {
    let head = limits.head_bytes_max + 2 * limits.target_bytes_max + limits.headers_max * LINE_BYTES;
    head.min(HEAD_BYTES_MAX) + COLLECT_BYTES as usize + BODY_CHUNK_BYTES_MAX + 4 * FRAME_HEADER_BYTES
}

/// A response that has come and that its client does not read: a head, a window of body, and the framing of that, of which nothing is held
/// back before the output is full.
fn output_bytes(limits: &Limits) -> usize {
    let window = WINDOW_BYTES as usize;
    let framing = window / SMALL_PIECE_BYTES * LINE_BYTES;
    HEAD_BYTES_MAX + limits.output_bytes_high + HELD_BYTES_MAX + window + framing
}

/// What is kept of a request for another worker, what its own has yet to read, and the frame that has come of its response.
fn at_work_bytes() -> usize {
    let kept = RETAIN_BYTES + BODY_CHUNK_BYTES_MAX;
    let unsent = 2 * WINDOW_BYTES as usize + HEAD_BYTES_MAX;
    kept + unsent + HEAD_BYTES_MAX + READ_BYTES
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "memory of the supervisor: at most {}", Size(self.bytes()))?;
        let mut row = |what: &str, count: usize, each: usize, from: &str| {
            let all = Size(each.saturating_mul(count)).to_string();
            writeln!(f, "  {what:<34}{count:>8}  {:>9} each  {all:>9}  {from}", Size(each).to_string())
        };
        let kind = if self.requests > self.connections { "connections, sessions of HTTP/2" } else { "connections" };
        row(kind, self.connections, self.idle, "max-connections")?;
        let heads = "max-head-bytes, max-target-bytes, max-headers";
        row("all with requests that wait", self.requests, self.waiting, heads)?;
        row("or all with responses unread", self.requests, self.answered, "")?;
        row("workers with a request", self.workers, self.at_work, "workers, spare-workers")?;
        row("the process itself and its logs", 1, self.others, "")?;
        writeln!(
            f,
            "beside it: buffers of sockets in the kernel (net.ipv4.tcp_rmem, tcp_wmem, and tcp_mem for all of them);\n\
             encoders, if compression is on (256 at most); workers, each with max-memory-mb of its component and worker-memory-mb"
        )
    }
}

/// `812 KiB`, `14.8 MiB`, `1.2 GiB`.
#[derive(Clone, Copy)]
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&size(self.0.div_ceil(1024) as u64))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn server() -> Server {
        Server::new(2, PathBuf::new())
    }

    #[test]
    fn the_sum_follows_the_settings() {
        let base = Footprint::new(&server(), false, false, 1);
        let halved = Footprint::new(&Server { connections_max: 5000, ..server() }, false, false, 1);
        assert!(halved.bytes() < base.bytes() * 6 / 10, "{} of {}", halved.bytes(), base.bytes());
        assert!(
            Footprint::new(&Server { head_bytes_max: 131_072, ..server() }, false, false, 1).waiting > base.waiting
        );
        assert!(Footprint::new(&Server { workers: 100, ..server() }, false, false, 1).bytes() > base.bytes());
        let with_http2 = Footprint::new(&server(), false, true, 1);
        assert_eq!(with_http2.requests - base.requests, server().connections_max);
        assert!(with_http2.idle > base.idle + SESSION_BYTES && with_http2.waiting == base.waiting);
        assert_eq!(Footprint::new(&server(), true, false, 1).idle - base.idle, TLS_SESSION_BYTES + 2 * TLS_BYTES_MAX);
        assert_eq!(Footprint::new(&server(), false, false, 2).bytes() - base.bytes(), LOG_BYTES_MAX);
    }

    #[test]
    fn what_is_told_is_the_sum_and_its_parts() {
        let text = Footprint::new(&server(), false, false, 1).to_string();
        for part in ["at most ", "max-connections", "max-head-bytes", "workers", "tcp_mem"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
    }
}

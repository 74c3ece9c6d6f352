//! Actions that misbehave, one fault each, and a few that only show what they were given.
//!
//! Owns the faults of the `rusm:http` world that the end-to-end tests provoke. A number that a fault wants comes from the
//! path or from the query: `/fit/64` and `/fit?mb=64` are the same to it.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use rusm_rs::http::{Params, Request, Response};
use rusm_rs::log;

const MIB: usize = 1 << 20;

#[rusm_rs::handlers]
pub mod faults {
    use super::*;

    pub fn hello() -> &'static str {
        "hello\n"
    }

    pub fn panic() -> Response {
        panic!("a deliberate panic")
    }

    pub fn unwrap_none(req: Request) -> Response {
        Response::text(req.query("there-is-no-such-name").unwrap())
    }

    pub fn unreachable() -> Response {
        std::process::abort()
    }

    pub fn divide_by_zero(req: Request) -> Response {
        Response::text((1 / req.body().len()).to_string())
    }

    pub fn recursion() -> Response {
        Response::text(deeper(0).to_string())
    }

    /// Allocates until there is no more.
    pub fn memory() -> Response {
        let mut held = Vec::new();
        loop {
            held.push(touched());
            black_box(&held);
        }
    }

    /// Allocates and touches `mb` MiB, and succeeds if it gets them.
    pub fn fit(req: Request, p: Params) -> Response {
        let mb = number(&req, &p, "mb");
        let held: Vec<Vec<u8>> = (0..mb).map(|_| touched()).collect();
        Response::text(format!("{} MiB fit\n", black_box(&held).len()))
    }

    /// Asks for one piece of `mb` MiB without Rust's allocator in between, and answers whether it got it.
    pub fn grow(req: Request, p: Params) -> Response {
        let pages = number(&req, &p, "mb") * (MIB / 65536);
        #[cfg(target_arch = "wasm32")]
        let got = core::arch::wasm32::memory_grow(0, pages) != usize::MAX;
        #[cfg(not(target_arch = "wasm32"))]
        let got = pages == 0;
        Response::text(if got { "grown\n" } else { "refused\n" })
    }

    pub fn spin() -> Response {
        let mut turns = 0u64;
        loop {
            turns = black_box(turns.wrapping_add(1));
        }
    }

    pub fn sleep_forever() -> Response {
        loop {
            pause(3_600_000);
        }
    }

    /// Answers after `ms` milliseconds.
    pub fn sleep(req: Request, p: Params) -> Response {
        let ms = number(&req, &p, "ms");
        pause(ms as u64);
        Response::text(format!("slept {ms} ms\n"))
    }

    /// Uses the processor for `turns` million turns of a loop, and answers.
    pub fn work(req: Request, p: Params) -> Response {
        let turns = number(&req, &p, "turns") as u64 * 1_000_000;
        let sum = (0..turns).fold(0u64, |sum, turn| black_box(sum.wrapping_add(turn)));
        Response::text(format!("{sum}\n"))
    }

    /// Any status, also one that there is not.
    pub fn status(req: Request, p: Params) -> Response {
        Response::new(number(&req, &p, "code") as u16, "as asked\n")
    }

    pub fn invalid_status() -> Response {
        Response::new(99, "no such status\n")
    }

    pub fn invalid_header_value() -> Response {
        Response::text("split\n").header("x-split", "one\r\nset-cookie: stolen=1")
    }

    pub fn invalid_header_name() -> Response {
        Response::text("split\n").header("x split", "one")
    }

    /// Fields that only the server may write.
    pub fn framing_headers() -> Response {
        Response::text("framed\n")
            .header("content-length", "3")
            .header("transfer-encoding", "chunked")
            .header("connection", "close")
    }

    pub fn many_headers(req: Request, p: Params) -> Response {
        let count = number(&req, &p, "count");
        (0..count).fold(Response::text("many\n"), |response, at| response.header(format!("x-{at}"), "1"))
    }

    pub fn not_modified_with_body() -> Response {
        Response::new(304, "this must not be sent\n")
    }

    /// A body of `bytes` bytes.
    pub fn large(req: Request, p: Params) -> Response {
        Response::bytes(vec![b'x'; number(&req, &p, "bytes")])
    }

    pub fn echo(req: Request) -> Response {
        Response::bytes(req.into_body())
    }

    /// Everything that it was given, line by line.
    pub fn show(req: Request, p: Params) -> Response {
        let mut text = format!(
            "{} {}://{}{}{}\nid {}\npeer {:?}\nbody {}\n",
            req.method(),
            req.scheme(),
            req.authority(),
            req.path(),
            req.raw_query().map(|query| format!("?{query}")).unwrap_or_default(),
            req.id(),
            req.peer(),
            req.body().len(),
        );
        for (name, value) in p.iter() {
            text.push_str(&format!("param {name}={value}\n"));
        }
        for (name, value) in req.query_pairs() {
            text.push_str(&format!("query {name}={value}\n"));
        }
        for (name, value) in req.headers().iter() {
            text.push_str(&format!("header {name}: {}\n", String::from_utf8_lossy(value)));
        }
        Response::text(text)
    }

    pub fn env() -> Response {
        let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
        lines.sort();
        Response::text(lines.concat())
    }

    /// Tries to read `path`.
    pub fn read(req: Request) -> Response {
        match std::fs::read(req.query("path").unwrap_or("/etc/passwd")) {
            Ok(bytes) => Response::bytes(bytes),
            Err(error) => Response::new(403, format!("{error}\n")),
        }
    }

    /// Tries to write the text `as asked` to `path`.
    pub fn write(req: Request) -> Response {
        match std::fs::write(req.query("path").unwrap_or("/written"), "as asked") {
            Ok(()) => Response::text("written\n"),
            Err(error) => Response::new(403, format!("{error}\n")),
        }
    }

    /// A line for each level, and one on each of standard output and error.
    pub fn log() -> Response {
        log::error!("an error line");
        log::warn!("a warn line");
        log::info!("an info line");
        log::debug!("a debug line");
        log::trace!("a trace line");
        println!("a line on stdout");
        eprintln!("a line on stderr");
        Response::text(format!("{}\n", log::max_level()))
    }

    /// A log line of two lines, and control bytes.
    pub fn log_forgery() -> Response {
        log::info!("first\nERROR forged second\r\x1b[31mred\0");
        eprintln!("third\rERROR forged fourth\x1b[2J");
        Response::text("logged\n")
    }

    /// `bytes` bytes on standard error, in lines of a hundred.
    pub fn stderr_flood(req: Request, p: Params) -> Response {
        let bytes = number(&req, &p, "bytes");
        let line = format!("{}\n", "e".repeat(99));
        let mut stderr = std::io::stderr().lock();
        for _ in 0..bytes / line.len() {
            let _ = stderr.write_all(line.as_bytes());
        }
        Response::text("flooded\n")
    }

    /// `bytes` bytes on standard error, without one end of line.
    pub fn stderr_endless_line(req: Request, p: Params) -> Response {
        let piece = [b'e'; 4096];
        for _ in 0..number(&req, &p, "bytes") / piece.len() {
            let _ = std::io::stderr().write_all(&piece);
        }
        Response::text("flooded\n")
    }

    pub fn exit_success() -> Response {
        std::process::exit(0)
    }

    pub fn exit_failure() -> Response {
        std::process::exit(1)
    }

    /// How many requests this instance has seen: 1, as long as each gets a fresh one.
    pub fn count() -> Response {
        static SEEN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        Response::text(format!("{}\n", SEEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1))
    }

    fn number(req: &Request, p: &Params, name: &str) -> usize {
        let text = p.get(name).or_else(|| req.query(name)).unwrap_or("0");
        text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
    }

    fn touched() -> Vec<u8> {
        black_box(vec![1u8; MIB])
    }

    #[allow(unconditional_recursion, reason = "the fault")]
    fn deeper(depth: u64) -> u64 {
        black_box(deeper(black_box(depth) + 1)) + 1
    }

    #[allow(clippy::disallowed_methods, reason = "a guest that waits is what is tested")]
    fn pause(ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

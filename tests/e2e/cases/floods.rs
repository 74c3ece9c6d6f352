//! Many clients that want nothing but to be in the way: memory stays within what `rusmd check` tells, a healthy client is served meanwhile, and
//! the listener outlives a lack of descriptors.
//!
//! Owns smaller versions of what `tests/bench/flood` does with thousands, and asserts no times.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use rusmd_e2e::{Client, Server, Setup, paths, process, wait};

use crate::common::{Form, HELLO};

const FLOOD: usize = 300;
const GIB: u64 = 1 << 30;

/// Clients of `max-connections` that get their answer with care when there is no place.
const FAREWELLS: usize = 64;

/// A server for floods, with a directory on its second listener.
fn setup() -> Setup {
    let setup = Form::Wasi.setup().server("max-connections", FLOOD + 20).server("queue-length", 50);
    let setup = setup.routes(&[("GET /files/*", "dir:public")]).public("big", &"x".repeat(64 << 20));
    setup.resident_kib_max(GIB / 1024)
}

/// What `rusmd check` tells of the memory that a manifest allows, in KiB.
#[track_caller]
fn told_kib(server: &Server) -> u64 {
    let config = server.scratch().join("rusm.toml");
    let output = Command::new(paths::binary("rusmd")).args(["check", "--config"]).arg(config).output();
    let text = String::from_utf8_lossy(&output.expect("it can be started").stdout).into_owned();
    let words = text.split_once("memory of the supervisor: at most ").expect("it tells of memory").1;
    let mut words = words.split_whitespace();
    let number: f64 = words.next().and_then(|word| word.parse().ok()).expect("a number");
    let unit = match words.next() {
        Some("KiB") => 1.0,
        Some("MiB") => 1024.0,
        Some("GiB") => 1024.0 * 1024.0,
        other => panic!("{other:?} is no unit"),
    };
    (number * unit) as u64
}

/// Makes many connections, does to each what a bad client does, and checks that a good one is served while they are there.
#[track_caller]
fn flood(server: &Server, address: SocketAddr, bad: impl Fn(&mut TcpStream)) {
    let bound = told_kib(server);
    let mut flood: Vec<TcpStream> = Vec::new();
    for _ in 0..FLOOD {
        let mut stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_nonblocking(true).expect("a socket has this option");
        bad(&mut stream);
        flood.push(stream);
    }
    for round in 0..20 {
        for stream in &mut flood {
            bad(stream);
        }
        // Whoever wants a worker may find the queue full of the others; who wants none is served.
        let mut healthy = server.connect();
        healthy.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(healthy.response().status(), 204, "round {round}");
        let usage = server.usage();
        assert!(usage.resident_kib < bound, "{usage:?}, and {bound} KiB were told");
    }
    drop(flood);
    wait::until("the server has recovered", || {
        let mut client = server.connect();
        client.get("/hello");
        client.try_response().is_ok_and(|response| response.status() == 200)
    });
}

#[test]
fn heads_that_never_end_leave_memory_within_what_is_told() {
    let server = setup().start();
    flood(&server, server.address(), |stream| {
        let _ = stream.write(b"x-slow: loris\r\n");
    });
    flood(&server, server.address(), |stream| {
        let _ = stream.write(b"GET / HTTP/1.1\r\nHost: a\r\n");
        let _ = stream.write(&[b'x'; 8192]);
    });
}

#[test]
fn uploads_that_stall_leave_memory_within_what_is_told() {
    let server = setup().expect_error("rusmd::request").expect_error("panicked").start();
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {GIB}\r\n\r\n");
    let began = std::cell::RefCell::new(std::collections::HashSet::new());
    flood(&server, server.address(), |stream| {
        let first = began.borrow_mut().insert(stream.local_addr().map(|address| address.port()).unwrap_or_default());
        let _ = if first { stream.write(head.as_bytes()) } else { stream.write(&[b'x'; 8192]) };
    });
}

#[test]
fn downloads_that_nobody_reads_leave_memory_within_what_is_told() {
    let server = setup().start();
    flood(&server, server.addresses()[1], |stream| {
        let _ = stream.write(b"GET /files/big HTTP/1.1\r\nHost: a\r\n\r\n");
    });
    flood(&server, server.address(), |stream| {
        let _ = stream.write(b"GET /download?bytes=200000 HTTP/1.1\r\nHost: a\r\n\r\n");
    });
}

#[test]
fn pipelined_requests_without_end_leave_memory_within_what_is_told() {
    let server = setup().start();
    let requests = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200);
    flood(&server, server.address(), |stream| {
        let _ = stream.write(requests.as_bytes());
    });
}

#[test]
fn connections_beyond_the_limit_get_their_answer_and_no_more_places_than_there_are() {
    // No spare, whose descriptors may come late.
    let server = Form::Handlers.setup().server("max-connections", 1).server("spare-workers", 0).start();
    let mut kept = server.connect();
    kept.get("/hello");
    kept.response().assert(200, HELLO);
    let before = server.usage().descriptors;
    let mut refused = Vec::new();
    server.paused(|| refused.extend((0..FAREWELLS + 36).map(|_| server.connect())));
    let mut most = 0;
    wait::until("as many as may be are told with care", || {
        most = most.max(server.usage().descriptors);
        most == before + FAREWELLS
    });
    for client in &mut refused {
        let response = client.response();
        assert_eq!((response.status(), response.header("retry-after")), (503, Some("1")));
        assert!(server.usage().descriptors <= before + FAREWELLS);
    }
}

/// The soft limit of open files of a running process, as a number or `hard`.
#[track_caller]
fn limit_descriptors(server: &Server, soft: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:")]).status();
    assert!(status.is_ok_and(|status| status.success()), "util-linux has this program");
}

#[test]
fn a_lack_of_descriptors_costs_no_time_and_ends_when_there_are_some() {
    const RESTS: usize = 15;
    // Clock ticks, of which there are a hundred in a second, in the second and a half of so many rests.
    const TICKS_MAX: u64 = 15;
    let server = Form::Handlers.setup().expect_error("cannot accept connections for now").start();
    let mut kept = server.connect();
    kept.get("/hello");
    kept.response().assert(200, HELLO);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("the supervisor runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line for it");
    let former = line.split_whitespace().nth(3).expect("a number").to_owned();
    let numbers = process::descriptor_list(server.pid());
    let highest = numbers.iter().filter_map(|entry| entry.split(' ').next()?.parse::<u32>().ok()).max();
    limit_descriptors(&server, &(highest.expect("there are some") + 1).to_string());
    let rests = || server.log().matches("cannot accept connections for now").count();
    let mut waiting: Vec<Client> = Vec::new();
    // There may be free numbers below the highest.
    wait::until("there are no descriptors left", || {
        let mut client = server.connect();
        client.get("/hello");
        waiting.push(client);
        rests() > 0
    });
    let (ticks, rested) = (process::cpu_ticks(server.pid()), rests());
    wait::until("it has rested a while", || {
        kept.get("/hello");
        kept.response().assert(200, HELLO);
        rests() >= rested + RESTS
    });
    let spun = process::cpu_ticks(server.pid()) - ticks;
    limit_descriptors(&server, &former);
    for client in &mut waiting {
        client.response().assert(200, HELLO);
    }
    assert!(spun <= TICKS_MAX, "{spun} ticks");
}

/// Sends a hundred megabytes that are too much, all of them, before it looks for an answer.
#[track_caller]
fn expect_too_large(server: &Server, head: &str, piece: &[u8]) {
    let mut client = server.connect();
    client.send(head);
    let pieces = (100 << 20) / piece.len();
    for _ in 0..pieces {
        client.send(piece);
    }
    let response = client.response();
    assert_eq!((response.status(), response.header("connection")), (413, Some("close")));
    client.expect_close();
    server.get("/hello").assert(200, "hello world\n");
}

#[test]
fn a_client_that_sends_all_of_a_body_too_large_reads_why_it_is_refused() {
    // The guest of this test panics when its body breaks off.
    let server = Form::Wasi.setup().server("max-body-mb", 1).expect_error("panicked").start();
    let declared = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 100 << 20);
    expect_too_large(&server, &declared, &[b'x'; 1 << 16]);
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
    expect_too_large(
        &server,
        "POST /read-then-reply HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        &chunk,
    );
}

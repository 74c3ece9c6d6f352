//! Bodies: large ones both ways in constant memory, slow readers, and responses that break off.
//!
//! Owns the promise that neither process grows with a body, and that a body which did not end well is never ended well.

use std::io::Write as _;
use std::thread;

use nix::sys::signal::Signal;
use rusmd_e2e::client::Framing;
use rusmd_e2e::{ClientError, Server, Setup, process, wait};

use crate::common::{Form, assert_serves};

const MIB: usize = 1 << 20;
/// Most anonymous memory that a worker may have beside a streaming guest, in KiB.
const WORKER_RESIDENT_KIB_MAX: u64 = 160 * 1024;

/// Byte `n` of every test body: a sequence that shows shifted, lost and doubled bytes.
fn byte(n: usize) -> u8 {
    (n % 251) as u8
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(byte).collect()
}

/// Sends a body of `length` bytes from a thread, chunked or by length, while the caller reads what comes back.
#[track_caller]
fn echo(server: &Server, length: usize, chunked: bool) {
    echo_at(server, "/echo", length, chunked);
    assert_serves(server);
}

/// The same at another path.
#[track_caller]
fn echo_at(server: &Server, path: &str, length: usize, chunked: bool) {
    let mut client = server.connect();
    let framing = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {length}") };
    client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
    let mut sender = client.sender();
    let upload = thread::spawn(move || {
        // A multiple of the sequence's period, so that every piece begins where the last one ended.
        let piece = body(251 * 1024);
        let mut left = length;
        while left > 0 {
            let bytes = &piece[..left.min(piece.len())];
            if chunked {
                sender.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
            }
            sender.write_all(bytes)?;
            if chunked {
                sender.write_all(b"\r\n")?;
            }
            left -= bytes.len();
        }
        if chunked { sender.write_all(b"0\r\n\r\n") } else { Ok(()) }
    });
    let head = client.try_head().expect("the echo answers");
    assert_eq!(head.status, 200);
    let mut seen = 0;
    let whole = client.try_body(&head, "POST", |bytes| {
        for (n, value) in bytes.iter().enumerate() {
            assert_eq!(*value, byte(seen + n), "byte {}", seen + n);
        }
        seen += bytes.len();
    });
    assert!(whole.is_ok(), "after {seen} bytes: {whole:?}");
    assert_eq!(seen, length);
    upload.join().expect("the upload does not panic").expect("the server takes the whole body");
    client.get("/hello");
    assert!(client.response().text().starts_with("hello"), "the connection is out of step");
}

#[track_caller]
fn assert_workers_small(server: &Server) {
    for worker in server.workers() {
        if let Some(usage) = process::usage(worker) {
            assert!(usage.resident_kib_peak < WORKER_RESIDENT_KIB_MAX, "worker {worker}: {usage:?}");
        }
    }
}

#[test]
fn handlers_take_and_give_a_megabyte() {
    let server = Form::Handlers.setup().resident_kib_max(32 * 1024).start();
    for length in [0, 1, 65_535, 65_536, 65_537, MIB] {
        echo(&server, length, false);
        echo(&server, length, true);
    }
}

#[test]
fn a_wasi_http_component_streams_bodies_of_every_size() {
    let server = Form::Wasi.setup().start();
    for length in [0, 1, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, MIB, 64 * MIB] {
        echo(&server, length, false);
    }
    for length in [0, 1, 65_536, 262_145, 8 * MIB] {
        echo(&server, length, true);
    }
    assert_workers_small(&server);
}

#[test]
fn a_quarter_of_a_gigabyte_streams_in_constant_memory() {
    let server = Form::Wasi.setup().server("request-timeout-ms", 120_000).start();
    echo(&server, 256 * MIB, true);
    assert_workers_small(&server);
}

#[test]
fn uploads_that_wait_for_a_worker_arrive_whole() {
    for form in [Form::Handlers, Form::Wasi] {
        let server = form.setup().server("workers", 1).resident_kib_max(48 * 1024).start();
        thread::scope(|scope| {
            for client in 0..6 {
                let server = &server;
                scope.spawn(move || {
                    for round in 0..5 {
                        echo(server, client * 60_000 + round * 7, round % 2 == 0);
                    }
                });
            }
        });
    }
}

#[test]
fn typescript_streams_sixteen_megabytes_both_ways() {
    let server = Form::TypeScript.setup().server("request-timeout-ms", 120_000).start();
    echo(&server, MIB, false);
    echo(&server, 16 * MIB, true);
}

#[test]
fn a_large_download_to_a_slow_reader_is_not_buffered() {
    const BYTES: usize = 64 * MIB;
    let server = Form::Wasi.setup().server("request-timeout-ms", 120_000).start();
    let mut slow = server.connect();
    slow.get(&format!("/download?bytes={BYTES}"));
    let head = slow.try_head().expect("the download begins");
    assert_eq!(head.status, 200);
    // While nothing is read, the server fills the socket, the window, and then waits.
    let mut last = 0;
    wait::until("the supervisor has stopped growing", || {
        let usage = server.usage().resident_kib;
        let settled = usage == last;
        last = usage;
        settled
    });
    assert_serves(&server);
    let mut seen = 0;
    slow.try_body(&head, "GET", |bytes| seen += bytes.len()).expect("the download is whole");
    assert_eq!(seen, BYTES);
    assert_workers_small(&server);
}

#[test]
fn a_client_that_leaves_in_mid_download_leaves_nothing_behind() {
    let server = Form::Wasi.setup().start();
    for _ in 0..5 {
        let mut client = server.connect();
        client.get(&format!("/download?bytes={}", 64 * MIB));
        client.wait_for_bytes(MIB).expect("the download begins");
        drop(client);
    }
    assert_serves(&server);
}

#[test]
fn a_client_that_leaves_in_mid_upload_leaves_nothing_behind() {
    // The guest of these tests panics when its body breaks off.
    let server = Form::Wasi.setup().expect_error("rusmd::request").expect_error("panicked").start();
    for _ in 0..5 {
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
        client.send(vec![b'x'; 300 * 1024]);
        client.wait_for_bytes(100 * 1024).expect("the echo begins");
        drop(client);
    }
    assert_serves(&server);
}

/// How a response that cannot be finished ends for its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The head was out: the connection is cut.
    Cut,
    /// The failure came first: an error takes the place of the response.
    Status(u16),
}

/// The response must fail so that no client can take it for whole, and the server must go on.
#[track_caller]
fn failing(form: Form, path: &str, log: &[&str]) -> End {
    let setup = form.setup().server("request-timeout-ms", 1_500);
    let server = setup.expect_error("rusmd::request").expect_error("panicked").start();
    let mut client = server.connect();
    client.get(path);
    let head = client.try_head().expect("the head comes");
    let mut seen = Vec::new();
    let end = match client.try_body(&head, "GET", |bytes| seen.extend_from_slice(bytes)) {
        Err(ClientError::Cut { .. } | ClientError::Reset) => End::Cut,
        Ok(_) if head.status >= 500 => End::Status(head.status),
        Ok(_) => panic!("the body ends as though it were whole: {:?}", String::from_utf8_lossy(&seen)),
        Err(error) => panic!("{error}"),
    };
    assert!(
        end != End::Cut || head.framing("GET").is_ok_and(|framing| framing != Framing::UntilClose),
        "a client would not see the cut: {head:?}"
    );
    if !log.is_empty() {
        server.wait_for_log(log);
    }
    assert_serves(&server);
    end
}

#[test]
fn a_panic_after_the_head_cuts_the_connection() {
    assert_eq!(failing(Form::Wasi, "/panic-after-head", &["trap"]), End::Cut);
}

#[test]
fn a_deadline_after_the_head_cuts_the_connection() {
    assert_eq!(failing(Form::Wasi, "/spin-after-head", &["deadline"]), End::Cut);
}

#[test]
fn a_stalled_body_is_cut_at_the_deadline() {
    assert_eq!(failing(Form::Wasi, "/stall", &["deadline"]), End::Cut);
}

#[test]
fn a_body_shorter_than_promised_is_no_clean_end() {
    for path in ["/bad-length?declared=20&sent=10", "/bad-length?declared=20&sent=0"] {
        let end = failing(Form::Wasi, path, &[]);
        assert!(matches!(end, End::Cut | End::Status(502)), "{path}: {end:?}");
    }
    assert_eq!(failing(Form::Wasi, "/bad-length?declared=3000000&sent=2000000", &[]), End::Cut);
}

#[test]
fn a_body_longer_than_promised_is_no_clean_end() {
    let end = failing(Form::Wasi, "/bad-length?declared=5&sent=10", &[]);
    assert!(matches!(end, End::Cut | End::Status(502)), "{end:?}");
    assert_eq!(failing(Form::Wasi, "/bad-length?declared=2000000&sent=3000000", &[]), End::Cut);
}

#[test]
fn a_body_that_its_guest_does_not_finish_is_no_clean_end() {
    let end = failing(Form::Wasi, "/unfinished", &[]);
    assert!(matches!(end, End::Cut | End::Status(502)), "{end:?}");
}

#[test]
fn a_panic_after_the_end_of_the_response_harms_nobody() {
    let server = Form::Wasi.setup().expect_error("rusmd::request").expect_error("panicked").start();
    server.get("/panic-after-end").assert(200, "complete\n");
    server.wait_for_log(&["trap"]);
    assert_serves(&server);
}

#[test]
fn an_exception_after_the_head_cuts_the_connection() {
    let end = failing(Form::TypeScript, "/throw-after-head", &["thrown after the head on purpose"]);
    assert_eq!(end, End::Cut);
}

#[test]
fn a_typescript_body_of_another_length_than_promised_is_no_clean_end() {
    for path in ["/short-body", "/long-body"] {
        let end = failing(Form::TypeScript, path, &[]);
        assert!(matches!(end, End::Cut | End::Status(502)), "{path}: {end:?}");
    }
}

#[test]
fn a_worker_killed_in_mid_response_cuts_the_connection() {
    let mut server = Form::Wasi.setup().server("workers", 1).server("spare-workers", 0).start();
    let worker = server.workers()[0];
    let mut client = server.connect();
    client.get(&format!("/download?bytes={}", 64 * MIB));
    let head = client.try_head().expect("the download begins");
    process::signal(worker, Signal::SIGKILL);
    assert!(client.try_body(&head, "GET", |_| ()).is_err(), "64 MiB do not fit into any buffer");
    server.expect_error(&worker.to_string());
    server.wait_for_log(&[&worker.to_string(), "SIGKILL", "rusmd::request"]);
    assert_serves(&server);
}

#[test]
fn wasi_http_0_3_streams_both_ways() {
    let server = Setup::new().component("hello-wasi3").server("request-timeout-ms", 120_000).start();
    server.get("/").assert(200, "hello world\n");
    for path in ["/echo", "/pump"] {
        for length in [0, 1, 65_536, 262_145, 8 * MIB] {
            echo_at(&server, path, length, false);
            echo_at(&server, path, length, true);
        }
    }
    assert_workers_small(&server);
}

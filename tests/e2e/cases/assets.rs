//! Static files: what is served of a directory and what is not, in whole and in parts, to clients that hurry and to those that do not.

use std::fs::{self, File, OpenOptions};
use std::net::Shutdown;
use std::os::unix::fs::{FileExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusmd_e2e::{Authority, Client, ClientError, Response, Server, Setup, wait};
use rustls::version::{TLS12, TLS13};

use crate::common::HELLO;

const ROUTES: &[(&str, &str)] =
    &[("GET /hello", "faults#hello"), ("/spin", "faults#spin"), ("GET /assets/*", "dir:public")];

const TEXT: &str = "0123456789";

const GIGABYTE: u64 = 1 << 30;

fn setup() -> Setup {
    Setup::new()
        .routes(ROUTES)
        .public("a.css", "body{}")
        .public("digits.txt", TEXT)
        .public("deep/index.html", "<p>")
        .public(".env", "secret")
        .file("outside.txt", "secret")
        .log("access", "\"access.log\"")
}

fn public(server: &Server, name: &str) -> PathBuf {
    server.scratch().join("public").join(name)
}

/// A gigabyte that takes no room, with a few bytes at its end.
#[track_caller]
fn sparse(server: &Server) {
    let file = File::create(public(server, "sparse.bin")).expect("the directory is writable");
    file.set_len(GIGABYTE).and_then(|()| file.write_all_at(b"end", GIGABYTE - 3)).expect("holes take no room");
}

#[track_caller]
fn ask(client: &mut Client, method: &str, path: &str, fields: &str) -> Response {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response_to(method)
}

/// The line of the access log for this path.
#[track_caller]
fn access_line(server: &Server, path: &str) -> String {
    let found = wait::poll(wait::SOON, || {
        let log = server.read("access.log");
        log.lines().find(|line| line.contains(&format!(" {path} "))).map(str::to_owned)
    });
    found.unwrap_or_else(|| panic!("no line for {path}"))
}

#[test]
fn a_file_is_told_of_and_sent_and_not_sent_again() {
    let server = setup().listener_line("headers = { cache-control = \"max-age=60\" }").start();
    let mut client = server.connect();
    let whole = ask(&mut client, "GET", "/assets/a.css", "");
    whole.assert(200, "body{}");
    assert_eq!(whole.header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(whole.header("cache-control"), Some("max-age=60"));
    let (tag, modified) = (whole.header("etag").unwrap(), whole.header("last-modified").unwrap());
    let head = ask(&mut client, "HEAD", "/assets/a.css", "");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("6")));
    assert_eq!(head.header("etag"), Some(tag));
    for (fields, expected) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(), 200),
        (format!("If-Match: {tag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        ("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(), 412),
        (format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n"), 206),
        (format!("Range: bytes=0-1\r\nIf-Range: {modified}\r\n"), 206),
        ("Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".to_owned(), 200),
    ] {
        let response = ask(&mut client, "GET", "/assets/a.css", &fields);
        assert_eq!(response.status(), expected, "{fields}");
        if expected == 304 {
            assert_eq!((response.header("etag"), response.header("cache-control")), (Some(tag), Some("max-age=60")));
        }
    }
    // Another state of the file has another tag.
    server.write("public/a.css", "body{ }");
    ask(&mut client, "GET", "/assets/a.css", &format!("If-None-Match: {tag}\r\n")).assert(200, "body{ }");
}

#[test]
fn a_part_is_sent_where_one_is_asked_for() {
    let server = setup().start();
    let mut client = server.connect();
    for (range, status, content_range, body) in [
        ("bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
        ("bytes=7-", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-3", 206, Some("bytes 7-9/10"), "789"),
        ("bytes=-30", 206, Some("bytes 0-9/10"), TEXT),
        ("bytes=2-1", 200, None, TEXT),
        ("bytes=0-0,5-6", 200, None, TEXT),
        ("lines=1-2", 200, None, TEXT),
    ] {
        let response = ask(&mut client, "GET", "/assets/digits.txt", &format!("Range: {range}\r\n"));
        response.assert(status, body);
        assert_eq!(response.header("content-range"), content_range, "{range}");
    }
    let beyond = ask(&mut client, "GET", "/assets/digits.txt", "Range: bytes=10-\r\n");
    assert_eq!((beyond.status(), beyond.header("content-range")), (416, Some("bytes */10")));
    let head = ask(&mut client, "HEAD", "/assets/digits.txt", "Range: bytes=2-4\r\n");
    assert_eq!((head.status(), head.header("content-length")), (200, Some("10")));
}

#[test]
fn directories_have_an_index_and_other_methods_are_told_what_there_is() {
    let server = setup().start();
    let mut client = server.connect();
    ask(&mut client, "GET", "/assets/deep/", "").assert(200, "<p>");
    for (path, location) in
        [("/assets/deep", "/assets/deep/"), ("//assets//deep?a=b", "/assets/deep/?a=b"), ("/assets", "/assets/")]
    {
        let moved = ask(&mut client, "GET", path, "");
        assert_eq!((moved.status(), moved.header("location")), (301, Some(location)), "{path}");
    }
    assert_eq!(ask(&mut client, "GET", "/assets/", "").status(), 404);
    client.send("POST /assets/a.css HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let refused = client.response();
    assert_eq!((refused.status(), refused.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    ask(&mut client, "GET", "/hello", "").assert(200, HELLO);
}

#[test]
fn a_whole_site_is_a_directory_and_routes_of_their_own_go_first() {
    let server = Setup::new()
        .routes(&[("GET /*", "dir:public"), ("GET /hello", "faults#hello")])
        .public("index.html", "<h1>")
        .public("hello", "not this")
        .start();
    let mut client = server.connect();
    ask(&mut client, "GET", "/", "").assert(200, "<h1>");
    ask(&mut client, "GET", "/index.html", "").assert(200, "<h1>");
    ask(&mut client, "GET", "/hello", "").assert(200, HELLO);
}

#[test]
fn no_path_leads_out_of_the_directory_or_to_what_is_hidden() {
    let server = setup().start();
    for path in [
        "/assets/../outside.txt",
        "/assets/..%2foutside.txt",
        "/assets/%2e%2e/outside.txt",
        "/assets/%2e%2e%2foutside.txt",
        "/assets/.%2e/outside.txt",
        "/assets/deep/../../outside.txt",
        "/assets/deep/..%2f..%2foutside.txt",
        "/assets/%252e%252e%252foutside.txt",
        "/assets/..\\outside.txt",
        "/assets/..%5coutside.txt",
        "/assets/..%c0%afoutside.txt",
        "/assets/%c0%ae%c0%ae/outside.txt",
        "/assets/..;/outside.txt",
        "/assets/..%00/outside.txt",
        "/assets/outside.txt%00.css",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/./.env",
        "/assets/.env",
        "/assets/%2eenv",
        "/assets/deep/..%2f.env",
        "/assets/../../../../../../etc/passwd",
        "/../assets/../outside.txt",
    ] {
        let mut client = server.connect();
        let response = ask(&mut client, "GET", path, "");
        assert!(matches!(response.status(), 400 | 404), "{path}: {}", response.status());
        assert!(!response.text().contains("secret") && !response.text().contains("root:"), "{path}");
    }
}

#[test]
fn links_stay_in_the_tree_and_what_is_no_file_is_not_waited_for() {
    let server = setup().start();
    symlink("deep/index.html", public(&server, "in")).unwrap();
    symlink("../outside.txt", public(&server, "out")).unwrap();
    symlink("/etc/passwd", public(&server, "absolute")).unwrap();
    symlink("/proc/self/environ", public(&server, "magic")).unwrap();
    symlink("..", public(&server, "up")).unwrap();
    mkfifo(&public(&server, "fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(public(&server, "socket")).unwrap();
    let mut client = server.connect();
    ask(&mut client, "GET", "/assets/in", "").assert(200, "<p>");
    for name in ["out", "absolute", "magic", "up/outside.txt", "fifo", "socket"] {
        assert_eq!(ask(&mut client, "GET", &format!("/assets/{name}"), "").status(), 404, "{name}");
    }
}

#[test]
fn a_gigabyte_passes_through_little_memory_and_the_next_request_follows_it() {
    let server = setup().start();
    sparse(&server);
    let mut client = server.connect();
    let part = ask(&mut client, "GET", "/assets/sparse.bin", "Range: bytes=-5\r\n");
    assert_eq!((part.status(), &part.body[..]), (206, &b"\0\0end"[..]));
    client.send(
        "GET /assets/sparse.bin HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /hello HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /assets/a.css HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let head = client.try_head().unwrap();
    let (mut count, mut last) = (0, Vec::new());
    client
        .try_body(&head, "GET", |bytes| {
            count += bytes.len() as u64;
            last = bytes[bytes.len().saturating_sub(3)..].to_vec();
        })
        .unwrap();
    assert_eq!(count, GIGABYTE);
    assert!(b"end".ends_with(&last), "{last:?}");
    client.response().assert(200, HELLO);
    client.response().assert(200, "body{}");
    let line = access_line(&server, "/assets/sparse.bin");
    assert!(line.contains(" 206 5 "), "{line}");
    wait::until("the whole file is in the log", || server.read("access.log").contains(" 200 1073741824 "));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = setup().start();
    let mut client = server.connect();
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let round =
        [request("/assets/a.css"), request("/hello"), request("/assets/gone"), request("/assets/deep/")].concat();
    client.send(round.repeat(100));
    for _ in 0..100 {
        client.response().assert(200, "body{}");
        client.response().assert(200, HELLO);
        assert_eq!(client.response().status(), 404);
        client.response().assert(200, "<p>");
    }
}

#[test]
fn files_pass_through_tls() {
    let authority = Authority::new();
    let server = setup()
        .certificate("one", &authority.issue(&["localhost"]))
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\" }")
        .start();
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|number| (number * 7) as u8).collect();
    fs::write(public(&server, "large.bin"), &bytes).unwrap();
    for version in [&TLS12, &TLS13] {
        let mut client = Client::connect_tls(server.address(), authority.client(&[version], None), "localhost");
        assert!(ask(&mut client, "GET", "/assets/large.bin", "").body == bytes);
        let part = ask(&mut client, "GET", "/assets/large.bin", "Range: bytes=1000000-1999999\r\n");
        assert!(part.body == bytes[1_000_000..2_000_000]);
        ask(&mut client, "GET", "/assets/a.css", "").assert(200, "body{}");
    }
}

#[test]
fn a_client_that_stalls_is_cut_and_others_do_not_notice() {
    let server = setup().server("write-timeout-ms", 1000).start();
    sparse(&server);
    let mut stalled = server.connect();
    stalled.get("/assets/sparse.bin");
    stalled.wait_for_bytes(1000).unwrap();
    server.get("/assets/a.css").assert(200, "body{}");
    server.get("/hello").assert(200, HELLO);
    let line = access_line(&server, "/assets/sparse.bin");
    assert!(line.contains("outcome=client-left") && !line.contains(" 1073741824 "), "{line}");
    assert!(matches!(stalled.rest(), Err(ClientError::Reset)));
}

#[test]
fn a_client_that_leaves_takes_the_file_with_it() {
    let server = setup().start();
    sparse(&server);
    let mut client = server.connect();
    client.get("/assets/sparse.bin");
    client.wait_for_bytes(1000).unwrap();
    client.cut();
    assert!(access_line(&server, "/assets/sparse.bin").contains("outcome=client-left"));
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_gets_its_file_and_the_end() {
    let server = setup().start();
    let bytes = vec![b'x'; 3_000_000];
    fs::write(public(&server, "large.bin"), &bytes).unwrap();
    for (path, expected) in [("/assets/large.bin", &bytes[..]), ("/assets/a.css", &b"body{}"[..])] {
        let mut client = server.connect();
        client.get(path);
        client.half_close();
        assert!(client.response().body == expected);
        client.expect_close();
    }
    // One who said so while the file was on its way.
    let mut client = server.connect();
    client.get("/assets/large.bin");
    client.wait_for_bytes(1000).unwrap();
    client.sender().shutdown(Shutdown::Write).unwrap();
    assert!(client.response().body == bytes);
    client.expect_close();
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_never_looks_whole() {
    let server = setup().start();
    sparse(&server);
    let mut client = server.connect();
    client.get("/assets/sparse.bin");
    client.wait_for_bytes(1000).unwrap();
    OpenOptions::new().write(true).open(public(&server, "sparse.bin")).unwrap().set_len(100_000_000).unwrap();
    match client.try_response() {
        Err(ClientError::Reset | ClientError::Cut { .. }) => {}
        other => panic!("{:?}", other.map(|response| response.body.len())),
    }
    server.wait_for_log(&["became shorter"]);
    assert!(access_line(&server, "/assets/sparse.bin").contains("outcome=internal-error"));
}

#[test]
fn a_file_that_grows_is_sent_as_it_was_promised() {
    let server = setup().start();
    sparse(&server);
    let mut client = server.connect();
    client.get("/assets/sparse.bin");
    client.wait_for_bytes(1000).unwrap();
    OpenOptions::new().append(true).open(public(&server, "sparse.bin")).unwrap().set_len(GIGABYTE + 9).unwrap();
    let head = client.try_head().unwrap();
    let mut count = 0;
    client.try_body(&head, "GET", |bytes| count += bytes.len() as u64).unwrap();
    assert_eq!(count, GIGABYTE);
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn files_are_served_while_every_worker_is_busy() {
    let mut server = setup().server("workers", 1).server("request-timeout-ms", 3000).start();
    let mut busy = server.connect();
    busy.get("/spin");
    server.busy_worker();
    server.get("/assets/a.css").assert(200, "body{}");
    assert!(busy.is_silent());
    server.expect_error("/spin");
    server.expect_error("backtrace");
    assert_eq!(busy.response().status(), 504);
}

#[test]
fn requests_for_files_are_counted_and_told_of() {
    let server = setup().log("access-format", "\"json\"").start();
    let mut client = server.connect();
    let sizes: Vec<(String, usize)> =
        [("GET", "/assets/a.css"), ("HEAD", "/assets/digits.txt"), ("GET", "/assets/gone?x")]
            .into_iter()
            .map(|(method, path)| (path.to_owned(), ask(&mut client, method, path, "Referer: r\r\n").body.len()))
            .collect();
    let lines = wait::poll(wait::SOON, || {
        let log = server.read("access.log");
        (log.lines().count() == sizes.len()).then_some(log)
    });
    let lines: Vec<serde_json::Value> =
        lines.expect("a line for each").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (line, (path, size)) in lines.iter().zip(&sizes) {
        assert_eq!((line["target"].as_str(), line["bytes"].as_u64()), (Some(path.as_str()), Some(*size as u64)));
        assert_eq!((line["pid"].is_null(), line["referer"].as_str()), (true, Some("r")));
        assert!(line["total_us"].is_u64());
    }
    let of = |key: &str| lines.iter().map(|line| line[key].to_string()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["200", "200", "404"]);
    assert_eq!(of("outcome"), ["\"served\"", "\"served\"", "\"unrouted\""]);
}

#[test]
fn a_directory_that_is_missing_is_told_at_the_start_and_at_a_reload() {
    let (status, log) = Setup::new().routes(&[("GET /assets/*", "dir:publik")]).start_refused();
    assert!(!status.success());
    assert!(log.contains("publik` is not a directory") && log.contains("\"dir:publik\""), "{log}");
    let mut server = setup().start();
    let manifest = server.read("rusm.toml");
    server.write("rusm.toml", &manifest.replace("dir:public", "dir:publik"));
    server.expect_error("nothing has changed");
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: refused"]);
    server.get("/assets/a.css").assert(200, "body{}");
    // The directory is another after a reload that goes well.
    fs::create_dir(server.scratch().join("publik")).unwrap();
    server.write("publik/a.css", "other");
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 2 serves"]);
    server.get("/assets/a.css").assert(200, "other");
    server.write("rusm.toml", &manifest);
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 3 serves"]);
}

#[test]
fn a_download_outlives_a_reload_and_is_waited_for_by_a_stop() {
    let server = setup().server("shutdown-timeout-ms", 60_000).start();
    sparse(&server);
    let mut client = server.connect();
    client.get("/assets/sparse.bin");
    client.wait_for_bytes(1000).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 2 serves"]);
    server.signal(Signal::SIGQUIT);
    let head = client.try_head().unwrap();
    let mut count = 0;
    client.try_body(&head, "GET", |bytes| count += bytes.len() as u64).unwrap();
    assert_eq!(count, GIGABYTE);
    server.expect_clean_exit();
}

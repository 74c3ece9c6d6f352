//! HTTP/2 at the socket: requests, responses and bodies beside each other on one connection, by prior knowledge and in TLS.
//!
//! Owns what a client of HTTP/2 may expect. `http2_framing` has what it may not do, `http2_limits` how much and how long.

use nix::sys::signal::Signal;
use rusmd_e2e::daemon::wait_until_gone;
use rusmd_e2e::http2::{self, DATA, End, GOAWAY, HEADERS, INTERNAL_ERROR, NO_ERROR, PREFACE};
use rusmd_e2e::{Authority, Client, Daemon, Http2, Server, Setup};
use rustls::version::{TLS12, TLS13};

use crate::common::{Form, HELLO};

const MIB: usize = 1 << 20;

#[track_caller]
fn mirror() -> Server {
    Setup::new().component("mirror").start()
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

#[test]
fn requests_of_one_connection_are_answered_beside_each_other() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    for round in 0..10 {
        let streams = || (0..100).map(move |n| 1 + 2 * (round * 100 + n));
        streams().for_each(|stream| client.get(stream, "/hello"));
        streams().for_each(|stream| client.outcome(stream).assert(200, HELLO));
    }
}

#[test]
fn a_slow_request_does_not_hold_up_the_next() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=1000");
    client.get(3, "/hello");
    assert_eq!(client.frame_of_kind(HEADERS).stream, 3);
    assert_eq!(client.outcome(1).status(), 200);
}

#[test]
fn bodies_of_every_size_go_both_ways() {
    for form in [Form::Handlers, Form::Wasi] {
        let server = form.setup().start();
        let mut client = Http2::connect(server.address());
        for (n, length) in [0, 1, 16_384, 65_535, 65_536, 262_145, MIB].into_iter().enumerate() {
            let (stream, body) = (1 + 2 * n as u32, body(length));
            client.post(stream, "/echo", &body);
            let outcome = client.outcome(stream);
            assert!(outcome.status() == 200 && outcome.body == body, "{length} bytes: {:?}", outcome.statuses);
        }
    }
}

#[test]
fn a_large_body_streams_through_a_component_in_constant_memory() {
    let server = Form::Wasi.setup().start();
    let mut client = Http2::connect(server.address());
    let piece = body(251 * 1024);
    client.head(1, &http2::request("POST", "/read-then-reply"), false);
    for _ in 0..256 {
        client.body(1, &piece, false);
    }
    client.send(DATA, http2::END_STREAM, 1, &[]);
    assert_eq!(client.outcome(1).status(), 200);
    client.get(3, "/download?bytes=67108864");
    assert_eq!(client.outcome(3).body.len(), 64 * MIB);
}

#[test]
fn the_guest_sees_the_request_as_if_it_had_come_in_http_1() {
    let server = mirror();
    let mut client = Http2::connect(server.address());
    let mut fields = http2::request("GET", "/a?b=c").to_vec();
    fields.extend([("cookie", "a=1"), ("te", "trailers"), ("x-a", "1"), ("cookie", "b=2"), ("x-a", "2")]);
    client.head(1, &fields, true);
    let told = client.outcome(1).told();
    let mut lines: Vec<&str> = told.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["", "GET /a?b=c", "field cookie: a=1; b=2", "field x-a: 1", "field x-a: 2"]);
}

#[test]
fn trailers_of_a_request_reach_the_guest_without_those_that_may_not_stand_there() {
    let server = mirror();
    let mut client = Http2::connect(server.address());
    client.head(1, &http2::request("POST", "/"), false);
    client.send(DATA, 0, 1, b"body");
    client.head(1, &[("x-sum", "42"), ("host", "evil"), ("content-length", "9")], true);
    assert_eq!(client.outcome(1).told(), "POST /\ntrailer x-sum: 42\n\nbody");
}

#[test]
fn trailers_of_a_response_are_sent() {
    let server = Form::Wasi.setup().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/trailers");
    let outcome = client.outcome(1);
    assert!(outcome.trailers && outcome.reset.is_none(), "{outcome:?}");
    assert_eq!(outcome.text(), "before the trailers\n");
}

#[test]
fn a_client_that_asks_is_told_to_continue() {
    let server = mirror();
    let mut client = Http2::connect(server.address());
    let mut fields = http2::request("POST", "/").to_vec();
    fields.push(("expect", "100-continue"));
    client.head(1, &fields, false);
    let frame = client.frame_of_kind(HEADERS);
    assert_eq!((frame.stream, http2::status(&frame.payload)), (1, 100));
    client.send(DATA, http2::END_STREAM, 1, b"body");
    assert_eq!(client.outcome(1).told(), "POST /\n\nbody");
    fields[2].1 = "/nothing";
    fields.last_mut().expect("it was pushed").1 = "200-ok";
    client.head(3, &fields, true);
    assert_eq!(client.outcome(3).status(), 417);
}

#[test]
fn responses_without_content_have_none() {
    let server = Form::Wasi.setup().start();
    for (method, path, status) in
        [("HEAD", "/hello", 200), ("GET", "/status/204", 204), ("GET", "/status/304", 304), ("GET", "/status/205", 205)]
    {
        let mut client = Http2::connect(server.address());
        client.head(1, &http2::request(method, path), true);
        client.outcome(1).assert(status, "");
    }
}

#[test]
fn a_response_that_breaks_is_reset_and_the_others_go_on() {
    let mut server = Form::Wasi.setup().start();
    let mut client = Http2::connect(server.address());
    for (n, path) in
        ["/panic-after-head", "/bad-length?declared=3000000&sent=2000000", "/unfinished"].into_iter().enumerate()
    {
        let stream = 1 + 4 * n as u32;
        client.get(stream, path);
        assert_eq!(client.outcome(stream).reset, Some(INTERNAL_ERROR), "{path}");
        client.get(stream + 2, "/hello");
        assert!(client.outcome(stream + 2).text().starts_with("hello"));
    }
    server.expect_error("wasi-faults");
    server.expect_error("guest backtrace");
}

#[test]
fn a_worker_that_dies_costs_its_own_request_and_no_other() {
    let mut server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/spin");
    let worker = server.busy_worker();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL).expect("it is there");
    client.get(3, "/hello");
    client.outcome(3).assert(200, HELLO);
    assert_eq!(client.outcome(1).status(), 502);
    server.expect_error(&format!("{worker}"));
}

#[test]
fn files_pass_whole_and_in_part() {
    let text: String = (0..100_000).map(|n| format!("{n:07}\n")).collect();
    let authority = Authority::new();
    let setup = Setup::new()
        .routes(&[("GET /files/*", "dir:public")])
        .routes(&[("GET /files/*", "dir:public")])
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\" }")
        .certificate("one", &authority.issue(&["localhost"]));
    let server = setup.public("large.txt", &text).public("small.txt", "small\n").start();
    let secure = Http2::connect_tls(server.addresses()[1], &authority.client(&[&TLS13], None), "localhost");
    for (mut client, scheme) in [(Http2::connect(server.address()), "http"), (secure, "https")] {
        for (stream, path) in [(1, "/files/large.txt"), (3, "/files/small.txt"), (5, "/files/large.txt")] {
            let mut fields = http2::request("GET", path).to_vec();
            fields[1].1 = scheme;
            if stream == 5 {
                fields.push(("range", "bytes=8-15"));
            }
            client.head(stream, &fields, true);
        }
        assert!(client.outcome(1).text() == text);
        client.outcome(3).assert(200, "small\n");
        assert_eq!(client.outcome(5).text(), "0000001\n");
    }
}

#[test]
fn a_response_is_compressed_on_its_way() {
    let lines = "compression = [\"gzip\"]\nheaders = { content-type = \"text/plain\" }";
    let server = Form::Handlers.setup().listener_line(lines).start();
    let mut client = Http2::connect(server.address());
    let mut fields = http2::request("GET", "/large?bytes=1000000").to_vec();
    fields.push(("accept-encoding", "gzip"));
    client.head(1, &fields, true);
    let compressed = client.outcome(1).body;
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut plain).expect("it is gzip");
    assert!(plain.len() == 1_000_000 && compressed.len() < 100_000);
}

#[test]
fn tls_clients_get_what_they_name_first_of_what_there_is() {
    let authority = Authority::new();
    let one = "tls = { cert = \"one.pem\", key = \"one.key\" }";
    let server = Setup::new()
        .component("mirror")
        .listener_line(one)
        .component("mirror")
        .listener_line(one)
        .listener_line("http2 = false")
        .certificate("one", &authority.issue(&["localhost"]))
        .start();
    for version in [&TLS12, &TLS13] {
        let config = authority.client(&[version], None);
        let mut client = Http2::connect_tls(server.addresses()[0], &config, "localhost");
        let mut fields = http2::request("POST", "/");
        fields[1].1 = "https";
        client.head(1, &fields, false);
        client.body(1, &body(200_000), true);
        assert!(client.outcome(1).body.ends_with(&body(200_000)));
        assert_eq!(client.protocol(), Some(b"h2".to_vec()));

        let client = Http2::connect_tls(server.addresses()[1], &config, "localhost");
        assert_eq!(client.protocol_after_handshake(), Some(b"http/1.1".to_vec()));
    }
}

#[test]
fn the_preface_may_come_byte_by_byte_and_with_a_request_behind_it() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect_silent(server.address());
    for byte in PREFACE {
        client.send_bytes(&[*byte]);
    }
    client.send(http2::SETTINGS, 0, 0, &[]);
    client.get(1, "/hello");
    client.outcome(1).assert(200, HELLO);

    let mut client = Http2::connect_silent(server.address());
    let block = http2::block(&http2::request("GET", "/hello"));
    let flags = http2::END_HEADERS | http2::END_STREAM;
    client.send_bytes(
        &[PREFACE, &http2::frame(http2::SETTINGS, 0, 0, &[]), &http2::frame(HEADERS, flags, 1, &block)].concat(),
    );
    client.outcome(1).assert(200, HELLO);
}

#[test]
fn a_preface_is_one_only_at_the_beginning_and_where_http_2_is_on() {
    let server = Form::Handlers.setup().start();
    let mut client = server.connect();
    client.get("/hello");
    client.response().assert(200, HELLO);
    client.send(PREFACE);
    assert_eq!(client.response().status(), 505);
    client.expect_close();

    let server = Form::Handlers.setup().listener_line("http2 = false").start();
    let mut client = server.connect();
    client.send(PREFACE);
    assert_eq!(client.response().status(), 505);
    client.expect_close();
}

#[test]
fn an_upgrade_to_h2c_is_ignored() {
    let server = Form::Handlers.setup().start();
    let mut client: Client = server.connect();
    client.send(
        "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    );
    client.response().assert(200, HELLO);
}

#[test]
fn a_stop_says_goaway_and_answers_what_it_has() {
    let server = Form::Handlers.setup().server("workers", 1).start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=300");
    client.get(3, "/hello");
    client.ping();
    server.signal(Signal::SIGQUIT);
    let frame = client.frame_of_kind(GOAWAY);
    assert_eq!(http2::code(&frame.payload[4..]), NO_ERROR);
    // On its way before the client could know.
    client.get(5, "/hello");
    assert_eq!(client.outcome(1).status(), 200);
    client.outcome(3).assert(200, HELLO);
    client.outcome(5).assert(200, HELLO);
    assert!(matches!(client.end(), End::Closed | End::Goaway(NO_ERROR)));
    server.expect_clean_exit();
}

#[test]
fn a_reload_changes_nothing_for_a_connection_and_what_it_asks_for() {
    let server = Form::Handlers.setup().start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/sleep?ms=500");
    client.ping();
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: generation 2 serves"]);
    client.get(3, "/hello");
    client.outcome(3).assert(200, HELLO);
    assert_eq!(client.outcome(1).status(), 200);
}

#[test]
fn an_upgrade_says_goaway_and_the_old_process_answers_what_it_has() {
    let daemon = Daemon::new("wasi-faults");
    daemon.start();
    let mut client = Http2::connect(daemon.address());
    client.get(1, "/sleep?ms=1000");
    client.ping();
    let old = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    assert_eq!(http2::code(&client.frame_of_kind(GOAWAY).payload[4..]), NO_ERROR);
    let mut next = Http2::connect(daemon.address());
    next.get(1, "/hello");
    assert_eq!(next.outcome(1).status(), 200);
    client.outcome(1).assert(200, "slept\n");
    assert!(matches!(client.end(), End::Closed | End::Goaway(NO_ERROR)));
    wait_until_gone(&[old]);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_header_of_the_proxy_protocol_may_stand_before_the_preface() {
    let server = Setup::new()
        .routes(&[("/show", "faults#show")])
        .listener_line("proxy-protocol = true\ntrusted-proxies = [\"127.0.0.1\"]")
        .start();
    let mut client = Http2::connect_silent(server.address());
    client.send_bytes(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n");
    client.greet();
    client.get(1, "/show");
    let text = client.outcome(1).text();
    assert!(text.contains("peer Some(192.0.2.7:4711)"), "{text}");
}

#[test]
fn the_log_and_the_metrics_name_the_version() {
    let server = Form::Handlers.setup().log("access", "\"access.log\"").server("admin", "\"127.0.0.1:0\"").start();
    let mut client = Http2::connect(server.address());
    client.get(1, "/hello");
    client.outcome(1).assert(200, HELLO);
    server.get("/hello").assert(200, HELLO);
    rusmd_e2e::wait::until("both are in the log", || {
        let log = server.read("access.log");
        log.contains("\"GET /hello HTTP/2.0\" 200") && log.contains("\"GET /hello HTTP/1.1\" 200")
    });
    let totals: serde_json::Value = crate::control::status(&server)["totals"].take();
    assert_eq!((&totals["versions"]["HTTP/2.0"], &totals["connections_http2"]), (&1.into(), &1.into()), "{totals}");
}

//! The corpus: raw request bytes and what must become of them, each row also split at every byte and fed byte by byte.
//!
//! Owns the player that stands in for the reactor; the rows are in `requests` and `bodies`. Tests only.

mod bodies;
mod requests;

use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::error::ALL_REQUEST_ERRORS;
use super::{BodyLength, Connection, Context, Event, Limits, RequestError, ResponseHead, Scheme, Timeouts};

/// RFC section, bytes, outcome.
///
/// In the bytes a newline stands for CRLF, `␊` for a bare LF and `␍` for a bare CR. The outcome lists, joined by ` | `, each served
/// request as `method path?query =body`, a refusal by the name of its error, and what the connection is then: `open` for the next
/// request, `wait`ing for the rest of this one, or `close`d. A refusal closes always, and so leaves that out.
type Row = (&'static str, &'static str, &'static str);

fn rows() -> impl Iterator<Item = &'static Row> {
    requests::LINES.iter().chain(requests::FIELDS).chain(requests::CONNECTIONS).chain(bodies::BODIES)
}

fn wire_of(row: &Row) -> Vec<u8> {
    row.1.replace('\n', "\r\n").replace('␊', "\n").replace('␍', "\r").into_bytes()
}

/// Time for the tests that have no interest in it; read once so that it is the same for all.
#[expect(clippy::disallowed_methods, reason = "an `Instant` has no other beginning")]
pub(super) fn some_instant() -> Instant {
    Instant::now()
}

/// Plays the reactor with a guest that answers `ok` as soon as the request is whole.
struct Player {
    connection: Connection,
    now: Instant,
    log: Vec<String>,
    body: Vec<u8>,
    request: String,
    output: Vec<u8>,
    /// Of each response: its status, and whether it answers a HEAD.
    owed: Vec<(u16, bool)>,
}

enum Told {
    Whole { is_head: bool },
    Begun { expects_continue: bool, is_head: bool },
    Piece,
    Refused(u16),
    Gone,
}

impl Player {
    fn new(limits: Limits) -> Self {
        let (context, now) = (Rc::new(Context::new(limits, Timeouts::default())), some_instant());
        Self {
            connection: Connection::new(context, Scheme::Http, now),
            now,
            log: Vec::new(),
            body: Vec::new(),
            request: String::new(),
            output: Vec::new(),
            owed: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.connection.handle_input(bytes, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        let mut is_head = false;
        while let Some(told) = self.poll() {
            match told {
                Told::Whole { is_head: bodyless } => self.answer(bodyless),
                Told::Begun { expects_continue, is_head: bodyless } => {
                    is_head = bodyless;
                    self.connection.respond_continue(self.now);
                    if expects_continue {
                        self.owed.push((100, true));
                    }
                }
                Told::Piece => {}
                Told::Refused(status) => self.owed.push((status, is_head)),
                Told::Gone => self.log.push("gone".into()),
            }
            self.write_out();
        }
        self.write_out();
    }

    fn poll(&mut self) -> Option<Told> {
        Some(match self.connection.poll_event(self.now)? {
            Event::Request(head) => {
                self.request = format!("{} {}", head.method, head.path);
                if let Some(query) = head.query {
                    let _ = write!(self.request, "?{query}");
                }
                let is_head = head.method == "HEAD";
                match head.body {
                    BodyLength::None => {
                        self.log.push(std::mem::take(&mut self.request));
                        Told::Whole { is_head }
                    }
                    BodyLength::Known(_) | BodyLength::Chunked => {
                        self.body.clear();
                        Told::Begun { expects_continue: head.expects_continue, is_head }
                    }
                }
            }
            Event::Body(bytes) => {
                assert!(!bytes.is_empty());
                self.body.extend_from_slice(bytes);
                Told::Piece
            }
            Event::BodyEnd { .. } => {
                let request = std::mem::take(&mut self.request);
                self.log.push(format!("{request} ={}", String::from_utf8_lossy(&self.body)));
                Told::Whole { is_head: request.starts_with("HEAD ") }
            }
            Event::Refused { status, reason } => {
                let error = ALL_REQUEST_ERRORS.iter().find(|error| error.reason() == reason).expect("a known reason");
                self.log.push(format!("{error:?}"));
                Told::Refused(status)
            }
            Event::ClientGone => Told::Gone,
        })
    }

    fn answer(&mut self, is_head: bool) {
        let head = ResponseHead { status: 200, headers: &[], body_length: Some(2) };
        self.connection.respond_head(&head, self.now).expect("a valid head");
        self.connection.respond_body(b"ok", self.now).expect("as long as promised");
        self.connection.respond_end(&[], self.now).expect("as long as promised");
        self.owed.push((200, is_head));
    }

    fn write_out(&mut self) {
        self.output.extend_from_slice(self.connection.output());
        self.connection.consume_output(self.connection.output().len(), self.now);
    }

    fn outcome(&self) -> String {
        let state = if self.connection.is_closed() || self.connection.should_shutdown_write() {
            "close"
        } else if self.connection.is_idle() {
            "open"
        } else {
            "wait"
        };
        let refused = self.log.last().is_some_and(|last| ALL_REQUEST_ERRORS.iter().any(|e| *last == format!("{e:?}")));
        if refused {
            assert_eq!(state, "close", "a refusal closes");
            self.log.join(" | ")
        } else {
            self.log.iter().map(String::as_str).chain([state]).collect::<Vec<_>>().join(" | ")
        }
    }

    /// Reads the output as a client would, and compares it with what was answered.
    fn check_output(&self) {
        let mut rest = &self.output[..];
        for &(status, bodyless) in &self.owed {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut response = httparse::Response::new(&mut fields);
            let parsed = response.parse(rest).expect("a valid response head");
            let httparse::Status::Complete(length) = parsed else { panic!("an incomplete response head") };
            assert_eq!(response.code, Some(status));
            let content_length = response.headers.iter().find(|field| field.name == "content-length");
            let body = content_length.map_or(0, |field| {
                let digits = std::str::from_utf8(field.value).expect("digits");
                if bodyless { 0 } else { digits.parse().expect("a number") }
            });
            rest = &rest[length + body..];
        }
        assert_eq!(rest, b"", "nothing but the responses that are owed");
    }
}

fn play(wire: &[u8], pieces: impl Iterator<Item = usize>, limits: &Limits) -> String {
    let mut player = Player::new(limits.clone());
    let mut from = 0;
    for to in pieces.chain([wire.len()]) {
        player.feed(&wire[from..to]);
        from = to;
    }
    player.check_output();
    player.outcome()
}

fn play_every_way(wire: &[u8], limits: &Limits) -> String {
    let whole = play(wire, std::iter::empty(), limits);
    assert_eq!(play(wire, 1..wire.len().max(1), limits), whole, "byte by byte: {}", wire.escape_ascii());
    for split in 1..wire.len() {
        assert_eq!(play(wire, [split].into_iter(), limits), whole, "split at {split}: {}", wire.escape_ascii());
    }
    whole
}

#[test]
fn every_row_has_its_outcome_however_the_bytes_arrive() {
    for row in rows() {
        let (section, text, expected) = row;
        assert_eq!(play_every_way(&wire_of(row), &Limits::default()), *expected, "{section}: {text:?}");
    }
}

#[test]
fn the_corpus_is_large_and_without_repetition() {
    let mut seen = std::collections::BTreeSet::new();
    assert!(rows().all(|row| seen.insert(row.1)), "a row stands there twice");
    assert!(seen.len() >= 200, "{} rows", seen.len());
}

#[test]
fn every_refusal_is_in_the_corpus_or_has_a_test_of_its_own() {
    use RequestError::*;
    // Those that depend on limits, time or the end of the connection.
    let elsewhere = [
        TargetTooLong,
        HeadTooLarge,
        TooManyHeaders,
        BodyTooLarge,
        ChunkExtensionsTooLarge,
        TrailersTooLarge,
        HeadIncomplete,
        BodyIncomplete,
        HeadTooSlow,
        BodyTooSlow,
        ConnectionOptions,
    ];
    for error in ALL_REQUEST_ERRORS {
        let name = format!("{error:?}");
        let present = rows().any(|row| row.2.split(" | ").any(|outcome| outcome == name));
        assert_ne!(present, elsewhere.contains(error), "{name}");
    }
}

#[test]
fn limits_hold_at_the_limit_and_one_past_it() {
    let limits = Limits { head_bytes_max: 200, headers_max: 4, target_bytes_max: 20, ..Limits::default() };
    let head = |fill: usize| format!("GET / HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "y".repeat(fill));
    let fits = 200 - head(0).len();
    let target = |fill: usize| format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "t".repeat(fill));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nhost: h\r\n{}\r\n", "a: b\r\n".repeat(count - 1));
    let options =
        |count: usize| format!("GET / HTTP/1.1\r\nhost: h\r\nconnection: {}\r\n\r\n", vec!["o"; count].join(","));
    let ok = "GET / | open".to_string();
    for (wire, expected) in [
        (head(fits), ok.clone()),
        (head(fits + 1), "HeadTooLarge".into()),
        (target(19), format!("GET /{} | open", "t".repeat(19))),
        (target(20), "TargetTooLong".into()),
        (target(150), "TargetTooLong".into()),
        (format!("GET /{}", "t".repeat(150)), "TargetTooLong".into()),
        (fields(4), ok.clone()),
        (fields(5), "TooManyHeaders".into()),
        (options(32), ok.clone()),
        (options(33), "ConnectionOptions".into()),
        (format!("{} / HTTP/1.1\r\nhost: h\r\n\r\n", "M".repeat(32)), format!("{} / | open", "M".repeat(32))),
        (format!("{} / HTTP/1.1\r\nhost: h\r\n\r\n", "M".repeat(33)), "MethodTooLong".into()),
    ] {
        assert_eq!(play_every_way(wire.as_bytes(), &limits), expected, "{wire:?}");
    }
}

#[test]
fn many_fields_are_read_beyond_the_small_table() {
    let fields = (0..99).map(|n| format!("x-{n}: {n}\r\n")).collect::<String>();
    let wire = format!("GET / HTTP/1.1\r\nhost: h\r\n{fields}\r\n");
    assert_eq!(play(wire.as_bytes(), std::iter::empty(), &Limits::default()), "GET / | open");
}

#[test]
fn bodies_hold_at_the_limit_and_one_past_it() {
    let limits = Limits { body_bytes_max: 4, chunk_ext_bytes_max: 3, trailer_bytes_max: 8, ..Limits::default() };
    let known =
        |length: usize| format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{}", "b".repeat(length));
    let chunked = |text: &str| format!("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{text}");
    for (wire, expected) in [
        (known(4), "POST / =bbbb | open"),
        (known(5), "BodyTooLarge"),
        (chunked("4\r\nbbbb\r\n0\r\n\r\n"), "POST / =bbbb | open"),
        (chunked("5\r\nbbbbb\r\n0\r\n\r\n"), "BodyTooLarge"),
        (chunked("3\r\nbbb\r\n2\r\nbb\r\n0\r\n\r\n"), "BodyTooLarge"),
        (chunked("1;ab\r\nb\r\n0\r\n\r\n"), "POST / =b | open"),
        (chunked("1;abc\r\nb\r\n0\r\n\r\n"), "ChunkExtensionsTooLarge"),
        (chunked("0\r\na: b\r\n\r\n"), "POST / = | open"),
        (chunked("0\r\na: bc\r\n\r\n"), "TrailersTooLarge"),
    ] {
        assert_eq!(play_every_way(wire.as_bytes(), &limits), expected, "{wire:?}");
    }
}

#[test]
fn a_request_that_breaks_off_is_refused_and_never_served() {
    for row in rows().filter(|row| row.2.ends_with("wait")) {
        let mut player = Player::new(Limits::default());
        player.feed(&wire_of(row));
        player.connection.handle_eof(player.now);
        player.settle();
        let last = player.log.last().expect("an outcome").as_str();
        assert!(["HeadIncomplete", "BodyIncomplete"].contains(&last), "{row:?}: {last}");
        player.check_output();
    }
}

#[test]
fn no_bytes_make_it_panic_or_lose_count() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let wires: Vec<_> = rows().map(wire_of).collect();
    const ALPHABET: &[u8] = b"\r\n\r\n\r\n :;,0123456789abcdefGETPOST/HTTP/1.1chunked\0\t%.\x16\x7f\xff";
    for _ in 0..6_000 {
        let mut wire = wires[random(wires.len())].clone();
        wire.extend_from_slice(&wires[random(wires.len())]);
        for _ in 0..random(6) {
            let at = random(wire.len() + 1);
            match random(4) {
                0 => wire.insert(at, ALPHABET[random(ALPHABET.len())]),
                1 => wire.truncate(at.max(1)),
                2 if at < wire.len() => wire[at] = ALPHABET[random(ALPHABET.len())],
                _ if at < wire.len() => drop(wire.remove(at)),
                _ => {}
            }
        }
        let whole = play(&wire, std::iter::empty(), &Limits::default());
        let mut cuts: Vec<_> = (0..3).map(|_| random(wire.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(play(&wire, cuts.into_iter(), &Limits::default()), whole, "{}", wire.escape_ascii());
    }
}

#[test]
fn a_connection_is_small() {
    assert!(size_of::<Connection>() <= 192, "{}", size_of::<Connection>());
}

#[test]
fn silence_after_an_exchange_costs_no_buffer() {
    let context = Rc::new(Context::default());
    let now = some_instant();
    let mut connection = Connection::new(context.clone(), Scheme::Http, now);
    connection.handle_input(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", now);
    assert!(matches!(connection.poll_event(now), Some(Event::Request(_))));
    connection.respond_error(404, "no such page", "r1", &[], now);
    assert!(connection.poll_event(now).is_none());
    assert_eq!(context.spare_len(), 0);
    connection.consume_output(connection.output().len(), now + Duration::from_millis(1));
    assert!(connection.is_idle());
    assert_eq!(context.spare_len(), 1);
}

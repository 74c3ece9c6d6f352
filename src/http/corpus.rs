//! The corpus in the parser: every row of `rows`, also split at every byte and fed byte by byte, and then with an innocent request
//! behind it.
//!
//! Owns the player that stands in for the reactor. Tests only; `tests/e2e` sends the same rows to the real process.

mod rows;

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::error::ALL_REQUEST_ERRORS;
use super::{BodyLength, Connection, Context, Event, Limits, RequestError, ResponseHead, Scheme, TargetForm, Timeouts};
use rows::{Fate, INNOCENT, INNOCENT_SEEN, State, is_as_expected, notation, outcome_of, rows, wire_of};

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
    line: String,
    fields: Vec<String>,
    output: Vec<u8>,
    /// Of each response: its status, and whether it answers a HEAD.
    owed: Vec<(u16, bool)>,
}

enum Told {
    Whole,
    Begun {
        expects_continue: bool,
    },
    Piece,
    Refused(u16),
    /// The server answers by itself.
    Unrouted(u16),
    Gone,
}

fn listed<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<String> {
    let told = fields.filter(|(name, _)| !matches!(*name, "host" | "content-length"));
    told.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
}

impl Player {
    fn new(limits: Limits) -> Self {
        let (context, now) = (Rc::new(Context::new(limits, Timeouts::default())), some_instant());
        Self {
            connection: Connection::new(context, Scheme::Http, now),
            now,
            log: Vec::new(),
            body: Vec::new(),
            line: String::new(),
            fields: Vec::new(),
            output: Vec::new(),
            owed: Vec::new(),
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.connection.handle_input(bytes, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(told) = self.poll() {
            match told {
                Told::Whole => self.answer(),
                Told::Begun { expects_continue } => {
                    let before = self.connection.output().len();
                    self.connection.respond_continue(self.now);
                    if self.connection.output().len() > before {
                        assert!(expects_continue, "nobody asked");
                        self.owed.push((100, true));
                    }
                }
                Told::Piece => {}
                Told::Refused(status) => self.owed.push((status, self.is_head())),
                Told::Unrouted(status) => self.answer_unrouted(status),
                Told::Gone => self.log.push("gone".into()),
            }
            self.write_out();
        }
        self.write_out();
    }

    fn poll(&mut self) -> Option<Told> {
        Some(match self.connection.poll_event(self.now)? {
            Event::Request(head) => {
                self.line = format!("{} ", head.method);
                if head.claims_https {
                    return Some(Told::Unrouted(421));
                }
                let path = match head.form {
                    TargetForm::Asterisk => return Some(Told::Unrouted(204)),
                    TargetForm::Origin | TargetForm::Absolute => match super::target::normalise(head.path) {
                        Ok(path) => path,
                        Err(_) => return Some(Told::Unrouted(400)),
                    },
                };
                let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
                self.line.push_str(&format!("{path}{query}"));
                self.fields = listed(head.headers.iter());
                self.body.clear();
                match head.body {
                    BodyLength::None => {
                        self.log.push(notation(&self.line, &self.fields, &[], ""));
                        Told::Whole
                    }
                    BodyLength::Known(_) | BodyLength::Chunked => {
                        Told::Begun { expects_continue: head.expects_continue }
                    }
                }
            }
            Event::Body(bytes) => {
                assert!(!bytes.is_empty());
                self.body.extend_from_slice(bytes);
                Told::Piece
            }
            Event::BodyEnd { trailers } => {
                let body = String::from_utf8_lossy(&self.body);
                self.log.push(notation(&self.line, &self.fields, &listed(trailers.iter()), &body));
                Told::Whole
            }
            Event::Refused { status, reason, .. } => {
                let error = ALL_REQUEST_ERRORS.iter().find(|error| error.reason() == reason).expect("a known reason");
                self.log.push(format!("{status} {error:?}"));
                Told::Refused(status)
            }
            Event::ClientGone => Told::Gone,
        })
    }

    /// As the reactor answers what no guest gets.
    fn answer_unrouted(&mut self, status: u16) {
        self.log.push(status.to_string());
        self.connection.respond_error(status, "", "", &[], self.now);
        self.owed.push((status, status == 204 || self.is_head()));
        self.line.clear();
    }

    /// Whether the request in progress is one.
    fn is_head(&self) -> bool {
        self.line.starts_with("HEAD ")
    }

    fn answer(&mut self) {
        let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: Some(2) };
        self.connection.respond_head(&head, self.now).expect("a valid head");
        self.connection.respond_body(b"ok", self.now).expect("as long as promised");
        self.connection.respond_end(&[], self.now).expect("as long as promised");
        self.owed.push((200, self.is_head()));
        self.line.clear();
    }

    fn write_out(&mut self) {
        self.output.extend_from_slice(self.connection.output());
        self.connection.consume_output(self.connection.output().len(), self.now);
    }

    /// What has become of each request, and what the connection is now.
    fn outcome(&self) -> (Vec<String>, State) {
        let state = if self.connection.is_closed() || self.connection.should_shutdown_write() {
            State::Close
        } else if self.connection.is_idle() {
            State::Open
        } else {
            State::Wait
        };
        (self.log.clone(), state)
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

fn play(wire: &[u8], pieces: impl Iterator<Item = usize>, limits: &Limits) -> (Vec<String>, State) {
    let mut player = Player::new(limits.clone());
    let mut from = 0;
    for to in pieces.chain([wire.len()]) {
        player.feed(&wire[from..to]);
        from = to;
    }
    player.check_output();
    player.outcome()
}

fn play_every_way(wire: &[u8], limits: &Limits) -> (Vec<String>, State) {
    let whole = play(wire, std::iter::empty(), limits);
    assert_eq!(play(wire, 1..wire.len().max(1), limits), whole, "byte by byte: {}", wire.escape_ascii());
    for split in 1..wire.len() {
        assert_eq!(play(wire, [split].into_iter(), limits), whole, "split at {split}: {}", wire.escape_ascii());
    }
    whole
}

/// What is wrong with what was seen of a row, if anything; fields of which the row says nothing are not compared.
fn complaint(row: &rows::Row, seen: &[String], state: State) -> Option<String> {
    let (section, text, outcome) = row;
    let (fates, expected_state) = outcome_of(row);
    let fits = |(fate, seen): (&Fate<'_>, &String)| match fate {
        Fate::Served(expected) => is_as_expected(expected, seen),
        Fate::Answered { status, error: Some(name) } => *seen == format!("{status} {name}"),
        Fate::Answered { status, error: None } => *seen == status.to_string(),
    };
    let all_fit = fates.len() == seen.len() && fates.iter().zip(seen).all(fits);
    let complaint = || format!("{section}: {text:?}\n  expected {outcome}\n  seen {seen:?} {state:?}\n");
    (!all_fit || state != expected_state).then(complaint)
}

/// The same for a row that is written on the spot.
#[track_caller]
fn assert_plays(wire: &str, limits: &Limits, outcome: &str) {
    let (seen, state) = play_every_way(wire.as_bytes(), limits);
    // The row lives as long as the test.
    let outcome: &'static str = String::leak(outcome.to_owned());
    assert_eq!(complaint(&("", "", outcome), &seen, state), None, "{wire:?}");
}

#[test]
fn every_row_has_its_outcome_however_the_bytes_arrive() {
    let complaints = rows().filter_map(|row| {
        let (seen, state) = play_every_way(&wire_of(row), &Limits::default());
        complaint(row, &seen, state)
    });
    let complaints: String = complaints.collect();
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn a_request_that_follows_a_row_is_read_as_it_is_or_not_at_all() {
    for row in rows() {
        let (before, state) = play(&wire_of(row), std::iter::empty(), &Limits::default());
        let wire = [&wire_of(row)[..], INNOCENT.as_bytes()].concat();
        let (mut after, end) = play(&wire, std::iter::empty(), &Limits::default());
        match state {
            State::Open => {
                let seen = after.pop().unwrap_or_default();
                assert!(is_as_expected(INNOCENT_SEEN, &seen) && end == State::Open, "{row:?}: {seen}");
            }
            State::Close => assert_eq!(end, State::Close, "{row:?}"),
            State::Wait => continue,
        }
        assert_eq!(after, before, "{row:?}");
    }
}

#[test]
fn the_corpus_is_large_and_without_repetition() {
    let mut seen = std::collections::BTreeSet::new();
    for row in rows() {
        assert!(seen.insert(row.1), "a row stands there twice: {row:?}");
    }
    assert!(seen.len() >= 500, "{} rows", seen.len());
}

#[test]
fn every_refusal_is_in_the_corpus_or_has_a_test_of_its_own() {
    use RequestError::*;
    // Those that depend on limits, time or the end of the connection.
    let elsewhere = [
        TargetTooLong,
        HeadTooLarge,
        TooManyHeaders,
        ChunkExtensionsTooLarge,
        TrailersTooLarge,
        HeadIncomplete,
        BodyIncomplete,
        HeadTooSlow,
        BodyTooSlow,
        ConnectionOptions,
        // Of HTTP/2 alone.
        ConnectionField,
    ];
    for error in ALL_REQUEST_ERRORS {
        let (status, name) = (error.status(), format!("{error:?}"));
        let refusal = Fate::Answered { status, error: Some(&name) };
        let present = rows().any(|row| outcome_of(row).0.contains(&refusal));
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
        (head(fits + 1), "431 HeadTooLarge".into()),
        (target(19), format!("GET /{} | open", "t".repeat(19))),
        (target(20), "414 TargetTooLong".into()),
        (target(150), "414 TargetTooLong".into()),
        (format!("GET /{}", "t".repeat(150)), "414 TargetTooLong".into()),
        (fields(4), ok.clone()),
        (fields(5), "431 TooManyHeaders".into()),
        (options(32), ok.clone()),
        (options(33), "400 ConnectionOptions".into()),
        (format!("{} / HTTP/1.1\r\nhost: h\r\n\r\n", "M".repeat(32)), format!("{} / | open", "M".repeat(32))),
        (format!("{} / HTTP/1.1\r\nhost: h\r\n\r\n", "M".repeat(33)), "400 MethodTooLong".into()),
    ] {
        assert_plays(&wire, &limits, expected.as_ref());
    }
}

#[test]
fn many_fields_are_read_beyond_the_small_table() {
    let fields = (0..99).map(|n| format!("x-{n}: {n}\r\n")).collect::<String>();
    let wire = format!("GET / HTTP/1.1\r\nhost: h\r\n{fields}\r\n");
    let (seen, state) = play(wire.as_bytes(), std::iter::empty(), &Limits::default());
    assert!(seen[0].contains("x-0: 0 ¦ x-1: 1") && seen[0].contains("x-98: 98") && state == State::Open, "{seen:?}");
}

#[test]
fn bodies_hold_at_the_limit_and_one_past_it() {
    let limits = Limits { body_bytes_max: 4, chunk_ext_bytes_max: 3, trailer_bytes_max: 8, ..Limits::default() };
    let known =
        |length: usize| format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{}", "b".repeat(length));
    let chunked = |text: &str| format!("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{text}");
    for (wire, expected) in [
        (known(4), "POST / =bbbb | open"),
        (known(5), "413 BodyTooLarge"),
        (chunked("4\r\nbbbb\r\n0\r\n\r\n"), "POST / =bbbb | open"),
        (chunked("5\r\nbbbbb\r\n0\r\n\r\n"), "413 BodyTooLarge"),
        (chunked("3\r\nbbb\r\n2\r\nbb\r\n0\r\n\r\n"), "413 BodyTooLarge"),
        (chunked("1;ab\r\nb\r\n0\r\n\r\n"), "POST / =b | open"),
        (chunked("1;abc\r\nb\r\n0\r\n\r\n"), "400 ChunkExtensionsTooLarge"),
        (chunked("0\r\na: b\r\n\r\n"), "POST / = | open"),
        (chunked("0\r\na: bc\r\n\r\n"), "431 TrailersTooLarge"),
    ] {
        assert_plays(&wire, &limits, expected);
    }
}

#[test]
fn a_request_that_breaks_off_is_refused_and_never_served() {
    for row in rows().filter(|row| outcome_of(row).1 == State::Wait && row.1 != "␍") {
        let mut player = Player::new(Limits::default());
        player.feed(&wire_of(row));
        player.connection.handle_eof(player.now);
        player.settle();
        let last = player.log.last().expect("an outcome").as_str();
        assert!(["400 HeadIncomplete", "400 BodyIncomplete"].contains(&last), "{row:?}: {last}");
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
    assert!(size_of::<Connection>() <= 208, "{}", size_of::<Connection>());
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

//! The corpus at the socket: every row of `src/http/corpus/rows` against the real process, with a real component that tells what it sees.
//!
//! Owns the player over TCP. Each row is sent whole, split in two at every byte, and one byte at a time; an innocent request follows in
//! the same breath, and must be read as it is or, where the connection ends, not at all. The parser's own test has the same rows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rusmd_e2e::{Client, ClientError, Response, Setup};

use rows::{Fate, INNOCENT, INNOCENT_SEEN, Row, State, is_as_expected, notation, outcome_of, rows, wire_of};

#[path = "../../../src/http/corpus/rows/mod.rs"]
mod rows;

/// Connections that one thread has open at a time.
const BATCH: usize = 128;
/// Threads that send. They mostly wait for the server, which has one.
const THREADS: usize = 3;

/// One row in one way of sending it.
struct Play {
    row: &'static Row,
    pieces: Vec<Vec<u8>>,
}

impl Play {
    /// The row cut at `cuts`; its last piece has the innocent request behind it.
    fn new(row: &'static Row, cuts: impl Iterator<Item = usize>) -> Play {
        let wire = wire_of(row);
        let mut pieces = Vec::new();
        let mut from = 0;
        for to in cuts.chain([wire.len()]) {
            pieces.push(wire[from..to].to_vec());
            from = to;
        }
        if outcome_of(row).1 != State::Wait {
            pieces.last_mut().expect("there is a last piece").extend_from_slice(INNOCENT.as_bytes());
        }
        Play { row, pieces }
    }

    /// What is wrong with what came back, if anything.
    fn check(&self, client: &mut Client) -> Result<(), String> {
        let (fates, state) = outcome_of(self.row);
        let mut refused = false;
        for fate in &fates {
            refused = self.check_fate(fate, client)?;
        }
        match state {
            State::Open => {
                self.check_fate(&Fate::Served(INNOCENT_SEEN), client)?;
                client.half_close();
                check_end(client, false)
            }
            State::Wait => {
                client.half_close();
                // What never began is not answered.
                if wire_of(self.row) != b"\r" {
                    self.check_fate(&Fate::Answered { status: 400, error: Some("incomplete") }, client)?;
                }
                check_end(client, false)
            }
            // What the client sends after its last request may meet a closed socket; after a refusal it must not.
            State::Close => check_end(client, !refused),
        }
    }

    /// Returns whether it was a refusal.
    fn check_fate(&self, fate: &Fate<'_>, client: &mut Client) -> Result<bool, String> {
        let method = match fate {
            Fate::Served(expected) if expected.starts_with("HEAD ") => "HEAD",
            Fate::Served(_) | Fate::Answered { .. } => "GET",
        };
        let response = final_response(client, method).map_err(|error| format!("{fate:?}: {error}"))?;
        match fate {
            Fate::Served(_) if response.status() != 200 => Err(format!("{fate:?}: {response:?}")),
            Fate::Served(_) if method == "HEAD" => Ok(false),
            Fate::Served(expected) => {
                let seen = seen(&response);
                if is_as_expected(expected, &seen) { Ok(false) } else { Err(format!("{fate:?}: seen {seen:?}")) }
            }
            Fate::Answered { status, error } => {
                let closes = response.header("connection") == Some("close");
                let fits = response.status() == *status && (error.is_none() || closes);
                if fits { Ok(error.is_some()) } else { Err(format!("{fate:?}: {response:?}")) }
            }
        }
    }
}

/// The next response that is not an interim one.
fn final_response(client: &mut Client, method: &str) -> Result<Response, ClientError> {
    loop {
        let head = client.try_head()?;
        if head.status >= 200 {
            let mut body = Vec::new();
            let trailers = client.try_body(&head, method, |bytes| body.extend_from_slice(bytes))?;
            return Ok(Response { head, body, trailers });
        }
    }
}

/// Nothing more may come before the end.
fn check_end(client: &mut Client, may_reset: bool) -> Result<(), String> {
    match client.rest() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => Err(format!("more came: {:?}", String::from_utf8_lossy(&rest))),
        Err(ClientError::Reset) if may_reset => Ok(()),
        Err(error) => Err(format!("at the end: {error}")),
    }
}

/// What the component `mirror` says that it was given, in the notation of the rows.
fn seen(response: &Response) -> String {
    let text = response.text();
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default();
    let (mut fields, mut trailers) = (Vec::new(), Vec::new());
    for entry in lines {
        match entry.split_once(' ') {
            Some(("field", field)) if !is_beside_the_point(field) => fields.push(field.to_owned()),
            Some(("trailer", field)) => trailers.push(field.to_owned()),
            Some(_) | None => {}
        }
    }
    notation(line, &fields, &trailers, body)
}

/// The rows do not tell of these, the last three of which are the server's own.
fn is_beside_the_point(field: &str) -> bool {
    let fields = ["host: ", "content-length: ", "x-request-id: ", "x-forwarded-for: 127.", "x-forwarded-proto: http"];
    fields.iter().any(|name| field.starts_with(name))
}

/// Sends the pieces of all plays, the first of each, then the second, and makes sure that the server has read one before the next.
fn play(batch: &[Play], address: SocketAddr) -> Vec<String> {
    let mut control = Client::connect(address);
    let mut barrier = || {
        control.send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        control.response();
    };
    let mut clients: Vec<Client> = batch.iter().map(|_| Client::connect(address)).collect();
    barrier();
    let steps = batch.iter().map(|play| play.pieces.len()).max().unwrap_or(0);
    for step in 0..steps {
        for (play, client) in batch.iter().zip(&mut clients) {
            if let Some(piece) = play.pieces.get(step) {
                client.send_if_open(piece);
            }
        }
        barrier();
    }
    let checked = batch.iter().zip(&mut clients).filter_map(|(play, client)| {
        let complaint = play.check(client).err()?;
        let pieces: Vec<String> = play.pieces.iter().map(|piece| piece.escape_ascii().to_string()).collect();
        Some(format!("{}: {}\n  in {pieces:?}\n  {complaint}\n", play.row.0, play.row.2))
    });
    checked.collect()
}

/// Plays everything, in batches of the loopback addresses in turn: one has too few ports for all.
fn play_all(plays: &[Play], port: u16) {
    let batches: Vec<&[Play]> = plays.chunks(BATCH).collect();
    let next = AtomicUsize::new(0);
    let complaints: Vec<String> = thread::scope(|scope| {
        let work = || {
            let mut complaints = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = batches.get(number) else { return complaints };
                let host = Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1);
                complaints.extend(play(batch, SocketAddr::new(IpAddr::V4(host), port)));
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let shown: String = complaints.iter().take(20).map(String::as_str).collect();
    assert!(complaints.is_empty(), "{} of {} complaints:\n{shown}", complaints.len(), plays.len());
}

fn play_ways(ways: impl Fn(&'static Row) -> Vec<Play>) {
    let server = Setup::new().component("mirror").listen("0.0.0.0:0").listener_line("http2 = false").start();
    let plays: Vec<Play> = rows().flat_map(ways).collect();
    play_all(&plays, server.address().port());
}

#[test]
fn every_row_of_the_corpus_has_its_outcome_when_it_comes_whole() {
    play_ways(|row| vec![Play::new(row, std::iter::empty())]);
}

#[test]
fn every_row_of_the_corpus_has_its_outcome_when_it_comes_byte_by_byte() {
    play_ways(|row| vec![Play::new(row, 1..wire_of(row).len())]);
}

#[test]
fn every_row_of_the_corpus_has_its_outcome_when_it_is_split_anywhere() {
    play_ways(|row| (1..wire_of(row).len()).map(|split| Play::new(row, [split].into_iter())).collect());
}

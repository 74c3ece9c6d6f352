//! The corpus as data: raw request bytes, what must become of them, and the section of the RFC that says so.
//!
//! Owns the rows, their notation, and the comparison of what was expected with what was seen. Two suites read it: `http::corpus` plays
//! the rows through the parser, `tests/e2e` sends them to the real process. The second includes this file by its path, so nothing here
//! may use the rest of the crate.

mod bodies;
mod detours;
mod disguises;
mod requests;

/// RFC section, bytes, outcome.
///
/// In the bytes a newline stands for CRLF, `␊` for a bare LF, `␍` for a bare CR, and a character from U+F700 on for its low byte.
///
/// The outcome lists what happens, joined by ` | `:
/// - a request that a guest is given, as `method path?query ⟨name: value ¦ …⟩ «name: value ¦ …» =body`: fields in angles, trailers in
///   guillemets. Fields that are not written are not compared, and neither are `host` and `content-length`; trailers likewise.
/// - a status alone: the answer of the server itself, after which the connection goes on;
/// - a status and the name of an error: a refusal. It closes the connection, so nothing follows.
/// - at the end, unless there is a refusal, what the connection is then: `open` for the next request, `wait`ing for the rest of this
///   one, or `close`d.
pub type Row = (&'static str, &'static str, &'static str);

/// What the connection does after a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Wait,
    Close,
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<'a> {
    /// A guest is given it, in this notation.
    Served(&'a str),
    /// The server answers with this status: a refusal has a name, too, and closes.
    Answered { status: u16, error: Option<&'a str> },
}

/// What must not be misread: a request that follows a row on the same connection.
pub const INNOCENT: &str = "GET /innocent HTTP/1.1\r\nHost: innocent\r\n\r\n";
/// What a guest sees of it.
pub const INNOCENT_SEEN: &str = "GET /innocent";

pub fn rows() -> impl Iterator<Item = &'static Row> {
    let parts = [requests::LINES, requests::FIELDS, requests::CONNECTIONS, bodies::BODIES];
    parts.into_iter().chain(disguises::ALL.iter().chain(detours::ALL).copied()).flatten()
}

pub fn wire_of(row: &Row) -> Vec<u8> {
    let mut wire = Vec::new();
    for character in row.1.chars() {
        match character {
            '\n' => wire.extend_from_slice(b"\r\n"),
            '␊' => wire.push(b'\n'),
            '␍' => wire.push(b'\r'),
            '\u{f700}'..='\u{f7ff}' => wire.push(character as u32 as u8),
            other => wire.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    wire
}

/// The outcome of a row, taken apart.
pub fn outcome_of<'a>(row: &Row) -> (Vec<Fate<'a>>, State)
where
    'static: 'a,
{
    let mut parts: Vec<&str> = row.2.split(" | ").collect();
    let state = match parts.last().copied() {
        Some("open") => Some(State::Open),
        Some("wait") => Some(State::Wait),
        Some("close") => Some(State::Close),
        Some(_) | None => None,
    };
    if state.is_some() {
        parts.pop();
    }
    (parts.into_iter().map(fate).collect(), state.unwrap_or(State::Close))
}

fn fate(text: &str) -> Fate<'_> {
    let (first, rest) = text.split_once(' ').map_or((text, None), |(first, rest)| (first, Some(rest)));
    match first.parse() {
        Ok(status) => Fate::Answered { status, error: rest },
        Err(_) => Fate::Served(text),
    }
}

/// Whether a guest has seen what it should. Parts that `expected` leaves out are not compared.
pub fn is_as_expected(expected: &str, seen: &str) -> bool {
    let seen = if expected.contains('⟨') { seen.to_owned() } else { without(seen, " ⟨", '⟩') };
    let seen = if expected.contains('«') { seen } else { without(&seen, " «", '»') };
    // A guest cannot tell an empty body from none.
    expected.trim_end_matches(" =") == seen.trim_end_matches(" =")
}

fn without(text: &str, opening: &str, closing: char) -> String {
    let found = text.split_once(opening).and_then(|(before, rest)| Some((before, rest.split_once(closing)?.1)));
    found.map_or_else(|| text.to_owned(), |(before, after)| format!("{before}{after}"))
}

/// A request as a guest sees it, in the notation of an outcome.
pub fn notation(line: &str, fields: &[String], trailers: &[String], body: &str) -> String {
    let mut text = line.to_owned();
    for (list, opening, closing) in [(fields, '⟨', '⟩'), (trailers, '«', '»')] {
        text.push_str(&format!(" {opening}{}{closing}", list.join(" ¦ ")));
    }
    text.push_str(" =");
    text.push_str(body);
    text
}

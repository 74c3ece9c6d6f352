//! Any bytes as a stream of requests: our connection and hyper's agree on where each request ends and on its body, or the
//! disagreement is one of the strictnesses that are decided and listed here.
//!
//! Owns the two drivers and the lists. hyper is driven without a runtime: its connection is a future over bytes in memory. It shares
//! `httparse` with us, which splits a head into fields; framing, lengths, codings and chunks it reads by code of its own.
#![no_main]

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker};
use std::time::Instant;

use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use rusmd::http::{BodyLength, Connection, Context, Event, RequestError, ResponseHead, Scheme};

use rows::{rows, wire_of};

#[path = "../../../src/http/corpus/rows/mod.rs"]
#[allow(dead_code, reason = "only the bytes are of interest here")]
mod rows;

/// What is refused by us and served by hyper, each on purpose: see the row of the corpus that has it. Neither a malformed length, nor a
/// malformed coding, nor anything about the bytes of chunks is among them but what is named so: there the two have to agree.
const DECIDED: &[RequestError] = &[
    // Limits that hyper has not, or not as small.
    RequestError::TargetTooLong,
    RequestError::HeadTooLarge,
    RequestError::TooManyHeaders,
    RequestError::ConnectionOptions,
    RequestError::ChunkExtensionsTooLarge,
    RequestError::TrailersTooLarge,
    // The request line and the target: stricter, and no matter of framing.
    RequestError::MethodTooLong,
    RequestError::TargetInvalid,
    RequestError::TargetFragment,
    RequestError::TargetUserinfo,
    RequestError::TargetForm,
    RequestError::TargetScheme,
    RequestError::Connect,
    // RFC 9112 §3.2: hyper leaves hosts to the application.
    RequestError::HostMissing,
    RequestError::HostRepeated,
    RequestError::HostInvalid,
    RequestError::HostDisagrees,
    // RFC 9110 §10.1.1: hyper ignores expectations that it does not know.
    RequestError::Expectation,
    // RFC 9112 §2.2 lets a line feed end a line, and lets empty lines precede a request.
    RequestError::BareLineFeed,
    RequestError::BlankLines,
    // RFC 9110 §8.6 lets equal lengths be merged, RFC 9112 §6.3 lets a coding override a length.
    RequestError::ContentLengthRepeated,
    RequestError::LengthAndCoding,
    // RFC 9112 §6.1: hyper serves codings that it does not decode, and lists with empty elements.
    RequestError::CodingUnsupported,
    RequestError::CodingInvalid,
    // RFC 9112 §7.1: whitespace after a chunk's size, more digits; §7.1.1: what is not an extension.
    RequestError::ChunkSize,
    RequestError::ChunkExtension,
];

/// As `http::limits` has it.
const CONTENT_LENGTH_DIGITS_MAX: usize = 20;
const CODING_FIELD: &[u8] = b"\ntransfer-encoding:";

/// Steps of hyper's future after which it must have come to an end: each takes something from memory that never makes it wait.
const HYPER_STEPS_MAX: usize = 10_000;

fuzz_target!(
    init: {
        let complaints: String = rows().filter_map(|row| compare(&wire_of(row)).err()).collect();
        assert!(complaints.is_empty(), "{complaints}");
    },
    |data: &[u8]| {
        // A row of the corpus with some bytes changed reaches deeper than bytes from nothing.
        let compared = match data {
            [b'#', low, high, edits @ ..] => compare(&edited(u16::from_le_bytes([*low, *high]), edits)),
            _ => compare(data),
        };
        if let Err(complaint) = compared {
            panic!("{complaint}");
        }
    }
);

/// `edits` are triples: a place, what to do there, and a byte to do it with.
fn edited(number: u16, edits: &[u8]) -> Vec<u8> {
    let row = rows().nth(usize::from(number) % rows().count()).expect("a number below the count");
    let mut wire = wire_of(row);
    for edit in edits.chunks_exact(3) {
        let at = usize::from(edit[0]) % (wire.len() + 1);
        match edit[1] % 3 {
            0 => wire.insert(at, edit[2]),
            1 if at < wire.len() => wire[at] = edit[2],
            _ if at < wire.len() => drop(wire.remove(at)),
            _ => {}
        }
    }
    wire
}

/// One request as we have read it.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Whole {
        method: String,
        body: Vec<u8>,
    },
    /// With the reason.
    Refused(&'static str),
    /// There is no more: the connection was closed, or nothing further came.
    Ended,
}

/// The first disagreement that is not decided, if there is one.
fn compare(stream: &[u8]) -> Result<(), String> {
    let ours = read_by_us(stream);
    let (theirs, farewell) = read_by_hyper(stream);
    for (number, ours) in ours.iter().enumerate() {
        let theirs = theirs.get(number);
        let agree = match (ours, theirs) {
            (Read::Whole { method, body }, Some((their_method, their_body))) => {
                method == their_method && body == their_body
            }
            // A connection that hyper has closed in peace, where we read on, is no matter of framing: it reads `connection` fields of
            // HTTP/1.0 only where they are ASCII.
            (Read::Whole { .. }, None) => farewell.is_ok() && number > 0 || hyper_is_stricter(stream),
            (Read::Refused(reason), Some(_)) => {
                let decided = DECIDED.iter().any(|error| error.reason() == *reason);
                decided || *reason == RequestError::ContentLengthInvalid.reason() && is_length_beside_the_point(stream)
            }
            (Read::Ended, Some(_)) => false,
            (Read::Refused(_) | Read::Ended, None) => true,
        };
        if !agree {
            return Err(format!(
                "request {number} of {}\n  ours: {ours:?}\n  hyper: {theirs:?}\n",
                stream.escape_ascii()
            ));
        }
        if theirs.is_none() {
            break;
        }
    }
    Ok(())
}

/// The malformed lengths that hyper may serve: beside a coding, which overrides them (RFC 9112 §6.3), and with more digits than any needs
/// (RFC 9110 §8.6 sets no limit).
fn is_length_beside_the_point(stream: &[u8]) -> bool {
    if stream.to_ascii_lowercase().windows(CODING_FIELD.len()).any(|window| window == CODING_FIELD) {
        return true;
    }
    let mut numbers = stream.split(|byte| !byte.is_ascii_digit());
    numbers.any(|digits| digits.len() > CONTENT_LENGTH_DIGITS_MAX && digits.starts_with(b"0"))
}

/// What we serve and hyper refuses: minor versions from 2 on (RFC 9110 §2.5), targets that are no `http::Uri`, and fields whose name
/// or method `http` cannot hold. Looked for anywhere in the stream, for it matters only that it is not about framing.
fn hyper_is_stricter(stream: &[u8]) -> bool {
    stream.split(|byte| *byte == b'\n').any(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(_), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else { return false };
        let later = version.starts_with(b"HTTP/1.") && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
        later || version.starts_with(b"HTTP/") && http::Uri::try_from(target).is_err()
    })
}

fn read_by_us(stream: &[u8]) -> Vec<Read> {
    let now = Instant::now();
    let mut connection = Connection::new(Rc::new(Context::default()), Scheme::Http, now);
    connection.handle_input(stream, now);
    connection.handle_eof(now);
    let (mut reads, mut method, mut body) = (Vec::new(), String::new(), Vec::new());
    loop {
        let is_whole = match connection.poll_event(now) {
            Some(Event::Request(head)) => {
                method = head.method.to_owned();
                body.clear();
                head.body == BodyLength::None
            }
            Some(Event::Body(bytes)) => {
                body.extend_from_slice(bytes);
                false
            }
            Some(Event::BodyEnd { .. }) => true,
            Some(Event::Refused { reason, .. }) => {
                reads.push(Read::Refused(reason));
                return reads;
            }
            Some(Event::ClientGone) | None => {
                reads.push(Read::Ended);
                return reads;
            }
        };
        if is_whole {
            reads.push(Read::Whole { method: method.clone(), body: body.clone() });
            let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: Some(0) };
            connection.respond_head(&head, now).expect("a legal response is owed");
            connection.respond_end(&[], now).expect("as long as promised");
            connection.consume_output(connection.output().len(), now);
        }
    }
}

/// Method and body of each request that hyper has read whole, and whether it has then found fault with anything.
fn read_by_hyper(stream: &[u8]) -> (Vec<(String, Vec<u8>)>, hyper::Result<()>) {
    let reads = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let reads = reads.clone();
        async move {
            let (head, mut body) = request.into_parts();
            let mut bytes = Vec::new();
            while let Some(frame) = std::future::poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
                if let Ok(data) = frame?.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            reads.borrow_mut().push((head.method.to_string(), bytes));
            Ok::<_, hyper::Error>(hyper::Response::new(NoBody))
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).half_close(true);
    let farewell = {
        let mut connection = pin!(builder.serve_connection(Memory { unread: stream.to_vec(), taken: 0 }, service));
        let mut task = Task::from_waker(Waker::noop());
        let ended = (0..HYPER_STEPS_MAX).find_map(|_| match connection.as_mut().poll(&mut task) {
            Poll::Ready(farewell) => Some(farewell),
            Poll::Pending => None,
        });
        ended.expect("hyper comes to an end")
    };
    (reads.take(), farewell)
}

/// The stream, and a place where answers vanish.
struct Memory {
    unread: Vec<u8>,
    taken: usize,
}

impl hyper::rt::Read for Memory {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Task<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let length = into.remaining().min(self.unread.len() - self.taken);
        into.put_slice(&self.unread[self.taken..self.taken + length]);
        self.taken += length;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct NoBody;

impl http_body::Body for NoBody {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Task<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}

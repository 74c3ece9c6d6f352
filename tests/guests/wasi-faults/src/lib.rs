//! A `wasi:http` 0.2 component whose paths misbehave, one fault each, and a few that only show what they were given.
//!
//! Owns the faults of `wasi:http` that the end-to-end tests provoke. A number that a fault wants is in the query:
//! `/fit?mb=64`.

use std::hint::black_box;
use std::time::Duration;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::{OutputStream, StreamError};

const MIB: usize = 1 << 20;
/// What one write to an output stream may hold at most.
const WRITE_BYTES: usize = 4096;

struct Component;

wasip2::http::proxy::export!(Component);

impl Guest for Component {
    fn handle(request: IncomingRequest, responder: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match path {
            "/echo" => echo(&request, responder),
            "/read-then-reply" => read_then_reply(&request, responder),
            "/panic" => panic!("a deliberate panic"),
            "/recursion" => reply(responder, 200, &deeper(0).to_string()),
            "/memory" => reply(responder, 200, &memory().to_string()),
            "/fit" => reply(responder, 200, &fit(number(query, "mb"))),
            "/spin" => spin(),
            "/spin-after-head" => {
                let (_body, out) = start(responder, 200, &[]);
                write(&out, b"before the loop\n");
                spin()
            }
            "/panic-after-head" => {
                let (_body, out) = start(responder, 200, &[]);
                write(&out, b"before the panic\n");
                panic!("a deliberate panic after the head")
            }
            "/panic-after-end" => {
                reply(responder, 200, "complete\n");
                panic!("a deliberate panic after the response")
            }
            "/exit" => std::process::exit(number(query, "code") as i32),
            "/no-response" => {}
            "/error-response" => {
                ResponseOutparam::set(responder, Err(ErrorCode::InternalError(Some("asked for".into()))))
            }
            "/unfinished" => drop(start(responder, 200, &[])),
            "/bad-status" => bad_status(responder, number(query, "code")),
            "/bad-header" => bad_header(responder),
            "/bad-length" => bad_length(responder, number(query, "declared"), number(query, "sent")),
            "/stall" => {
                let (_body, out) = start(responder, 200, &[]);
                write(&out, b"before the stall\n");
                pause(3_600_000);
            }
            "/slow-body" => slow_body(responder, number(query, "pieces"), number(query, "ms")),
            "/drip" => slow_body(responder, number(query, "bytes"), 1),
            "/download" => download(responder, number(query, "bytes")),
            "/headers" => headers(&request, responder),
            "/trailers" => trailers(responder),
            "/framing-headers" => reply_with(responder, 200, &[("x-fine", "1"), ("keep-alive", "5")], "framed\n"),
            "/log" => {
                println!("a line on stdout");
                eprintln!("a line on stderr");
                reply(responder, 200, "logged\n");
            }
            "/after" => {
                reply(responder, 200, "answered\n");
                pause(number(query, "ms") as u64);
                eprintln!("still running after the response");
            }
            "/sleep" => {
                pause(number(query, "ms") as u64);
                reply(responder, 200, "slept\n");
            }
            "/env" => reply(responder, 200, &environment()),
            "/fs" => reply(
                responder,
                200,
                &outcome(std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())),
            ),
            "/net" => reply(responder, 200, &outcome(fetch(query))),
            "/hello" => reply(responder, 200, "hello world\n"),
            _ => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
                Some(code) => reply(responder, code, "as asked\n"),
                None => reply(responder, 404, "no such path\n"),
            },
        }
    }
}

// --- responses

fn reply(responder: ResponseOutparam, status: u16, text: &str) {
    reply_with(responder, status, &[], text);
}

fn reply_with(responder: ResponseOutparam, status: u16, fields: &[(&str, &str)], text: &str) {
    let (body, out) = start(responder, status, fields);
    for piece in text.as_bytes().chunks(WRITE_BYTES) {
        write(&out, piece);
    }
    drop(out);
    let _ = OutgoingBody::finish(body, None);
}

fn start(responder: ResponseOutparam, status: u16, fields: &[(&str, &str)]) -> (OutgoingBody, OutputStream) {
    let list: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let response = OutgoingResponse::new(Fields::from_list(&list).unwrap_or_else(|_| Fields::new()));
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    let out = body.write().unwrap();
    ResponseOutparam::set(responder, Ok(response));
    (body, out)
}

/// Writes and waits until the host has taken it. Whether the client has gone is no concern of these faults.
fn write(out: &OutputStream, bytes: &[u8]) -> bool {
    out.blocking_write_and_flush(bytes).is_ok()
}

fn bad_status(responder: ResponseOutparam, code: usize) {
    let response = OutgoingResponse::new(Fields::new());
    let accepted = response.set_status_code(code as u16).is_ok();
    eprintln!("status {code} was {}", if accepted { "accepted" } else { "refused" });
    let body = response.body().unwrap();
    ResponseOutparam::set(responder, Ok(response));
    let _ = OutgoingBody::finish(body, None);
}

fn bad_header(responder: ResponseOutparam) {
    let fields = Fields::new();
    let accepted = fields.append("x-split", b"one\r\nset-cookie: stolen=1").is_ok();
    eprintln!("the field was {}", if accepted { "accepted" } else { "refused" });
    let response = OutgoingResponse::new(fields);
    let body = response.body().unwrap();
    ResponseOutparam::set(responder, Ok(response));
    let _ = OutgoingBody::finish(body, None);
}

/// A body whose length is not the one that its head declares.
fn bad_length(responder: ResponseOutparam, declared: usize, sent: usize) {
    let (body, out) = start(responder, 200, &[("content-length", &declared.to_string())]);
    for piece in vec![b'x'; sent].chunks(WRITE_BYTES) {
        if !write(&out, piece) {
            eprintln!("the write was refused");
            break;
        }
    }
    drop(out);
    if let Err(error) = OutgoingBody::finish(body, None) {
        eprintln!("finish was refused: {error:?}");
    }
}

fn slow_body(responder: ResponseOutparam, pieces: usize, ms: usize) {
    let (body, out) = start(responder, 200, &[]);
    for _ in 0..pieces {
        if !write(&out, b".") {
            eprintln!("the client has gone");
            return;
        }
        pause(ms as u64);
    }
    drop(out);
    let _ = OutgoingBody::finish(body, None);
}

fn download(responder: ResponseOutparam, bytes: usize) {
    let (body, out) = start(responder, 200, &[("content-length", &bytes.to_string())]);
    let piece = [b'd'; 16 * WRITE_BYTES];
    let mut left = bytes;
    while left > 0 {
        match write_some(&out, &piece[..left.min(piece.len())]) {
            Ok(wrote) => left -= wrote,
            Err(_) => {
                eprintln!("the client has gone with {left} bytes to go");
                return;
            }
        }
    }
    let _ = out.blocking_flush();
    drop(out);
    let _ = OutgoingBody::finish(body, None);
}

/// Writes as much as the host takes at once.
fn write_some(out: &OutputStream, bytes: &[u8]) -> Result<usize, StreamError> {
    loop {
        let room = usize::try_from(out.check_write()?).unwrap_or(usize::MAX);
        if room > 0 {
            let wrote = room.min(bytes.len());
            out.write(&bytes[..wrote])?;
            return Ok(wrote);
        }
        out.subscribe().block();
    }
}

fn trailers(responder: ResponseOutparam) {
    let (body, out) = start(responder, 200, &[("trailer", "x-sum")]);
    write(&out, b"before the trailers\n");
    drop(out);
    let trailers = Fields::from_list(&[("x-sum".to_owned(), b"42".to_vec())]).unwrap();
    OutgoingBody::finish(body, Some(trailers)).unwrap();
}

// --- requests

/// Sends the request's body back piece by piece, in constant memory.
fn echo(request: &IncomingRequest, responder: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let fields = request.headers().get("content-type");
    let media_type = fields.first().map(|value| String::from_utf8_lossy(value).into_owned());
    let media_type = media_type.as_deref().unwrap_or("application/octet-stream");
    let (body, out) = start(responder, 200, &[("content-type", media_type)]);
    loop {
        match input.blocking_read(16 * WRITE_BYTES as u64) {
            Ok(piece) => {
                let mut rest = piece.as_slice();
                while !rest.is_empty() {
                    match write_some(&out, rest) {
                        Ok(wrote) => rest = &rest[wrote..],
                        Err(_) => return eprintln!("the client has gone"),
                    }
                }
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => panic!("the body broke: {}", error.to_debug_string()),
        }
    }
    let _ = out.blocking_flush();
    drop(out);
    drop(input);
    IncomingBody::finish(incoming);
    let _ = OutgoingBody::finish(body, None);
}

/// Reads all of the body before it answers with its length.
fn read_then_reply(request: &IncomingRequest, responder: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let input = incoming.stream().unwrap();
    let mut bytes = 0;
    loop {
        match input.blocking_read(16 * WRITE_BYTES as u64) {
            Ok(piece) => bytes += piece.len(),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => panic!("the body broke: {}", error.to_debug_string()),
        }
    }
    reply(responder, 200, &format!("{bytes}\n"));
}

fn headers(request: &IncomingRequest, responder: ResponseOutparam) {
    let method = match request.method() {
        Method::Other(name) => name,
        known => format!("{known:?}"),
    };
    let mut text = format!(
        "{method} {:?} {:?} {:?}\n",
        request.scheme().map(|scheme| format!("{scheme:?}")),
        request.authority(),
        request.path_with_query()
    );
    for (name, value) in request.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    reply(responder, 200, &text);
}

fn number(query: &str, name: &str) -> usize {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(have, _)| *have == name);
    value.map_or(0, |(_, value)| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

// --- resources

fn memory() -> usize {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; MIB]));
        if black_box(held.len()) == usize::MAX {
            return held.len();
        }
    }
}

fn fit(mb: usize) -> String {
    let held: Vec<Vec<u8>> = (0..mb).map(|_| black_box(vec![1u8; MIB])).collect();
    format!("{} MiB fit\n", black_box(&held).len())
}

fn spin() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

#[allow(unconditional_recursion, reason = "the fault")]
fn deeper(depth: u64) -> u64 {
    black_box(deeper(black_box(depth) + 1)) + 1
}

#[allow(clippy::disallowed_methods, reason = "a guest that waits is what is tested")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

// --- what a component may reach

fn environment() -> String {
    let mut lines: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.sort();
    lines.concat()
}

fn outcome(result: Result<String, String>) -> String {
    match result {
        Ok(text) => format!("allowed: {text}"),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// Fetches `/` from the authority in the query, over plain HTTP.
fn fetch(query: &str) -> Result<String, String> {
    let authority = query.strip_prefix("authority=").unwrap_or("127.0.0.1:9");
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some("/")).map_err(|()| "path")?;
    let pending = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    pending.subscribe().block();
    let response = pending.get().ok_or("not ready")?.map_err(|()| "taken")?.map_err(|error| format!("{error:?}"))?;
    Ok(format!("{}\n", response.status()))
}

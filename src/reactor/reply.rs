//! A guest's response on its way to the client: with the listener's own fields, and compressed where that was agreed.
//!
//! Pure but for the connection that it writes to. Driven by `frames`.

use std::time::Instant;

use rusmd_proto::ResponseHead;

use crate::app::App;
use crate::compress::{Plan, Policy, Room, promised, rewritten, weakened};
use crate::http::{self, Header, Protocol, ResponseError};
use crate::request::{Request, Trace};

/// Fields that a listener adds to those of the guest (RFC 9110, section 12.5.5; RFC 6265, section 3); others it sets.
const ADDITIVE: [&str; 3] = ["link", "set-cookie", "vary"];

/// The head.
pub(super) fn begin(
    connection: &mut Protocol,
    request: &mut Request,
    head: &ResponseHead<'_>,
    app: &App,
    room: &Room,
    now: Instant,
) -> Result<(), ResponseError> {
    let added = app.response_headers(request.serve);
    let mut headers = Vec::new();
    let headers: &[Header<'_>] = if added.is_empty() {
        &head.headers
    } else {
        add(&mut headers, head.headers.iter().copied(), added);
        &headers
    };
    let name = request.name.clone();
    let request_id = name.as_str();
    let response = http::ResponseHead { status: head.status, headers, request_id, body_length: head.body_bytes };
    match app.compression(request.serve) {
        None => connection.respond_head(&response, now)?,
        Some(policy) => begin_compressed(connection, request, &response, policy, room, now)?,
    }
    request.trace.status = head.status;
    Ok(())
}

/// Puts together a response's own fields and those of the listener. What the manifest says of a field holds, but where each line of it says
/// something of its own.
pub(super) fn add<'a>(
    headers: &mut Vec<Header<'a>>,
    own: impl Iterator<Item = Header<'a>>,
    added: &'a [(String, String)],
) {
    let is_replaced = |name: &str| {
        !ADDITIVE.iter().any(|additive| name.eq_ignore_ascii_case(additive))
            && added.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    };
    headers.extend(own.filter(|(name, _)| !is_replaced(name)));
    headers.extend(added.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
}

/// The head, where a body may be compressed.
fn begin_compressed(
    connection: &mut Protocol,
    request: &mut Request,
    response: &http::ResponseHead<'_>,
    policy: &Policy,
    room: &Room,
    now: Instant,
) -> Result<(), ResponseError> {
    let Some(asked) = request.head() else { return connection.respond_head(response, now) };
    let accept = asked.headers.iter().filter(|(name, _)| *name == "accept-encoding").map(|(_, value)| *value);
    let mut encoder = None;
    let coding = match Plan::of(policy, response, accept) {
        Plan::Unchanged => return connection.respond_head(response, now),
        Plan::Vary => None,
        // A response to HEAD tells of the body that it has not.
        Plan::Encode(coding) if asked.method == "HEAD" => Some(coding),
        Plan::Encode(coding) => {
            encoder = room.encoder(coding, promised(response).unwrap_or_default());
            encoder.as_ref().map(|_| coding)
        }
    };
    let etag = coding.and_then(|_| weakened(response.headers));
    let headers = rewritten(response.headers, coding, etag.as_deref());
    let body_length = response.body_length.filter(|_| coding.is_none());
    connection.respond_head(&http::ResponseHead { headers: &headers, body_length, ..*response }, now)?;
    request.encoder = encoder.map(Box::new);
    Ok(())
}

/// A piece of the body.
pub(super) fn go_on(
    connection: &mut Protocol,
    request: &mut Request,
    bytes: &[u8],
    now: Instant,
) -> Result<(), ResponseError> {
    let bytes = match &mut request.encoder {
        None => bytes,
        Some(encoder) => encoder.encode(bytes)?,
    };
    send(connection, &mut request.trace, bytes, now)
}

/// The end of the body.
pub(super) fn end(
    connection: &mut Protocol,
    request: &mut Request,
    trailers: &[Header<'_>],
    now: Instant,
) -> Result<(), ResponseError> {
    if let Some(encoder) = request.encoder.take() {
        let rest = encoder.finish()?;
        send(connection, &mut request.trace, &rest, now)?;
    }
    connection.respond_end(trailers, now)
}

fn send(connection: &mut Protocol, trace: &mut Trace, bytes: &[u8], now: Instant) -> Result<(), ResponseError> {
    connection.respond_body(bytes, now)?;
    trace.body_bytes += bytes.len() as u64;
    Ok(())
}

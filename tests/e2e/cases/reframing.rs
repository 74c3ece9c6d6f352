//! Responses are framed by the supervisor, whatever a worker writes: a client sees one response with the right end, or an error, or a cut,
//! and the next response on the connection is its own.
//!
//! Owns the table of what a worker may dictate; the worker is that of `double`, so that no engine makes its responses better first.

use rusmd_e2e::paths::Scratch;
use rusmd_e2e::{Client, ClientError, Server, Setup};

use crate::common::HELLO;

const DOUBLE: &str = env!("CARGO_BIN_EXE_rusmd-worker-double");

const GET: &str = "GET HTTP/1.1";
const GET_10: &str = "GET HTTP/1.0";
const HEAD: &str = "HEAD HTTP/1.1";
/// A client that takes trailers (RFC 9110 §6.5.1).
const GET_TE: &str = "GET HTTP/1.1 TE: trailers";

/// What the client gets.
enum Gets {
    /// This status with these fields, in any order and without `date`, this body, these trailers; then the next response.
    Whole(u16, &'static [&'static str], &'static str, &'static [&'static str]),
    /// The same, and the end of the connection.
    Last(u16, &'static [&'static str], &'static str),
    /// The response is refused.
    BadGateway,
    /// The response breaks off, so that no client takes it for whole; or it is refused, where the fault comes in time.
    Broken,
    /// The same, or the connection ends behind the empty body that was promised.
    EmptyOrBroken,
}

use Gets::{BadGateway, Broken, EmptyOrBroken, Last, Whole};

/// RFC section, request, dictation, outcome.
const TABLE: &[(&str, &str, &str, Gets)] = &[
    // The length that is known, and the one that is not.
    ("9112-6.2", GET, "length=5&body=hello", Whole(200, &["content-length: 5"], "hello", &[])),
    ("9112-7.1", GET, "body=hello", Whole(200, &["transfer-encoding: chunked"], "hello", &[])),
    ("9112-7.1", GET, "", Whole(200, &["transfer-encoding: chunked"], "", &[])),
    ("9112-6.2", GET, "length=0", Whole(200, &["content-length: 0"], "", &[])),
    ("9112-6.3", GET_10, "body=hello", Last(200, &["connection: close"], "hello")),
    ("9112-6.3", GET_10, "length=5&body=hello", Last(200, &["connection: close", "content-length: 5"], "hello")),
    ("9112-6.2", GET, "field=content-length:5&body=hello", Whole(200, &["content-length: 5"], "hello", &[])),
    ("9112-6.2", GET, "length=5&field=Content-Length:5&body=hello", Whole(200, &["content-length: 5"], "hello", &[])),
    ("9110-8.6", GET, "field=content-length:005&body=hello", Whole(200, &["content-length: 5"], "hello", &[])),
    // No content.
    ("9110-15.3.5", GET, "status=204", Whole(204, &[], "", &[])),
    ("9110-15.3.5", GET, "status=204&length=5&field=content-length:5&body=hello", Whole(204, &[], "", &[])),
    ("9110-15.3.5", GET, "status=204&length=0&field=content-length:9", Whole(204, &[], "", &[])),
    ("9110-15.3.5", GET, "status=204&field=transfer-encoding:chunked&body=hello", Whole(204, &[], "", &[])),
    ("9110-15.3.6", GET, "status=205&body=hello", Whole(205, &["content-length: 0"], "", &[])),
    ("9110-15.3.6", GET, "status=205&field=content-length:5", Whole(205, &["content-length: 0"], "", &[])),
    ("9110-15.4.5", GET, "status=304&body=hello", Whole(304, &[], "", &[])),
    ("9110-15.4.5", GET, "status=304&field=content-length:5&field=etag:\"a\"", Whole(304, &["etag: \"a\""], "", &[])),
    ("9110-9.3.2", HEAD, "length=5&body=hello", Whole(200, &["content-length: 5"], "", &[])),
    ("9110-9.3.2", HEAD, "body=hello", Whole(200, &[], "", &[])),
    ("9110-9.3.2", HEAD, "length=0&field=content-length:5", Whole(200, &["content-length: 5"], "", &[])),
    ("9110-9.3.2", HEAD, "field=content-length:5&body=hello&trailer=x:y", Whole(200, &["content-length: 5"], "", &[])),
    // Lengths that are wrong.
    ("9112-8", GET, "field=content-length:9&body=hello", Broken),
    ("9112-8", GET, "field=content-length:9", Broken),
    ("9112-8", GET, "field=content-length:3&body=hello", Broken),
    ("9112-8", GET, "field=content-length:0&body=hello", EmptyOrBroken),
    ("9112-8", GET, "length=9&body=hello", Broken),
    ("9112-8", GET, "length=3&body=hello", Broken),
    ("9112-8", GET, "field=content-length:9&body=HTTP/1.1%20200%20OK%0d%0a%0d%0a", Broken),
    ("9110-8.6", GET, "length=5&field=content-length:6&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:5&field=content-length:5&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:5&field=Content-Length:6&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:5,5&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:%2b5&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:-5&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:%205&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:0x5&body=hello", BadGateway),
    ("9110-8.6", GET, "field=content-length:99999999999999999999&body=hello", BadGateway),
    ("9110-8.6", GET, "status=204&field=content-length:a", BadGateway),
    // Fields of the connection are the supervisor's.
    (
        "9110-7.6.1",
        GET,
        "field=transfer-encoding:gzip,%20chunked&body=hello",
        Whole(200, &["transfer-encoding: chunked"], "hello", &[]),
    ),
    (
        "9110-7.6.1",
        GET,
        "length=2&field=Connection:close&field=keep-alive:a&field=Upgrade:h2c&field=te:a&field=trailer:a&field=date:a\
         &field=proxy-connection:a&field=http2-settings:a&field=x-a:b&body=ok",
        Whole(200, &["content-length: 2", "x-a: b"], "ok", &[]),
    ),
    // What is no response, or would be two.
    ("9112-4", GET, "status=100", BadGateway),
    ("9112-4", GET, "status=101&field=upgrade:websocket", BadGateway),
    ("9112-4", GET, "status=103&field=link:a", BadGateway),
    ("9112-4", GET, "status=199", BadGateway),
    ("9112-4", GET, "status=99", BadGateway),
    ("9112-4", GET, "status=0", BadGateway),
    ("9112-4", GET, "status=600", BadGateway),
    ("9110-5.5", GET, "field=x:a%0d%0aset-cookie:%20b", BadGateway),
    ("9110-5.5", GET, "field=x:a%0d%0a%0d%0aHTTP/1.1%20200%20OK", BadGateway),
    ("9110-5.5", GET, "field=x:a%0ab", BadGateway),
    ("9110-5.5", GET, "field=x:a%0db", BadGateway),
    ("9110-5.5", GET, "field=x:a%00b", BadGateway),
    ("9110-5.5", GET, "field=x:a%7fb", BadGateway),
    ("9110-5.1", GET, "field=x%0d%0ay:a", BadGateway),
    ("9110-5.1", GET, "field=x%3ay:a", BadGateway),
    ("9110-5.1", GET, "field=x%20:a", BadGateway),
    ("9110-5.1", GET, "field=:a", BadGateway),
    ("9110-5.1", GET, "field=content-length%20:5&body=hello", BadGateway),
    ("9110-5.1", GET, "field=%c3%a4:a", BadGateway),
    ("9110-5.5", GET, "length=0&field=x:%e4%09b", Whole(200, &["content-length: 0", "x: \u{fffd}\tb"], "", &[])),
    // Trailers go to those who take them.
    ("9110-6.5.1", GET_TE, "body=a&trailer=x-sum:1", Whole(200, &["transfer-encoding: chunked"], "a", &["x-sum: 1"])),
    ("9110-6.5.1", GET_TE, "trailer=x-sum:1", Whole(200, &["transfer-encoding: chunked"], "", &["x-sum: 1"])),
    ("9110-6.5.1", GET, "body=a&trailer=x-sum:1", Whole(200, &["transfer-encoding: chunked"], "a", &[])),
    ("9110-6.5.1", GET_TE, "length=1&body=a&trailer=x-sum:1", Whole(200, &["content-length: 1"], "a", &[])),
    ("9110-6.5.1", GET_TE, "status=204&trailer=x-sum:1", Whole(204, &[], "", &[])),
    (
        "9110-6.5.1",
        GET_TE,
        "body=a&trailer=Content-Length:5&trailer=transfer-encoding:gzip&trailer=set-cookie:a&trailer=x:y",
        Whole(200, &["transfer-encoding: chunked"], "a", &["x: y"]),
    ),
    ("9110-6.5.1", GET_TE, "body=a&trailer=x:y%0d%0a%0d%0aHTTP/1.1%20200%20OK", Broken),
    ("9110-6.5.1", GET_TE, "body=a&trailer=x%20:y", Broken),
    ("9110-6.5.1", GET_TE, "field=content-length:3&body=a&trailer=x:y", Broken),
];

fn server(scratch: &Scratch) -> Server {
    Setup::new()
        .source("double", scratch.write("double.wasm", b"\0asm\x0d\0\x01\0"))
        .routes(&[("/dictated", "double#dictated"), ("/hello", "double#hello")])
        .argument("--worker-bin")
        .argument(DOUBLE)
        // Each refused response is an error of the log, by the component's name. The double does not react when it is told to stop.
        .expect_error("double")
        .expect_error("worker")
        .start()
}

/// What is wrong with the outcome of a row, if anything.
fn play(server: &Server, request: &str, dictation: &str, gets: &Gets) -> Result<(), String> {
    let mut parts = request.splitn(3, ' ');
    let (method, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let field = parts.next().map(|field| format!("{field}\r\n")).unwrap_or_default();
    let mut client = server.connect();
    client.send(format!("{method} /dictated?{dictation} {version}\r\nHost: a\r\n{field}\r\n"));
    // In the same breath: whatever the first response does, the second must not be taken for a part of it.
    client.send_if_open("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.try_response_to(method);
    match (gets, response) {
        (Whole(status, fields, body, trailers), Ok(response)) => {
            let listed = |list: &[(String, String)]| {
                let mut list: Vec<String> = list.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                list.retain(|field| !field.starts_with("date: ") && !field.starts_with("x-request-id: "));
                list.sort_unstable();
                list
            };
            let dates = response.head.headers.iter().filter(|(name, _)| name == "date").count();
            let seen = (response.status(), listed(&response.head.headers), response.text(), listed(&response.trailers));
            let wanted = (*status, fields.to_vec(), (*body).to_owned(), trailers.to_vec());
            if dates != 1 || (seen.0, &seen.2) != (wanted.0, &wanted.2) || seen.1 != wanted.1 || seen.3 != wanted.3 {
                return Err(format!("{dates} dates and {seen:?}"));
            }
            expect_hello(&mut client)
        }
        (Last(status, fields, body), Ok(response)) => {
            let has = |field: &&str| {
                let (name, value) = field.split_once(": ").unwrap_or((field, ""));
                response.header(name) == Some(value)
            };
            if response.status() != *status || response.text() != *body || !fields.iter().all(has) {
                return Err(format!("{response:?}"));
            }
            expect_end(&mut client)
        }
        (BadGateway | Broken | EmptyOrBroken, Ok(response)) if response.status() == 502 => {
            if response.header("set-cookie").is_some() {
                return Err(format!("{response:?}"));
            }
            expect_hello(&mut client)
        }
        (Broken | EmptyOrBroken, Err(ClientError::Cut { .. } | ClientError::Reset)) => Ok(()),
        (EmptyOrBroken, Ok(response)) if response.body.is_empty() => expect_end(&mut client),
        (_, other) => Err(format!("{other:?}")),
    }
}

fn expect_end(client: &mut Client) -> Result<(), String> {
    match client.rest() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Err(ClientError::Reset) => Ok(()),
        other => Err(format!("at the end: {other:?}")),
    }
}

fn expect_hello(client: &mut Client) -> Result<(), String> {
    match client.try_response() {
        Ok(response) if response.status() == 200 && response.text() == HELLO => Ok(()),
        other => Err(format!("the next response: {other:?}")),
    }
}

#[test]
fn whatever_a_worker_dictates_its_client_sees_one_response_or_a_failure() {
    let scratch = Scratch::new();
    let server = server(&scratch);
    let complaints: String = TABLE
        .iter()
        .filter_map(|(section, request, dictation, gets)| {
            let complaint = play(&server, request, dictation, gets).err()?;
            Some(format!("{section}: {request} {dictation}\n  {complaint}\n"))
        })
        .collect();
    assert!(complaints.is_empty(), "\n{complaints}");
}

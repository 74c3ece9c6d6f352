//! Any head and body that a guest might give: it is refused with nothing written, or what is written reads as exactly one
//! response, with exactly that body.
#![no_main]

use std::rc::Rc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rusmd::http::{Connection, Context, Event, ResponseHead, Scheme};

const REQUESTS: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
];

fuzz_target!(|data: &[u8]| {
    let [request, low, high, length, rest @ ..] = data else { return };
    let request = REQUESTS[usize::from(request % 4)];
    let (fields, body) = split(rest, b"\n\n").unwrap_or((rest, b""));
    let headers: Vec<(&str, &[u8])> = fields.split(|byte| *byte == b'\n').filter_map(take_field).collect();
    let head = ResponseHead {
        status: u16::from_le_bytes([*low, *high]),
        headers: &headers,
        request_id: "",
        body_length: (*length < 128).then_some(u64::from(*length)),
    };
    let now = Instant::now();
    let mut connection = Connection::new(Rc::new(Context::default()), Scheme::Http, now);
    connection.handle_input(request, now);
    assert!(matches!(connection.poll_event(now), Some(Event::Request(_))));
    if connection.respond_head(&head, now).is_err() {
        assert!(connection.output().is_empty(), "a refused head leaves something behind");
        return;
    }
    assert!((200..600).contains(&head.status), "not a final status");
    let is_whole = body.chunks(7).all(|piece| connection.respond_body(piece, now).is_ok())
        && connection.respond_end(&[("x-sum", b"1")], now).is_ok();
    if is_whole {
        check(connection.output(), &head, body, request);
    }
});

fn take_field(line: &[u8]) -> Option<(&str, &[u8])> {
    let (name, value) = split(line, b":")?;
    Some((std::str::from_utf8(name).ok()?, value))
}

fn split<'a>(bytes: &'a [u8], by: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(by.len()).position(|window| window == by)?;
    Some((&bytes[..at], &bytes[at + by.len()..]))
}

fn check(output: &[u8], given: &ResponseHead<'_>, body: &[u8], request: &[u8]) {
    let mut slots = vec![httparse::EMPTY_HEADER; given.headers.len() + 4];
    let mut head = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(head_bytes) = head.parse(output).expect("a legal head") else {
        panic!("the head does not end");
    };
    assert_eq!(head.code, Some(given.status));
    let find =
        |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
    for field in head.headers.iter() {
        let is_ours = ["date", "connection", "content-length", "transfer-encoding"].contains(&field.name);
        let is_given = given.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(field.name));
        assert!(is_ours || is_given, "{field:?} was not given");
    }
    let rest = &output[head_bytes..];
    let is_bodiless = request.starts_with(b"HEAD") || matches!(given.status, 204 | 205 | 304);
    match (find("content-length"), find("transfer-encoding")) {
        (Some(_), Some(_)) => panic!("two framings"),
        _ if is_bodiless => assert!(rest.is_empty(), "a body where there may be none"),
        (Some(length), None) => {
            let length: usize = std::str::from_utf8(length).expect("digits").parse().expect("decimal");
            assert_eq!((length, rest), (body.len(), body));
        }
        (None, Some(_)) => assert_eq!(without_chunks(rest), body),
        (None, None) => assert_eq!(rest, body, "a body that the end of the connection ends"),
    }
}

fn without_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let (size, after) = split(rest, b"\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(std::str::from_utf8(size).expect("digits"), 16).expect("hexadecimal");
        if size == 0 {
            assert!(after.ends_with(b"\r\n"));
            return body;
        }
        let (chunk, after) = after.split_at(size);
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").expect("the end of a chunk");
    }
}

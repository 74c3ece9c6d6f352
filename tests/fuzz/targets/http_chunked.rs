//! Any bytes as a chunked body: it is read as a slow and obvious reader reads it, or refused where that one refuses, and what follows
//! the body is left alone.
#![no_main]

use std::rc::Rc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rusmd::http::{Connection, Context, Event, Limits, Scheme, Timeouts, is_token, is_value};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

fn limits() -> Limits {
    Limits {
        headers_max: 4,
        body_bytes_max: 256,
        chunk_ext_bytes_max: 24,
        trailer_bytes_max: 48,
        body_event_bytes_max: 16,
        ..Limits::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((step, stream)) = data.split_first() else { return };
    let expected = read_slowly(stream).map(|(body, rest)| (body, stream.len() - rest.len()));
    assert_eq!(read(stream, 1), expected, "byte by byte");
    // In pieces the end is only known to be within one.
    let body = expected.map(|(body, _)| body);
    for step in [usize::from(*step).max(1), stream.len().max(1)] {
        assert_eq!(read(stream, step).map(|(body, _)| body), body, "in pieces of {step}");
    }
});

/// The body, and how many bytes were fed when its end was told; `None` if it is refused or does not end.
fn read(stream: &[u8], step: usize) -> Option<(Vec<u8>, usize)> {
    let now = Instant::now();
    let mut connection = Connection::new(Rc::new(Context::new(limits(), Timeouts::default())), Scheme::Http, now);
    connection.handle_input(HEAD, now);
    assert!(matches!(connection.poll_event(now), Some(Event::Request(_))));
    let (mut body, mut fed) = (Vec::new(), 0);
    for piece in stream.chunks(step) {
        connection.handle_input(piece, now);
        fed += piece.len();
        loop {
            match connection.poll_event(now) {
                Some(Event::Body(bytes)) => body.extend_from_slice(bytes),
                Some(Event::BodyEnd { .. }) => return Some((body, fed)),
                Some(_) => return None,
                None => break,
            }
        }
    }
    None
}

/// RFC 9112 §7.1 as it is written there, but for the strictnesses that `http::body` names. Returns the body and what follows it.
fn read_slowly(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let limits = limits();
    let (mut body, mut announced, mut extension_bytes) = (Vec::new(), 0u64, 0);
    loop {
        let (line, after) = take_line(rest)?;
        let (size, extensions) = line.split_at(line.iter().position(|byte| *byte == b';').unwrap_or(line.len()));
        let is_number = (1..=16).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let size = is_number.then(|| u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok())??;
        extension_bytes += extensions.len();
        if extension_bytes > limits.chunk_ext_bytes_max || !are_extensions(extensions) {
            return None;
        }
        rest = after;
        if size == 0 {
            break;
        }
        announced = announced.checked_add(size).filter(|sum| *sum <= limits.body_bytes_max)?;
        let (data, after) = rest.split_at_checked(size as usize)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n")?;
    }
    let section = rest;
    for count in 0.. {
        let (line, after) = take_line(rest)?;
        if section.len() - after.len() > limits.trailer_bytes_max {
            return None;
        }
        rest = after;
        if line.is_empty() {
            return Some((body, rest));
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        if count == limits.headers_max || !is_token(&line[..colon]) || !is_value(&line[colon + 1..]) {
            return None;
        }
    }
    None
}

/// Up to the first line feed, which must have a carriage return before it.
fn take_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let feed = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = bytes[..feed].strip_suffix(b"\r")?;
    Some((line, &bytes[feed + 1..]))
}

/// `*( ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
fn are_extensions(mut rest: &[u8]) -> bool {
    let skip = |bytes: &mut &[u8]| {
        while let [b' ' | b'\t', after @ ..] = *bytes {
            *bytes = after;
        }
    };
    let token = |bytes: &mut &[u8]| {
        let length = bytes.iter().position(|byte| !is_token(&[*byte])).unwrap_or(bytes.len());
        *bytes = &bytes[length..];
        length > 0
    };
    while !rest.is_empty() {
        skip(&mut rest);
        let [b';', after @ ..] = rest else { return false };
        rest = after;
        skip(&mut rest);
        if !token(&mut rest) {
            return false;
        }
        let mut value = rest;
        skip(&mut value);
        if let [b'=', after @ ..] = value {
            rest = after;
            skip(&mut rest);
            let is_value = if rest.first() == Some(&b'"') { quoted(&mut rest) } else { token(&mut rest) };
            if !is_value {
                return false;
            }
        }
    }
    true
}

fn quoted(rest: &mut &[u8]) -> bool {
    let mut at = 1;
    loop {
        match rest.get(at) {
            Some(b'"') => break,
            Some(b'\\') if rest.get(at + 1).is_some_and(|byte| is_value(&[*byte])) => at += 2,
            Some(byte) if *byte != b'\\' && is_value(&[*byte]) => at += 1,
            Some(_) | None => return false,
        }
    }
    *rest = &rest[at + 1..];
    true
}

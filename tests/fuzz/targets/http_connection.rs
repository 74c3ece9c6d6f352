//! Any bytes that a client might send, cut in any places: the connection tells the same events of what is not refused in whatever pieces they
//! arrive, every response it writes is one, and nothing panics or grows beyond its limits.
#![no_main]

use std::rc::Rc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rusmd::http::{Connection, Context, Event, Limits, ResponseHead, Scheme, Timeouts};

/// Small, so that an input of a few hundred bytes passes them.
fn limits() -> Limits {
    Limits {
        head_bytes_max: 512,
        headers_max: 8,
        target_bytes_max: 128,
        body_bytes_max: 1024,
        chunk_ext_bytes_max: 32,
        trailer_bytes_max: 64,
        body_event_bytes_max: 64,
        input_bytes_high: 4096,
        output_bytes_high: 4096,
        streams_max: 8,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((step, stream)) = data.split_first() else { return };
    let now = Instant::now();
    let whole = serve(stream, 4096, now);
    let pieces = serve(stream, usize::from(*step).max(1), now);
    assert_eq!(whole, pieces);
});

/// What the connection told, with the pieces of each body put together.
#[derive(PartialEq, Eq, Debug)]
enum Told {
    Request {
        head: String,
        headers: Vec<(String, Vec<u8>)>,
    },
    Body(Vec<u8>),
    BodyEnd(Vec<(String, Vec<u8>)>),
    /// Which of several faults is told first may depend on how much is there; that there is one may not.
    Refused,
    ClientGone,
}

fn serve(stream: &[u8], step: usize, now: Instant) -> Vec<Told> {
    let context = Rc::new(Context::new(limits(), Timeouts::default()));
    let mut connection = Connection::new(context, Scheme::Http, now);
    let (mut pieces, mut told) = (stream.chunks(step), Vec::new());
    let mut is_ended = false;
    loop {
        while let Some(is_whole) = take_event(&mut connection, &mut told, now) {
            if is_whole {
                respond(&mut connection, now);
            }
        }
        check_output(connection.output());
        connection.consume_output(connection.output().len(), now);
        connection.handle_write_shutdown();
        if connection.is_closed() || is_ended {
            return told;
        }
        match pieces.next() {
            Some(piece) if connection.wants_input() => connection.handle_input(piece, now),
            Some(_) => return told,
            None => {
                connection.handle_eof(now);
                is_ended = true;
            }
        }
    }
}

/// Notes the next event, and tells whether the request is whole with it.
fn take_event(connection: &mut Connection, told: &mut Vec<Told>, now: Instant) -> Option<bool> {
    let (next, is_whole) = match connection.poll_event(now)? {
        Event::Request(head) => {
            let text = format!(
                "{} {:?} {:?} {:?} {:?} {:?} {:?} {} {}",
                head.method,
                head.form,
                head.scheme,
                head.authority,
                head.path,
                head.query,
                head.body,
                head.keep_alive,
                head.accepts_trailers
            );
            let is_whole = head.body == rusmd::http::BodyLength::None;
            (Told::Request { head: text, headers: owned(head.headers.iter()) }, is_whole)
        }
        Event::Body(bytes) => {
            assert!(!bytes.is_empty() && bytes.len() <= limits().body_event_bytes_max);
            if let Some(Told::Body(body)) = told.last_mut() {
                body.extend_from_slice(bytes);
                assert!(body.len() as u64 <= limits().body_bytes_max);
                return Some(false);
            }
            (Told::Body(bytes.to_vec()), false)
        }
        Event::BodyEnd { trailers } => (Told::BodyEnd(owned(trailers.iter())), true),
        Event::Refused { .. } => {
            // How much of its request was told before depends on the pieces: a body that is broken when its head is read is the whole answer.
            while matches!(told.last(), Some(Told::Body(_) | Told::Request { .. })) {
                told.pop();
            }
            (Told::Refused, false)
        }
        Event::ClientGone => (Told::ClientGone, false),
    };
    told.push(next);
    Some(is_whole)
}

fn owned<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, Vec<u8>)> {
    let fields: Vec<_> = fields.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    for (name, value) in &fields {
        assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '));
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    }
    fields
}

fn respond(connection: &mut Connection, now: Instant) {
    if !connection.is_exchanging() {
        return;
    }
    let head =
        ResponseHead { status: 200, headers: &[("content-type", b"text/plain")], request_id: "", body_length: Some(2) };
    connection.respond_head(&head, now).expect("a legal response is owed");
    connection.respond_body(b"ok", now).expect("as long as promised");
    connection.respond_end(&[], now).expect("as long as promised");
}

/// Everything that is written is a sequence of heads, each with its body of known length.
fn check_output(mut output: &[u8]) {
    while !output.is_empty() {
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head") + 4;
        let (head, rest) = output.split_at(end);
        let head = std::str::from_utf8(head).expect("a head of ours is ASCII");
        assert!(head.starts_with("HTTP/1.1 "), "{head}");
        let body_bytes = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body_bytes: usize = body_bytes.map_or(0, |digits| digits.parse().expect("decimal"));
        // The answer to HEAD tells the length of a body that is not there.
        output = rest.get(body_bytes..).filter(|next| next.is_empty() || next.starts_with(b"HTTP/")).unwrap_or(rest);
    }
}

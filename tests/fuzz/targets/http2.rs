//! Any bytes that a client might send behind the preface of HTTP/2, cut in any places: nothing panics, no request is told that is not valid, and
//! what is kept for the client, of it or by it stays within its limits.
#![no_main]

use std::rc::Rc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rusmd::http::h2::{PREFACE, Session, Stream};
use rusmd::http::{Context, Event, Limits, ResponseHead, Scheme, Timeouts};

const STREAMS_MAX: u32 = 8;
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

fn limits() -> Limits {
    Limits {
        head_bytes_max: 512,
        headers_max: 8,
        target_bytes_max: 128,
        body_bytes_max: 1024,
        trailer_bytes_max: 64,
        body_event_bytes_max: 64,
        input_bytes_high: 4096,
        streams_max: STREAMS_MAX,
        ..Limits::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let [step, habits, frames @ ..] = data else { return };
    let context = Rc::new(Context::new(limits(), Timeouts::default()));
    let now = Instant::now();
    let mut session = Session::new(context.clone(), Scheme::Http, now);
    let mut streams: Vec<Stream> = Vec::new();
    // Whether the client reads, and whether anybody answers it.
    let (reads, answers) = (habits & 1 == 0, habits & 2 == 0);
    for piece in std::iter::once(PREFACE).chain(frames.chunks(usize::from(*step).max(1))) {
        if session.wants_input() {
            session.handle_input(piece, now);
        }
        for _ in 0..2 {
            session.advance(now);
            streams.extend(
                session
                    .take_accepted()
                    .into_iter()
                    .map(|accepted| Stream::new(context.clone(), Scheme::Http, accepted, now)),
            );
            streams.iter_mut().for_each(|stream| drive(stream, answers, now));
            streams.retain(|stream| {
                if stream.is_closed() {
                    session.handle_stream_end(stream.end(), now);
                }
                !stream.is_closed()
            });
            assert!(streams.len() <= STREAMS_MAX as usize, "more streams than may be");
            assert!(session.output().len() <= OUTPUT_BYTES_MAX);
        }
        if reads {
            session.consume_output(session.output().len(), now);
        }
        session.handle_write_shutdown();
        if session.is_closed() {
            return;
        }
    }
    session.handle_eof();
    session.advance(now);
});

fn drive(stream: &mut Stream, answers: bool, now: Instant) {
    stream.advance(now);
    let mut is_request = false;
    while let Some(event) = stream.poll_event(now) {
        match event {
            Event::Request(head) => {
                assert!(head.path.starts_with('/') || head.path == "*", "{:?}", head.path);
                assert!(!head.authority.is_empty());
                for (name, value) in head.headers.iter() {
                    assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' '));
                    assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
                is_request = true;
            }
            Event::Body(bytes) => assert!(!bytes.is_empty() && bytes.len() <= limits().body_event_bytes_max),
            Event::BodyEnd { .. } => {}
            Event::Refused { .. } | Event::ClientGone => is_request = false,
        }
    }
    if is_request && answers {
        let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: None };
        stream.respond_head(&head, now).expect("a legal response is owed");
        stream.respond_body(&[b'x'; 3000], now).expect("it has begun");
        stream.respond_end(&[("x-sum", b"1")], now).expect("it has begun");
    }
    stream.advance(now);
}

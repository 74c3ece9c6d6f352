//! Every limit of `limits.rs`, at the limit and one past it. The payload limit of each kind is tested beside `Kind`.

mod samples;

use rusmd_proto::limits::{
    ACTION_BYTES_MAX, ACTIONS_MAX, BODY_CHUNK_BYTES_MAX, COMPONENTS_MAX, DECODE_BYTES_MAX, FAILURE_TEXT_BYTES_MAX,
    FRAME_HEADER_BYTES, HANDSHAKE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, LOG_MESSAGE_BYTES_MAX, LOG_TARGET_BYTES_MAX,
    PARAMS_MAX, PROTOCOL_VERSION, SANDBOX_MISSING_MAX, SMALL_BYTES_MAX, WINDOW_BYTES,
};
use rusmd_proto::message::{cut_text, encode_body};
use rusmd_proto::{
    CodecError, ComponentInfo, ComponentKind, Failure, FailureCause, Frame, FrameHeader, Hello, Kind, LogLevel,
    LogLine, Ready, Refused, RequestHead, RequestId, ResponseHead, SandboxLevel, ToSupervisor, ToWorker, Trailers,
};
use samples::Message;

const ID: RequestId = RequestId(1);

/// Encodes and decodes again; the decoder's verdict.
fn verdict(message: Message<'_>) -> Result<(), CodecError> {
    let bytes = message.encode();
    let (frame, _) = Frame::split(&bytes).expect("a legal header").expect("a whole frame");
    Message::decode(&frame).map(|decoded| assert_eq!(decoded, message))
}

fn over(kind: Kind, what: &'static str) -> Result<(), CodecError> {
    Err(CodecError::OverLimit { kind, what })
}

fn request(head: RequestHead<'_>) -> Message<'_> {
    Message::ToWorker(ToWorker::Request { id: ID, head, end: true })
}

fn ready(kinds: Vec<ComponentKind<'_>>) -> Message<'_> {
    let components = kinds.into_iter().map(|kind| ComponentInfo { kind }).collect();
    Message::ToSupervisor(ToSupervisor::Ready(Ready {
        protocol: PROTOCOL_VERSION,
        build: "",
        sandbox: SandboxLevel::Off,
        sandbox_missing: Vec::new(),
        components,
    }))
}

fn log<'a>(target: &'a str, message: &'a str) -> Message<'a> {
    Message::ToSupervisor(ToSupervisor::Log { id: ID, line: LogLine { level: LogLevel::Info, target, message } })
}

fn failed<'a>(message: &'a str, backtrace: &'a str) -> Message<'a> {
    let failure = Failure { cause: FailureCause::Trap, message, backtrace };
    Message::ToSupervisor(ToSupervisor::Failed { id: ID, failure })
}

#[test]
fn field_lines_of_a_request() {
    let head = |count| RequestHead { headers: vec![("a", b"".as_slice()); count], ..samples::request_handlers() };
    assert_eq!(verdict(request(head(HEADERS_MAX))), Ok(()));
    assert_eq!(verdict(request(head(HEADERS_MAX + 1))), over(Kind::Request, "field lines"));
}

#[test]
fn field_lines_of_a_response() {
    let message = |count| {
        let head = ResponseHead { headers: vec![("a", b"".as_slice()); count], ..samples::response_head() };
        Message::ToSupervisor(ToSupervisor::ResponseHead { id: ID, head, end: true })
    };
    assert_eq!(verdict(message(HEADERS_MAX)), Ok(()));
    assert_eq!(verdict(message(HEADERS_MAX + 1)), over(Kind::ResponseHead, "field lines"));
}

#[test]
fn field_lines_of_trailers() {
    let trailers = |count| Trailers { headers: vec![("a", b"".as_slice()); count] };
    let request = |count| Message::ToWorker(ToWorker::RequestTrailers { id: ID, trailers: trailers(count) });
    let response = |count| Message::ToSupervisor(ToSupervisor::ResponseTrailers { id: ID, trailers: trailers(count) });
    assert_eq!(verdict(request(HEADERS_MAX)), Ok(()));
    assert_eq!(verdict(request(HEADERS_MAX + 1)), over(Kind::RequestTrailers, "field lines"));
    assert_eq!(verdict(response(HEADERS_MAX)), Ok(()));
    assert_eq!(verdict(response(HEADERS_MAX + 1)), over(Kind::ResponseTrailers, "field lines"));
}

#[test]
fn path_parameters() {
    let head = |count| RequestHead { params: vec![("id", "7"); count], ..samples::request_handlers() };
    assert_eq!(verdict(request(head(PARAMS_MAX))), Ok(()));
    assert_eq!(verdict(request(head(PARAMS_MAX + 1))), over(Kind::Request, "parameters"));
}

#[test]
fn components_of_a_hello() {
    let hello = |count| {
        let components = vec![samples::plain_component("a"); count];
        Message::ToWorker(ToWorker::Hello(Hello { components, ..samples::hello() }))
    };
    assert_eq!(verdict(hello(COMPONENTS_MAX)), Ok(()));
    assert_eq!(verdict(hello(COMPONENTS_MAX + 1)), over(Kind::Hello, "components"));
}

#[test]
fn components_of_a_ready() {
    let kinds = |count| vec![ComponentKind::WasiHttp02; count];
    assert_eq!(verdict(ready(kinds(COMPONENTS_MAX))), Ok(()));
    assert_eq!(verdict(ready(kinds(COMPONENTS_MAX + 1))), over(Kind::Ready, "components"));
}

#[test]
fn actions_of_a_component() {
    let actions = |count| vec![ComponentKind::Handlers(vec!["show"; count])];
    assert_eq!(verdict(ready(actions(ACTIONS_MAX))), Ok(()));
    assert_eq!(verdict(ready(actions(ACTIONS_MAX + 1))), over(Kind::Ready, "actions"));
}

#[test]
fn bytes_of_an_actions_name() {
    let name = "a".repeat(ACTION_BYTES_MAX + 1);
    let actions = |name| ready(vec![ComponentKind::Handlers(vec![name])]);
    assert_eq!(verdict(actions(&name[1..])), Ok(()));
    assert_eq!(verdict(actions(&name)), over(Kind::Ready, "bytes of an action's name"));
}

#[test]
fn bytes_of_a_log_line() {
    let message = "m".repeat(LOG_MESSAGE_BYTES_MAX + 1);
    let target = "t".repeat(LOG_TARGET_BYTES_MAX + 1);
    assert_eq!(verdict(log(&target[1..], &message[1..])), Ok(()));
    assert_eq!(verdict(log(&target, &message[1..])), over(Kind::Log, "bytes of target"));
    assert_eq!(verdict(log(&target[1..], &message)), over(Kind::Log, "bytes of message"));
}

#[test]
fn missing_steps_of_the_sandbox() {
    let missing = |count| {
        let Message::ToSupervisor(ToSupervisor::Ready(ready)) = ready(Vec::new()) else { unreachable!() };
        Message::ToSupervisor(ToSupervisor::Ready(Ready { sandbox_missing: vec!["seccomp"; count], ..ready }))
    };
    assert_eq!(verdict(missing(SANDBOX_MISSING_MAX)), Ok(()));
    assert_eq!(verdict(missing(SANDBOX_MISSING_MAX + 1)), over(Kind::Ready, "missing steps of the sandbox"));
}

#[test]
fn bytes_of_a_backtrace() {
    let text = "t".repeat(FAILURE_TEXT_BYTES_MAX + 1);
    let backtrace = |backtrace| Message::ToSupervisor(ToSupervisor::Backtrace { id: ID, backtrace });
    assert_eq!(verdict(backtrace(&text[1..])), Ok(()));
    assert_eq!(verdict(backtrace(&text)), over(Kind::Backtrace, "bytes of backtrace"));
}

#[test]
fn bytes_of_a_failure() {
    let text = "t".repeat(FAILURE_TEXT_BYTES_MAX + 1);
    assert_eq!(verdict(failed(&text[1..], &text[1..])), Ok(()));
    assert_eq!(verdict(failed(&text, "")), over(Kind::Failed, "bytes of message"));
    assert_eq!(verdict(failed("", &text)), over(Kind::Failed, "bytes of backtrace"));
}

/// Encodes messages with an ever longer text until one is refused: the longest payload, and the error after it.
fn longest_payload(bytes_max: usize, encode: impl Fn(&str, &mut Vec<u8>) -> Result<(), CodecError>) -> CodecError {
    let text = "x".repeat(bytes_max);
    let mut out = b"before".to_vec();
    let shortest = bytes_max.saturating_sub(256);
    for text_bytes in shortest..bytes_max {
        out.truncate(6);
        if let Err(error) = encode(&text[..text_bytes], &mut out) {
            assert_eq!(out, b"before", "a refused message leaves nothing behind");
            return error;
        }
        let payload_bytes = out.len() - 6 - FRAME_HEADER_BYTES;
        let (frame, _) = Frame::split(&out[6..]).expect("a legal header").expect("a whole frame");
        assert_eq!(frame.payload.len(), payload_bytes);
        assert!(payload_bytes <= bytes_max);
    }
    panic!("no message was too long");
}

#[test]
fn an_encoded_head_one_past_its_limit_is_not_sent() {
    let error = longest_payload(HEAD_BYTES_MAX, |text, out| {
        let head = RequestHead { path: text, ..samples::request_wasi_http() };
        ToWorker::Request { id: ID, head, end: true }.encode(out)
    });
    assert_eq!(error, CodecError::TooLong { kind: Kind::Request, payload_bytes: HEAD_BYTES_MAX + 1 });
}

#[test]
fn an_encoded_handshake_one_past_its_limit_is_not_sent() {
    let error = longest_payload(HANDSHAKE_BYTES_MAX, |text, out| {
        ToWorker::Hello(Hello { build: text, ..samples::hello_without_components() }).encode(out)
    });
    assert_eq!(error, CodecError::TooLong { kind: Kind::Hello, payload_bytes: HANDSHAKE_BYTES_MAX + 1 });
}

#[test]
fn an_encoded_small_message_one_past_its_limit_is_not_sent() {
    let error = longest_payload(SMALL_BYTES_MAX, |text, out| {
        ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message: text }).encode(out)
    });
    assert_eq!(error, CodecError::TooLong { kind: Kind::Refused, payload_bytes: SMALL_BYTES_MAX + 1 });
}

#[test]
fn a_body_chunk_at_its_limit_and_one_past() {
    let bytes = vec![7; BODY_CHUNK_BYTES_MAX + 1];
    let chunk = |bytes| ToWorker::RequestBody { id: ID, bytes, end: false };
    assert_eq!(verdict(Message::ToWorker(chunk(&bytes[1..]))), Ok(()));
    let error = CodecError::TooLong { kind: Kind::RequestBody, payload_bytes: BODY_CHUNK_BYTES_MAX + 1 };
    assert_eq!(chunk(&bytes).encode(&mut Vec::new()), Err(error));
}

#[test]
fn a_long_body_is_split_into_chunks_of_which_the_last_ends_it() {
    for (body_bytes, frames) in [(0, 1), (1, 1), (BODY_CHUNK_BYTES_MAX, 1), (BODY_CHUNK_BYTES_MAX + 1, 2)] {
        let mut out = Vec::new();
        encode_body(&mut out, Kind::ResponseBody, ID, &vec![7; body_bytes], true).expect("chunks are legal");
        let (mut input, mut seen, mut ends) = (out.as_slice(), 0, Vec::new());
        while let Some((frame, rest)) = Frame::split(input).expect("legal headers") {
            seen += frame.payload.len();
            ends.push(frame.header.end);
            input = rest;
        }
        assert_eq!((seen, ends.len()), (body_bytes, frames));
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        assert_eq!(ends.last(), Some(&true));
    }
}

#[test]
fn a_whole_window_is_a_whole_number_of_chunks() {
    assert_eq!(WINDOW_BYTES as usize % BODY_CHUNK_BYTES_MAX, 0);
}

#[test]
fn a_header_one_byte_short_is_awaited() {
    let bytes = Message::ToWorker(ToWorker::Drain).encode();
    assert_eq!(bytes.len(), FRAME_HEADER_BYTES);
    assert_eq!(FrameHeader::parse(&bytes[1..]), Ok(None));
    assert!(matches!(FrameHeader::parse(&bytes), Ok(Some(_))));
}

#[test]
fn an_empty_chunk_that_ends_nothing_is_refused() {
    let bytes = Message::ToSupervisor(ToSupervisor::ResponseBody { id: ID, bytes: b"", end: false }).encode();
    let (frame, _) = Frame::split(&bytes).expect("a legal header").expect("a whole frame");
    assert_eq!(ToSupervisor::decode(&frame), Err(CodecError::EmptyChunk(Kind::ResponseBody)));
}

#[test]
fn a_credit_has_exactly_four_bytes() {
    for payload in [&[1, 2, 3][..], &[1, 2, 3, 4]] {
        let header = FrameHeader { kind: Kind::RequestCredit, end: false, request: ID, payload_bytes: payload.len() };
        let decoded = ToSupervisor::decode(&Frame { header, payload });
        assert_eq!(decoded.is_ok(), payload.len() == 4);
    }
}

/// A `Ready` in which one component claims `count` actions without one of them being there.
fn claimed_actions(count: u32) -> Vec<u8> {
    // Version, empty build, level of the sandbox, no missing steps, one component, its kind, and a count of four bytes.
    let mut payload = vec![PROTOCOL_VERSION as u8, 0, 0, 0, 1, 0, 0xfc];
    payload.extend_from_slice(&count.to_le_bytes());
    payload
}

#[test]
fn a_count_that_claims_more_memory_than_a_message_may_is_refused_before_the_memory_is_taken() {
    let reason = |count| {
        let payload = claimed_actions(count);
        let header =
            FrameHeader { kind: Kind::Ready, end: false, request: RequestId::NONE, payload_bytes: payload.len() };
        match ToSupervisor::decode(&Frame { header, payload: &payload }) {
            Err(CodecError::Undecodable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let claimed_before = 64;
    let fits = ((DECODE_BYTES_MAX - claimed_before) / size_of::<&str>()) as u32;
    let too_many = (DECODE_BYTES_MAX / size_of::<&str>()) as u32 + 1;
    assert!(reason(fits).contains("UnexpectedEnd"), "{}", reason(fits));
    assert!(reason(too_many).contains("LimitExceeded"), "{}", reason(too_many));
}

#[test]
fn another_protocol_version_is_told_from_the_first_field_alone() {
    let header = |payload_bytes| FrameHeader { kind: Kind::Hello, end: false, request: RequestId::NONE, payload_bytes };
    let theirs = PROTOCOL_VERSION + 1;
    let payload = [theirs as u8, 0xff, 0xff, 0xff];
    let error = CodecError::WrongVersion { ours: PROTOCOL_VERSION, theirs };
    assert_eq!(ToWorker::decode(&Frame { header: header(4), payload: &payload }), Err(error.clone()));
    let kind = Kind::Ready;
    let frame = Frame { header: FrameHeader { kind, ..header(4) }, payload: &payload };
    assert_eq!(ToSupervisor::decode(&frame), Err(error));
}

#[test]
fn a_cut_text_ends_at_a_character() {
    assert_eq!(cut_text("aé", 3), "aé");
    assert_eq!(cut_text("aé", 2), "a");
    assert_eq!(cut_text("", 0), "");
}

/// The value that PROTOCOL.md gives for a constant: `| NAME | 64 KiB | … |`.
fn documented(name: &str) -> usize {
    let text = include_str!("../PROTOCOL.md");
    let row = format!("| `{name}` | ");
    let (_, rest) = text.split_once(&row).unwrap_or_else(|| panic!("PROTOCOL.md has no row for {name}"));
    let mut words = rest.split([' ', '|']).filter(|word| !word.is_empty());
    let number: usize = words.next().expect("a value").parse().expect("a number");
    match words.next() {
        Some("KiB") => number * 1024,
        Some("MiB") => number * 1024 * 1024,
        _ => number,
    }
}

#[test]
fn the_limits_of_the_protocols_page_are_those_of_the_code() {
    for (name, value) in [
        ("BODY_CHUNK_BYTES_MAX", BODY_CHUNK_BYTES_MAX),
        ("HEAD_BYTES_MAX", HEAD_BYTES_MAX),
        ("HEADERS_MAX", HEADERS_MAX),
        ("PARAMS_MAX", PARAMS_MAX),
        ("HANDSHAKE_BYTES_MAX", HANDSHAKE_BYTES_MAX),
        ("COMPONENTS_MAX", COMPONENTS_MAX),
        ("ACTIONS_MAX", ACTIONS_MAX),
        ("ACTION_BYTES_MAX", ACTION_BYTES_MAX),
        ("SMALL_BYTES_MAX", SMALL_BYTES_MAX),
        ("LOG_MESSAGE_BYTES_MAX", LOG_MESSAGE_BYTES_MAX),
        ("LOG_TARGET_BYTES_MAX", LOG_TARGET_BYTES_MAX),
        ("FAILURE_TEXT_BYTES_MAX", FAILURE_TEXT_BYTES_MAX),
        ("WINDOW_BYTES", WINDOW_BYTES as usize),
        ("DECODE_BYTES_MAX", DECODE_BYTES_MAX),
    ] {
        assert_eq!(documented(name), value, "{name}");
    }
}

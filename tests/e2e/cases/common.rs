//! What several modules of tests share: the forms of guest, and the check that every fault must pass.
//!
//! Owns the names of the test guests' paths; the guests are in `tests/guests`.

use rusmd_e2e::{Response, Server, Setup};

/// The body of the handlers form's `/hello`; every form's begins with the word.
pub const HELLO: &str = "hello\n";

/// The same faults, written as each kind of component.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Rust with `#[rusm_rs::handlers]`.
    Handlers,
    /// Rust as a `wasi:http` component.
    Wasi,
    /// TypeScript, which becomes a `wasi:http` component too.
    TypeScript,
}

impl Form {
    /// A server of this form's faults, each under the path of its name.
    #[track_caller]
    pub fn setup(self) -> Setup {
        match self {
            Form::Handlers => Setup::new().routes(HANDLERS),
            Form::Wasi => Setup::new().component(self.component()),
            Form::TypeScript => Setup::new().component(self.component()),
        }
    }

    pub fn component(self) -> &'static str {
        match self {
            Form::Handlers => "faults",
            Form::Wasi => "wasi-faults",
            Form::TypeScript => "ts-faults",
        }
    }
}

/// One route for each action of the handlers form.
const HANDLERS: &[(&str, &str)] = &[
    ("/count", "faults#count"),
    ("/divide-by-zero", "faults#divide_by_zero"),
    ("POST /echo", "faults#echo"),
    ("/env", "faults#env"),
    ("/exit/success", "faults#exit_success"),
    ("/exit/failure", "faults#exit_failure"),
    ("/fit", "faults#fit"),
    ("/framing-headers", "faults#framing_headers"),
    ("/grow", "faults#grow"),
    ("GET /hello", "faults#hello"),
    ("/invalid-header/name", "faults#invalid_header_name"),
    ("/invalid-header/value", "faults#invalid_header_value"),
    ("/invalid-status", "faults#invalid_status"),
    ("/large", "faults#large"),
    ("/log", "faults#log"),
    ("/log/forgery", "faults#log_forgery"),
    ("/many-headers", "faults#many_headers"),
    ("/memory", "faults#memory"),
    ("/not-modified", "faults#not_modified_with_body"),
    ("/panic", "faults#panic"),
    ("/read", "faults#read"),
    ("/recursion", "faults#recursion"),
    ("/sleep", "faults#sleep"),
    ("/sleep-forever", "faults#sleep_forever"),
    ("/spin", "faults#spin"),
    ("/status/:code", "faults#status"),
    ("/stderr/endless-line", "faults#stderr_endless_line"),
    ("/stderr/flood", "faults#stderr_flood"),
    ("/unreachable", "faults#unreachable"),
    ("/unwrap-none", "faults#unwrap_none"),
    ("/work", "faults#work"),
    ("/write", "faults#write"),
];

/// Checks that the server is well: whatever came before, this is served.
#[track_caller]
pub fn assert_serves(server: &Server) {
    let response = server.get("/hello");
    assert_eq!(response.status(), 200);
    assert!(response.text().starts_with("hello"), "{}", response.text());
}

/// Asks for `path`, which must fail with `status`, and checks what holds for every failure: the client learns the request's
/// id and nothing of the inside; the log has a line with this id and all of `log`; the next request is served.
#[track_caller]
pub fn assert_fails(server: &mut Server, path: &str, status: u16, log: &[&str]) {
    let mut client = server.connect();
    client.get(path);
    let response = client.response();
    let id = assert_failed(server, &response, status);
    let parts: Vec<&str> = std::iter::once(id.as_str()).chain(log.iter().copied()).collect();
    server.wait_for_log(&parts);
    assert_serves(server);
}

/// Checks an error response, declares its log lines as expected, and returns the request's id.
#[track_caller]
pub fn assert_failed(server: &mut Server, response: &Response, status: u16) -> String {
    let body = response.text();
    assert_eq!(response.status(), status, "{body}");
    assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(body.len() < ERROR_BODY_BYTES_MAX, "an error body is short: {body}");
    for secret in ["wasm", ".rs", ".ts", "backtrace", "panicked", "on purpose", "deliberate", "/home", "/tmp"] {
        assert!(!body.contains(secret), "the client must not learn {secret:?}: {body}");
    }
    let id = request_id(response);
    server.expect_error(&id);
    id
}

/// The request id in the body of an error response: 32 hexadecimal digits.
#[track_caller]
pub fn request_id(response: &Response) -> String {
    let body = response.text();
    let id = body.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| is_request_id(word));
    id.unwrap_or_else(|| panic!("no request id in {body:?}")).to_owned()
}

/// The request id in a line of the log.
pub fn request_id_in(line: &str) -> Option<&str> {
    line.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| is_request_id(word))
}

/// Whether a word has the form of a request id.
pub fn is_request_id(word: &str) -> bool {
    word.len() == ID_DIGITS && word.chars().all(|c| c.is_ascii_hexdigit())
}

const ERROR_BODY_BYTES_MAX: usize = 256;
const ID_DIGITS: usize = 32;

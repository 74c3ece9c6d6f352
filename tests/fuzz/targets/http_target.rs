//! Any bytes as a request target: it is refused, or taken apart into parts that are what RFC 9112 and RFC 3986 say, and that mean the
//! same when they are put together again.
#![no_main]

use std::rc::Rc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rusmd::http::target::normalise;
use rusmd::http::{Connection, Context, Event, Scheme, TargetForm};

fuzz_target!(|data: &[u8]| {
    // These end a target, and with it what is tested here.
    if data.iter().any(|byte| matches!(byte, b' ' | b'\n')) {
        return;
    }
    let Some(parts) = parse(data, None) else { return };
    assert!(data.is_ascii() && !data.iter().any(|byte| byte.is_ascii_control() || *byte == b'#'));
    check(&parts);
    // In the other form, with the host in its field or in the target: the same request.
    if parts.form != TargetForm::Asterisk && !parts.path.starts_with("//") {
        let authority = if parts.authority.is_empty() { "h" } else { &parts.authority };
        let absolute = format!("http://{authority}{}", path_and_query(&parts));
        let again = parse(absolute.as_bytes(), Some(authority)).expect("what was read can be read again");
        assert_eq!((&again.path, &again.query, &*again.authority), (&parts.path, &parts.query, authority));
        let origin = path_and_query(&parts);
        let again = parse(origin.as_bytes(), Some(authority)).expect("what was read can be read again");
        assert_eq!((&again.path, &again.query), (&parts.path, &parts.query));
    }
});

struct Parts {
    form: TargetForm,
    authority: String,
    path: String,
    query: Option<String>,
}

/// In HTTP/1.0, which needs no host; an OPTIONS, which may ask for `*`.
fn parse(target: &[u8], host: Option<&str>) -> Option<Parts> {
    let now = Instant::now();
    let mut connection = Connection::new(Rc::new(Context::default()), Scheme::Http, now);
    connection.handle_input(b"OPTIONS ", now);
    connection.handle_input(target, now);
    connection.handle_input(b" HTTP/1.0\r\n", now);
    if let Some(host) = host {
        connection.handle_input(format!("host: {host}\r\n").as_bytes(), now);
    }
    connection.handle_input(b"\r\n", now);
    match connection.poll_event(now) {
        Some(Event::Request(head)) => Some(Parts {
            form: head.form,
            authority: head.authority.to_owned(),
            path: head.path.to_owned(),
            query: head.query.map(str::to_owned),
        }),
        _ => None,
    }
}

fn path_and_query(parts: &Parts) -> String {
    let query = parts.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", parts.path)
}

fn check(parts: &Parts) {
    assert!(parts.path.starts_with('/') || parts.form == TargetForm::Asterisk && parts.path == "*");
    assert!(!parts.path.contains(['?', '\\']));
    assert!(!parts.authority.contains(['@', '/', '?', '#', '\\']));
    assert_eq!(parts.form == TargetForm::Absolute, !parts.authority.is_empty(), "no host was sent but in the target");
    let Ok(path) = normalise(&parts.path) else { return };
    assert_eq!(normalise(&path).as_deref(), Ok(&*path), "resolving twice changes {:?}", parts.path);
    for segment in path.split('/') {
        let dots = segment.to_ascii_lowercase().replace("%2e", ".");
        assert!(dots != "." && dots != "..", "{path:?} still has a dot segment");
    }
    assert!(!path.contains("%00"));
}

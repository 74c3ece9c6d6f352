//! What the access log's lines look like, with friendly and with hostile requests, and when they are written.

use std::path::PathBuf;

use super::*;
use crate::testing::Scratch;

fn entry() -> AccessEntry<'static> {
    AccessEntry {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_036_000_000_042),
        peer: Some("127.0.0.1:40123".parse().expect("an address")),
        id: "0661f0c2a7400001",
        method: b"GET",
        target: b"/users/7?a=b",
        version: "HTTP/1.1",
        status: 200,
        bytes: 2326,
        referer: Some(b"https://example.org/start"),
        user_agent: Some(b"curl/8.5.0"),
        total: Duration::from_micros(1234),
        queue: Duration::from_micros(100),
        dispatch: Duration::from_micros(34),
        run: Duration::from_micros(1_100),
        worker: Some(4711),
        generation: 1,
        component: Some("api"),
        action: Some("show"),
        started: true,
        outcome: Outcome::Served,
    }
}

/// A request of which everything that comes from outside is out to do harm.
fn hostile() -> AccessEntry<'static> {
    AccessEntry {
        peer: Some("[::ffff:10.0.0.7]:1".parse().expect("an address")),
        method: b"GET",
        target: b"/\" 200 0 \"-\" \"-\"\r\n127.0.0.1 - - [\x1b[2J\xff",
        referer: Some(b"\"},{\"status\":200\\"),
        user_agent: Some(b"\xc3(\0\n"),
        status: 0,
        bytes: 0,
        worker: None,
        component: Some("a b=\"c\""),
        action: None,
        started: false,
        outcome: Outcome::ClientLeft,
        ..entry()
    }
}

fn line(entry: &AccessEntry<'_>, format: AccessFormat) -> String {
    let mut line = Vec::new();
    match format {
        AccessFormat::Combined => entry.push_combined(&mut line),
        AccessFormat::Json => entry.push_json(&mut line),
    }
    String::from_utf8(line).expect("whatever comes in, text comes out")
}

#[test]
fn the_combined_format_is_that_of_apache_with_fields_after_it() {
    let expected = "127.0.0.1 - - [25/Nov/2025:02:00:00 +0000] \"GET /users/7?a=b HTTP/1.1\" 200 2326 \
                    \"https://example.org/start\" \"curl/8.5.0\" rt=0.001234 qt=0.000100 dt=0.000034 ut=0.001100 pid=4711 gen=1 \
                    id=0661f0c2a7400001 component=api action=show started=1 outcome=served\n";
    assert_eq!(line(&entry(), AccessFormat::Combined), expected);
}

#[test]
fn a_hostile_request_is_one_line_of_the_combined_format() {
    let expected = r#"10.0.0.7 - - [25/Nov/2025:02:00:00 +0000] "GET /\x22 200 0 \x22-\x22 \x22-\x22\x0d\x0a127.0.0.1 - - [\x1b[2J\xff HTTP/1.1" 000 0 "\x22},{\x22status\x22:200\x5c" "\xc3(\x00\x0a" rt=0.001234 qt=0.000100 dt=0.000034 ut=0.001100 pid=- gen=1 id=0661f0c2a7400001 component=a\x20b\x3d\x22c\x22 action=- started=0 outcome=client-left"#;
    assert_eq!(line(&hostile(), AccessFormat::Combined), format!("{expected}\n"));
}

#[test]
fn a_head_that_could_not_be_read_has_no_request_line() {
    let unreadable = AccessEntry {
        method: b"",
        target: b"",
        version: "",
        referer: None,
        user_agent: Some(b""),
        status: 400,
        outcome: Outcome::Malformed,
        ..entry()
    };
    assert!(line(&unreadable, AccessFormat::Combined).contains("] \"-\" 400 2326 \"-\" \"-\" rt="));
    assert!(
        line(&unreadable, AccessFormat::Json)
            .contains("\"method\":null,\"target\":null,\"version\":null,\"referer\":null,")
    );
}

#[test]
fn json_has_one_object_on_a_line_with_whole_microseconds() {
    let expected = r#"{"time":"2025-11-25T02:00:00.000042Z","peer":"127.0.0.1","port":40123,"id":"0661f0c2a7400001","method":"GET","target":"/users/7?a=b","version":"HTTP/1.1","referer":"https://example.org/start","user_agent":"curl/8.5.0","status":200,"bytes":2326,"total_us":1234,"queue_us":100,"dispatch_us":34,"run_us":1100,"generation":1,"pid":4711,"component":"api","action":"show","started":true,"outcome":"served"}"#;
    assert_eq!(line(&entry(), AccessFormat::Json), format!("{expected}\n"));
}

#[test]
fn a_port_that_is_not_known_is_null() {
    let peer = Some("[2001:db8::7]:0".parse().expect("an address"));
    let line = line(&AccessEntry { peer, ..entry() }, AccessFormat::Json);
    assert!(line.contains("\"peer\":\"2001:db8::7\",\"port\":null,"), "{line}");
}

#[test]
fn a_hostile_request_is_one_object_of_json() {
    let expected = concat!(
        r#"{"time":"2025-11-25T02:00:00.000042Z","peer":"10.0.0.7","port":1,"id":"0661f0c2a7400001","method":"GET","#,
        r#""target":"/\" 200 0 \"-\" \"-\"\u000d\u000a127.0.0.1 - - [\u001b[2J"#,
        "\u{fffd}",
        r#"","version":"HTTP/1.1","referer":"\"},{\"status\":200\\","user_agent":""#,
        "\u{fffd}",
        r#"(\u0000\u000a","status":0,"bytes":0,"total_us":1234,"queue_us":100,"dispatch_us":34,"run_us":1100,"#,
        r#""generation":1,"pid":null,"component":"a b=\"c\"","action":null,"started":false,"outcome":"client-left"}"#,
        "\n",
    );
    assert_eq!(line(&hostile(), AccessFormat::Json), expected);
}

#[expect(clippy::disallowed_methods, reason = "any time will do as the beginning of a test's")]
fn start() -> Instant {
    Instant::now()
}

fn in_file() -> (Scratch, PathBuf, AccessLog) {
    let scratch = Scratch::new();
    let path = scratch.path().join("access");
    let log = AccessLog::open(Some(Place::File(path.clone())), AccessFormat::Json).expect("the directory is writable");
    (scratch, path, log)
}

fn lines(path: &PathBuf) -> usize {
    std::fs::read_to_string(path).expect("the log is there").lines().count()
}

#[test]
fn a_line_is_written_when_it_is_a_second_old_and_not_before() {
    let (_scratch, path, mut log) = in_file();
    let begun = start();
    assert_eq!(log.next_deadline(begun), None);
    log.push(&entry());
    log.flush(begun);
    assert_eq!(log.next_deadline(begun), Some(begun + FLUSH_AFTER));
    log.push(&entry());
    log.flush(begun + FLUSH_AFTER / 2);
    assert_eq!(lines(&path), 0);
    log.flush(begun + FLUSH_AFTER);
    assert_eq!((lines(&path), log.next_deadline(begun)), (2, None));
}

#[test]
fn many_lines_are_written_at_once_and_the_rest_when_told() {
    let (_scratch, path, mut log) = in_file();
    let begun = start();
    let mut pushed = 0;
    while lines(&path) == 0 {
        log.push(&entry());
        log.flush(begun);
        pushed += 1;
    }
    assert!(pushed > 10 && lines(&path) == pushed);
    log.push(&entry());
    log.flush(begun);
    assert_eq!(lines(&path), pushed);
    log.flush_all(begun);
    assert_eq!(lines(&path), pushed + 1);
}

#[test]
fn a_full_disk_costs_neither_the_server_nor_more_than_the_lines_past_the_buffer() {
    let mut log = AccessLog::open(Some(Place::File("/dev/full".into())), AccessFormat::Combined).expect("it is there");
    let now = start();
    log.push(&entry());
    log.flush_all(now);
    let (_, text) = log.take_report().expect("it is told");
    assert!(text.contains("/dev/full") && text.contains("No space left"), "{text}");
    for _ in 0..10_000 {
        log.push(&entry());
        log.flush(now);
    }
    assert!(log.take_report().is_none(), "told again");
    assert!(log.next_deadline(now).is_some_and(|at| at > now), "it would be tried without a pause");

    let scratch = Scratch::new();
    let path = scratch.path().join("access");
    log.reopen(Some(Place::File(path.clone())), AccessFormat::Combined).expect("the directory is writable");
    let (_, text) = log.take_report().expect("it is told");
    let lost = 10_001 - lines(&path);
    assert!(lost > 0 && text.contains(&format!("{lost} lines were lost")), "{text}");
}

#[test]
fn it_can_be_turned_off_and_on_and_to_another_place() {
    let (scratch, path, mut log) = in_file();
    let now = start();
    log.push(&entry());
    log.reopen(None, AccessFormat::Json).expect("off is always possible");
    assert!(!log.is_on() && lines(&path) == 1);
    log.push(&entry());
    log.flush_all(now);
    assert_eq!(log.next_deadline(now), None);
    let other = scratch.path().join("other");
    log.reopen(Some(Place::File(other.clone())), AccessFormat::Combined).expect("the directory is writable");
    log.push(&entry());
    log.flush_all(now);
    assert_eq!((lines(&path), lines(&other)), (1, 1));
    assert!(log.reopen(Some(Place::File("/no/such/directory/log".into())), AccessFormat::Json).is_err());
    assert_eq!((log.place(), log.format()), (Some(&Place::File(other)), AccessFormat::Combined));
}

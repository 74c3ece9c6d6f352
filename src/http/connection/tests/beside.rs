//! Bodies that pass beside the output: their length, their deadline, and what follows them. Tests only.

use std::time::Duration;

use super::{Bench, DATE, GET, GET_10, HEAD, POST_5};
use crate::http::{ResponseError, ResponseHead};

impl Bench {
    fn beside(&mut self, length: u64) -> Result<u64, ResponseError> {
        let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: Some(length) };
        self.connection.respond_beside(&head, self.now)
    }
}

#[test]
fn the_next_request_follows_the_last_byte_beside() {
    let mut bench = Bench::asked(&GET.repeat(2));
    assert_eq!(bench.beside(10).ok(), Some(10));
    assert_eq!(bench.written(), format!("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{DATE}\r\n"));
    bench.connection.handle_sent_beside(9, bench.now);
    assert!(bench.connection.is_head_sent());
    assert_eq!(bench.poll(), "");
    bench.connection.handle_sent_beside(1, bench.now);
    assert_eq!(bench.poll(), "request");
}

#[test]
fn bytes_that_are_queued_after_all_count_as_well_and_none_go_beyond_the_length() {
    let mut bench = Bench::asked(GET);
    assert_eq!(bench.beside(10).ok(), Some(10));
    bench.written();
    bench.connection.handle_sent_beside(4, bench.now);
    bench.connection.respond_beside_bytes(b"efghijklm", bench.now);
    assert_eq!(bench.written(), "efghij");
    assert!(bench.connection.is_idle());
    bench.connection.respond_beside_bytes(b"more", bench.now);
    assert_eq!(bench.written(), "");
}

#[test]
fn without_a_body_nothing_is_awaited() {
    for (request, length) in [(HEAD, 10), (GET, 0)] {
        let mut bench = Bench::asked(request);
        assert_eq!(bench.beside(length).ok(), Some(0), "{request}");
        bench.written();
        assert!(bench.connection.is_idle(), "{request}");
    }
}

#[test]
fn a_connection_that_is_not_kept_ends_behind_the_last_byte() {
    let mut bench = Bench::asked(GET_10);
    assert_eq!(bench.beside(3).ok(), Some(3));
    bench.written();
    bench.connection.handle_sent_beside(3, bench.now);
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn a_client_that_takes_nothing_is_cut_though_the_output_is_empty() {
    let mut bench = Bench::asked(GET);
    let patience = bench.context.timeouts.write;
    assert_eq!(bench.beside(3).ok(), Some(3));
    bench.written();
    bench.pass(patience - Duration::from_millis(1));
    bench.connection.handle_sent_beside(1, bench.now);
    bench.pass(patience - Duration::from_millis(1));
    assert!(!bench.connection.is_closed());
    bench.pass(Duration::from_millis(1));
    assert!(bench.connection.was_cut());
    assert_eq!(bench.poll(), "gone");
}

#[test]
fn a_request_that_breaks_off_during_the_body_cuts_it() {
    let mut bench = Bench::asked(&POST_5.replace("content-length: 5", "transfer-encoding: chunked"));
    assert_eq!(bench.beside(3).ok(), Some(3));
    bench.written();
    bench.feed("no chunk");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.connection.was_cut());
}

#[test]
fn a_body_of_unknown_length_cannot_pass_beside() {
    let mut bench = Bench::asked(GET);
    let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: None };
    assert_eq!(bench.connection.respond_beside(&head, bench.now), Err(ResponseError::ContentLength));
    assert!(bench.respond(200, &[], Some(0), "").starts_with("HTTP/1.1 200"));
}

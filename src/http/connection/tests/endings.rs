//! How exchanges and connections end, in time and under pressure. Tests only.

use std::time::Duration;

use super::{Bench, GET, POST_5, POST_CHUNKED};
use crate::http::limits::{DRAIN_BYTES_MAX, FAREWELL_BYTES_MAX, LINGER_TIME_MAX};
use crate::http::{Event, Limits, PublicId, ResponseError, Timeouts};

#[test]
fn an_error_answer_before_the_body_closes_and_lingers_until_the_client_has_ended() {
    let mut bench = Bench::asked(POST_5);
    bench.error(413);
    assert!(bench.connection.wants_input(), "what the client sends is still taken, and thrown away");
    assert!(!bench.connection.should_shutdown_write());
    assert!(bench.written().contains("connection: close\r\n"));
    assert!(bench.connection.should_shutdown_write());
    bench.connection.handle_write_shutdown();
    bench.feed("hello and much more");
    assert_eq!(bench.poll(), "");
    assert!(!bench.connection.is_closed() && bench.connection.wants_input());
    bench.connection.handle_eof(bench.now);
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn lingering_ends_with_its_time() {
    let mut bench = Bench::asked(POST_5);
    bench.error(413);
    bench.written();
    bench.connection.handle_write_shutdown();
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().linger));
    bench.pass(Timeouts::default().linger);
    assert!(bench.connection.is_closed());
}

#[test]
fn a_client_that_goes_on_sending_is_listened_to_for_its_time_and_no_longer() {
    let mut bench = Bench::asked(POST_5);
    bench.error(413);
    bench.written();
    bench.connection.handle_write_shutdown();
    for _ in 0..LINGER_TIME_MAX.as_secs() - 1 {
        bench.pass(Duration::from_secs(1));
        bench.feed("more");
    }
    bench.pass(Duration::from_millis(999));
    bench.feed("more");
    assert!(!bench.connection.is_closed());
    bench.pass(Duration::from_millis(1));
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

/// A connection for which there is no place, when it has been told so.
fn turned_away() -> Bench {
    let mut bench = Bench::new();
    bench.connection.turn_away("too many", bench.now);
    assert!(bench.written().starts_with("HTTP/1.1 503 "));
    bench.connection.handle_write_shutdown();
    bench
}

#[test]
fn who_is_turned_away_may_send_the_limit_and_not_a_byte_more() {
    let mut bench = turned_away();
    let piece = "x".repeat(FAREWELL_BYTES_MAX as usize / 4);
    for _ in 0..4 {
        bench.feed(&piece);
    }
    assert!(!bench.connection.is_closed());
    bench.feed("x");
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn who_is_turned_away_has_no_more_time_for_sending_on() {
    let mut bench = turned_away();
    bench.pass(Timeouts::default().linger - Duration::from_millis(1));
    bench.feed("x");
    assert!(!bench.connection.is_closed());
    bench.pass(Duration::from_millis(1));
    assert!(bench.connection.is_closed());
}

#[test]
fn a_small_rest_of_a_body_is_discarded_and_the_connection_kept() {
    for (wire, rest) in [(POST_5, "hello"), (POST_CHUNKED, "5\r\nhello\r\n0\r\nx: y\r\n\r\n")] {
        let mut bench = Bench::asked(wire);
        assert!(!bench.respond(200, &[], Some(0), "").contains("close"));
        bench.feed(rest);
        assert_eq!(bench.poll(), "");
        assert!(bench.connection.is_idle());
        bench.feed(GET);
        assert_eq!(bench.poll(), "request");
    }
}

#[test]
fn a_rest_at_the_limit_is_discarded_and_one_past_it_closes() {
    let declaring = |length: u64| format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
    for (length, kept) in [(DRAIN_BYTES_MAX, true), (DRAIN_BYTES_MAX + 1, false)] {
        let mut bench = Bench::asked(&declaring(length));
        bench.respond(200, &[], Some(0), "");
        assert_eq!(bench.connection.should_shutdown_write(), !kept);
    }
    // Framing counts as well: a chunk of one byte is six bytes on the wire.
    let chunks = "1\r\na\r\n".repeat(DRAIN_BYTES_MAX as usize / 6 + 1);
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.respond(200, &[], Some(0), "");
    bench.feed(&chunks);
    assert_eq!(bench.poll(), "");
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn a_rest_that_does_not_come_is_not_waited_for_long() {
    let mut bench = Bench::asked(POST_5);
    bench.respond(200, &[], Some(0), "");
    bench.pass(Timeouts::default().linger);
    assert!(bench.connection.should_shutdown_write());
}

#[test]
fn a_malformed_rest_closes() {
    for rest in ["nonsense", "1\r\nab", "0\r\nGET /x HTTP/1.1\r\n\r\n", "0\r\n\n"] {
        let mut bench = Bench::asked(POST_CHUNKED);
        bench.respond(200, &[], Some(0), "");
        bench.feed(rest);
        assert_eq!(bench.poll(), "", "{rest:?}");
        assert!(bench.connection.should_shutdown_write(), "{rest:?}");

        let mut bench = Bench::asked(POST_CHUNKED);
        bench.feed(rest);
        bench.error(404);
        assert!(bench.written().contains("connection: close"), "{rest:?}");
        assert!(bench.connection.should_shutdown_write(), "{rest:?}");
    }
}

#[test]
fn a_response_may_come_before_the_body_has_ended() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.head(200, &[], None).expect("a valid head");
    bench.feed("5\r\nhello\r\n");
    assert_eq!(bench.poll(), "body 5");
    bench.body("hello").expect("a piece");
    bench.feed("0\r\n\r\n");
    assert_eq!(bench.poll(), "end");
    bench.end().expect("the end");
    bench.written();
    assert!(bench.connection.is_idle());
}

#[test]
fn a_bad_body_is_refused_before_the_response_and_cut_after_its_head() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.written().starts_with("HTTP/1.1 400 "));

    let mut bench = Bench::asked(POST_CHUNKED);
    bench.head(200, &[], None).expect("a valid head");
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert!(bench.connection.was_cut() && bench.connection.output().is_empty());
}

#[test]
fn a_response_that_is_broken_off_is_written_as_far_as_it_came_and_seen_to_be_incomplete() {
    for length in [None, Some(9)] {
        let mut bench = Bench::asked(GET);
        bench.head(200, &[], length).expect("a valid head");
        bench.connection.respond_body(b"part", bench.now).expect("within its length");
        bench.connection.break_off(bench.now);
        assert!(!bench.connection.is_closed());
        let output = bench.written();
        assert!(
            output.starts_with("HTTP/1.1 200") && output.contains("part") && !output.ends_with("0\r\n\r\n"),
            "{output}"
        );
        assert!(bench.connection.is_closed() && !bench.connection.was_cut());
    }
    let mut bench = Bench::asked("GET / HTTP/1.0\r\n\r\n");
    bench.head(200, &[], None).expect("a valid head");
    bench.connection.break_off(bench.now);
    assert!(bench.connection.was_cut(), "nothing but a reset tells this client");
}

#[test]
fn after_a_refusal_nothing_more_is_owed() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.feed("zz\r\n");
    assert_eq!(bench.poll(), "refused 400");
    assert_eq!(bench.head(200, &[], None), Err(ResponseError::OutOfOrder));
    let before = bench.connection.output().len();
    bench.error(500);
    assert_eq!(bench.connection.output().len(), before);
}

#[test]
fn a_client_that_has_only_closed_its_half_still_gets_its_response() {
    let mut bench = Bench::asked(GET);
    bench.connection.handle_eof(bench.now);
    assert_eq!(bench.poll(), "");
    assert!(!bench.connection.wants_input());
    let output = bench.respond(200, &[], Some(2), "hi");
    assert!(output.ends_with("connection: close\r\n\r\nhi"), "{output}");
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

#[test]
fn requests_that_came_before_the_end_are_all_served() {
    let mut bench = Bench::fed(&GET.repeat(2));
    bench.connection.handle_eof(bench.now);
    for last in [false, true] {
        assert_eq!(bench.poll(), "request");
        assert_eq!(bench.respond(200, &[], Some(0), "").contains("close"), last);
    }
    assert!(bench.connection.is_closed());
}

#[test]
fn an_idle_client_that_closes_is_closed() {
    for wire in ["", "\r", "\r\n"] {
        let mut bench = Bench::fed(wire);
        bench.connection.handle_eof(bench.now);
        assert_eq!(bench.poll(), "");
        assert!(bench.connection.is_closed() && !bench.connection.was_cut());
    }
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let mut bench = Bench::asked(POST_5);
    bench.feed("hel");
    bench.connection.handle_eof(bench.now);
    assert_eq!(bench.poll(), "body 3, refused 400");
    bench.written();
    assert!(bench.connection.is_closed());
}

#[test]
fn a_reset_tells_that_the_client_is_gone_only_where_a_response_was_owed() {
    for (wire, expected) in [(GET, "gone"), (POST_5, "gone"), ("", ""), ("GET", "")] {
        let mut bench = Bench::fed(wire);
        bench.poll();
        bench.connection.handle_disconnect();
        assert_eq!(bench.poll(), expected, "{wire}");
        assert!(bench.connection.is_closed());
    }
}

#[test]
fn a_slow_head_gets_408_however_it_trickles() {
    let mut bench = Bench::fed("G");
    assert_eq!(bench.poll(), "");
    let deadline = bench.now + Timeouts::default().head;
    for _ in 0..9 {
        bench.pass(Duration::from_secs(1));
        bench.feed("E");
        assert_eq!(bench.poll(), "");
        assert_eq!(bench.connection.deadline(), Some(deadline));
    }
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "refused 408");
    assert!(bench.written().starts_with("HTTP/1.1 408 "));
}

#[test]
fn silence_is_closed_silently_at_first_and_between_requests() {
    let mut bench = Bench::new();
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().head));
    bench.pass(Timeouts::default().head);
    assert!(bench.connection.is_closed() && bench.poll().is_empty());

    let mut bench = Bench::asked(GET);
    bench.respond(200, &[], Some(0), "");
    assert_eq!(bench.connection.deadline(), Some(bench.now + Timeouts::default().keep_alive));
    bench.pass(Timeouts::default().keep_alive - Duration::from_millis(1));
    assert!(bench.connection.is_idle());
    bench.pass(Duration::from_millis(1));
    assert!(bench.connection.is_closed() && bench.poll().is_empty());
}

#[test]
fn a_slow_body_gets_408_and_each_byte_buys_time() {
    let mut bench = Bench::asked(POST_5);
    bench.pass(Duration::from_secs(29));
    bench.feed("h");
    assert_eq!(bench.poll(), "body 1");
    bench.pass(Duration::from_secs(29));
    assert_eq!(bench.poll(), "");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "refused 408");
    assert!(bench.written().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_client_is_not_blamed_for_waiting_on_us() {
    // Body bytes that nobody takes.
    let mut bench = Bench::fed(POST_5);
    bench.feed("hel");
    assert!(matches!(bench.connection.poll_event(bench.now), Some(Event::Request(_))));
    assert_eq!(bench.connection.deadline(), None);
    // A guest that takes its time.
    assert_eq!(Bench::asked(GET).connection.deadline(), None);
    // A client that was not told to continue.
    let bench = Bench::asked("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(bench.connection.deadline(), None);
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.pass(Duration::from_secs(29));
    bench.connection.consume_output(1, bench.now);
    bench.pass(Duration::from_secs(29));
    assert!(!bench.connection.is_closed(), "progress buys time");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poll(), "gone");
    assert!(bench.connection.was_cut());
}

#[test]
fn a_timeout_that_comes_too_early_does_nothing() {
    let mut bench = Bench::fed("GET");
    bench.poll();
    bench.pass(Duration::from_secs(9));
    assert!(!bench.connection.is_closed() && bench.poll().is_empty());
}

#[test]
fn stopping_closes_idle_connections_and_lets_others_finish() {
    let mut bench = Bench::new();
    bench.connection.begin_drain();
    assert!(bench.connection.is_closed());

    let mut bench = Bench::asked(GET);
    bench.connection.begin_drain();
    assert!(bench.respond(200, &[], Some(0), "").contains("connection: close\r\n"));
    assert!(bench.connection.is_closed());

    let mut bench = Bench::asked(GET);
    bench.head(200, &[], None).expect("a valid head");
    bench.connection.begin_drain();
    bench.end().expect("the end");
    assert_eq!(bench.poll(), "");
    bench.written();
    assert!(bench.connection.is_closed(), "the head had promised to keep it, but idle connections may close");

    let mut bench = Bench::fed("GET / HT");
    bench.poll();
    bench.connection.begin_drain();
    bench.feed("TP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(bench.poll(), "request");
    assert!(bench.respond(200, &[], Some(0), "").contains("connection: close\r\n"));
}

#[test]
fn input_waits_while_it_cannot_be_used() {
    let mut bench = Bench::with(Limits { input_bytes_high: 8, ..Limits::default() });
    bench.feed("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n");
    assert!(matches!(bench.connection.poll_event(bench.now), Some(Event::Request(_))));
    bench.feed("1234567");
    assert!(bench.connection.wants_input());
    bench.feed("8");
    assert!(!bench.connection.wants_input(), "at the mark");
    assert_eq!(bench.poll(), "body 8");
    assert!(bench.connection.wants_input());
}

#[test]
fn a_head_that_is_larger_than_the_mark_is_read_whole_all_the_same() {
    for (field_bytes, outcome) in [(55, "request"), (56, "refused 431")] {
        let mut bench = Bench::with(Limits { input_bytes_high: 8, head_bytes_max: 85, ..Limits::default() });
        let head = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "h".repeat(field_bytes + 4));
        let mut told = String::new();
        for byte in head.chars().chain("more".chars()) {
            if told.is_empty() && bench.connection.wants_input() {
                bench.feed(&byte.to_string());
                told = bench.poll();
            }
        }
        assert_eq!(told, outcome, "{} bytes", head.len());
    }
}

#[test]
fn one_pipelined_read_is_taken_ahead() {
    let mut bench = Bench::asked(GET);
    assert!(bench.connection.wants_input(), "to notice the end of the connection");
    bench.feed("G");
    assert!(!bench.connection.wants_input());
}

#[test]
fn a_pipelining_client_that_does_not_read_is_held_back() {
    let mut bench = Bench::with(Limits { output_bytes_high: 100, ..Limits::default() });
    bench.feed(&GET.repeat(9));
    assert_eq!(bench.poll(), "request");
    bench.head(200, &[], Some(0)).expect("a valid head");
    bench.end().expect("the end");
    assert!(bench.connection.wants_output());
    assert_eq!(bench.poll(), "request");
    bench.head(200, &[], Some(0)).expect("a valid head");
    bench.end().expect("the end");
    assert!(!bench.connection.wants_output() && !bench.connection.wants_poll());
    assert_eq!(bench.poll(), "");
    bench.written();
    assert!(bench.connection.wants_poll());
    assert_eq!(bench.poll(), "request");
    assert!(!bench.connection.wants_poll());
}

#[test]
fn large_bodies_come_in_pieces_of_bounded_size() {
    let mut bench = Bench::with(Limits { body_event_bytes_max: 10, ..Limits::default() });
    for body in ["content-length: 25\r\n\r\n", "transfer-encoding: chunked\r\n\r\n19\r\n"] {
        bench.feed(&format!("POST / HTTP/1.1\r\nhost: h\r\n{body}{}", "b".repeat(25)));
        assert_eq!(bench.poll().replace(", end", ""), "request, body 10, body 10, body 5");
        bench.feed(if body.contains("chunked") { "\r\n0\r\n\r\n" } else { "" });
        bench.poll();
        bench.respond(200, &[], Some(0), "");
    }
}

#[test]
fn a_connection_in_use_takes_its_buffers_from_the_spare_ones_and_returns_them() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.feed(GET);
        assert_eq!(bench.poll(), "request");
        assert_eq!(bench.context.spare_len(), 0);
        bench.respond(200, &[], Some(0), "");
        assert_eq!(bench.context.spare_len(), 1);
    }
    bench.feed(GET);
    bench.poll();
    bench.connection.abort();
    assert_eq!(bench.context.spare_len(), 1);
}

#[test]
fn a_client_that_ends_while_it_still_reads_is_closed_when_it_has_everything() {
    let mut bench = Bench::with(Limits { output_bytes_high: 10, ..Limits::default() });
    bench.feed(GET);
    assert_eq!(bench.poll(), "request");
    bench.head(200, &[], Some(0)).expect("a valid head");
    bench.connection.handle_eof(bench.now);
    bench.end().expect("the end");
    bench.written();
    assert!(bench.connection.is_closed() && !bench.connection.was_cut());
}

/// What the refusal that is due is called, and what its client has read.
#[track_caller]
fn refusal(bench: &mut Bench) -> (String, String) {
    loop {
        match bench.connection.poll_event(bench.now).expect("a refusal") {
            Event::Refused { id, .. } => return (id.to_string(), bench.written()),
            Event::Request(_) | Event::Body(_) | Event::BodyEnd { .. } | Event::ClientGone => {}
        }
    }
}

#[test]
fn a_refusal_has_the_id_of_its_request_and_one_of_its_own_without_a_request() {
    let mut bench = Bench::asked(POST_CHUNKED);
    bench.connection.name_request(PublicId::given(b"r-1").expect("an id"));
    bench.feed("x\r\n");
    let (id, output) = refusal(&mut bench);
    assert_eq!(id, "r-1");
    assert!(output.contains("\r\nx-request-id: r-1\r\n") && output.ends_with("\nrequest id: r-1\n"), "{output}");

    let mut seen = vec![id];
    for wire in ["GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\n"] {
        let mut bench = Bench::fed(wire);
        let (id, output) = refusal(&mut bench);
        assert!(output.contains(&format!("\r\nx-request-id: {id}\r\n")), "{output}");
        assert!(output.ends_with(&format!("\nrequest id: {id}\n")), "{output}");
        assert!(!seen.contains(&id), "{id} came twice");
        seen.push(id);
    }
}

#[test]
fn the_id_of_a_request_is_not_that_of_the_next() {
    let mut bench = Bench::asked(GET);
    bench.connection.name_request(PublicId::given(b"r-1").expect("an id"));
    bench.respond(204, &[], None, "");
    bench.feed(POST_CHUNKED);
    assert_eq!(bench.poll(), "request");
    bench.feed("x\r\n");
    assert_ne!(refusal(&mut bench).0, "r-1");
}

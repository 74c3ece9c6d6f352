//! Least rates as a connection keeps them: which time counts, and for whom. Tests only.

use std::rc::Rc;
use std::time::Duration;

use super::{Bench, GET, POST_5, POST_CHUNKED};
use crate::http::corpus::some_instant;
use crate::http::{Connection, Context, Limits, MinRate, ResponseHead, Scheme, Timeouts};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// 100 bytes a second, five seconds behind at the most, and otherwise a lot of time.
fn bench() -> Bench {
    let rate = MinRate { bytes_per_s: 100, grace: ms(5000) };
    let long = Duration::from_secs(1000);
    let timeouts = Timeouts { head: long, body: long, write: long, receive: rate, send: rate, ..Timeouts::default() };
    let (context, now) = (Rc::new(Context::new(Limits::default(), timeouts)), some_instant());
    Bench { connection: Connection::new(context.clone(), Scheme::Http, now), context, now }
}

fn asked(wire: &str) -> Bench {
    let mut bench = bench();
    bench.feed(wire);
    assert!(bench.poll().starts_with("request"));
    bench
}

impl Bench {
    /// As the reactor does it: the kernel says what it still has.
    fn pass_with(&mut self, time: Duration, unacknowledged: u64) {
        self.now += time;
        if self.connection.is_write_due(self.now) {
            self.connection.handle_acknowledged(unacknowledged, self.now);
        }
        self.connection.handle_timeout(self.now);
    }
}

#[test]
fn a_head_has_the_grace_and_the_time_of_its_bytes_and_not_a_moment_more() {
    for (bytes, patience) in [(5, 5050), (100, 6000)] {
        let mut bench = bench();
        bench.feed(&GET[..1]);
        assert_eq!(bench.poll(), "");
        bench.now += ms(1000);
        bench.feed(&format!("{:x<1$}", &GET[1..5], bytes - 1));
        assert_eq!(bench.poll(), "");
        bench.pass(ms(patience - 1000 - 1));
        assert_eq!(bench.poll(), "", "{bytes}");
        bench.pass(ms(1));
        assert_eq!(bench.poll(), "refused 408", "{bytes}");
    }
}

#[test]
fn a_body_below_the_rate_is_refused_when_the_grace_is_used_up() {
    let mut bench = asked(POST_CHUNKED);
    // A byte of body in a second, which is six bytes on the wire.
    for second in 1..=5 {
        bench.pass(ms(1000));
        assert_eq!(bench.poll(), "", "second {second}");
        bench.feed("1\r\nx\r\n");
        assert_eq!(bench.poll(), "body 1");
    }
    let earned = 5 * 60;
    bench.pass(ms(earned - 1));
    assert_eq!(bench.poll(), "");
    bench.pass(ms(1));
    assert_eq!(bench.poll(), "refused 408");
    assert!(bench.written().contains("connection: close\r\n"));
}

#[test]
fn a_body_at_the_rate_takes_as_long_as_it_takes() {
    let mut bench = asked("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n");
    for _ in 0..999 {
        bench.pass(ms(1000));
        bench.feed(&"x".repeat(100));
        assert_eq!(bench.poll(), "body 100");
    }
}

#[test]
fn a_head_that_was_slow_has_used_up_the_patience_with_its_body() {
    let mut bench = bench();
    bench.feed(&POST_5[..1]);
    bench.poll();
    bench.pass(ms(4000));
    bench.feed(&POST_5[1..]);
    assert_eq!(bench.poll(), "request");
    let left = 1000 + 10 * POST_5.len() as u64;
    bench.pass(ms(left - 1));
    assert_eq!(bench.poll(), "");
    bench.pass(ms(1));
    assert_eq!(bench.poll(), "refused 408");
}

#[test]
fn a_body_that_cannot_be_taken_yet_costs_its_client_nothing() {
    let mut bench = asked(POST_5);
    bench.feed("hel");
    // Nobody polls: the guest is slow, and the bytes are here.
    bench.pass(ms(60_000));
    assert_eq!(bench.poll(), "body 3");
    bench.pass(ms(4999));
    bench.feed("lo");
    assert_eq!(bench.poll(), "body 2, end");
    bench.pass(ms(60_000));
    assert!(!bench.connection.is_closed(), "the guest may take its time with a body that is whole");
}

#[test]
fn who_waits_to_be_told_to_continue_is_not_late() {
    let mut bench = asked("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    bench.pass(ms(60_000));
    assert_eq!(bench.poll(), "");
    bench.connection.respond_continue(bench.now);
    bench.written();
    bench.pass(ms(4999));
    assert_eq!(bench.poll(), "");
    bench.pass(ms(1));
    assert_eq!(bench.poll(), "refused 408");
}

#[test]
fn a_body_that_is_too_slow_behind_a_response_cuts_it() {
    let mut bench = asked(POST_5);
    bench.head(200, &[], Some(10)).expect("a head");
    bench.written();
    bench.pass(ms(5000));
    assert!(bench.connection.is_closed() && bench.connection.was_cut());
}

#[test]
fn a_client_that_reads_below_the_rate_is_cut_though_it_always_reads_something() {
    let mut bench = asked(GET);
    bench.head(200, &[], Some(10_000)).expect("a head");
    bench.written();
    bench.body(&"x".repeat(10_000)).expect("a body");
    // The kernel takes it bit by bit and the client acknowledges half of the rate.
    let mut unacknowledged = 5000;
    bench.connection.consume_output(5000, bench.now);
    for _ in 0..9 {
        bench.pass_with(ms(1000), unacknowledged);
        assert!(!bench.connection.is_closed());
        unacknowledged -= 50;
    }
    for _ in 0..3 {
        bench.pass_with(ms(1000), unacknowledged);
        unacknowledged -= 50;
    }
    assert!(bench.connection.is_closed() && bench.connection.was_cut());
}

#[test]
fn a_client_that_reads_at_the_rate_is_not_cut_though_its_kernel_takes_nothing() {
    let mut bench = asked(GET);
    bench.head(200, &[], Some(1_000_000)).expect("a head");
    bench.written();
    bench.body(&"x".repeat(1_000_000)).expect("a body");
    bench.connection.consume_output(500_000, bench.now);
    for second in 1..4000 {
        bench.pass_with(ms(1000), 500_000 - second * 100);
        assert!(!bench.connection.is_closed(), "second {second}");
    }
}

#[test]
fn the_pause_of_a_client_that_reads_ends_with_what_it_acknowledges() {
    let timeouts = Timeouts { write: ms(1000), ..Timeouts::default() };
    let (context, now) = (Rc::new(Context::new(Limits::default(), timeouts)), some_instant());
    let mut bench = Bench { connection: Connection::new(context.clone(), Scheme::Http, now), context, now };
    bench.feed(GET);
    bench.poll();
    bench.head(200, &[], Some(100)).expect("a head");
    let head = bench.written().len() as u64;
    bench.body(&"x".repeat(100)).expect("a body");
    bench.connection.consume_output(50, bench.now);
    for left in (10..50).rev() {
        bench.pass_with(ms(1000), left + head);
        assert!(!bench.connection.is_closed(), "{left}");
    }
    bench.pass_with(ms(999), 10 + head);
    assert!(!bench.connection.is_closed());
    bench.pass_with(ms(1), 10 + head);
    assert!(bench.connection.is_closed() && bench.connection.was_cut());
}

#[test]
fn a_guest_that_is_slow_with_its_response_costs_its_client_nothing() {
    let mut bench = asked(GET);
    bench.head(200, &[], Some(1000)).expect("a head");
    for _ in 0..100 {
        bench.body("0123456789").expect("a piece");
        bench.written();
        bench.pass_with(ms(60_000), 0);
        assert!(!bench.connection.is_closed());
    }
}

#[test]
fn a_body_beside_the_output_has_the_same_patience() {
    for (bytes_each_second, is_cut) in [(99, true), (100, false)] {
        let mut bench = asked(GET);
        let head = ResponseHead { status: 200, headers: &[], request_id: "", body_length: Some(1_000_000) };
        bench.connection.respond_beside(&head, bench.now).expect("a head");
        bench.written();
        for _ in 0..600 {
            bench.pass_with(ms(1000), 0);
            if !bench.connection.is_closed() {
                bench.connection.handle_sent_beside(bytes_each_second, bench.now);
            }
        }
        assert_eq!(bench.connection.is_closed() && bench.connection.was_cut(), is_cut, "{bytes_each_second}");
    }
}

//! Workers that are sent away and come back, and reloads that have to wait.
//!
//! Owns the promises about WINCH and what may follow it, and about what becomes of requests, waiting and running, when one generation follows the other. That
//! a reload under load costs nothing is tested with `renewal`.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rusmd_e2e::{Client, Server, process, wait};

use crate::common::{Form, assert_serves};
use crate::control::{ctl, status, status_when, told};

/// Generations that may be alive at a time.
const GENERATIONS_MAX: usize = 8;

/// A deadline that no test reaches.
const LONG_MS: u64 = 120_000;

/// Bytes of a body, the last of which lets its request end. More than is collected before a worker is given the request.
const BODY_BYTES: usize = 80_000;

#[track_caller]
fn rest(server: &Server) {
    server.signal(Signal::SIGWINCH);
    wait::until("no worker is left", || server.workers().is_empty());
}

/// A request that its worker has begun to answer, and which ends when [`finish`] is called.
#[track_caller]
fn begin(server: &Server) -> Client {
    let mut client = server.connect();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
    client.send(vec![b'x'; BODY_BYTES - 1]);
    client.wait_for_bytes(1).expect("the response begins");
    client
}

#[track_caller]
fn finish(client: &mut Client) {
    client.send(b"x");
    let response = client.response();
    assert_eq!((response.status(), response.text().len()), (200, BODY_BYTES));
}

#[test]
fn workers_that_were_sent_away_come_back_whoever_wants_something_of_them() {
    let server = Form::Wasi.setup().server("workers", 2).server("control", "\"control.sock\"").start();
    let wishes: [&dyn Fn(); 6] = [
        &|| server.signal(Signal::SIGHUP),
        &|| server.signal(Signal::SIGTTIN),
        &|| server.signal(Signal::SIGTTOU),
        &|| drop(told(&ctl(&server, &["scale", "2"]))),
        &|| assert!(told(&ctl(&server, &["reload"])).contains("serves")),
        &|| assert!(told(&ctl(&server, &["scale", "2"])).contains("2 workers are ready")),
    ];
    for wish in wishes {
        rest(&server);
        assert_eq!(status(&server)["state"], "resting");
        let text = told(&ctl(&server, &["status"]));
        assert!(text.contains("is resting (WINCH)"), "{text}");
        let mut waiting = server.connect();
        waiting.get("/log");
        assert!(waiting.is_silent(), "a connection waits in the kernel");
        wish();
        assert_eq!(waiting.response().status(), 200);
        status_when(&server, "the reload is over", |status| status["state"] == "serving");
    }
    let status = status_when(&server, "one generation is left", |status| {
        status["generations"].as_array().is_some_and(|generations| generations.len() == 1)
    });
    assert_eq!(status["state"], "serving");
    let templates = || process::children(server.pid()).into_iter().filter(|pid| !process::is_worker(*pid)).count();
    wait::until("one template is left", || templates() == 1);
}

#[test]
fn clients_are_let_go_and_served_first_when_workers_are_sent_away() {
    let server = Form::Wasi
        .setup()
        .server("workers", 1)
        .server("spare-workers", 0)
        .server("queue-timeout-ms", LONG_MS)
        .server("busy-body-timeout-ms", LONG_MS)
        .start();
    let mut idle = server.connect();
    idle.get("/log");
    assert_eq!(idle.response().status(), 200);
    let mut running = begin(&server);
    let mut queued = server.connect();
    queued.get("/log");
    server.barrier();
    server.signal(Signal::SIGWINCH);
    idle.expect_close();
    finish(&mut running);
    let response = queued.response();
    assert_eq!((response.status(), response.header("connection")), (200, Some("close")), "{}", response.text());
    wait::until("no worker is left", || server.workers().is_empty());
    // There is one already, which is the least.
    server.signal(Signal::SIGTTOU);
    assert_eq!(server.get("/log").status(), 200);
}

#[test]
fn workers_that_are_sent_away_during_a_reload_stay_away_with_the_new_manifest() {
    let server = Form::Wasi.setup().server("workers", 1).start();
    server.paused(|| {
        server.signal(Signal::SIGHUP);
        server.signal(Signal::SIGWINCH);
    });
    server.wait_for_log(&["generation 2 is loaded, and rests (WINCH)"]);
    wait::until("no worker is left", || server.workers().is_empty());
    assert_eq!(status(&server)["state"], "resting");
    // There is one already, which is the least.
    server.signal(Signal::SIGTTOU);
    assert_eq!(server.get("/log").status(), 200);
}

#[test]
fn what_waits_in_the_queue_goes_to_the_generation_that_follows() {
    let server = Form::Wasi
        .setup()
        .server("workers", 1)
        .server("spare-workers", 0)
        .server("queue-timeout-ms", LONG_MS)
        .server("busy-body-timeout-ms", LONG_MS)
        .start();
    let mut running = begin(&server);
    let mut waiting: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut waiting[..3] {
        client.get("/log");
    }
    waiting[3].post("/read-then-reply", b"a body");
    status_when(&server, "they wait", |status| status["queue"]["depth"] == 4);
    server.signal(Signal::SIGHUP);
    for client in &mut waiting {
        let response = client.response();
        assert_eq!(response.status(), 200, "{}", response.text());
    }
    // Nobody has waited for the one that holds the worker of the old generation.
    server.wait_for_log(&["4 requests of 4 that waited in generation 1 go to generation 2"]);
    finish(&mut running);
}

#[test]
fn a_reload_for_which_there_is_no_place_waits_for_one_and_costs_no_request() {
    let server = Form::Wasi
        .setup()
        .server("workers", 2)
        .server("shutdown-timeout-ms", LONG_MS)
        .server("body-timeout-ms", LONG_MS)
        .server("busy-body-timeout-ms", LONG_MS)
        .start();
    let mut running = Vec::new();
    for generation in 1..GENERATIONS_MAX {
        running.push(begin(&server));
        server.signal(Signal::SIGHUP);
        server.wait_for_log(&[&format!("reload: generation {} serves", generation + 1)]);
    }
    running.push(begin(&server));
    for _ in 0..3 {
        server.signal(Signal::SIGHUP);
    }
    server.wait_for_log(&["waits for one of 8 generations to end"]);
    let text = told(&ctl(&server, &["status"]));
    assert!(text.contains("a reload waits: 8 generations have requests"), "{text}");
    assert_eq!(status(&server)["reload_waits"], true);
    finish(&mut running[3]);
    server.wait_for_log(&["reload: generation 9 serves"]);
    for (at, client) in running.iter_mut().enumerate().filter(|(at, _)| *at != 3) {
        client.send(b"x");
        assert_eq!(client.response().status(), 200, "{at}");
    }
    status_when(&server, "all have ended", |status| {
        status["generations"].as_array().is_some_and(|generations| generations.len() == 1)
    });
}

#[test]
fn a_reload_that_has_waited_long_enough_has_the_oldest_cut() {
    let server = Form::Wasi.setup().server("workers", 2).server("shutdown-timeout-ms", 300).start();
    let mut running = Vec::new();
    for generation in 1..=GENERATIONS_MAX {
        running.push(begin(&server));
        server.signal(Signal::SIGHUP);
        server.wait_for_log(&[&format!("reload: generation {} serves", generation + 1)]);
    }
    server.wait_for_log(&["cutting 1 requests of generation 1"]);
    running.iter_mut().skip(1).for_each(finish);
}

#[test]
fn a_worker_writes_no_more_to_the_log_than_its_share_and_what_is_dropped_is_counted() {
    let mut server = Form::Handlers.setup().server("workers", 1).server("spare-workers", 0).start();
    server.expect_error("an error line");
    let flood = || server.get("/stderr/flood?bytes=200000").assert(200, "flooded\n");
    wait::until("it has written too much", || {
        flood();
        server.log().contains("bytes a second to the log: what is more is dropped")
    });
    wait::until("it may write again", || {
        server.get("/log");
        server.log().lines().any(|line| line.contains(" lines of worker ") && line.ends_with("were dropped"))
    });
}

#[test]
fn a_manifest_that_is_no_file_is_refused_and_holds_up_nobody() {
    let mut server = Form::Handlers.setup().start();
    server.expect_error("reload: refused");
    let manifest = server.scratch().join("rusm.toml");
    let good = server.scratch().join("good.toml");
    fs::rename(&manifest, &good).unwrap();
    mkfifo(&manifest, Mode::S_IRWXU).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["reload: refused, and nothing has changed", "it is not a regular file"]);
    assert_serves(&server);
    fs::rename(&good, &manifest).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_for_log(&["generation 2 serves"]);
}

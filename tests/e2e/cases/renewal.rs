//! Reloads and upgrades while clients are served: nobody notices, whatever becomes of them.
//!
//! Owns the claim that a new manifest, and a new program, cost no request and no connection. How a daemon is started and stopped has its
//! tests elsewhere.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use rusmd_e2e::client::Client;
use rusmd_e2e::{Daemon, wait};

const ROUNDS: usize = 10;
const RELOADS_PER_ROUND: usize = 5;
const UPGRADES_PER_ROUND: usize = 2;
/// One upgrade of so many is to a program that fails.
const FAILS_EVERY: usize = 5;
/// Connections that are kept for the whole test, and one client more that makes a new one for each request.
const KEPT: usize = 3;

/// Serves clients while `meanwhile` happens; every one of their requests must succeed. Returns how many there were.
fn under_load(daemon: &Daemon, meanwhile: impl FnOnce()) -> usize {
    let (served, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let kept = || {
        let mut client = Client::connect(daemon.address());
        while !stop.load(Ordering::Relaxed) {
            client.get("/hello");
            let response = client.response();
            assert_eq!(response.status(), 200, "{}", response.text());
            assert_eq!(response.header("connection"), None, "the connection was about to be closed");
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let fresh = || {
        while !stop.load(Ordering::Relaxed) {
            let response = daemon.get("/hello");
            assert_eq!(response.status(), 200, "{}", response.text());
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let mut clients: Vec<_> = (0..KEPT).map(|_| scope.spawn(kept)).collect();
        clients.push(scope.spawn(fresh));
        wait::until("the load has begun", || served.load(Ordering::Relaxed) > 100);
        // Clients must end when this fails, or the test never does.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("no client has seen a failure");
        }
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    served.load(Ordering::Relaxed)
}

/// Waits until the log has so many lines with this in it.
#[track_caller]
fn wait_for_count(daemon: &Daemon, part: &str, count: usize) {
    let counted = || daemon.read("main.log").lines().filter(|line| line.contains(part)).count();
    if wait::poll(wait::SOON, || (counted() >= count).then_some(())).is_none() {
        panic!("{count} lines with {part:?} are expected, {} there:\n{}", counted(), daemon.read("main.log"));
    }
}

#[test]
fn fifty_reloads_and_twenty_upgrades_under_load_fail_no_request() {
    let daemon = Daemon::new("wasi-faults").server("workers", "2").server("spare-workers", "1").installed();
    daemon.start();
    let program = fs::read(daemon.program()).expect("the program is there");
    let (mut reloads, mut upgrades, mut refused) = (0, 0, 0);
    let served = under_load(&daemon, || {
        for _ in 0..ROUNDS {
            for _ in 0..RELOADS_PER_ROUND {
                daemon.signal(Signal::SIGHUP);
                reloads += 1;
                wait_for_count(&daemon, "reload: generation", reloads);
            }
            for _ in 0..UPGRADES_PER_ROUND {
                let fails = (upgrades + refused) % FAILS_EVERY == FAILS_EVERY - 1;
                daemon.replace_program(if fails { b"#!/bin/sh\nexit 3\n" } else { &program });
                let before = daemon.running_pid();
                daemon.signal(Signal::SIGUSR2);
                if fails {
                    refused += 1;
                    wait_for_count(&daemon, "upgrade: refused, and nothing has changed", refused);
                    assert_eq!(daemon.running_pid(), before);
                } else {
                    upgrades += 1;
                    wait::until("the successor has written its pid", || daemon.pid().is_some_and(|pid| pid != before));
                }
            }
        }
    });
    assert_eq!((reloads, upgrades, refused), (50, 16, 4));
    assert!(served > 1000, "only {served} requests were served");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_broken_manifest_is_refused_with_its_reason_and_changes_nothing() {
    let daemon = Daemon::new("wasi-faults").server("workers", "1");
    daemon.start();
    let good = fs::read_to_string(daemon.manifest()).expect("the manifest is there");
    let broken = [
        ("workers = 0\n", "is out of range"),
        ("wrokers = 1\n", "unknown key"),
        ("worker", "invalid TOML"),
        (
            "[components.x]\nsource = \"gone.wasm\"\n[[serve]]\nlisten = \"127.0.0.1:0\"\ncomponent = \"x\"\n",
            "gone.wasm",
        ),
    ];
    for (count, (text, reason)) in broken.into_iter().enumerate() {
        let manifest = match text.strip_prefix("[components.x]") {
            Some(_) => format!("{good}\n{text}"),
            None => good.replacen("[server]\n", &format!("[server]\n{text}"), 1),
        };
        assert_ne!(manifest, good);
        fs::write(daemon.manifest(), manifest).expect("the manifest can be written");
        daemon.signal(Signal::SIGHUP);
        wait_for_count(&daemon, "reload: refused, and nothing has changed", count + 1);
        assert!(daemon.read("main.log").contains(reason), "{reason}:\n{}", daemon.read("main.log"));
        assert_eq!(daemon.get("/hello").status(), 200);
    }
    fs::write(daemon.manifest(), good).expect("the manifest can be written");
    daemon.signal(Signal::SIGHUP);
    wait_for_count(&daemon, "reload: generation 2 serves", 1);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_component_that_has_become_broken_is_refused_and_the_old_one_serves_on() {
    let daemon = Daemon::new("wasi-faults").own_component();
    daemon.start();
    let good = fs::read(daemon.component()).expect("the component is there");
    fs::write(daemon.component(), b"no component").expect("it can be written");
    daemon.signal(Signal::SIGHUP);
    wait_for_count(&daemon, "reload: refused, and nothing has changed", 1);
    assert_eq!(daemon.get("/hello").status(), 200);
    fs::write(daemon.component(), good).expect("it can be written");
    daemon.signal(Signal::SIGHUP);
    wait_for_count(&daemon, "reload: generation 2 serves", 1);
    assert_eq!(daemon.get("/hello").status(), 200);
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_request_in_flight_ends_in_the_generation_where_it_began() {
    let daemon = Daemon::new("wasi-faults").server("workers", "1");
    daemon.start();
    let mut running = Client::connect(daemon.address());
    running.get("/sleep?ms=2000");
    // The reactor has one thread and takes events in order.
    assert_eq!(daemon.get("/no-such-path").status(), 404);
    daemon.signal(Signal::SIGHUP);
    wait_for_count(&daemon, "reload: generation 2 serves", 1);
    assert_eq!(daemon.get("/hello").status(), 200, "the new generation serves beside it");
    let before = daemon.running_pid();
    daemon.signal(Signal::SIGUSR2);
    wait::until("the successor serves", || daemon.pid().is_some_and(|pid| pid != before));
    let response = running.response();
    assert_eq!(response.status(), 200, "{}", response.text());
    running.get("/hello");
    assert_eq!(running.response().status(), 200, "the connection went on to the successor");
    daemon.stop_by(Signal::SIGTERM);
}

#[test]
fn a_stop_during_an_upgrade_stops_both() {
    let daemon = Daemon::new("wasi-faults").installed();
    daemon.start();
    // One that starts, and never serves.
    daemon.replace_program(b"#!/bin/sh\nexec sleep 60\n");
    daemon.signal(Signal::SIGUSR2);
    wait_for_count(&daemon, "upgrade:", 1);
    daemon.stop_by(Signal::SIGTERM);
}

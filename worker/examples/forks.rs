//! How long a worker takes to be there: `cargo run --release -p rusmd-worker --example forks -- FILE.wasm [N] [LEVEL]`.
//!
//! Has a template fork N workers one after the other and prints microseconds from `Fork` sent to `Begun` read, from `Fork` to `Forked`,
//! and of each worker's first request; and, to compare with, what starting the program anew takes until it is as far. LEVEL is that of
//! the sandbox.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::PathBuf;
use std::time::Instant;

use harness::{Got, Template, compile, hello, spec};
use rusmd_proto::{Hello, Sandbox, SandboxLevel, ToWorker};

/// Templates started to compare with.
const STARTS: usize = 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wasm = PathBuf::from(arguments.next().expect("a component"));
    let count: usize = arguments.next().map_or(500, |count| count.parse().expect("a number"));
    let wanted = match arguments.next().as_deref() {
        Some("strict") => SandboxLevel::Strict,
        Some("best-effort") => SandboxLevel::BestEffort,
        Some(_) | None => SandboxLevel::Off,
    };
    let artifact = compile(&wasm);
    let ToWorker::Hello(plain) = hello(vec![spec(&artifact)]) else { unreachable!() };
    let hello = ToWorker::Hello(Hello { sandbox: Sandbox { wanted, identity: None, data_bytes_max: 0 }, ..plain });

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let (template, kinds) = Template::start(&hello);
        starts.push(start.elapsed());
        drop((template, kinds));
    }
    print("program started anew, ready", &mut starts);

    let (mut template, kinds) = Template::start(&hello);
    println!("{kinds:?}");
    let (mut forked, mut begun, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let start = Instant::now();
        let (pid, line, status) = template.fork(7);
        forked.push(start.elapsed());
        let mut worker = template.into_worker(pid, line, status);
        worker.send(&ToWorker::Begin { slot: 7 });
        assert_eq!(worker.receive(), Got::Begun);
        begun.push(start.elapsed());
        let start = Instant::now();
        worker.get(1, "/");
        first.push(start.elapsed());
        template = worker.end();
    }
    print("fork to forked", &mut forked);
    print("fork to begun", &mut begun);
    print("first request", &mut first);
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", template.child.id())).expect("it lives");
    let areas = std::fs::read_to_string(format!("/proc/{}/maps", template.child.id())).expect("it lives");
    println!("the template has {} areas; {}", areas.lines().count(), maps.lines().nth(1).unwrap_or_default());
}

fn print(what: &str, times: &mut [std::time::Duration]) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.0} us, p99 {:.0} us, of {}", at(0.5), at(0.99), times.len());
}

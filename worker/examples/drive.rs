//! What one request costs in the worker: `cargo run --release -p rusmd-worker --example drive -- FILE.wasm [N] [ACTION] [PATH]`.
//!
//! Sends N small requests one after the other and prints microseconds of CPU for each, from the kernel's accounting of the
//! worker process alone, and how long its template and itself took to be ready.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::PathBuf;
use std::time::Instant;

use harness::{Template, compile, head, hello, spec};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wasm = PathBuf::from(arguments.next().expect("a component"));
    let count: u64 = arguments.next().map_or(20_000, |count| count.parse().expect("a number"));
    let action = arguments.next().filter(|action| !action.is_empty());
    let path = arguments.next().unwrap_or_else(|| "/".to_owned());
    let artifact = compile(&wasm);

    let start = Instant::now();
    let (template, kinds) = Template::start(&hello(vec![spec(&artifact)]));
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1e3, cpu_ns(template.child.id()) as f64 / 1e6);
    println!("ready after {wall:.2} ms, {cpu:.2} of them on the processor: {kinds:?}");
    let start = Instant::now();
    let mut worker = template.begin();
    println!("begun after {:.0} us", start.elapsed().as_secs_f64() * 1e6);

    let mut request = head("GET", &path);
    request.action = action.as_deref();
    let first = Instant::now();
    let outcome = worker.request(1, request.clone(), b"");
    println!("first request {:.0} us: {:?} {:?}", first.elapsed().as_secs_f64() * 1e6, outcome.status, outcome.failed);
    println!("{:?}", outcome.text().chars().take(200).collect::<String>());
    for id in 2..count / 10 {
        worker.request(id, request.clone(), b"");
    }

    let pid = worker.pid;
    let (before, cpu_before) = (usage(pid), cpu_ns(pid));
    let start = Instant::now();
    for id in count..2 * count {
        worker.request(id, request.clone(), b"");
    }
    let (wall, after, cpu) = (start.elapsed(), usage(pid), cpu_ns(pid) - cpu_before);
    let per = |ticks: u64| ticks as f64 * 1e6 / 100.0 / count as f64;
    println!(
        "{count} requests: {:.1} us of CPU each ({:.1} user, {:.1} system), {:.2} page faults, {:.1} us of wall time",
        cpu as f64 / 1e3 / count as f64,
        per(after.0 - before.0),
        per(after.1 - before.1),
        (after.2 - before.2) as f64 / count as f64,
        wall.as_secs_f64() * 1e6 / count as f64,
    );
    println!("resident: {}", resident(pid));
}

/// User and system time in ticks of 10 ms, and minor page faults.
fn usage(pid: u32) -> (u64, u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the worker lives");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    let number = |at: usize| fields[at].parse().expect("a number");
    (number(11), number(12), number(7))
}

/// Nanoseconds on a processor, by the scheduler's own account.
fn cpu_ns(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("the worker lives");
    stat.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn resident(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker lives");
    status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("Threads"))
        .collect::<Vec<_>>()
        .join(", ")
}

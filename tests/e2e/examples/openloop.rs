//! An open-loop load: requests at fixed times, whatever has become of those before, over connections that are kept.
//!
//!     openloop ADDRESS PATH RATE SECONDS CONNECTIONS
//!
//! Latency counts from when a request was due, not from when it could be sent, so that a server that stands still is not excused
//! (coordinated omission). Prints one line of JSON: counts by status, and p50, p99, p99.9 and the maximum in microseconds. Driven by
//! `tests/bench/kills` and `tests/bench/compare`.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measuring tool: what goes wrong ends it, and time is its business"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rusmd_e2e::Client;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, rate, seconds, connections] = arguments.as_slice() else {
        eprintln!("openloop ADDRESS PATH RATE SECONDS CONNECTIONS");
        std::process::exit(2);
    };
    let address: SocketAddr = address.parse().unwrap();
    let (rate, seconds, connections): (f64, f64, u32) =
        (rate.parse().unwrap(), seconds.parse().unwrap(), connections.parse().unwrap());
    let start = Instant::now() + Duration::from_millis(200);
    let interval = Duration::from_secs_f64(f64::from(connections) / rate);
    let outcomes: Vec<(u16, Duration)> = thread::scope(|scope| {
        let run = |number: u32| move || run(address, path, start + interval * number / connections, interval, seconds);
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(run(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    outcomes.iter().for_each(|(status, _)| *statuses.entry(*status).or_default() += 1);
    let mut latencies: Vec<u128> =
        outcomes.iter().filter(|(status, _)| *status == 200).map(|(_, latency)| latency.as_micros()).collect();
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let statuses: Vec<String> = statuses.iter().map(|(status, count)| format!("\"{status}\":{count}")).collect();
    println!(
        "{{\"requests\":{},\"statuses\":{{{}}},\"p50\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
        outcomes.len(),
        statuses.join(","),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// One connection's share. Status 0 is a connection that failed.
fn run(address: SocketAddr, path: &str, first: Instant, interval: Duration, seconds: f64) -> Vec<(u16, Duration)> {
    let mut client = Client::connect(address);
    let mut outcomes = Vec::new();
    let count = (seconds / interval.as_secs_f64()) as u32;
    for number in 0..count {
        let due = first + interval * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.send_if_open(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let status = client.try_response().map_or(0, |response| response.status());
        if status == 0 {
            client = Client::connect(address);
        }
        outcomes.push((status, due.elapsed()));
    }
    outcomes
}

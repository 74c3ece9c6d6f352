//! A server that has seen a few things, for the tests of what is made from its status.

use std::time::Duration;

use super::counters::{Counters, Outcome, RestartReason};
use super::status::*;

pub fn status() -> Status {
    let mut status = Status {
        version: "0.1.0".into(),
        build: "0.1.0+89abcdef01234567".into(),
        pid: 4711,
        manifest: "/srv/app/rusm.toml".into(),
        state: ServerState::Reloading,
        uptime_ms: (3 * 24 + 4) * 3_600_000 + 123,
        generation: 7,
        generations: vec![
            generation(6, GenerationState::Draining, 1, 0, 1),
            generation(7, GenerationState::Current, 2, 3, 3),
            generation(8, GenerationState::Starting, 0, 0, 2),
        ],
        listeners: vec![
            ListenerStatus { address: "http://127.0.0.1:8080".into(), connections: 12 },
            ListenerStatus { address: "http://[::1]:8080".into(), connections: 3 },
        ],
        connections: 15,
        connections_max: 10_000,
        queue: QueueStatus { depth: 3, length_max: 1024, oldest_wait_ms: Some(120), ..QueueStatus::default() },
        workers_wanted: 2,
        spares_wanted: 1,
        workers: workers(),
        components: vec![
            ComponentStatus {
                name: "api".into(),
                requests: 1_234_567,
                failures: 3,
                worker_deaths: 3,
                ..Default::default()
            },
            ComponentStatus {
                name: "legacy".into(),
                state: ComponentState::Suspended,
                reason: Some("it killed 5 workers in 10s, the last with signal SIGSEGV".into()),
                retry_in_ms: Some(12_300),
                requests: 40,
                failures: 5,
                worker_deaths: 5,
            },
            ComponentStatus { name: "site".into(), requests: 99, ..Default::default() },
            ComponentStatus {
                name: "broken".into(),
                state: ComponentState::Unloadable,
                reason: Some("unknown import `wasi:gpu/device`".into()),
                ..Default::default()
            },
        ],
        poisoned: vec![PoisonStatus {
            component: "api".into(),
            action: Some("show".into()),
            path: "/users/\u{1b}[31m7".into(),
            deaths: 2,
            refused_for_ms: 48_000,
        }],
        sandbox: SandboxStatus {
            wanted: "best-effort".into(),
            reached: "partial".into(),
            missing: vec!["network namespace".into()],
        },
        last_deaths: deaths(),
        memory_kib: Some(3891),
        cpu_ms: Some(65_430),
        ..Status::default()
    };
    counters().fill(&mut status);
    status
}

fn counters() -> Counters {
    let mut counters = Counters::default();
    for _ in 0..990 {
        counters.handle_request_end(Outcome::Served, Some(200), Duration::from_micros(700));
        counters.handle_dispatch(Duration::ZERO);
    }
    for _ in 0..20 {
        counters.handle_request_end(Outcome::Unrouted, Some(404), Duration::from_micros(90));
    }
    counters.handle_request_end(Outcome::WorkerDied, Some(502), Duration::from_millis(31));
    counters.handle_request_end(Outcome::TimedOut, Some(504), Duration::from_secs(90));
    counters.handle_dispatch(Duration::from_millis(40));
    counters.handle_dispatch(Duration::from_secs(2));
    for reason in [RestartReason::Crashed, RestartReason::Crashed, RestartReason::Hung, RestartReason::MaxRequests] {
        counters.handle_restart(reason);
    }
    counters.dispatched_again = 1;
    counters.connections_accepted = 321;
    counters.reloads = Attempts { ok: 6, failed: 1 };
    counters
}

fn generation(number: u64, state: GenerationState, in_flight: u64, ready: u64, total: u64) -> GenerationStatus {
    let template_pid = Some(4700 + number as i32);
    GenerationStatus { number, state, in_flight, workers_ready: ready, workers_total: total, template_pid }
}

fn workers() -> Vec<WorkerStatus> {
    let worker = |generation, slot, pid, state, requests, age_ms| WorkerStatus {
        generation,
        slot,
        pid,
        state,
        request: None,
        requests,
        age_ms,
        memory_kib: Some(15_155),
        cpu_ms: Some(63_210),
    };
    let mut busy = worker(7, 0, 4721, WorkerState::Busy, 12_345, 3 * 3_600_000);
    busy.request = Some(RequestStatus {
        id: "0661f0c2a7400001".into(),
        method: "GET".into(),
        path: "/reports/2026/a-long-name-that-does-not-fit".into(),
        component: "api".into(),
        action: Some("report".into()),
        age_ms: 4_250,
    });
    vec![
        worker(8, 1, 4731, WorkerState::Starting, 0, 30),
        busy,
        worker(7, 1, 4722, WorkerState::Idle, 12_001, 3 * 3_600_000),
        worker(7, 2, 4799, WorkerState::Idle, 0, 12_000),
        WorkerStatus { memory_kib: None, cpu_ms: None, ..worker(6, 0, 4714, WorkerState::Retiring, 99, 90_000_000) },
    ]
}

fn deaths() -> Vec<DeathStatus> {
    vec![
        DeathStatus {
            ago_ms: 3_700_000,
            pid: 4712,
            slot: 1,
            generation: 6,
            reason: "max-requests".into(),
            exit: "exit code 0".into(),
            ..DeathStatus::default()
        },
        DeathStatus {
            ago_ms: 12_000,
            pid: 4723,
            slot: 2,
            generation: 7,
            reason: "crashed".into(),
            exit: "signal SIGSEGV".into(),
            request: Some("0661f0c2a7400000".into()),
            component: Some("api".into()),
            action: Some("show".into()),
        },
    ]
}

//! Whole pages, as they are seen.

use super::super::sample;
use super::super::status::{HistogramStatus, PoisonStatus, QueueStatus};
use super::*;

#[test]
fn a_status_is_read_from_top_to_bottom() {
    let expected = r#"
rusmd 0.1.0 is reloading, pid 4711, up 3d04h
! component legacy is suspended for 12s: it killed 5 workers in 10s, the last
  with signal SIGSEGV
! component broken is not served: unknown import `wasi:gpu/device`
! api#show /users/\u{1b}[31m7 is refused for 48s: it killed 2 workers
! the sandbox of the workers is without: network namespace
manifest     /srv/app/rusm.toml
listeners    http://127.0.0.1:8080, http://[::1]:8080
connections  15 of 10,000
generation   6 drains (1 in flight), 7 serves, 8 gets ready
reloads      6 ok, 1 failed
workers      2 wanted and 1 spare, 1 starting, 2 idle, 1 busy, 1 retiring
queue        3 of 1,024 waiting, the first for 120ms
waits        half within 0.1ms, 99% within 0.1ms
requests     990 served, 20 unrouted, 1 timed-out, 1 worker-died,
             1 given to a second worker
responses    2xx 990, 4xx 20, 5xx 2
durations    half within 1ms, 99% within 1ms
restarts     2 crashed, 1 hung, 1 max-requests
memory       3.7 MiB supervisor, 14.7 MiB the largest worker
sandbox      partial, best-effort wanted

GEN  SLOT   PID  STATE     REQUESTS    AGE    CPU    MEMORY
  6     0  4714  retiring        99  1d01h      -         -
  7     0  4721  busy        12,345  3h00m  1m03s  14.7 MiB
      └ 4.2s 0661f0c2a7400001 api#report GET /reports/2026/a-long-name-that-doe…
  7     1  4722  idle        12,001  3h00m  1m03s  14.7 MiB
  7     2  4799  idle             0    12s  1m03s  14.7 MiB
  8     1  4731  starting         0   30ms  1m03s  14.7 MiB

 REQUESTS  FAILURES  DEATHS  STATE       COMPONENT
       40         5       5  suspended   legacy
1,234,567         3       3  ok          api
        0         0       0  unloadable  broken
       99         0       0  ok          site

GEN  SLOT   PID       DIED  REASON        EXIT
  7     2  4723    12s ago  crashed       signal SIGSEGV
      └ with 0661f0c2a7400000 api#show
  6     1  4712  1h01m ago  max-requests  exit code 0
"#;
    assert_eq!(format!("\n{}", status(&sample::status(), Look::PLAIN)), expected);
}

#[test]
fn workers_are_the_same_table_alone() {
    let page = status(&sample::status(), Look::PLAIN);
    let table = workers(&sample::status().workers, Look::PLAIN);
    assert!(table.starts_with("GEN  SLOT") && page.contains(&table), "{table}");
}

#[test]
fn every_line_fits_the_terminal() {
    let mut sample = sample::status();
    sample.manifest = "/very-long".repeat(30);
    sample.components[1].reason = Some("word ".repeat(60));
    sample.poisoned.push(PoisonStatus { path: format!("/{}", "\u{7}".repeat(200)), ..PoisonStatus::default() });
    for columns in [80, 120, 200] {
        let page = status(&sample, Look { columns, colour: false });
        for line in page.lines() {
            assert!(line.chars().count() <= columns, "{columns}: {line}");
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
    // Too narrow for the tables, which is not pretty, but is no panic either.
    status(&sample, Look { columns: 0, colour: true });
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let coloured = status(&sample::status(), Look { colour: true, ..Look::PLAIN });
    assert!(coloured.contains("\u{1b}[1;31m! component legacy is suspended"), "{coloured}");
    let mut plain = String::new();
    for piece in coloured.split('\u{1b}') {
        plain.push_str(piece.split_once('m').filter(|_| piece.starts_with('[')).map_or(piece, |(_, text)| text));
    }
    assert_eq!(plain, status(&sample::status(), Look::PLAIN));
}

#[test]
fn a_server_that_has_done_nothing_yet_has_a_status() {
    let page = status(&Status::default(), Look::PLAIN);
    assert!(page.contains("is starting") && page.contains("requests     none"), "{page}");
    assert!(!page.contains('!'), "a server that starts has no problem: {page}");
}

#[test]
fn too_few_workers_stand_out() {
    let mut sample = sample::status();
    sample.generations[1].workers_ready = 1;
    assert!(status(&sample, Look::PLAIN).contains("\n! 1 of 2 workers are ready\n"));
}

#[test]
fn a_long_list_of_components_shows_those_with_trouble() {
    let component = |at: u64| ComponentStatus { name: format!("c{at}"), requests: at, ..ComponentStatus::default() };
    let mut sample = Status { components: (0..100).map(component).collect(), ..Status::default() };
    sample.components[7].failures = 1;
    let page = status(&sample, Look::PLAIN);
    assert!(page.contains(" c7\n") && page.contains(" c99\n") && !page.contains(" c8\n"), "{page}");
    assert!(page.ends_with("and 80 more\n"), "{page}");
}

#[test]
fn what_lies_above_all_buckets_is_said_to() {
    let waits = HistogramStatus { bounds_us: vec![100, 2_500_000], counts: vec![1, 0, 1], sum_us: 0 };
    let page =
        status(&Status { queue: QueueStatus { waits, ..QueueStatus::default() }, ..Status::default() }, Look::PLAIN);
    assert!(page.contains("waits        half within 0.1ms, 99% over 2.5s\n"), "{page}");
}

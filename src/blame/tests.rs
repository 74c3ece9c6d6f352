//! What poison and crash loops are together. Each alone is tested beside its code.

use super::*;

#[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
fn origin() -> Instant {
    Instant::now()
}

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn blame() -> Blame {
    let settings =
        Settings { poison_deaths: 2, poison_window: 60 * SECOND, poison_refuse: 30 * SECOND, crash_loop_deaths: 5 };
    Blame::new(settings, 1)
}

fn key(path: &str) -> Key<'_> {
    Key { component: 0, action: None, path }
}

/// A death whose suspension would have no jitter.
fn die(blame: &mut Blame, path: &str, now: Instant) -> Vec<Change> {
    blame.handle_death(key(path), now - MS, now, crash_loop::JITTER_THOUSANDTHS)
}

#[test]
fn a_server_whose_workers_live_has_nothing_to_look_up() {
    let now = origin();
    let mut blame = blame();
    assert!(blame.is_empty());
    die(&mut blame, "/a", now);
    assert!(!blame.is_empty());
    assert!(blame.handle_success(key("/a")).is_empty());
    assert!(blame.is_empty());
}

#[test]
fn a_poisonous_path_is_refused_and_the_others_of_its_component_are_served() {
    let now = origin();
    let mut blame = blame();
    die(&mut blame, "/spin", now);
    assert_eq!(blame.begin(key("/spin"), RequestId(1), now), Verdict::Admit);
    let changes = die(&mut blame, "/spin", now + SECOND);
    assert!(matches!(changes[..], [Change::Poisoned { deaths: 2, .. }]), "{changes:?}");
    assert_eq!(blame.begin(key("/spin"), RequestId(2), now + SECOND), Verdict::Poisoned { retry_after_s: 30 });
    assert_eq!(blame.begin(key("/hello"), RequestId(3), now + SECOND), Verdict::Admit);
    assert!(blame.handle_success(key("/hello")).is_empty());
    assert_eq!(blame.verdict(key("/spin"), now + SECOND), Verdict::Poisoned { retry_after_s: 30 }, "of another path");
}

#[test]
fn five_paths_that_kill_suspend_their_component_alone() {
    let now = origin();
    let mut blame = blame();
    for (second, path) in (0..).zip(["/a", "/b", "/c", "/d"]) {
        assert!(die(&mut blame, path, now + SECOND * second).is_empty());
    }
    let last = now + 4 * SECOND;
    let changes = die(&mut blame, "/e", last);
    assert!(matches!(changes[..], [Change::Suspended { component: 0, cause: Cause::Crashes { deaths: 5 }, .. }]));
    assert_eq!(blame.begin(key("/f"), RequestId(1), last), Verdict::Suspended { retry_after_s: 1 });
    assert_eq!(blame.begin(Key { component: 1, ..key("/f") }, RequestId(1), last), Verdict::Admit);
    let due = last + SECOND;
    assert_eq!(blame.verdict(key("/f"), due), Verdict::Admit);
    assert_eq!(blame.begin(key("/f"), RequestId(2), due), Verdict::Admit);
    assert_eq!(blame.begin(key("/f"), RequestId(3), due), Verdict::Suspended { retry_after_s: 1 });
    assert_eq!(blame.handle_success(key("/f")), [Change::Resumed { component: 0 }]);
    assert_eq!(blame.begin(key("/g"), RequestId(4), due), Verdict::Admit);
}

#[test]
fn asking_uses_up_no_trial() {
    let now = origin();
    let mut blame = blame();
    die(&mut blame, "/a", now);
    die(&mut blame, "/a", now + SECOND);
    let due = now + 31 * SECOND;
    for _ in 0..3 {
        assert_eq!(blame.verdict(key("/a"), due), Verdict::Admit);
    }
    assert_eq!(blame.begin(key("/a"), RequestId(1), due), Verdict::Admit);
    assert_eq!(blame.verdict(key("/a"), due), Verdict::Poisoned { retry_after_s: 1 });
    blame.handle_unstarted(RequestId(1), due);
    assert_eq!(blame.verdict(key("/a"), due), Verdict::Admit);
}

#[test]
fn a_poisonous_request_is_no_trial_of_its_component() {
    let now = origin();
    let mut blame = blame();
    for second in 0..2 {
        die(&mut blame, "/poison", now + SECOND * second);
    }
    for second in 2..5 {
        die(&mut blame, &format!("/{second}"), now + SECOND * second);
    }
    let due = now + 5 * SECOND;
    let poisoned = blame.begin(key("/poison"), RequestId(1), due);
    assert_eq!(poisoned, Verdict::Poisoned { retry_after_s: 26 });
    assert_eq!(blame.begin(key("/other"), RequestId(2), due), Verdict::Admit, "the trial was not used up");
    assert!(matches!(blame.suspended(due).next(), Some(Suspended { standing: Standing::OnTrial { .. }, .. })));
}

#[test]
fn kills_from_outside_under_load_make_nobody_poisonous() {
    let mut now = origin();
    let mut blame = blame();
    let mut random = 1u64;
    for _ in 0..10_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        now += MS;
        // Two workers are at work; now and then one of them, or both, are killed.
        match random % 10 {
            0 => assert!(blame.handle_death(key("/hot"), now - MS, now, random).is_empty()),
            1 => {
                assert!(blame.handle_death(key("/hot"), now - MS, now, random).is_empty());
                assert!(blame.handle_death(key("/hot"), now - MS, now, random).is_empty());
            }
            _ => {}
        }
        assert_eq!(blame.begin(key("/hot"), RequestId(random), now), Verdict::Admit);
        assert!(blame.handle_success(key("/hot")).is_empty());
    }
    assert!(blame.is_empty());
}

#[test]
fn everything_is_forgotten_in_the_end() {
    let now = origin();
    let mut blame = blame();
    for second in 0..5 {
        die(&mut blame, "/a", now + SECOND * second);
    }
    assert!(blame.refused(now).next().is_some());
    let late = now + crash_loop::FORGOTTEN_AFTER * 2;
    assert_eq!(blame.begin(key("/b"), RequestId(1), late), Verdict::Admit);
    assert!(blame.is_empty());
}

#[test]
fn a_log_line_says_who_and_why_and_for_how_long_and_cannot_be_forged() {
    let suspect = Suspect { component: 0, action: Some("show".to_owned()), path: "/a\nERROR b\u{1b}".to_owned() };
    let sentences = [
        Change::Poisoned { suspect: suspect.clone(), deaths: 2, refused_for: 30 * SECOND },
        Change::Cleared { suspect },
        Change::Suspended { component: 0, cause: Cause::Crashes { deaths: 5 }, suspended_for: 1100 * MS },
        Change::Suspended { component: 0, cause: Cause::Load { failures: 1 }, suspended_for: 900 * MS },
        Change::Resumed { component: 0 },
    ]
    .map(|change| change.sentence("api"));
    assert_eq!(
        sentences,
        [
            "poison: /a\\nERROR b\\u{1b} (api#show) has killed 2 workers in a row: it gets 503 for 30.0s, then one request is let \
             through on trial",
            "/a\\nERROR b\\u{1b} (api#show) has ended well and is not refused any longer",
            "component `api` is suspended: it has killed 5 workers in a row: its requests get 503 for 1.1s, then one is let through \
             on trial",
            "component `api` is suspended: it could not be loaded (1 failure in a row): its requests get 503, and it is loaded again \
             in 900.0ms",
            "component `api` is served again",
        ]
    );
}

//! What poison and crash loops are together. Each alone is tested beside its code.

use super::*;

#[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
fn origin() -> Instant {
    Instant::now()
}

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn blame(now: Instant) -> Blame {
    let settings =
        Settings { poison_deaths: 2, poison_window: 60 * SECOND, poison_refuse: 30 * SECOND, crash_loop_deaths: 5 };
    Blame::new(settings, now, 1)
}

fn key(path: &str) -> Key<'_> {
    Key { component: 0, action: None, path }
}

fn print(blame: &Blame, path: &str) -> Fingerprint {
    blame.fingerprint(key(path))
}

fn begin(blame: &mut Blame, key: Key<'_>, id: RequestId, now: Instant) -> Verdict {
    blame.begin(blame.fingerprint(key), id, now)
}

fn succeed(blame: &mut Blame, path: &str, now: Instant) -> Vec<Change> {
    blame.handle_success(print(blame, path), now)
}

/// A death whose suspension would have no jitter.
fn die(blame: &mut Blame, path: &str, now: Instant) -> Vec<Change> {
    blame.handle_death(key(path), now - MS, now, crash_loop::JITTER_THOUSANDTHS)
}

#[test]
fn a_server_whose_workers_live_has_nothing_to_look_up() {
    let now = origin();
    let mut blame = blame(now);
    assert!(blame.is_empty());
    die(&mut blame, "/a", now);
    assert!(!blame.is_empty());
    assert!(succeed(&mut blame, "/a", now).is_empty());
    assert!(blame.is_empty());
}

#[test]
fn a_poisonous_path_is_refused_and_the_others_of_its_component_are_served() {
    let now = origin();
    let mut blame = blame(now);
    die(&mut blame, "/spin", now);
    assert_eq!(begin(&mut blame, key("/spin"), RequestId(1), now), Verdict::Admit);
    let changes = die(&mut blame, "/spin", now + SECOND);
    assert!(matches!(changes[..], [Change::Poisoned { deaths: 2, .. }]), "{changes:?}");
    assert_eq!(begin(&mut blame, key("/spin"), RequestId(2), now + SECOND), Verdict::Poisoned { retry_after_s: 30 });
    assert_eq!(begin(&mut blame, key("/hello"), RequestId(3), now + SECOND), Verdict::Admit);
    assert!(succeed(&mut blame, "/hello", now).is_empty());
    assert_eq!(
        blame.verdict(print(&blame, "/spin"), now + SECOND),
        Verdict::Poisoned { retry_after_s: 30 },
        "of another path"
    );
}

#[test]
fn five_paths_that_kill_suspend_their_component_alone() {
    let now = origin();
    let mut blame = blame(now);
    for (second, path) in (0..).zip(["/a", "/b", "/c", "/d"]) {
        assert!(die(&mut blame, path, now + SECOND * second).is_empty());
    }
    let last = now + 4 * SECOND;
    let changes = die(&mut blame, "/e", last);
    assert!(matches!(changes[..], [Change::Suspended { component: 0, cause: Cause::Crashes { deaths: 5 }, .. }]));
    assert_eq!(begin(&mut blame, key("/f"), RequestId(1), last), Verdict::Suspended { retry_after_s: 1 });
    assert_eq!(begin(&mut blame, Key { component: 1, ..key("/f") }, RequestId(1), last), Verdict::Admit);
    let due = last + SECOND;
    assert_eq!(blame.verdict(print(&blame, "/f"), due), Verdict::Admit);
    assert_eq!(begin(&mut blame, key("/f"), RequestId(2), due), Verdict::Admit);
    assert_eq!(begin(&mut blame, key("/f"), RequestId(3), due), Verdict::Suspended { retry_after_s: 1 });
    assert_eq!(succeed(&mut blame, "/f", due), [Change::Resumed { component: 0 }]);
    assert_eq!(begin(&mut blame, key("/g"), RequestId(4), due), Verdict::Admit);
}

#[test]
fn asking_uses_up_no_trial() {
    let now = origin();
    let mut blame = blame(now);
    die(&mut blame, "/a", now);
    die(&mut blame, "/a", now + SECOND);
    let due = now + 31 * SECOND;
    for _ in 0..3 {
        assert_eq!(blame.verdict(print(&blame, "/a"), due), Verdict::Admit);
    }
    assert_eq!(begin(&mut blame, key("/a"), RequestId(1), due), Verdict::Admit);
    assert_eq!(blame.verdict(print(&blame, "/a"), due), Verdict::Poisoned { retry_after_s: 1 });
    blame.handle_unstarted(RequestId(1), due);
    assert_eq!(blame.verdict(print(&blame, "/a"), due), Verdict::Admit);
}

#[test]
fn a_poisonous_request_is_no_trial_of_its_component() {
    let now = origin();
    let mut blame = blame(now);
    for second in 0..2 {
        die(&mut blame, "/poison", now + SECOND * second);
    }
    for second in 2..5 {
        die(&mut blame, &format!("/{second}"), now + SECOND * second);
    }
    let due = now + 5 * SECOND;
    let poisoned = begin(&mut blame, key("/poison"), RequestId(1), due);
    assert_eq!(poisoned, Verdict::Poisoned { retry_after_s: 26 });
    assert_eq!(begin(&mut blame, key("/other"), RequestId(2), due), Verdict::Admit, "the trial was not used up");
    assert!(matches!(blame.suspended(due).next(), Some(Suspended { standing: Standing::OnTrial { .. }, .. })));
}

#[test]
fn only_the_same_component_action_and_path_have_one_fingerprint() {
    let blame = blame(origin());
    let a = Key { component: 1, action: Some("show"), path: "/a" };
    let others = [
        Key { path: "/b", ..a },
        Key { path: "/a/b", ..a },
        Key { component: 2, ..a },
        Key { action: Some("edit"), ..a },
        Key { action: None, ..a },
        Key { action: Some("show/"), path: "a", ..a },
    ];
    assert_eq!(blame.fingerprint(a), blame.fingerprint(a));
    others.into_iter().for_each(|other| assert_ne!(blame.fingerprint(a), blame.fingerprint(other), "{other:?}"));
}

/// Each request is killed with this chance, in thousandths; one of ten kills meets two workers at once.
fn storm(thousandths: u64) {
    const REQUESTS: usize = 20_000;
    let mut now = origin();
    let mut blame = blame(now);
    let mut random = 1u64;
    (0..100).for_each(|_| assert!(succeed(&mut blame, "/hot", now).is_empty()));
    for _ in 0..REQUESTS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let sent_at = now;
        assert_eq!(begin(&mut blame, key("/hot"), RequestId(random), now), Verdict::Admit);
        now += MS * 10;
        if (random >> 20) % 1000 >= thousandths {
            assert!(succeed(&mut blame, "/hot", now).is_empty());
            continue;
        }
        for _ in 0..1 + usize::from((random >> 40).is_multiple_of(10)) {
            assert!(blame.handle_death(key("/hot"), sent_at, now, random).is_empty());
        }
    }
}

#[test]
fn kills_from_outside_under_load_make_nobody_poisonous() {
    for thousandths in [5, 50, 200, 400] {
        storm(thousandths);
    }
}

#[test]
fn everything_is_forgotten_in_the_end() {
    let now = origin();
    let mut blame = blame(now);
    for second in 0..5 {
        die(&mut blame, "/a", now + SECOND * second);
    }
    assert!(blame.refused(now).next().is_some());
    let late = now + crash_loop::FORGOTTEN_AFTER * 2;
    assert_eq!(begin(&mut blame, key("/b"), RequestId(1), late), Verdict::Admit);
    assert!(blame.is_empty());
}

#[test]
fn paths_that_lead_to_one_route_are_blamed_as_one() {
    let blame = blame(origin());
    let print = |path| print(&blame, path);
    for path in ["/f//sleep/5", "/f/sleep/5/", "//f/sleep/5//", "/f/sl%65ep/5", "/%66/sleep/5"] {
        assert_eq!(print(path), print("/f/sleep/5"), "{path}");
    }
    for path in ["/f/sleep/6", "/f%2Fsleep/5", "/f/sleep/5/x", "/f/sleep/%35%", "/f/sleep/%ff", "/"] {
        assert_ne!(print(path), print("/f/sleep/5"), "{path}");
    }
    assert_eq!(print("/a%2fb"), print("/a%2Fb/"));
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

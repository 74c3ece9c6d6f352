//! Requests that have killed workers: a bounded table, one row for each component, action and path.
//!
//! Pure state; `Blame` drives it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use super::outlived::{GOOD_NAME_FACTOR, Outlived, Run};
use super::stage::Stage;
use super::{Change, Fingerprint, Key, Refused, Settings, Suspect};

/// Most rows; the one whose last death is the oldest makes way.
pub const SUSPECTS_MAX: usize = 128;

/// Bytes of a path that are kept, to be shown.
pub const PATH_BYTES_MAX: usize = 256;

/// A refusal does not grow beyond this, unless the operator has set a longer one.
pub const REFUSE_MAX: Duration = Duration::from_secs(60 * 60);

/// Requests whose good name is remembered, at the most. Where two share a place, the later one has it.
pub const GOOD_NAMES_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Poison {
    deaths_max: usize,
    window: Duration,
    refuse: Duration,
    /// By the last death that counted, the oldest first.
    rows: VecDeque<Row>,
    outlived: Box<[(Fingerprint, Outlived); GOOD_NAMES_MAX]>,
}

#[derive(Debug)]
struct Row {
    request: Fingerprint,
    suspect: Suspect,
    /// When the deaths that count were noticed, as far as they lie in the window. Never more than make a refusal.
    recent: VecDeque<Instant>,
    /// All the deaths that counted.
    deaths: u32,
    last_death: Instant,
    /// The length of the last refusal.
    refused_for: Duration,
    stage: Stage,
    /// When the row is forgotten.
    expires: Instant,
}

impl Poison {
    pub fn new(settings: Settings) -> Poison {
        let Settings { poison_deaths, poison_window, poison_refuse, .. } = settings;
        Poison {
            deaths_max: poison_deaths,
            window: poison_window,
            refuse: poison_refuse,
            rows: VecDeque::new(),
            outlived: Box::new([(Fingerprint::default(), Outlived::default()); GOOD_NAMES_MAX]),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn refusal_s(&self, request: Fingerprint, now: Instant) -> Option<u64> {
        self.rows.get(self.position(request)?)?.stage.refusal_s(now)
    }

    pub fn begin(&mut self, request: Fingerprint, id: RequestId, now: Instant) {
        if let Some(row) = self.position(request).and_then(|at| self.rows.get_mut(at)) {
            row.stage.begin(id, now);
            if let Stage::OnTrial { timeout, .. } = row.stage {
                row.expires = row.expires.max(timeout + self.window);
            }
        }
    }

    pub fn handle_unstarted(&mut self, request: RequestId, now: Instant) {
        self.rows.iter_mut().for_each(|row| row.stage.handle_unstarted(request, now));
    }

    pub fn handle_success(&mut self, request: Fingerprint, now_s: u32) -> Option<Change> {
        self.outlived(request).handle_success(now_s);
        let row = self.rows.remove(self.position(request)?)?;
        (!row.stage.is_watched()).then_some(Change::Cleared { suspect: row.suspect })
    }

    pub fn handle_death(
        &mut self,
        key: Key<'_>,
        request: Fingerprint,
        sent_at: Instant,
        now: Instant,
        now_s: u32,
    ) -> Option<Change> {
        if self.deaths_max == 0 {
            return None;
        }
        let mut row = match self.position(request) {
            Some(at) if self.rows.get(at).is_some_and(|row| !row.is_evidence(sent_at, now)) => return None,
            Some(at) => self.rows.remove(at)?,
            None => Row::new(request, key, now),
        };
        row.count(now, self.window, self.deaths_max.saturating_mul(GOOD_NAME_FACTOR));
        let refused_for = match row.stage {
            Stage::Watched => {
                let outlived = *self.outlived(request);
                outlived.is_condemned(row.run(), self.deaths_max, now, now_s).then_some(self.refuse)
            }
            Stage::Refused { .. } | Stage::OnTrial { .. } => {
                Some(row.refused_for.saturating_mul(2).min(REFUSE_MAX.max(self.refuse)))
            }
        };
        if let Some(refused_for) = refused_for {
            row.refused_for = refused_for;
            row.stage = Stage::Refused { until: now + refused_for };
            self.outlived(request).clear();
        }
        row.expires = now + row.refused_for + self.window.max(row.refused_for);
        let change = refused_for.map(|refused_for| Change::Poisoned {
            suspect: row.suspect.clone(),
            deaths: row.deaths,
            refused_for,
        });
        self.push(row);
        change
    }

    /// Forgets what has not been heard of for long enough.
    pub fn expire(&mut self, now: Instant) {
        if self.rows.iter().any(|row| row.expires < now) {
            self.rows.retain(|row| now <= row.expires);
        }
    }

    pub fn refused(&self, now: Instant) -> impl Iterator<Item = Refused<'_>> {
        self.rows.iter().filter_map(move |row| {
            Some(Refused {
                component: row.suspect.component,
                action: row.suspect.action.as_deref(),
                path: &row.suspect.path,
                deaths: row.deaths,
                standing: row.stage.standing(now)?,
            })
        })
    }

    fn push(&mut self, row: Row) {
        if self.rows.len() >= SUSPECTS_MAX {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    fn position(&self, request: Fingerprint) -> Option<usize> {
        self.rows.iter().position(|row| row.request == request)
    }

    fn outlived(&mut self, request: Fingerprint) -> &mut Outlived {
        let (owner, outlived) = &mut self.outlived[request.hash as usize % GOOD_NAMES_MAX];
        if *owner != request {
            (*owner, *outlived) = (request, Outlived::default());
        }
        outlived
    }
}

impl Row {
    fn new(request: Fingerprint, key: Key<'_>, now: Instant) -> Row {
        let suspect = Suspect {
            component: key.component,
            action: key.action.map(str::to_owned),
            path: key.path[..key.path.floor_char_boundary(PATH_BYTES_MAX)].to_owned(),
        };
        Row {
            request,
            suspect,
            recent: VecDeque::new(),
            deaths: 0,
            last_death: now,
            refused_for: Duration::ZERO,
            stage: Stage::Watched,
            expires: now,
        }
    }

    /// Whether a death adds to the ones before: it is not of the same moment, and it is of a request that was let through.
    fn is_evidence(&self, sent_at: Instant, now: Instant) -> bool {
        sent_at >= self.last_death
            && match self.stage {
                Stage::Watched | Stage::OnTrial { .. } => true,
                Stage::Refused { until } => until <= now,
            }
    }

    fn count(&mut self, now: Instant, window: Duration, recent_max: usize) {
        self.last_death = now;
        self.deaths = self.deaths.saturating_add(1);
        self.recent.retain(|death| now.saturating_duration_since(*death) <= window);
        if self.recent.len() >= recent_max {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    fn run(&self) -> Run {
        Run { deaths: self.recent.len(), first: self.recent.front().copied().unwrap_or(self.last_death) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
    fn origin() -> Instant {
        Instant::now()
    }

    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    const SETTINGS: Settings = Settings {
        poison_deaths: 2,
        poison_window: Duration::from_secs(60),
        poison_refuse: Duration::from_secs(30),
        crash_loop_deaths: 5,
    };

    fn poison() -> Poison {
        Poison::new(SETTINGS)
    }

    fn key(path: &str) -> Key<'_> {
        Key { component: 1, action: Some("show"), path }
    }

    /// A fingerprint without collisions for the paths of these tests.
    fn print(path: &str) -> Fingerprint {
        let hash = path.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(257).wrapping_add(byte.into()));
        Fingerprint { component: 1, hash }
    }

    /// A death of a request that was sent a millisecond before it.
    fn die(poison: &mut Poison, path: &str, now: Instant) -> Option<Duration> {
        match poison.handle_death(key(path), print(path), now - MS, now, 0) {
            Some(Change::Poisoned { refused_for, .. }) => Some(refused_for),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    #[test]
    fn the_last_of_the_deaths_that_are_set_makes_poison_and_the_one_before_does_not() {
        for deaths_max in 1..=5 {
            let now = origin();
            let mut poison = Poison::new(Settings { poison_deaths: deaths_max, ..SETTINGS });
            for death in 1..deaths_max {
                assert_eq!(die(&mut poison, "/a", now + SECOND * death as u32), None);
                assert_eq!(poison.refusal_s(print("/a"), now + SECOND * death as u32), None);
            }
            let last = now + SECOND * deaths_max as u32;
            assert_eq!(die(&mut poison, "/a", last), Some(30 * SECOND));
            assert_eq!(poison.refusal_s(print("/a"), last), Some(30));
        }
    }

    #[test]
    fn zero_deaths_turn_it_off() {
        let now = origin();
        let mut poison = Poison::new(Settings { poison_deaths: 0, ..SETTINGS });
        for second in 0..10 {
            assert_eq!(die(&mut poison, "/a", now + SECOND * second), None);
        }
        assert!(poison.is_empty());
    }

    #[test]
    fn two_deaths_as_far_apart_as_the_window_make_poison_and_farther_apart_do_not() {
        let now = origin();
        let mut poison = poison();
        assert_eq!(die(&mut poison, "/a", now), None);
        assert_eq!(die(&mut poison, "/a", now + 60 * SECOND), Some(30 * SECOND));
        assert_eq!(die(&mut poison, "/b", now), None);
        assert_eq!(die(&mut poison, "/b", now + 60 * SECOND + MS), None);
        assert_eq!(die(&mut poison, "/b", now + 120 * SECOND + MS), Some(30 * SECOND), "the second and the third");
    }

    #[test]
    fn deaths_of_one_moment_are_one_piece_of_evidence() {
        let now = origin();
        let mut poison = poison();
        let at = |ms| now + MS * ms;
        assert_eq!(poison.handle_death(key("/a"), print("/a"), at(0), at(10), 0), None);
        for later in 10..20 {
            assert_eq!(
                poison.handle_death(key("/a"), print("/a"), at(9), at(later), 0),
                None,
                "sent before the first death was seen"
            );
        }
        assert!(
            poison.handle_death(key("/a"), print("/a"), at(10), at(20), 0).is_some(),
            "sent in the turn that saw the first one"
        );
    }

    #[test]
    fn a_success_in_between_clears_and_is_told_only_of_what_was_refused() {
        let now = origin();
        let mut poison = poison();
        for second in 0..100 {
            assert_eq!(die(&mut poison, "/a", now + SECOND * second), None);
            assert_eq!(poison.handle_success(print("/a"), 0), None);
            assert!(poison.is_empty());
        }
        let mut poison = self::poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let cleared = poison.handle_success(print("/a"), 0);
        assert!(matches!(cleared, Some(Change::Cleared { suspect }) if suspect.path == "/a"));
        assert_eq!(poison.refusal_s(print("/a"), now + SECOND), None);
    }

    #[test]
    fn only_the_same_request_is_refused() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let later = now + SECOND;
        assert_eq!(poison.refusal_s(print("/b"), later), None);
        assert_eq!(poison.handle_success(print("/b"), 0), None);
        assert!(poison.refusal_s(print("/a"), later).is_some());
    }

    #[test]
    fn a_trial_that_kills_doubles_the_refusal_up_to_the_limit() {
        let mut now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        now += SECOND;
        let mut refused_for = die(&mut poison, "/a", now).expect("poison");
        for doublings in 1..=12 {
            now += refused_for;
            assert_eq!(poison.refusal_s(print("/a"), now - MS), Some(1));
            assert_eq!(poison.refusal_s(print("/a"), now), None);
            poison.begin(print("/a"), RequestId(doublings), now);
            assert_eq!(poison.refusal_s(print("/a"), now), Some(1), "one trial at a time");
            let next = poison.handle_death(key("/a"), print("/a"), now, now + MS, 0);
            now += MS;
            let expected = REFUSE_MAX.min(30 * SECOND * (1 << doublings));
            match next {
                Some(Change::Poisoned { refused_for: next, deaths, .. }) => {
                    assert_eq!(next, expected);
                    assert_eq!(u64::from(deaths), 2 + doublings);
                    refused_for = next;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(refused_for, REFUSE_MAX);
    }

    #[test]
    fn a_refusal_that_is_set_longer_than_the_limit_stays_as_it_is_set() {
        let now = origin();
        let mut poison = Poison::new(Settings { poison_deaths: 1, poison_refuse: REFUSE_MAX * 3, ..SETTINGS });
        assert_eq!(die(&mut poison, "/a", now), Some(REFUSE_MAX * 3));
        let due = now + REFUSE_MAX * 3;
        poison.begin(print("/a"), RequestId(1), due);
        assert_eq!(die(&mut poison, "/a", due + MS), Some(REFUSE_MAX * 3));
    }

    #[test]
    fn a_death_while_it_is_refused_is_of_a_request_that_was_sent_before_and_changes_nothing() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        assert_eq!(poison.handle_death(key("/a"), print("/a"), now, now + 2 * SECOND, 0), None);
        assert_eq!(poison.handle_death(key("/a"), print("/a"), now + SECOND, now + 3 * SECOND, 0), None);
        assert_eq!(poison.refusal_s(print("/a"), now + 31 * SECOND - MS), Some(1));
        assert_eq!(poison.refusal_s(print("/a"), now + 31 * SECOND), None);
    }

    #[test]
    fn a_trial_that_ends_well_clears_everything() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let due = now + 31 * SECOND;
        poison.begin(print("/a"), RequestId(1), due);
        assert!(poison.handle_success(print("/a"), 0).is_some());
        assert!(poison.is_empty());
        assert_eq!(die(&mut poison, "/a", due + SECOND), None, "the count begins anew");
        assert_eq!(die(&mut poison, "/a", due + 2 * SECOND), Some(30 * SECOND), "and so does the length");
    }

    #[test]
    fn the_table_takes_its_limit_and_one_more_evicts_the_oldest() {
        let now = origin();
        let mut poison = poison();
        let path = |number: usize| format!("/{number}");
        let at = |number: usize| now + MS * number as u32;
        for number in 0..SUSPECTS_MAX {
            assert_eq!(die(&mut poison, &path(number), at(number)), None);
        }
        assert_eq!(poison.rows.len(), SUSPECTS_MAX);
        assert!(die(&mut poison, &path(0), at(SUSPECTS_MAX)).is_some(), "none has been evicted");
        assert_eq!(die(&mut poison, "/more", at(SUSPECTS_MAX)), None);
        assert_eq!(poison.rows.len(), SUSPECTS_MAX);
        assert!(poison.position(print("/1")).is_none(), "the oldest is the one whose last death is the oldest");
        assert!(poison.position(print("/0")).is_some());
        assert!(poison.position(print("/2")).is_some());
    }

    #[test]
    fn what_is_not_heard_of_any_more_is_forgotten() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/watched", now);
        die(&mut poison, "/refused", now - MS);
        die(&mut poison, "/refused", now);
        poison.expire(now + 60 * SECOND);
        assert_eq!(poison.rows.len(), 2);
        poison.expire(now + 60 * SECOND + MS);
        assert_eq!(poison.rows.len(), 1);
        poison.expire(now + 90 * SECOND);
        assert_eq!(poison.rows.len(), 1, "a refusal that is over is remembered, for the next one is twice as long");
        poison.expire(now + 90 * SECOND + MS);
        assert!(poison.is_empty());
    }

    #[test]
    fn a_row_on_trial_is_not_forgotten_before_the_trial_can_tell() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now - MS);
        die(&mut poison, "/a", now);
        let late = now + 90 * SECOND;
        poison.begin(print("/a"), RequestId(1), late);
        poison.expire(late + 60 * SECOND);
        assert_eq!(die(&mut poison, "/a", late + 60 * SECOND), Some(60 * SECOND));
    }

    #[test]
    fn a_path_is_kept_up_to_its_limit_and_in_whole_characters() {
        let now = origin();
        let mut poison = poison();
        for (length, kept) in [(PATH_BYTES_MAX, PATH_BYTES_MAX), (PATH_BYTES_MAX + 1, PATH_BYTES_MAX)] {
            die(&mut poison, &"x".repeat(length), now);
            assert_eq!(poison.rows.back().map(|row| row.suspect.path.len()), Some(kept));
        }
        die(&mut poison, &format!("{}é", "x".repeat(PATH_BYTES_MAX - 1)), now);
        assert_eq!(poison.rows.back().map(|row| row.suspect.path.len()), Some(PATH_BYTES_MAX - 1));
    }

    #[test]
    fn what_has_a_good_name_is_not_condemned_by_two_deaths_in_a_row_unless_they_are_far_apart() {
        let now = origin();
        let mut poison = poison();
        for path in ["/good", "/late", "/unknown"] {
            let times = if path == "/unknown" { 1 } else { 20 };
            (0..times).for_each(|_| assert_eq!(poison.handle_success(print(path), 0), None));
            assert_eq!(die(&mut poison, path, now), None);
        }
        assert_eq!(die(&mut poison, "/good", now + SECOND), None);
        assert_eq!(die(&mut poison, "/late", now + 2 * SECOND), Some(30 * SECOND));
        assert_eq!(die(&mut poison, "/unknown", now + SECOND), Some(30 * SECOND));
    }

    #[test]
    fn what_has_a_good_name_is_condemned_by_many_deaths_in_a_row_and_has_lost_it() {
        let now = origin();
        let mut poison = poison();
        (0..20).for_each(|_| assert_eq!(poison.handle_success(print("/a"), 0), None));
        for death in 1..20 {
            assert_eq!(die(&mut poison, "/a", now + MS * 2 * death), None);
        }
        assert_eq!(die(&mut poison, "/a", now + MS * 40), Some(30 * SECOND));
        assert!(poison.handle_success(print("/a"), 0).is_some());
        assert_eq!(die(&mut poison, "/a", now + SECOND), None);
        assert_eq!(die(&mut poison, "/a", now + SECOND + MS), Some(30 * SECOND));
    }

    #[test]
    fn a_request_that_takes_anothers_place_has_no_good_name() {
        let now = origin();
        let mut poison = poison();
        let (first, second) = (print("/a"), print("/a").hash + GOOD_NAMES_MAX as u64);
        (0..20).for_each(|_| assert_eq!(poison.handle_success(first, 0), None));
        assert_eq!(poison.handle_success(Fingerprint { component: 1, hash: second }, 0), None);
        assert_eq!(die(&mut poison, "/a", now), None);
        assert_eq!(die(&mut poison, "/a", now + MS), Some(30 * SECOND));
    }

    #[test]
    fn the_status_shows_what_is_refused() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/watched", now);
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let rows: Vec<Refused<'_>> = poison.refused(now + SECOND).collect();
        let standing = super::super::Standing::Refused { left: 30 * SECOND };
        assert_eq!(rows, [Refused { component: 1, action: Some("show"), path: "/a", deaths: 2, standing }]);
    }
}

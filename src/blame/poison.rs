//! Requests that have killed workers: a bounded table, one row for each component, action and path.
//!
//! Pure state; `Blame` drives it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use super::stage::Stage;
use super::{Change, Key, Refused, Settings, Suspect};

/// Most rows; the one whose last death is the oldest makes way.
pub const SUSPECTS_MAX: usize = 128;

/// Bytes of a path that are kept and shown; of a longer one the rest is a hash.
pub const PATH_BYTES_MAX: usize = 256;

/// A refusal does not grow beyond this, unless the operator has set a longer one.
pub const REFUSE_MAX: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(super) struct Poison {
    deaths_max: usize,
    window: Duration,
    refuse: Duration,
    seed: u64,
    /// By the last death that counted, the oldest first.
    rows: VecDeque<Row>,
}

#[derive(Debug)]
struct Row {
    name: Name,
    /// When the deaths that count were seen, as far as they lie in the window. Never more than make a refusal.
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

#[derive(Debug)]
struct Name {
    component: u16,
    action: Option<String>,
    /// The path, or as much of it as is kept.
    path: String,
    /// Length and hash of a path that is not kept whole.
    cut: Option<(usize, u64)>,
}

impl Poison {
    pub fn new(settings: Settings, seed: u64) -> Poison {
        let Settings { poison_deaths, poison_window, poison_refuse, .. } = settings;
        Poison { deaths_max: poison_deaths, window: poison_window, refuse: poison_refuse, seed, rows: VecDeque::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn refusal_s(&self, key: Key<'_>, now: Instant) -> Option<u64> {
        self.rows.get(self.position(key)?)?.stage.refusal_s(now)
    }

    pub fn begin(&mut self, key: Key<'_>, request: RequestId, now: Instant) {
        if let Some(row) = self.position(key).and_then(|at| self.rows.get_mut(at)) {
            row.stage.begin(request, now);
            if let Stage::OnTrial { timeout, .. } = row.stage {
                row.expires = row.expires.max(timeout + self.window);
            }
        }
    }

    pub fn handle_unstarted(&mut self, request: RequestId, now: Instant) {
        self.rows.iter_mut().for_each(|row| row.stage.handle_unstarted(request, now));
    }

    pub fn handle_success(&mut self, key: Key<'_>) -> Option<Change> {
        let row = self.rows.remove(self.position(key)?)?;
        (!row.stage.is_watched()).then(|| Change::Cleared { suspect: row.name.into_suspect() })
    }

    pub fn handle_death(&mut self, key: Key<'_>, sent_at: Instant, now: Instant) -> Option<Change> {
        if self.deaths_max == 0 {
            return None;
        }
        let mut row = match self.position(key) {
            Some(at) if self.rows.get(at).is_some_and(|row| !row.is_evidence(sent_at, now)) => return None,
            Some(at) => self.rows.remove(at)?,
            None => Row::new(Name::new(key, self.seed), now),
        };
        row.last_death = now;
        row.deaths += 1;
        row.recent.push_back(now);
        row.recent.retain(|death| now.saturating_duration_since(*death) <= self.window);
        let refused_for = match row.stage {
            Stage::Watched => (row.recent.len() >= self.deaths_max).then_some(self.refuse),
            Stage::Refused { .. } | Stage::OnTrial { .. } => {
                Some(row.refused_for.saturating_mul(2).min(REFUSE_MAX.max(self.refuse)))
            }
        };
        if let Some(refused_for) = refused_for {
            row.recent.clear();
            row.refused_for = refused_for;
            row.stage = Stage::Refused { until: now + refused_for };
        }
        row.expires = now + row.refused_for + self.window.max(row.refused_for);
        let suspect = row.name.to_suspect();
        let deaths = row.deaths;
        self.push(row);
        refused_for.map(|refused_for| Change::Poisoned { suspect, deaths, refused_for })
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
                component: row.name.component,
                action: row.name.action.as_deref(),
                path: &row.name.path,
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

    fn position(&self, key: Key<'_>) -> Option<usize> {
        let cut = cut_of(key.path, self.seed, || self.rows.iter().any(|row| row.name.cut.is_some()));
        self.rows.iter().position(|row| row.name.is(key, cut))
    }
}

impl Row {
    fn new(name: Name, now: Instant) -> Row {
        Row {
            name,
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
}

impl Name {
    fn new(key: Key<'_>, seed: u64) -> Name {
        Name {
            component: key.component,
            action: key.action.map(str::to_owned),
            path: kept(key.path).to_owned(),
            cut: cut_of(key.path, seed, || true),
        }
    }

    fn is(&self, key: Key<'_>, cut: Option<(usize, u64)>) -> bool {
        self.component == key.component
            && self.cut == cut
            && self.path == kept(key.path)
            && self.action.as_deref() == key.action
    }

    fn to_suspect(&self) -> Suspect {
        Suspect { component: self.component, action: self.action.clone(), path: self.path.clone() }
    }

    fn into_suspect(self) -> Suspect {
        Suspect { component: self.component, action: self.action, path: self.path }
    }
}

/// The part of a path that is kept: whole characters.
fn kept(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES_MAX)]
}

/// Length and hash of a path that is not kept whole. The hash is made only when it is `wanted`, for it reads the whole path.
fn cut_of(path: &str, seed: u64, wanted: impl Fn() -> bool) -> Option<(usize, u64)> {
    if path.len() <= PATH_BYTES_MAX {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    if wanted() {
        seed.hash(&mut hasher);
        path.hash(&mut hasher);
    }
    Some((path.len(), hasher.finish()))
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
        Poison::new(SETTINGS, 7)
    }

    fn key(path: &str) -> Key<'_> {
        Key { component: 1, action: Some("show"), path }
    }

    /// A death of a request that was sent a millisecond before it.
    fn die(poison: &mut Poison, path: &str, now: Instant) -> Option<Duration> {
        match poison.handle_death(key(path), now - MS, now) {
            Some(Change::Poisoned { refused_for, .. }) => Some(refused_for),
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    #[test]
    fn the_last_of_the_deaths_that_are_set_makes_poison_and_the_one_before_does_not() {
        for deaths_max in 1..=5 {
            let now = origin();
            let mut poison = Poison::new(Settings { poison_deaths: deaths_max, ..SETTINGS }, 7);
            for death in 1..deaths_max {
                assert_eq!(die(&mut poison, "/a", now + SECOND * death as u32), None);
                assert_eq!(poison.refusal_s(key("/a"), now + SECOND * death as u32), None);
            }
            let last = now + SECOND * deaths_max as u32;
            assert_eq!(die(&mut poison, "/a", last), Some(30 * SECOND));
            assert_eq!(poison.refusal_s(key("/a"), last), Some(30));
        }
    }

    #[test]
    fn zero_deaths_turn_it_off() {
        let now = origin();
        let mut poison = Poison::new(Settings { poison_deaths: 0, ..SETTINGS }, 7);
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
        assert_eq!(poison.handle_death(key("/a"), at(0), at(10)), None);
        for later in 10..20 {
            assert_eq!(poison.handle_death(key("/a"), at(9), at(later)), None, "sent before the first death was seen");
        }
        assert!(poison.handle_death(key("/a"), at(10), at(20)).is_some(), "sent in the turn that saw the first one");
    }

    #[test]
    fn a_success_in_between_clears_and_is_told_only_of_what_was_refused() {
        let now = origin();
        let mut poison = poison();
        for second in 0..100 {
            assert_eq!(die(&mut poison, "/a", now + SECOND * second), None);
            assert_eq!(poison.handle_success(key("/a")), None);
            assert!(poison.is_empty());
        }
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let cleared = poison.handle_success(key("/a"));
        assert!(matches!(cleared, Some(Change::Cleared { suspect }) if suspect.path == "/a"));
        assert_eq!(poison.refusal_s(key("/a"), now + SECOND), None);
    }

    #[test]
    fn only_the_same_component_action_and_path_is_refused() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let later = now + SECOND;
        assert!(poison.refusal_s(key("/a"), later).is_some());
        for other in [
            key("/b"),
            key("/a/"),
            Key { component: 2, ..key("/a") },
            Key { action: Some("edit"), ..key("/a") },
            Key { action: None, ..key("/a") },
        ] {
            assert_eq!(poison.refusal_s(other, later), None, "{other:?}");
            assert_eq!(poison.handle_success(other), None);
        }
        assert!(poison.refusal_s(key("/a"), later).is_some());
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
            assert_eq!(poison.refusal_s(key("/a"), now - MS), Some(1));
            assert_eq!(poison.refusal_s(key("/a"), now), None);
            poison.begin(key("/a"), RequestId(doublings), now);
            assert_eq!(poison.refusal_s(key("/a"), now), Some(1), "one trial at a time");
            let next = poison.handle_death(key("/a"), now, now + MS);
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
        let mut poison = Poison::new(Settings { poison_deaths: 1, poison_refuse: REFUSE_MAX * 3, ..SETTINGS }, 7);
        assert_eq!(die(&mut poison, "/a", now), Some(REFUSE_MAX * 3));
        let due = now + REFUSE_MAX * 3;
        poison.begin(key("/a"), RequestId(1), due);
        assert_eq!(die(&mut poison, "/a", due + MS), Some(REFUSE_MAX * 3));
    }

    #[test]
    fn a_death_while_it_is_refused_is_of_a_request_that_was_sent_before_and_changes_nothing() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        assert_eq!(poison.handle_death(key("/a"), now, now + 2 * SECOND), None);
        assert_eq!(poison.handle_death(key("/a"), now + SECOND, now + 3 * SECOND), None);
        assert_eq!(poison.refusal_s(key("/a"), now + 31 * SECOND - MS), Some(1));
        assert_eq!(poison.refusal_s(key("/a"), now + 31 * SECOND), None);
    }

    #[test]
    fn a_trial_that_ends_well_clears_everything() {
        let now = origin();
        let mut poison = poison();
        die(&mut poison, "/a", now);
        die(&mut poison, "/a", now + SECOND);
        let due = now + 31 * SECOND;
        poison.begin(key("/a"), RequestId(1), due);
        assert!(poison.handle_success(key("/a")).is_some());
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
        assert!(poison.position(key("/1")).is_none(), "the oldest is the one whose last death is the oldest");
        assert!(poison.position(key("/0")).is_some());
        assert!(poison.position(key("/2")).is_some());
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
        poison.begin(key("/a"), RequestId(1), late);
        poison.expire(late + 60 * SECOND);
        assert_eq!(die(&mut poison, "/a", late + 60 * SECOND), Some(60 * SECOND));
    }

    #[test]
    fn a_path_is_kept_at_its_limit_and_hashed_one_past() {
        let now = origin();
        let mut poison = poison();
        let at_limit = "x".repeat(PATH_BYTES_MAX);
        let (long, other) = (format!("{at_limit}a"), format!("{at_limit}b"));
        for path in [&at_limit, &long] {
            die(&mut poison, path, now);
            die(&mut poison, path, now + SECOND);
        }
        let later = now + SECOND;
        assert!(poison.refusal_s(key(&at_limit), later).is_some());
        assert!(poison.refusal_s(key(&long), later).is_some());
        assert_eq!(poison.refusal_s(key(&other), later), None, "the part that is not kept counts too");
        assert_eq!(poison.refusal_s(key(&format!("{long}a")), later), None);
        assert!(poison.rows.iter().all(|row| row.name.path.len() <= PATH_BYTES_MAX));
        let wide = format!("{}é", "x".repeat(PATH_BYTES_MAX - 1));
        assert_eq!(die(&mut poison, &wide, later), None, "a character that straddles the limit is left out whole");
        assert!(die(&mut poison, &wide, later + SECOND).is_some());
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

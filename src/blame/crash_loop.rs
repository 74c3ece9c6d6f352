//! Components that kill their workers one after the other, or that cannot be loaded: each is suspended alone, for longer each time.
//!
//! Pure state; `Blame` drives it. There are at most as many rows as components.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use super::outlived::{Outlived, Run};
use super::stage::{Stage, Standing};
use super::{Cause, Change, Suspended};

/// The first suspension.
pub const SUSPEND_FIRST: Duration = Duration::from_secs(1);

/// The longest, before its jitter.
pub const SUSPEND_MAX: Duration = Duration::from_secs(60);

/// A suspension is longer or shorter than its nominal length by up to so many thousandths, so that components that fell together do not rise together.
pub const JITTER_THOUSANDTHS: u64 = 200;

/// When a component that has not been heard of any more is forgotten.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub(super) struct CrashLoops {
    deaths_max: usize,
    rows: BTreeMap<u16, Row>,
    /// By the component's place.
    outlived: Vec<Outlived>,
}

#[derive(Debug)]
enum Row {
    /// Its requests kill workers.
    Crashing {
        /// Workers that died with its requests, one after the other.
        deaths: u32,
        first_death: Instant,
        last_death: Instant,
        /// Suspensions so far.
        suspensions: u32,
        stage: Stage,
        expires: Instant,
    },
    /// It could not be loaded, and is to be loaded again at this time.
    Unloadable { failures: u32, retry_at: Instant },
    /// It is being loaded again.
    Loading { failures: u32 },
}

impl CrashLoops {
    pub fn new(deaths_max: usize) -> CrashLoops {
        CrashLoops { deaths_max, rows: BTreeMap::new(), outlived: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn refusal_s(&self, component: u16, now: Instant) -> Option<u64> {
        match self.rows.get(&component)? {
            Row::Crashing { stage, .. } => stage.refusal_s(now),
            Row::Unloadable { retry_at, .. } => {
                // Loading takes its time, so that nothing is promised for this very moment.
                Some(super::stage::whole_seconds(retry_at.saturating_duration_since(now)).max(1))
            }
            Row::Loading { .. } => Some(1),
        }
    }

    pub fn begin(&mut self, component: u16, request: RequestId, now: Instant) {
        match self.rows.get_mut(&component) {
            Some(Row::Crashing { stage, expires, .. }) => {
                stage.begin(request, now);
                *expires = (*expires).max(now + FORGOTTEN_AFTER);
            }
            Some(Row::Unloadable { .. } | Row::Loading { .. }) | None => {}
        }
    }

    pub fn handle_unstarted(&mut self, request: RequestId, now: Instant) {
        for row in self.rows.values_mut() {
            match row {
                Row::Crashing { stage, .. } => stage.handle_unstarted(request, now),
                Row::Unloadable { .. } | Row::Loading { .. } => {}
            }
        }
    }

    pub fn handle_success(&mut self, component: u16, now_s: u32) -> Option<Change> {
        self.outlived(component).handle_success(now_s);
        match self.rows.get(&component)? {
            Row::Crashing { stage, .. } => {
                let watched = stage.is_watched();
                self.rows.remove(&component);
                (!watched).then_some(Change::Resumed { component })
            }
            // A worker that had loaded it before is no proof that it can be loaded.
            Row::Unloadable { .. } | Row::Loading { .. } => None,
        }
    }

    pub fn handle_death(
        &mut self,
        component: u16,
        sent_at: Instant,
        now: Instant,
        now_s: u32,
        random: u64,
    ) -> Option<Change> {
        let deaths_max = self.deaths_max;
        if deaths_max == 0 {
            return None;
        }
        let outlived = *self.outlived(component);
        let fresh = Row::Crashing {
            deaths: 0,
            first_death: now,
            last_death: sent_at,
            suspensions: 0,
            stage: Stage::Watched,
            expires: now,
        };
        let Row::Crashing { deaths, first_death, last_death, suspensions, stage, expires } =
            self.rows.entry(component).or_insert(fresh)
        else {
            return None;
        };
        let is_suspended = matches!(*stage, Stage::Refused { until } if now < until);
        if sent_at < *last_death || is_suspended {
            return None;
        }
        *deaths = deaths.saturating_add(1);
        *last_death = now;
        *expires = now + FORGOTTEN_AFTER;
        let run = Run { deaths: *deaths as usize, first: *first_death };
        if stage.is_watched() && !outlived.is_condemned(run, deaths_max, now, now_s) {
            return None;
        }
        let suspended_for = backoff(*suspensions, random);
        *suspensions = suspensions.saturating_add(1);
        *stage = Stage::Refused { until: now + suspended_for };
        *expires += suspended_for;
        let cause = Cause::Crashes { deaths: *deaths };
        self.outlived(component).clear();
        Some(Change::Suspended { component, cause, suspended_for })
    }

    pub fn handle_load_failure(&mut self, component: u16, now: Instant, random: u64) -> Change {
        let before = match self.rows.get(&component) {
            Some(Row::Unloadable { failures, .. } | Row::Loading { failures }) => *failures,
            Some(Row::Crashing { .. }) | None => 0,
        };
        let failures = before.saturating_add(1);
        let suspended_for = backoff(before, random);
        self.rows.insert(component, Row::Unloadable { failures, retry_at: now + suspended_for });
        Change::Suspended { component, cause: Cause::Load { failures }, suspended_for }
    }

    pub fn handle_loaded(&mut self, component: u16) -> Option<Change> {
        match self.rows.get(&component)? {
            Row::Unloadable { .. } | Row::Loading { .. } => {
                self.rows.remove(&component);
                Some(Change::Resumed { component })
            }
            Row::Crashing { .. } => None,
        }
    }

    pub fn poll_reload(&mut self, now: Instant) -> Option<u16> {
        let due = |row: &Row| matches!(row, Row::Unloadable { retry_at, .. } if *retry_at <= now);
        let (component, row) = self.rows.iter_mut().find(|(_, row)| due(row))?;
        if let Row::Unloadable { failures, .. } = *row {
            *row = Row::Loading { failures };
        }
        Some(*component)
    }

    pub fn next_reload(&self) -> Option<Instant> {
        let retries = self.rows.values().filter_map(|row| match row {
            Row::Unloadable { retry_at, .. } => Some(*retry_at),
            Row::Loading { .. } | Row::Crashing { .. } => None,
        });
        retries.min()
    }

    pub fn is_load_suspended(&self, component: u16) -> bool {
        matches!(self.rows.get(&component), Some(Row::Unloadable { .. }))
    }

    /// Forgets what has not been heard of for long enough.
    pub fn expire(&mut self, now: Instant) {
        let expired = |row: &Row| matches!(row, Row::Crashing { expires, .. } if *expires < now);
        if self.rows.values().any(expired) {
            self.rows.retain(|_, row| !expired(row));
        }
    }

    fn outlived(&mut self, component: u16) -> &mut Outlived {
        let at = usize::from(component);
        if self.outlived.len() <= at {
            self.outlived.resize(at + 1, Outlived::default());
        }
        &mut self.outlived[at]
    }

    pub fn suspended(&self, now: Instant) -> impl Iterator<Item = Suspended> {
        self.rows.iter().filter_map(move |(&component, row)| {
            let (cause, standing) = match *row {
                Row::Crashing { deaths, stage, .. } => (Cause::Crashes { deaths }, stage.standing(now)?),
                Row::Unloadable { failures, retry_at } => {
                    (Cause::Load { failures }, Stage::Refused { until: retry_at }.standing(now)?)
                }
                Row::Loading { failures } => (Cause::Load { failures }, Standing::Loading),
            };
            Some(Suspended { component, cause, standing })
        })
    }
}

/// How long a suspension lasts after so many before it.
fn backoff(before: u32, random: u64) -> Duration {
    let nominal = SUSPEND_FIRST.saturating_mul(1 << before.min(16)).min(SUSPEND_MAX);
    let thousandths = 1000 - JITTER_THOUSANDTHS + random % (2 * JITTER_THOUSANDTHS + 1);
    nominal * thousandths as u32 / 1000
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
    /// A random number whose jitter is nothing.
    const EVEN: u64 = JITTER_THOUSANDTHS;

    /// A death of a request that was sent a millisecond before it.
    fn die(loops: &mut CrashLoops, now: Instant) -> Option<(u32, Duration)> {
        match loops.handle_death(3, now - MS, now, 0, EVEN) {
            Some(Change::Suspended { component: 3, cause: Cause::Crashes { deaths }, suspended_for }) => {
                Some((deaths, suspended_for))
            }
            Some(other) => panic!("{other:?}"),
            None => None,
        }
    }

    fn suspended(now: Instant) -> CrashLoops {
        let mut loops = CrashLoops::new(1);
        assert_eq!(die(&mut loops, now), Some((1, SECOND)));
        loops
    }

    #[test]
    fn the_last_of_the_deaths_that_are_set_suspends_and_the_one_before_does_not() {
        for deaths_max in 1..=6 {
            let mut now = origin();
            let mut loops = CrashLoops::new(deaths_max);
            for _ in 1..deaths_max {
                assert_eq!(die(&mut loops, now), None);
                assert_eq!(loops.refusal_s(3, now), None);
                now += SECOND;
            }
            assert_eq!(die(&mut loops, now), Some((deaths_max as u32, SECOND)));
            assert_eq!(loops.refusal_s(3, now), Some(1));
            assert_eq!(loops.refusal_s(2, now), None, "the others are served");
        }
    }

    #[test]
    fn zero_deaths_turn_it_off() {
        let now = origin();
        let mut loops = CrashLoops::new(0);
        for second in 0..20 {
            assert_eq!(die(&mut loops, now + SECOND * second), None);
        }
        assert!(loops.is_empty());
    }

    #[test]
    fn a_success_in_between_begins_the_count_anew() {
        let mut now = origin();
        let mut loops = CrashLoops::new(3);
        for _ in 0..50 {
            assert_eq!(die(&mut loops, now), None);
            assert_eq!(die(&mut loops, now + MS), None);
            assert_eq!(loops.handle_success(3, 0), None, "nothing had been suspended");
            now += SECOND;
        }
        assert!(loops.is_empty());
    }

    #[test]
    fn what_has_a_good_name_is_not_suspended_before_the_run_is_long_enough() {
        let now = origin();
        let good = || {
            let mut loops = CrashLoops::new(2);
            (0..20).for_each(|_| assert_eq!(loops.handle_success(3, 0), None));
            loops
        };
        let mut loops = good();
        assert_eq!(die(&mut loops, now), None);
        assert_eq!(die(&mut loops, now + SECOND), None);
        assert_eq!(die(&mut loops, now + 2 * SECOND), Some((3, SECOND)));
        let mut loops = good();
        for death in 1..20 {
            assert_eq!(die(&mut loops, now + MS * 2 * death), None);
        }
        assert_eq!(die(&mut loops, now + MS * 40), Some((20, SECOND)));
        assert!(loops.handle_success(3, 0).is_some());
        assert_eq!(die(&mut loops, now + SECOND), None);
        assert_eq!(die(&mut loops, now + SECOND + MS), Some((2, SECOND)), "the good name is lost");
    }

    #[test]
    fn deaths_of_one_moment_count_once() {
        let now = origin();
        let mut loops = CrashLoops::new(2);
        let at = |ms| now + MS * ms;
        assert_eq!(loops.handle_death(3, at(0), at(10), 0, EVEN), None);
        for later in 10..20 {
            assert_eq!(loops.handle_death(3, at(9), at(later), 0, EVEN), None);
        }
        assert!(loops.handle_death(3, at(10), at(20), 0, EVEN).is_some(), "sent in the turn that saw the first one");
    }

    #[test]
    fn suspensions_double_up_to_the_limit_with_one_trial_after_each() {
        let mut now = origin();
        let mut loops = suspended(now);
        let mut suspended_for = SECOND;
        for (trial, expected) in (1..).zip([2, 4, 8, 16, 32, 60, 60, 60]) {
            now += suspended_for;
            assert_eq!(loops.refusal_s(3, now - MS), Some(1));
            assert_eq!(loops.refusal_s(3, now), None);
            loops.begin(3, RequestId(trial), now);
            assert_eq!(loops.refusal_s(3, now), Some(1), "one trial at a time");
            now += MS;
            assert_eq!(die(&mut loops, now), Some((1 + trial as u32, SECOND * expected)));
            suspended_for = SECOND * expected;
        }
    }

    #[test]
    fn a_trial_that_ends_well_ends_the_suspension_and_forgets_its_length() {
        let now = origin();
        let mut loops = suspended(now);
        loops.begin(3, RequestId(1), now + SECOND);
        assert_eq!(loops.handle_success(3, 0), Some(Change::Resumed { component: 3 }));
        assert!(loops.is_empty());
        assert_eq!(die(&mut loops, now + 2 * SECOND), Some((1, SECOND)));
    }

    #[test]
    fn a_trial_that_never_started_makes_way_for_the_next() {
        let now = origin();
        let mut loops = suspended(now);
        let due = now + SECOND;
        loops.begin(3, RequestId(1), due);
        loops.handle_unstarted(RequestId(2), due);
        assert_eq!(loops.refusal_s(3, due), Some(1));
        loops.handle_unstarted(RequestId(1), due);
        assert_eq!(loops.refusal_s(3, due), None);
    }

    #[test]
    fn a_death_while_it_is_suspended_is_of_a_request_that_was_sent_before_and_changes_nothing() {
        let now = origin();
        let mut loops = suspended(now);
        assert_eq!(loops.handle_death(3, now - MS, now + 500 * MS, 0, EVEN), None);
        assert_eq!(loops.handle_death(3, now, now + 500 * MS, 0, EVEN), None);
        assert_eq!(loops.refusal_s(3, now + SECOND), None);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_reaches_them() {
        for (before, nominal) in
            [(0, SECOND), (1, 2 * SECOND), (5, 32 * SECOND), (6, SUSPEND_MAX), (u32::MAX, SUSPEND_MAX)]
        {
            let lengths: Vec<Duration> = (0..=2 * JITTER_THOUSANDTHS).map(|random| backoff(before, random)).collect();
            assert_eq!(lengths.iter().min(), Some(&(nominal * 8 / 10)));
            assert_eq!(lengths.iter().max(), Some(&(nominal * 12 / 10)));
            assert_eq!(backoff(before, 2 * JITTER_THOUSANDTHS + 1), nominal * 8 / 10, "one past begins again");
            let extreme = backoff(before, u64::MAX);
            assert!((nominal * 8 / 10..=nominal * 12 / 10).contains(&extreme));
        }
    }

    #[test]
    fn a_component_that_cannot_be_loaded_is_suspended_at_once_until_it_has_been() {
        let now = origin();
        let mut loops = CrashLoops::new(0);
        let change = loops.handle_load_failure(3, now, EVEN);
        assert_eq!(
            change,
            Change::Suspended { component: 3, cause: Cause::Load { failures: 1 }, suspended_for: SECOND }
        );
        assert!(loops.is_load_suspended(3));
        assert_eq!(loops.refusal_s(3, now), Some(1));
        assert_eq!(loops.next_reload(), Some(now + SECOND));
        assert_eq!(loops.poll_reload(now + SECOND - MS), None);
        assert_eq!(loops.refusal_s(3, now + 5 * SECOND), Some(1), "no request is a trial");
        assert_eq!(loops.poll_reload(now + SECOND), Some(3));
        assert_eq!(loops.poll_reload(now + SECOND), None, "told once");
        assert_eq!((loops.next_reload(), loops.is_load_suspended(3)), (None, false));
        assert_eq!(loops.refusal_s(3, now + SECOND), Some(1), "it is being loaded");
        assert_eq!(loops.handle_loaded(3), Some(Change::Resumed { component: 3 }));
        assert_eq!(loops.refusal_s(3, now + SECOND), None);
        assert_eq!(loops.handle_loaded(3), None);
    }

    #[test]
    fn failures_to_load_double_the_wait_up_to_the_limit() {
        let mut now = origin();
        let mut loops = CrashLoops::new(5);
        for (failures, expected) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            let change = loops.handle_load_failure(3, now, EVEN);
            let suspended_for = SECOND * expected;
            assert_eq!(change, Change::Suspended { component: 3, cause: Cause::Load { failures }, suspended_for });
            now += suspended_for;
            assert_eq!(loops.poll_reload(now), Some(3));
        }
    }

    #[test]
    fn what_workers_do_does_not_end_the_suspension_of_a_component_that_cannot_be_loaded() {
        let now = origin();
        let mut loops = CrashLoops::new(1);
        loops.handle_load_failure(3, now, EVEN);
        assert_eq!(loops.handle_success(3, 0), None);
        assert_eq!(loops.handle_death(3, now, now + MS, 0, EVEN), None);
        loops.handle_unstarted(RequestId(1), now);
        loops.begin(3, RequestId(1), now);
        loops.expire(now + FORGOTTEN_AFTER * 2);
        assert!(loops.is_load_suspended(3));
        assert_eq!(loops.poll_reload(now + SECOND), Some(3));
    }

    #[test]
    fn each_component_that_is_due_is_loaded_again() {
        let now = origin();
        let mut loops = CrashLoops::new(1);
        loops.handle_load_failure(3, now, 0);
        loops.handle_load_failure(4, now, 2 * JITTER_THOUSANDTHS);
        assert_eq!(loops.next_reload(), Some(now + 800 * MS));
        assert_eq!(loops.poll_reload(now + 1199 * MS), Some(3));
        assert_eq!(loops.poll_reload(now + 1199 * MS), None);
        assert_eq!(loops.next_reload(), Some(now + 1200 * MS));
        assert_eq!(loops.poll_reload(now + 1200 * MS), Some(4));
    }

    #[test]
    fn what_is_not_heard_of_any_more_is_forgotten() {
        let now = origin();
        let mut loops = CrashLoops::new(2);
        die(&mut loops, now);
        loops.expire(now + FORGOTTEN_AFTER);
        assert!(!loops.is_empty());
        loops.expire(now + FORGOTTEN_AFTER + MS);
        assert!(loops.is_empty());
        let mut loops = suspended(now);
        loops.expire(now + SECOND + FORGOTTEN_AFTER);
        assert!(!loops.is_empty());
        loops.begin(3, RequestId(1), now + SECOND + FORGOTTEN_AFTER);
        loops.expire(now + SECOND + FORGOTTEN_AFTER + MS);
        assert!(!loops.is_empty(), "a trial is waited for");
    }

    #[test]
    fn the_status_shows_what_is_suspended_and_why() {
        let now = origin();
        let mut loops = suspended(now);
        loops.handle_load_failure(9, now, EVEN);
        let rows = |loops: &CrashLoops, now| loops.suspended(now).collect::<Vec<_>>();
        let left = Standing::Refused { left: SECOND };
        let (crashes, load) = (Cause::Crashes { deaths: 1 }, Cause::Load { failures: 1 });
        let row = |component, cause, standing| Suspended { component, cause, standing };
        assert_eq!(rows(&loops, now), [row(3, crashes, left), row(9, load, left)]);
        let due = now + SECOND;
        assert_eq!(rows(&loops, due), [row(3, crashes, Standing::Due), row(9, load, Standing::Due)]);
        loops.begin(3, RequestId(5), due);
        loops.poll_reload(due);
        let trial = Standing::OnTrial { request: RequestId(5) };
        assert_eq!(rows(&loops, due), [row(3, crashes, trial), row(9, load, Standing::Loading)]);
    }
}

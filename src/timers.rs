//! Deadlines of many things with one entry each: a heap that is corrected only when an entry fires.
//!
//! A thing's deadline moves on with every request. Moving a heap entry each time would cost more than the request's parsing, so
//! an entry may lie before the true deadline: when it fires, the reactor asks the thing and arms it again. What is left behind, of things
//! that are gone or were armed anew, is swept out before it is more than what is in use.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Entries beside two for each thing at which those that are left behind are swept out.
const SWEEP_ABOVE: usize = 64;

/// When a thing will next be asked; it belongs to that thing and is passed back to [`Timers::arm`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Armed(Option<Instant>);

/// Entries by time. `K` names the thing; a key whose thing is gone fires once and is forgotten.
#[derive(Debug)]
pub struct Timers<K: Ord> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers { heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Timers<K> {
    /// Makes sure that `key` fires no later than `deadline`. Adds an entry only when none fires earlier.
    pub fn arm(&mut self, key: K, armed: &mut Armed, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.0.is_none_or(|at| deadline < at) {
            armed.0 = Some(deadline);
            self.heap.push(Reverse((deadline, key)));
        }
    }

    /// Keeps the entries no more than two for each of `things` and a few, whatever came and went: drops those of which `is_armed` does not
    /// know.
    pub fn sweep(&mut self, things: usize, is_armed: impl Fn(K, Armed) -> bool) {
        if self.heap.len() > 2 * things + SWEEP_ABOVE {
            self.heap.retain(|Reverse((at, key))| is_armed(*key, Armed(Some(*at))));
        }
    }

    /// When the next entry fires.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes a key whose entry has fired. Its owner calls [`Timers::fired`], looks at the true deadline and arms it again.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    /// Tells that an entry of this thing has fired.
    pub fn fired(armed: &mut Armed, now: Instant) {
        if armed.0.is_some_and(|at| at <= now) {
            armed.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in this test")]
    fn a_deadline_that_moves_on_costs_one_entry() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let mut armed = Armed::default();
        for ms in 10..1000 {
            timers.arm('a', &mut armed, Some(at(ms)));
        }
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(10)), Some('a'));
        Timers::<char>::fired(&mut armed, at(10));
        timers.arm('a', &mut armed, Some(at(999)));
        timers.arm('a', &mut armed, Some(at(500)));
        assert_eq!(timers.next(), Some(at(500)));
        assert_eq!(timers.pop(at(500)), Some('a'));
        Timers::<char>::fired(&mut armed, at(500));
        timers.arm('a', &mut armed, None);
        assert_eq!(timers.next(), Some(at(999)), "the entry left behind fires once and finds nothing to do");
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in this test")]
    fn what_things_leave_behind_that_come_and_go_is_bounded() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let mut armed = Armed::default();
        timers.arm(0, &mut armed, Some(start));
        let is_armed = |key, at| key == 0 && at == armed;
        for key in 1..=SWEEP_ABOVE + 1 {
            timers.arm(key, &mut Armed::default(), Some(start));
            timers.sweep(1, is_armed);
        }
        assert_eq!(timers.heap.len(), SWEEP_ABOVE + 2);
        timers.arm(1000, &mut Armed::default(), Some(start));
        timers.sweep(1, is_armed);
        assert_eq!(timers.heap.len(), 1);
        assert_eq!(timers.pop(start), Some(0));
    }
}

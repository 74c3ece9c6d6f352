//! The pool: which slot has a worker, which worker is free, when the next one is started.
//!
//! Pure state: it starts no process and reads no clock. The reactor tells it what happened (`handle_*`), asks it what to do
//! (`poll_*`, `lease`) and does it.
//!
//! There are more slots than requests at a time: `spares` of them hold workers that are ready and wait. When a worker dies,
//! a spare takes its place with the next lease, so that capacity does not dip while the replacement starts.

mod backoff;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

/// The place of one worker, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a worker may take from its start to `Ready`.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum State {
    /// No worker; the next may be started at this time.
    Vacant { not_before: Instant },
    /// Started, not ready yet.
    Starting { deadline: Instant },
    /// Ready, without a request.
    Idle,
    /// Has this request, and perhaps has been sent another.
    Leased { request: RequestId, offer: Offer },
    /// Has nothing but a withdrawn request, and is about to say that it has thrown it away.
    Discarding { request: RequestId },
    /// Told to stop or killed; only its end is awaited.
    Ending { request: Option<RequestId>, offer: Offer },
}

/// What a worker has been sent beside the request that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offer {
    None,
    /// It will go on with this one.
    Open(RequestId),
    /// It will throw this one away. Until it has said so it gets nothing new: it could not tell this copy from another.
    Withdrawn(RequestId),
}

#[derive(Debug)]
struct Slot {
    state: State,
    /// Workers in a row that ended before they had served anything.
    failures: u32,
    /// Requests given to the present worker.
    served: u64,
}

/// The slots of one reactor.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Slot>,
    /// Idle slots, the most recently used one last: its caches and its pages are the warmest.
    idle: Vec<SlotId>,
    leased: usize,
    leased_max: usize,
    /// Leased slots, the longest leased first, that may be offered another request. May name others too, which are passed over.
    unoffered: VecDeque<SlotId>,
    replacing: bool,
}

/// What an exit meant for the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vacated {
    /// The request that the worker had been given and not finished.
    pub request: Option<RequestId>,
    /// The request that it had been offered beside.
    pub offered: Option<RequestId>,
    /// The worker never became ready.
    pub never_ready: bool,
    /// How long until the next worker is started in this slot.
    pub delay: Duration,
}

/// What became of a slot whose worker has finished a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// It waits for a request.
    Free,
    /// It goes on with the one that it had been offered.
    Next(RequestId),
    /// It had none to finish.
    HadNone,
}

impl Pool {
    /// A pool for `workers` requests at a time, with `spares` workers beside them.
    pub fn new(workers: usize, spares: usize, now: Instant) -> Pool {
        let slots = (0..workers + spares)
            .map(|_| Slot { state: State::Vacant { not_before: now }, failures: 0, served: 0 })
            .collect();
        Pool { slots, idle: Vec::new(), leased: 0, leased_max: workers, unoffered: VecDeque::new(), replacing: true }
    }

    pub fn slots(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..self.slots.len() as u32).map(SlotId)
    }

    /// A slot whose worker is to be started now. It counts as starting from here on.
    pub fn poll_start(&mut self, now: Instant) -> Option<SlotId> {
        if !self.replacing {
            return None;
        }
        let at = self.slots.iter().position(|slot| match slot.state {
            State::Vacant { not_before } => not_before <= now,
            State::Starting { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. }
            | State::Ending { .. } => false,
        })?;
        let slot = &mut self.slots[at];
        slot.state = State::Starting { deadline: now + START_TIMEOUT };
        slot.served = 0;
        Some(SlotId(at as u32))
    }

    /// When to look again for something to start, or for a worker that takes too long to start.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.slots.iter().filter_map(|slot| match slot.state {
            State::Vacant { not_before } => self.replacing.then_some(not_before),
            State::Starting { deadline } => Some(deadline),
            State::Idle | State::Leased { .. } | State::Discarding { .. } | State::Ending { .. } => None,
        });
        deadlines.min()
    }

    /// A worker that has not become ready in time; the caller kills it.
    pub fn poll_overdue(&mut self, now: Instant) -> Option<SlotId> {
        let at = self.slots.iter().position(|slot| match slot.state {
            State::Starting { deadline } => deadline <= now,
            State::Vacant { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. }
            | State::Ending { .. } => false,
        })?;
        self.slots[at].state = State::Ending { request: None, offer: Offer::None };
        Some(SlotId(at as u32))
    }

    /// The worker has loaded its components. False if it had done so before: the message is then illegal.
    pub fn handle_ready(&mut self, slot: SlotId) -> bool {
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else { return false };
        match entry.state {
            State::Starting { .. } => {
                entry.state = State::Idle;
                self.idle.push(slot);
                true
            }
            // It was told to stop before it could say so.
            State::Ending { request: None, .. } => true,
            State::Vacant { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. }
            | State::Ending { request: Some(_), .. } => false,
        }
    }

    /// Gives the request to the most recently idle worker, unless as many as are allowed at a time are at work.
    pub fn lease(&mut self, request: RequestId) -> Option<SlotId> {
        if self.leased >= self.leased_max {
            return None;
        }
        let slot = self.idle.pop()?;
        let entry = &mut self.slots[slot.0 as usize];
        entry.state = State::Leased { request, offer: Offer::None };
        entry.served += 1;
        self.leased += 1;
        self.unoffered.push_back(slot);
        Some(slot)
    }

    /// A busy worker that has not been offered a request: the one that is likely to be done first. Passed over from then on, until
    /// [`Pool::handle_unoffered`] or its next request.
    pub fn poll_offerable(&mut self) -> Option<SlotId> {
        loop {
            let slot = self.unoffered.pop_front()?;
            match self.slots.get(slot.0 as usize)?.state {
                State::Leased { offer: Offer::None, .. } => return Some(slot),
                State::Leased { .. }
                | State::Discarding { .. }
                | State::Vacant { .. }
                | State::Starting { .. }
                | State::Idle
                | State::Ending { .. } => {}
            }
        }
    }

    /// The slot's worker has been sent this request beside the one that it has.
    pub fn handle_offered(&mut self, slot: SlotId, request: RequestId) {
        if let Some(Slot { state: State::Leased { offer, .. }, .. }) = self.slots.get_mut(slot.0 as usize) {
            *offer = Offer::Open(request);
        }
    }

    /// The slot's worker could not be offered a request yet.
    pub fn handle_unoffered(&mut self, slot: SlotId) {
        self.unoffered.push_back(slot);
    }

    /// The offer was withdrawn.
    pub fn handle_withdrawn(&mut self, slot: SlotId) {
        if let Some(State::Leased { offer, .. } | State::Ending { offer, .. }) =
            self.slots.get_mut(slot.0 as usize).map(|entry| &mut entry.state)
            && let Offer::Open(request) = *offer
        {
            *offer = Offer::Withdrawn(request);
        }
    }

    /// The worker has thrown a withdrawn request away, and is free. False if there was none to throw away.
    pub fn handle_discarded(&mut self, slot: SlotId, request: RequestId) -> bool {
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else { return false };
        match entry.state {
            State::Discarding { request: discarded } if discarded == request => {
                entry.state = State::Idle;
                self.idle.push(slot);
                self.leased -= 1;
                true
            }
            State::Ending { request: None, offer: Offer::Withdrawn(discarded) } if discarded == request => true,
            State::Discarding { .. }
            | State::Ending { .. }
            | State::Vacant { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Leased { .. } => false,
        }
    }

    /// How many slots [`Pool::poll_offerable`] may name at the most.
    pub fn offerable_max(&self) -> usize {
        self.unoffered.len()
    }

    /// The request that the slot's worker will go on with after the one that it has.
    fn offered(&self, slot: SlotId) -> Option<RequestId> {
        match self.slots.get(slot.0 as usize)?.state {
            State::Leased { offer: Offer::Open(request), .. } | State::Ending { offer: Offer::Open(request), .. } => {
                Some(request)
            }
            State::Leased { .. }
            | State::Ending { .. }
            | State::Discarding { .. }
            | State::Vacant { .. }
            | State::Starting { .. }
            | State::Idle => None,
        }
    }

    /// True when a request that came now would be given to a worker at once.
    pub fn has_room(&self) -> bool {
        self.leased < self.leased_max && !self.idle.is_empty()
    }

    /// The request that this slot's worker has.
    pub fn request(&self, slot: SlotId) -> Option<RequestId> {
        match self.slots.get(slot.0 as usize)?.state {
            State::Leased { request, .. } | State::Ending { request: Some(request), .. } => Some(request),
            State::Vacant { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Discarding { .. }
            | State::Ending { request: None, .. } => None,
        }
    }

    /// The worker has finished its request.
    pub fn release(&mut self, slot: SlotId) -> Released {
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else { return Released::HadNone };
        match entry.state {
            State::Leased { offer, .. } => {
                entry.failures = 0;
                match offer {
                    Offer::Open(next) => {
                        entry.state = State::Leased { request: next, offer: Offer::None };
                        entry.served += 1;
                        self.unoffered.push_back(slot);
                        Released::Next(next)
                    }
                    Offer::Withdrawn(request) => {
                        entry.state = State::Discarding { request };
                        Released::Free
                    }
                    Offer::None => {
                        entry.state = State::Idle;
                        self.idle.push(slot);
                        self.leased -= 1;
                        Released::Free
                    }
                }
            }
            State::Ending { request: Some(_), offer: Offer::Open(next) } => {
                entry.state = State::Ending { request: Some(next), offer: Offer::None };
                Released::Next(next)
            }
            State::Ending { request: Some(_), offer } => {
                entry.state = State::Ending { request: None, offer };
                Released::Free
            }
            State::Vacant { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Discarding { .. }
            | State::Ending { request: None, .. } => Released::HadNone,
        }
    }

    /// The worker was told to stop, or was killed: it gets nothing more.
    pub fn handle_ending(&mut self, slot: SlotId) {
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else { return };
        let (request, offer) = match entry.state {
            State::Vacant { .. } | State::Ending { .. } => return,
            State::Starting { .. } => (None, Offer::None),
            State::Idle => {
                self.idle.retain(|idle| *idle != slot);
                (None, Offer::None)
            }
            State::Leased { request, offer } => {
                self.leased -= 1;
                (Some(request), offer)
            }
            State::Discarding { request } => {
                self.leased -= 1;
                (None, Offer::Withdrawn(request))
            }
        };
        entry.state = State::Ending { request, offer };
    }

    /// The worker's process has ended.
    pub fn handle_exit(&mut self, slot: SlotId, now: Instant) -> Vacated {
        let never_ready = match self.slots.get(slot.0 as usize).map(|entry| entry.state) {
            Some(State::Starting { .. }) => true,
            Some(
                State::Vacant { .. }
                | State::Idle
                | State::Leased { .. }
                | State::Discarding { .. }
                | State::Ending { .. },
            )
            | None => false,
        };
        let (request, offered) = (self.request(slot), self.offered(slot));
        self.handle_ending(slot);
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else {
            return Vacated { request, offered, never_ready, delay: Duration::ZERO };
        };
        entry.failures = if entry.served > 0 { 0 } else { entry.failures.saturating_add(1) };
        let delay = backoff::delay(entry.failures);
        entry.state = State::Vacant { not_before: now + delay };
        Vacated { request, offered, never_ready, delay }
    }

    /// From now on the workers that end are not replaced.
    pub fn stop_replacing(&mut self) {
        self.replacing = false;
    }

    /// How many slots have a process.
    pub fn alive(&self) -> usize {
        let vacant = |slot: &&Slot| matches!(slot.state, State::Vacant { .. });
        self.slots.len() - self.slots.iter().filter(vacant).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn started(workers: usize, spares: usize, now: Instant) -> Pool {
        let mut pool = Pool::new(workers, spares, now);
        while let Some(slot) = pool.poll_start(now) {
            assert!(pool.handle_ready(slot));
        }
        pool
    }

    #[test]
    fn the_most_recently_idle_worker_is_leased_first() {
        let mut pool = started(3, 0, origin());
        let first = pool.lease(RequestId(1)).expect("a worker is idle");
        let second = pool.lease(RequestId(2)).expect("a worker is idle");
        assert_eq!(pool.release(first), Released::Free);
        assert_eq!(pool.release(second), Released::Free);
        assert_eq!(pool.lease(RequestId(3)), Some(second));
    }

    #[test]
    fn spares_do_not_raise_the_number_of_requests_at_a_time() {
        let mut pool = started(2, 1, origin());
        assert!(pool.lease(RequestId(1)).is_some());
        assert!(pool.has_room());
        assert!(pool.lease(RequestId(2)).is_some());
        assert!(!pool.has_room());
        assert_eq!(pool.lease(RequestId(3)), None);
    }

    #[test]
    fn a_spare_takes_the_place_of_a_dead_worker_at_once() {
        let now = origin();
        let mut pool = started(1, 1, now);
        let slot = pool.lease(RequestId(1)).expect("a worker is idle");
        let vacated = pool.handle_exit(slot, now);
        assert_eq!(vacated.request, Some(RequestId(1)));
        let spare = pool.lease(RequestId(2)).expect("the spare is idle");
        assert_ne!(spare, slot);
        assert_eq!(pool.poll_start(now), Some(slot), "who had served is replaced without a wait");
    }

    #[test]
    fn a_worker_that_dies_before_it_serves_is_replaced_with_growing_waits() {
        let mut now = origin();
        let mut pool = Pool::new(1, 0, now);
        for failures in 1..12 {
            let slot = pool.poll_start(now).expect("the wait is over");
            let vacated = pool.handle_exit(slot, now);
            assert!(vacated.never_ready);
            assert_eq!(vacated.delay, backoff::delay(failures));
            assert_eq!(pool.poll_start(now), None);
            assert_eq!(pool.next_deadline(), Some(now + vacated.delay));
            now += vacated.delay;
        }
    }

    #[test]
    fn a_worker_that_does_not_become_ready_is_given_up() {
        let now = origin();
        let mut pool = Pool::new(1, 0, now);
        let slot = pool.poll_start(now).expect("a slot is vacant");
        assert_eq!(pool.poll_overdue(now + START_TIMEOUT - Duration::from_millis(1)), None);
        assert_eq!(pool.poll_overdue(now + START_TIMEOUT), Some(slot));
        assert!(pool.handle_ready(slot), "ready may cross the decision");
        assert!(!pool.has_room(), "and comes too late");
    }

    #[test]
    fn messages_that_do_not_fit_the_state_are_told_apart() {
        let mut pool = started(1, 0, origin());
        let slot = SlotId(0);
        assert!(!pool.handle_ready(slot));
        assert_eq!(pool.release(slot), Released::HadNone);
        assert_eq!(pool.release(SlotId(9)), Released::HadNone);
    }

    #[test]
    fn a_worker_goes_on_with_what_it_was_offered_unless_that_was_withdrawn() {
        let now = origin();
        let mut pool = started(2, 0, now);
        let first = pool.lease(RequestId(1)).expect("a worker is idle");
        let second = pool.lease(RequestId(2)).expect("a worker is idle");
        assert_eq!(pool.poll_offerable(), Some(first), "the longest leased is likely to be done first");
        pool.handle_offered(first, RequestId(3));
        assert_eq!(pool.poll_offerable(), Some(second));
        assert_eq!(pool.poll_offerable(), None, "one offer at a time");
        pool.handle_offered(second, RequestId(4));
        pool.handle_withdrawn(second);
        assert_eq!(pool.poll_offerable(), None, "who was made an offer in vain is left alone");
        assert_eq!(pool.release(first), Released::Next(RequestId(3)));
        assert_eq!(pool.request(first), Some(RequestId(3)));
        assert_eq!(pool.release(second), Released::Free);
        assert!(!pool.has_room(), "it still holds what was withdrawn");
        assert!(!pool.handle_discarded(second, RequestId(3)));
        assert!(pool.handle_discarded(second, RequestId(4)));
        assert!(pool.has_room());
        assert_eq!(pool.poll_offerable(), Some(first));
        pool.handle_offered(first, RequestId(5));
        let vacated = pool.handle_exit(first, now);
        assert_eq!((vacated.request, vacated.offered), (Some(RequestId(3)), Some(RequestId(5))));
    }

    #[test]
    fn after_the_stop_nothing_is_started() {
        let now = origin();
        let mut pool = started(2, 0, now);
        pool.stop_replacing();
        for slot in pool.slots() {
            pool.handle_ending(slot);
            pool.handle_exit(slot, now);
        }
        assert_eq!((pool.alive(), pool.poll_start(now), pool.next_deadline()), (0, None, None));
    }
}

//! The pool: which slot has a worker, which worker is free, when the next one is started, which one has to go.
//!
//! Pure state: it starts no process and reads no clock. The reactor tells it what happened (`handle_*`), asks it what to do
//! (`poll_*`, `lease`) and does it.
//!
//! There are more workers than requests at a time: `spares` of them are ready and wait. When a worker dies, a spare takes its place with the
//! next lease, so that capacity does not dip while the replacement starts. A worker that is to go is *outgoing*: it does not count any more,
//! so that its replacement is started, and it goes when that is ready.

mod backoff;
mod leases;
mod slot;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use crate::random::Random;
pub use slot::{Occupant, Retirement, SlotId};
use slot::{Offer, Slot, State};

/// How long a worker may take from its fork to being ready.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a template may take to fork a worker.
pub const FORK_TIMEOUT: Duration = Duration::from_secs(2);

/// Slots beside those that are wanted, for workers that are on their way out.
const OUTGOING_SLOTS: usize = 8;

/// How many requests, and how long, a worker serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recycling {
    /// Less up to a tenth, so that workers do not all go at once. 0 is no limit.
    pub requests_max: u64,
    /// The same.
    pub age_max: Option<Duration>,
}

/// The slots of one generation.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Slot>,
    /// Idle slots, the most recently used one last: its caches and its pages are the warmest.
    idle: Vec<SlotId>,
    workers: usize,
    spares: usize,
    recycling: Recycling,
    random: Random,
    /// Requests that workers have.
    leased: usize,
    /// Leased slots, each once, the longest leased first, that may be offered another request.
    unoffered: VecDeque<SlotId>,
    replacing: bool,
    /// Workers in a row that ended before they were ready, and how many were ready and had served nothing.
    failures: u32,
    unserved: u32,
    /// When the next worker may be started.
    start_at: Instant,
    count: Count,
}

/// What the slots come to. Made anew when a worker comes, goes or changes sides, which is rare beside requests.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Workers that are there or on their way, but for outgoing ones.
    live: usize,
    /// Those of them that are ready.
    ready: usize,
    /// Outgoing ones that have not been told yet.
    outgoing: usize,
    /// The next time at which a slot wants something.
    deadline: Option<Instant>,
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
    /// Why it was to go, when it was.
    pub retirement: Option<Retirement>,
    /// How long until the next worker is started, when there is a reason to wait.
    pub delay: Duration,
}

/// What became of a slot whose worker has finished a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Released {
    /// It waits for a request.
    Free,
    /// It goes on with the one that it had been offered.
    Next(RequestId),
    /// It is to be told to end.
    Retire(Retirement),
    /// It had none to finish.
    HadNone,
}

impl Pool {
    /// A pool for `workers` requests at a time, with `spares` workers beside them.
    pub fn new(workers: usize, spares: usize, recycling: Recycling, now: Instant, seed: u64) -> Pool {
        Pool {
            slots: Vec::new(),
            idle: Vec::new(),
            workers,
            spares,
            recycling,
            random: Random::new(seed),
            leased: 0,
            unoffered: VecDeque::new(),
            replacing: true,
            failures: 0,
            unserved: 0,
            start_at: now,
            count: Count::default(),
        }
    }

    pub fn slots(&self) -> impl Iterator<Item = SlotId> + use<> {
        (0..self.slots.len() as u32).map(SlotId)
    }

    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Ready workers that stay.
    pub fn ready(&self) -> usize {
        self.count.ready
    }

    /// As many workers are ready as requests may be at work.
    pub fn is_complete(&self) -> bool {
        self.count.ready >= self.workers
    }

    fn wanted(&self) -> usize {
        self.workers + self.spares
    }

    fn slot(&self, slot: SlotId) -> Option<&Slot> {
        self.slots.get(slot.0 as usize)
    }

    fn slot_mut(&mut self, slot: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(slot.0 as usize)
    }

    fn recount(&mut self) {
        let mut count = Count::default();
        for slot in &self.slots {
            if slot.outgoing.is_none() {
                count.live += usize::from(slot.is_live());
                count.ready += usize::from(slot.is_ready());
            } else {
                count.outgoing += usize::from(slot.is_live());
            }
            count.deadline = [count.deadline, slot.deadline()].into_iter().flatten().min();
        }
        self.count = count;
    }

    /// A slot whose worker is to be forked now. It counts as forking from here on.
    pub fn poll_start(&mut self, now: Instant) -> Option<SlotId> {
        if !self.replacing || self.count.live >= self.wanted() || now < self.start_at {
            return None;
        }
        let vacant = self.slots.iter().position(|slot| matches!(slot.state, State::Vacant));
        let at = match vacant {
            Some(at) => at,
            None if self.slots.len() < 2 * self.wanted() + OUTGOING_SLOTS => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
            None => return None,
        };
        let requests_max = match self.recycling.requests_max {
            0 => u64::MAX,
            most => most - self.random.up_to(most / 10),
        };
        let retire_at = self.recycling.age_max.map(|age| {
            let tenth = u64::try_from(age.as_millis() / 10).unwrap_or(u64::MAX);
            now + age - Duration::from_millis(self.random.up_to(tenth))
        });
        self.slots[at] = Slot {
            state: State::Forking { deadline: now + FORK_TIMEOUT },
            served: 0,
            served_max: requests_max,
            retire_at,
            outgoing: None,
        };
        self.recount();
        Some(SlotId(at as u32))
    }

    /// The slot's worker has been forked. False if none was expected.
    pub fn handle_forked(&mut self, slot: SlotId, now: Instant) -> bool {
        let Some(Slot { state: state @ State::Forking { .. }, .. }) = self.slot_mut(slot) else { return false };
        *state = State::Starting { deadline: now + START_TIMEOUT };
        self.recount();
        true
    }

    /// The slot waits for its worker to be forked.
    pub fn is_forking(&self, slot: SlotId) -> bool {
        matches!(self.slot(slot), Some(Slot { state: State::Forking { .. }, .. }))
    }

    /// The slot's worker has been forked and is not ready yet.
    pub fn is_starting(&self, slot: SlotId) -> bool {
        matches!(self.slot(slot), Some(Slot { state: State::Starting { .. }, .. }))
    }

    /// There will be no worker for this slot from the order that was given. Returns how long to wait before the next.
    pub fn handle_fork_failed(&mut self, slot: SlotId, now: Instant) -> Duration {
        if self.is_forking(slot) { self.handle_exit(slot, now).delay } else { Duration::ZERO }
    }

    /// When to look again for something to start, or for a worker that takes too long.
    pub fn next_deadline(&self) -> Option<Instant> {
        let start = (self.replacing && self.count.live < self.wanted()).then_some(self.start_at);
        [start, self.count.deadline].into_iter().flatten().min()
    }

    /// A worker that has not become ready, or has not ended, in time; the caller kills it.
    pub fn poll_overdue(&mut self, now: Instant) -> Option<SlotId> {
        if self.count.deadline.is_none_or(|deadline| deadline > now) {
            return None;
        }
        let overdue = |slot: &Slot| match slot.state {
            State::Starting { deadline } | State::Ending { deadline: Some(deadline), .. } => deadline <= now,
            State::Vacant
            | State::Forking { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. }
            | State::Ending { deadline: None, .. } => false,
        };
        let at = self.slots.iter().position(overdue)?;
        let slot = &mut self.slots[at];
        slot.state = match slot.state {
            State::Ending { request, offer, .. } => State::Ending { request, offer, deadline: None },
            _ => State::Ending { request: None, offer: Offer::None, deadline: None },
        };
        self.recount();
        Some(SlotId(at as u32))
    }

    /// The template has not forked in time: it is to be killed.
    pub fn is_fork_overdue(&self, now: Instant) -> bool {
        self.count.deadline.is_some_and(|deadline| deadline <= now)
            && self.slots.iter().any(|slot| matches!(slot.state, State::Forking { deadline } if deadline <= now))
    }

    /// The worker is ready. False if it was so before: the message is then illegal.
    pub fn handle_ready(&mut self, slot: SlotId) -> bool {
        let Some(entry) = self.slot_mut(slot) else { return false };
        match entry.state {
            State::Starting { .. } => {
                entry.state = State::Idle;
                self.failures = 0;
                self.idle.push(slot);
                self.recount();
                true
            }
            // It was told to stop before it could say so.
            State::Ending { request: None, .. } => true,
            State::Vacant
            | State::Forking { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. }
            | State::Ending { request: Some(_), .. } => false,
        }
    }

    /// This slot's worker is to go: it is replaced first, unless the reason is pressing.
    pub fn retire(&mut self, slot: SlotId, why: Retirement) {
        let Some(entry) = self.slot_mut(slot).filter(|entry| entry.is_live()) else { return };
        entry.outgoing = Some(entry.outgoing.filter(|known| known.is_pressing()).unwrap_or(why));
        self.recount();
    }

    /// Marks the workers whose time is over.
    pub fn retire_aged(&mut self, now: Instant) {
        if self.count.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        for slot in &mut self.slots {
            if slot.outgoing.is_none() && slot.is_ready() && slot.retire_at.is_some_and(|at| at <= now) {
                slot.outgoing = Some(Retirement::Age);
            }
        }
        self.recount();
    }

    /// An idle worker that is to be told to end now.
    pub fn poll_retire(&mut self, now: Instant, grace: Duration) -> Option<(SlotId, Retirement)> {
        if self.count.outgoing == 0 {
            return None;
        }
        let complete = self.is_complete();
        let (at, why) = self.idle.iter().enumerate().find_map(|(at, slot)| {
            let why = self.slot(*slot)?.outgoing?;
            (why.is_pressing() || complete).then_some((at, why))
        })?;
        let slot = self.idle.remove(at);
        self.slots[slot.0 as usize].state =
            State::Ending { request: None, offer: Offer::None, deadline: Some(now + grace) };
        self.recount();
        Some((slot, why))
    }

    /// From now on so many requests may be at work at a time. Workers that are too many go, idle ones first.
    pub fn set_workers(&mut self, workers: usize) {
        self.workers = workers;
        let surplus = self.count.live.saturating_sub(self.wanted());
        let idle = self.idle.iter().copied();
        let all: Vec<SlotId> = idle.chain(self.slots().filter(|slot| !self.idle.contains(slot))).collect();
        let stays = |slot: &SlotId| self.slot(*slot).is_some_and(|slot| slot.outgoing.is_none() && slot.is_live());
        let going: Vec<SlotId> = all.into_iter().filter(stays).take(surplus).collect();
        for slot in going {
            self.retire(slot, Retirement::ScaledDown);
        }
    }

    /// The worker was told to stop, or was killed: it gets nothing more.
    pub fn handle_ending(&mut self, slot: SlotId) {
        let Some(entry) = self.slot_mut(slot) else { return };
        let (request, offer) = match entry.state {
            State::Vacant | State::Ending { .. } => return,
            State::Forking { .. } | State::Starting { .. } => (None, Offer::None),
            State::Idle => {
                self.idle.retain(|idle| *idle != slot);
                (None, Offer::None)
            }
            State::Leased { request, offer } => {
                self.handle_unleased(slot);
                (Some(request), offer)
            }
            State::Discarding { request } => (None, Offer::Withdrawn(request)),
        };
        if let Some(entry) = self.slot_mut(slot) {
            entry.state = State::Ending { request, offer, deadline: None };
        }
        self.recount();
    }

    /// The slot's worker was told to stop, or was killed.
    pub fn is_ending(&self, slot: SlotId) -> bool {
        matches!(self.slot(slot), Some(Slot { state: State::Ending { .. }, .. }))
    }

    /// The worker's process has ended.
    pub fn handle_exit(&mut self, slot: SlotId, now: Instant) -> Vacated {
        let before = self.slot(slot).map(|entry| (entry.state, entry.served, entry.outgoing));
        let never_ready = matches!(before, Some((State::Starting { .. } | State::Forking { .. }, _, _)));
        let unserved = matches!(before, Some((State::Idle | State::Ending { .. }, 0, None)));
        let retirement = before.and_then(|(_, _, outgoing)| outgoing);
        let (request, offered) = (self.request(slot), self.offered(slot));
        self.handle_ending(slot);
        self.failures = if never_ready { self.failures.saturating_add(1) } else { self.failures };
        self.unserved = if unserved { self.unserved.saturating_add(1) } else { self.unserved };
        let delay = backoff::delay(self.failures, self.unserved, &mut self.random);
        if never_ready || unserved {
            self.start_at = now + delay;
        }
        if let Some(entry) = self.slot_mut(slot) {
            *entry = Slot::default();
        }
        self.recount();
        let delay = if never_ready || unserved { delay } else { Duration::ZERO };
        Vacated { request, offered, never_ready, retirement, delay }
    }

    pub fn is_replacing(&self) -> bool {
        self.replacing
    }

    /// From now on the workers that end are not replaced.
    pub fn stop_replacing(&mut self) {
        self.replacing = false;
    }

    /// The machine stood still for `leap`: nobody is late by that time.
    pub fn forgive(&mut self, leap: Duration) {
        for slot in &mut self.slots {
            match &mut slot.state {
                State::Forking { deadline }
                | State::Starting { deadline }
                | State::Ending { deadline: Some(deadline), .. } => *deadline += leap,
                State::Vacant
                | State::Idle
                | State::Leased { .. }
                | State::Discarding { .. }
                | State::Ending { deadline: None, .. } => {}
            }
        }
        self.recount();
    }

    /// How many slots have a process, or will have one.
    pub fn alive(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot.state, State::Vacant)).count()
    }

    /// What a slot has, for whoever wants to look at it.
    pub fn occupant(&self, slot: SlotId) -> Option<Occupant> {
        self.slot(slot).and_then(Slot::occupant)
    }
}

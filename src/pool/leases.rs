//! Which worker has which request, from the lease to the end: given, offered ahead, withdrawn, taken back, finished.
//!
//! Part of the pool's state, and as pure. `mod` owns the slots, `reactor::dispatch` decides what is asked here.

use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use super::slot::{Offer, Retirement, Slot, SlotId, State};
use super::{Pool, Released};

impl Pool {
    /// Gives the request to the most recently idle worker, unless as many as are allowed at a time are at work.
    pub fn lease(&mut self, request: RequestId) -> Option<SlotId> {
        if self.leased >= self.workers {
            return None;
        }
        let slot = self.idle.pop()?;
        self.leased += 1;
        self.slots[slot.0 as usize].state = State::Leased { request, offer: Offer::None };
        self.count_request(slot);
        self.unoffered.push_back(slot);
        Some(slot)
    }

    /// The slot's worker begins a request: with its last one, its replacement is due.
    fn count_request(&mut self, slot: SlotId) {
        let entry = &mut self.slots[slot.0 as usize];
        entry.served += 1;
        if entry.served >= entry.served_max && entry.outgoing.is_none() {
            entry.outgoing = Some(Retirement::Requests);
            self.recount();
        }
    }

    /// A busy worker that has not been offered a request: the one that is likely to be done first. Passed over from then on, until
    /// [`Pool::handle_unoffered`] or its next request.
    pub fn poll_offerable(&mut self) -> Option<SlotId> {
        loop {
            let slot = self.unoffered.pop_front()?;
            let entry = self.slot(slot)?;
            if let (State::Leased { offer: Offer::None, .. }, None) = (entry.state, entry.outgoing) {
                return Some(slot);
            }
        }
    }

    /// The slot's worker has been sent this request beside the one that it has.
    pub fn handle_offered(&mut self, slot: SlotId, request: RequestId) {
        if let Some(Slot { state: State::Leased { offer, .. }, .. }) = self.slot_mut(slot) {
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
            self.slot_mut(slot).map(|entry| &mut entry.state)
            && let Offer::Open(request) = *offer
        {
            *offer = Offer::Withdrawn(request);
        }
    }

    /// The request that this slot's worker was given was taken back before it was taken up. The worker does not count until it has thrown
    /// its copy away.
    pub fn handle_taken_back(&mut self, slot: SlotId) {
        let Some(entry) = self.slot_mut(slot) else { return };
        if let State::Leased { request, .. } = entry.state {
            entry.state = State::Discarding { request };
            self.handle_unleased(slot);
        }
    }

    /// The slot's worker has no request any more.
    pub(super) fn handle_unleased(&mut self, slot: SlotId) {
        self.leased -= 1;
        if let Some(at) = self.unoffered.iter().position(|other| *other == slot) {
            self.unoffered.remove(at);
        }
    }

    /// The worker has thrown a withdrawn request away, and is free. False if there was none to throw away.
    pub fn handle_discarded(&mut self, slot: SlotId, request: RequestId) -> bool {
        let Some(entry) = self.slot_mut(slot) else { return false };
        match entry.state {
            State::Discarding { request: discarded } if discarded == request => {
                entry.state = State::Idle;
                self.idle.push(slot);
                true
            }
            State::Ending { request: None, offer: Offer::Withdrawn(discarded), .. } if discarded == request => true,
            State::Discarding { .. }
            | State::Ending { .. }
            | State::Vacant
            | State::Forking { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Leased { .. } => false,
        }
    }

    /// The slot's worker still has not thrown away what was taken back from it.
    pub fn is_discarding(&self, slot: SlotId) -> bool {
        matches!(self.slot(slot), Some(Slot { state: State::Discarding { .. }, .. }))
    }

    /// How many slots [`Pool::poll_offerable`] may name at the most.
    pub fn offerable_max(&self) -> usize {
        self.unoffered.len()
    }

    /// The request that the slot's worker will go on with after the one that it has.
    pub fn offered(&self, slot: SlotId) -> Option<RequestId> {
        match self.slot(slot)?.state {
            State::Leased { offer: Offer::Open(request), .. } | State::Ending { offer: Offer::Open(request), .. } => {
                Some(request)
            }
            State::Leased { .. }
            | State::Ending { .. }
            | State::Discarding { .. }
            | State::Vacant
            | State::Forking { .. }
            | State::Starting { .. }
            | State::Idle => None,
        }
    }

    /// True when a request that came now would be given to a worker at once.
    pub fn has_room(&self) -> bool {
        self.leased < self.workers && !self.idle.is_empty()
    }

    /// True when the next request would have the last worker that is free.
    pub fn has_last_room(&self) -> bool {
        self.leased + 1 >= self.workers || self.idle.len() <= 1
    }

    /// The request that this slot's worker has.
    pub fn request(&self, slot: SlotId) -> Option<RequestId> {
        match self.slot(slot)?.state {
            State::Leased { request, .. } | State::Ending { request: Some(request), .. } => Some(request),
            State::Vacant
            | State::Forking { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Discarding { .. }
            | State::Ending { request: None, .. } => None,
        }
    }

    /// The worker has finished its request. One that is to go goes now, unless there are too few others; `grace` is how long it may take.
    pub fn release(&mut self, slot: SlotId, now: Instant, grace: Duration) -> Released {
        let complete = self.is_complete();
        let Some(entry) = self.slots.get_mut(slot.0 as usize) else { return Released::HadNone };
        match entry.state {
            State::Leased { offer: Offer::Open(next), .. } => {
                self.unserved = 0;
                entry.state = State::Leased { request: next, offer: Offer::None };
                self.count_request(slot);
                self.unoffered.push_back(slot);
                Released::Next(next)
            }
            State::Leased { offer, .. } => {
                self.unserved = 0;
                let released = match (entry.outgoing, offer) {
                    (Some(why), _) if why.is_pressing() || complete => {
                        entry.state = State::Ending { request: None, offer, deadline: Some(now + grace) };
                        self.recount();
                        Released::Retire(why)
                    }
                    (_, Offer::Withdrawn(request)) => {
                        entry.state = State::Discarding { request };
                        Released::Free
                    }
                    (_, Offer::None | Offer::Open(_)) => {
                        entry.state = State::Idle;
                        self.idle.push(slot);
                        Released::Free
                    }
                };
                self.handle_unleased(slot);
                released
            }
            State::Ending { request: Some(_), offer: Offer::Open(next), deadline } => {
                entry.state = State::Ending { request: Some(next), offer: Offer::None, deadline };
                Released::Next(next)
            }
            State::Ending { request: Some(_), offer, deadline } => {
                entry.state = State::Ending { request: None, offer, deadline };
                Released::Free
            }
            State::Vacant
            | State::Forking { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Discarding { .. }
            | State::Ending { request: None, .. } => Released::HadNone,
        }
    }
}

//! How requests get to workers: handed over, queued, offered ahead, taken back, refused.

use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

use crate::answer::Answer;
use crate::config::settings::OnTrap;
use crate::control::counters::Outcome;
use crate::pool::SlotId;
use crate::request::{Replay, Request, Stage, Upload};

use super::backend::{Backend, refusal, worker};
use super::clients::Clients;
use super::report;

/// How long a worker may take to take up a request before another gets it. An idle worker needs some ten microseconds; one that needs
/// this long is stopped, or its machine is overloaded, and then it is another's turn all the same.
pub(super) const TAKE_UP_PATIENCE: Duration = Duration::from_millis(250);

/// How often a request is given to a worker at the most. Workers that die, or hang, before they start it are no fault of its own, but
/// there has to be an end.
pub(super) const DISPATCHES_MAX: u8 = 4;

impl Backend {
    /// Gives the request to a worker, or to the queue.
    pub(super) fn admit(&mut self, id: RequestId, now: Instant) -> Result<(), Answer> {
        if let Some(request) = self.requests.get_mut(id) {
            request.trace.queued = Some(now);
        }
        let is_next = self.next_in_turn(now).is_none() && self.may_have_worker(id, now);
        if is_next && self.pool.has_room() {
            if let Some(answer) = self.refused(id, now) {
                self.forget(id);
                return Err(answer);
            }
            if self.hand_over(id, now) {
                return Ok(());
            }
        }
        let is_full = !self.is_whole(id) && self.are_uploads_too_many();
        if is_full || self.queue.push(id, now).is_err() {
            if let Some(request) = self.requests.get_mut(id) {
                request.trace.conclude(Outcome::QueueFull, now);
                request.trace.status = Answer::OVERLOADED.status;
            }
            self.forget(id);
            return Err(Answer::OVERLOADED);
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Queued;
        }
        Ok(())
    }

    /// Asks, right before a request is sent to a worker, whether what such requests have done forbids it. From here on it counts as sent.
    fn refused(&mut self, id: RequestId, now: Instant) -> Option<Answer> {
        if self.blame.is_empty() {
            return None;
        }
        let request = self.requests.get_mut(id)?;
        let answer = refusal(self.blame.begin(request.fingerprint, id, now));
        if let Some(answer) = &answer {
            request.trace.conclude(answer.outcome(), now);
            request.trace.status = answer.status;
        }
        answer
    }

    /// Gives queued requests to workers that are free, and offers the next ones to workers that are not: such a worker goes on without
    /// a pause, and without a sleep, when it is done. The clients are touched, for their bodies may go on.
    pub fn dispatch(&mut self, clients: &mut Clients, now: Instant) {
        while self.pool.has_room() {
            let Some((id, offered)) = self.next_in_turn(now) else { break };
            // What a busy worker has been offered goes to the free one, unless the busy one has just taken it up.
            let taken_up = offered && !self.withdraw(id, now);
            // In any case its turn is over, so that this loop ends.
            self.queue.remove(id);
            if taken_up {
                continue;
            }
            if let Some(answer) = self.refused(id, now) {
                self.answer(clients, id, &answer, answer.outcome(), now);
                self.forget(id);
            } else if self.hand_over(id, now)
                && let Some(client) = self.requests.get(id).and_then(|request| request.client)
            {
                clients.touch(client);
            }
        }
        self.free_held_worker(clients, now);
        // A worker that a trap ends must not have taken up the next request by the time that this is known.
        let offers = if self.on_trap == OnTrap::Exit { 0 } else { self.pool.offerable_max() };
        for _ in 0..offers {
            if !self.offer_next(clients, now) {
                return;
            }
        }
    }

    /// Offers the next request to a busy worker. False when there is nothing to offer, or nobody to offer it to.
    fn offer_next(&mut self, clients: &mut Clients, now: Instant) -> bool {
        let Some(id) = self.queue.next_to_offer() else { return false };
        let Some(request) = self.requests.get(id) else { return false };
        // Only what can be sent whole, and sent again, can be taken back.
        if request.upload != Upload::Over || request.replay != Replay::Possible {
            return false;
        }
        let Some(slot) = self.pool.poll_offerable() else { return false };
        if !worker(&mut self.workers, slot).is_some_and(|worker| worker.page.is_offer_settled()) {
            // It has not even taken up the one before.
            self.pool.handle_unoffered(slot);
            return true;
        }
        if let Some(answer) = self.refused(id, now) {
            self.pool.handle_unoffered(slot);
            self.answer(clients, id, &answer, answer.outcome(), now);
            self.forget(id);
            return true;
        }
        if let (Some(request), Some(worker)) = (self.requests.get_mut(id), worker(&mut self.workers, slot)) {
            worker.page.store_offer(id);
            worker.link.send_frames(&request.frames);
            request.stage = Stage::Offered { slot };
            self.queue.handle_offered();
            self.pool.handle_offered(slot, id);
            self.talk(slot);
        }
        true
    }

    /// Takes back a request that is offered. False if it is not, or if its worker has taken it up: then it is that worker's.
    pub(super) fn withdraw(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(request) = self.requests.get_mut(id) else { return false };
        let Stage::Offered { slot } = request.stage else { return false };
        let Some(worker) = worker(&mut self.workers, slot) else { return false };
        if worker.page.withdraw_offer(id) {
            request.stage = Stage::Queued;
            self.pool.handle_withdrawn(slot);
            self.queue.handle_withdrawn(id);
            self.excuse(id, now);
            true
        } else {
            request.stage = Stage::Sent { slot };
            self.queue.remove(id);
            false
        }
    }

    /// A request that was sent to a worker has not started there.
    pub(super) fn excuse(&mut self, id: RequestId, now: Instant) {
        if !self.blame.is_empty() {
            self.blame.handle_unstarted(id, now);
        }
    }

    /// The worker in `slot` goes on with the request that it was offered.
    pub(super) fn go_on(&mut self, id: RequestId, slot: SlotId, now: Instant) {
        self.queue.remove(id);
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::Sent { slot };
        request.deadline = now + self.request_timeout;
        request.trace.handed = Some(now);
        request.dispatches = request.dispatches.saturating_add(1);
        if let Some(worker) = worker(&mut self.workers, slot) {
            request.trace.pid = worker.pid();
        }
        self.arm_slot(slot);
    }

    fn hand_over(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(slot) = self.requests.get(id).and_then(|_| self.pool.lease(id)) else { return false };
        if let (Some(request), Some(worker)) = (self.requests.get(id), worker(&mut self.workers, slot)) {
            worker.page.store_offer(id);
            worker.link.send_frames(&request.frames);
        }
        self.talk(slot);
        self.go_on(id, slot, now);
        true
    }

    /// When the worker in `slot` should have taken up the request that it was given, while it has not.
    pub(super) fn take_up_by(&mut self, slot: SlotId) -> Option<Instant> {
        let id = self.pool.request(slot)?;
        let request = self.requests.get(id)?;
        let Stage::Sent { .. } = request.stage else { return None };
        let waits = worker(&mut self.workers, slot)?.page.is_on_offer(id) && may_be_sent_again(request);
        if waits { Some(request.trace.handed? + TAKE_UP_PATIENCE) } else { None }
    }

    /// The worker in `slot` has not taken up its request: another gets it. False if it has after all.
    pub(super) fn take_back(&mut self, slot: SlotId, now: Instant) -> bool {
        let Some(id) = self.pool.request(slot) else { return false };
        let (Some(request), Some(worker)) = (self.requests.get_mut(id), worker(&mut self.workers, slot)) else {
            return false;
        };
        if !worker.page.withdraw_offer(id) {
            return false;
        }
        report::not_taken_up(&request.name, slot, worker.pid());
        worker.discard_by = Some(now + self.kill_grace);
        request.stage = Stage::Queued;
        self.queue.push_again(id, now);
        self.pool.handle_taken_back(slot);
        self.dispatched_again += 1;
        self.excuse(id, now);
        true
    }

    /// Answers the requests that have waited too long.
    pub fn shed_expired(&mut self, clients: &mut Clients, now: Instant) {
        while let Some(id) = self.queue.expired(now) {
            let Some(request) = self.requests.get(id) else {
                self.queue.remove(id);
                continue;
            };
            if let Stage::Offered { .. } = request.stage
                && !self.withdraw(id, now)
            {
                self.queue.remove(id);
                continue;
            }
            if let Some(request) = self.requests.get(id) {
                report::shed(&request.name, self.queue.len());
            }
            self.answer(clients, id, &Answer::OVERLOADED, Outcome::QueueTimeout, now);
            self.forget(id);
        }
    }

    /// Answers what waits in the queue: nobody will come to it any more.
    pub(super) fn shed_all(&mut self, clients: &mut Clients, now: Instant) {
        while let Some((id, offered)) = self.queue.front() {
            if offered && !self.withdraw(id, now) {
                continue;
            }
            self.answer(clients, id, &Answer::STOPPING, Outcome::Stopped, now);
            self.queue.remove(id);
            self.forget(id);
        }
    }
}

/// All that a worker was sent of it is still there.
pub(super) fn may_be_sent_again(request: &Request) -> bool {
    request.replay == Replay::Possible && request.dispatches < DISPATCHES_MAX
}

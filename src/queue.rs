//! Requests that wait for a worker: first come, first served, bounded in number and in time.
//!
//! The first of them may be *offered*: a busy worker has been sent them already, and takes its own up without a pause when it is done,
//! unless the offer has been withdrawn. They stay in the queue, and everything that holds for the others holds for them.
//!
//! Pure state. Driven by the reactor, which answers 503 for what does not fit and for what has waited too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

/// A bounded queue. All entries may wait equally long, so the first is always the first to expire.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
    /// How many of the first entries are offered.
    offered: usize,
    length_max: usize,
    wait_max: Duration,
}

#[derive(Debug)]
struct Entry {
    request: RequestId,
    expires: Instant,
}

/// The queue has as many entries as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueFull;

impl Queue {
    pub fn new(length_max: usize, wait_max: Duration) -> Queue {
        Queue { entries: VecDeque::new(), offered: 0, length_max, wait_max }
    }

    /// Whether another request may wait.
    pub fn has_room(&self) -> bool {
        self.entries.len() < self.length_max
    }

    pub fn push(&mut self, request: RequestId, now: Instant) -> Result<(), QueueFull> {
        if !self.has_room() {
            return Err(QueueFull);
        }
        self.entries.push_back(Entry { request, expires: now + self.wait_max });
        Ok(())
    }

    /// Puts back, ahead of all that are not offered and past the limit, a request that had left the queue for a worker that died before
    /// starting it.
    pub fn push_again(&mut self, request: RequestId, now: Instant) {
        let expires = now + self.wait_max;
        // No later than those behind it, so that the first to wait is always the first to expire.
        let expires = self.entries.get(self.offered).map_or(expires, |behind| behind.expires.min(expires));
        self.entries.insert(self.offered, Entry { request, expires });
    }

    /// Takes over, past the limit, a request that has waited in another queue until then: ahead of all that are not offered and may wait longer.
    pub fn push_moved(&mut self, request: RequestId, expires: Instant, now: Instant) {
        let expires = expires.min(now + self.wait_max);
        let behind = self.entries.iter().rev().take_while(|entry| entry.expires > expires).count();
        let at = (self.entries.len() - behind).max(self.offered);
        self.entries.insert(at, Entry { request, expires });
    }

    /// All of them, in their order.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> {
        self.entries.iter().map(|entry| entry.request)
    }

    /// Removes a request that is to wait elsewhere, and tells when it will have waited too long.
    pub fn take(&mut self, request: RequestId) -> Option<Instant> {
        let expires = self.entries.iter().find(|entry| entry.request == request)?.expires;
        self.remove(request);
        Some(expires)
    }

    /// The request whose turn it is, and whether it is offered.
    pub fn front(&self) -> Option<(RequestId, bool)> {
        self.entries.front().map(|entry| (entry.request, self.offered > 0))
    }

    /// The first request for which this holds.
    pub fn find(&self, holds: impl Fn(RequestId) -> bool) -> Option<RequestId> {
        self.entries.iter().map(|entry| entry.request).find(|request| holds(*request))
    }

    /// The first request that is not offered.
    pub fn next_to_offer(&self) -> Option<RequestId> {
        self.entries.get(self.offered).map(|entry| entry.request)
    }

    /// [`Queue::next_to_offer`] has been offered.
    pub fn handle_offered(&mut self) {
        self.offered = (self.offered + 1).min(self.entries.len());
    }

    /// An offer came to nothing: the request waits ahead of all that are not offered.
    pub fn handle_withdrawn(&mut self, request: RequestId) {
        if let Some(at) = self.offered_position(request) {
            self.offered -= 1;
            let last = self.offered;
            if let Some(entry) = self.entries.remove(at) {
                self.entries.insert(last, entry);
            }
        }
    }

    /// A request that has waited too long.
    pub fn expired(&self, now: Instant) -> Option<RequestId> {
        self.entries.iter().take(self.offered + 1).find(|entry| entry.expires <= now).map(|entry| entry.request)
    }

    /// Removes a request: it has a worker, or its client has left.
    pub fn remove(&mut self, request: RequestId) {
        let at =
            self.offered_position(request).or_else(|| self.entries.iter().position(|entry| entry.request == request));
        if let Some(at) = at {
            self.entries.remove(at);
            if at < self.offered {
                self.offered -= 1;
            }
        }
    }

    fn offered_position(&self, request: RequestId) -> Option<usize> {
        self.entries.iter().take(self.offered).position(|entry| entry.request == request)
    }

    /// When the next request will have waited too long.
    pub fn next_expiry(&self) -> Option<Instant> {
        // Offers end in any order, and so do not stay in that of their times.
        self.entries.iter().take(self.offered + 1).map(|entry| entry.expires).min()
    }

    /// How long the one that has waited longest has waited.
    pub fn oldest_wait(&self, now: Instant) -> Option<Duration> {
        let expires = self.entries.iter().take(self.offered + 1).map(|entry| entry.expires).min()?;
        Some(self.wait_max.saturating_sub(expires.saturating_duration_since(now)))
    }

    /// The machine stood still for `leap`, which is not counted as waiting.
    pub fn forgive(&mut self, leap: Duration) {
        for entry in &mut self.entries {
            entry.expires += leap;
        }
    }

    pub fn length_max(&self) -> usize {
        self.length_max
    }

    /// How many there are for which this holds.
    pub fn count(&self, holds: impl Fn(RequestId) -> bool) -> usize {
        self.entries.iter().filter(|entry| holds(entry.request)).count()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in these tests")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn drain(queue: &mut Queue) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some((request, _)) = queue.front() {
            queue.remove(request);
            order.push(request.0);
        }
        order
    }

    #[test]
    fn the_queue_takes_its_limit_and_not_one_more() {
        let now = origin();
        let mut queue = Queue::new(2, Duration::from_secs(1));
        assert_eq!(queue.push(RequestId(1), now), Ok(()));
        assert_eq!(queue.push(RequestId(2), now), Ok(()));
        assert_eq!(queue.push(RequestId(3), now), Err(QueueFull));
        queue.push_again(RequestId(9), now);
        assert_eq!(queue.len(), 3, "who had been admitted is never shed");
        queue.remove(RequestId(2));
        assert_eq!(drain(&mut queue), [9, 1]);
    }

    #[test]
    fn requests_are_found_and_counted_by_what_they_are() {
        let now = origin();
        let mut queue = Queue::new(8, Duration::from_secs(1));
        for request in 1..=5 {
            assert_eq!(queue.push(RequestId(request), now), Ok(()));
        }
        let is_even = |request: RequestId| request.0.is_multiple_of(2);
        assert_eq!((queue.find(is_even), queue.count(is_even)), (Some(RequestId(2)), 2));
        assert_eq!((queue.find(|request| request.0 > 5), queue.length_max()), (None, 8));
    }

    #[test]
    fn a_request_expires_at_its_time_and_not_before() {
        let now = origin();
        let mut queue = Queue::new(8, Duration::from_secs(1));
        assert_eq!(queue.push(RequestId(1), now), Ok(()));
        queue.handle_offered();
        assert_eq!(queue.push(RequestId(2), now + Duration::from_millis(1)), Ok(()));
        assert_eq!(queue.next_expiry(), Some(now + Duration::from_secs(1)));
        assert_eq!(queue.expired(now + Duration::from_millis(999)), None);
        assert_eq!(queue.expired(now + Duration::from_secs(1)), Some(RequestId(1)), "an offer does not stop the clock");
        queue.remove(RequestId(1));
        assert_eq!(queue.expired(now + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_queue_of_length_zero_admits_nobody() {
        assert_eq!(Queue::new(0, Duration::from_secs(1)).push(RequestId(1), origin()), Err(QueueFull));
    }

    #[test]
    fn what_comes_from_another_queue_keeps_its_time_and_stands_where_that_is_due() {
        let now = origin();
        let at = |ms| now + Duration::from_millis(ms);
        let (mut old, mut queue) = (Queue::new(8, Duration::from_secs(1)), Queue::new(2, Duration::from_secs(1)));
        for (request, ms) in [(1, 0), (2, 10), (3, 20)] {
            assert_eq!(old.push(RequestId(request), at(ms)), Ok(()));
        }
        assert_eq!(queue.push(RequestId(9), at(15)), Ok(()));
        for request in old.requests().collect::<Vec<_>>() {
            let expires = old.take(request).expect("it is there");
            queue.push_moved(request, expires, at(20));
        }
        assert!(old.is_empty());
        assert_eq!(queue.len(), 4, "who had been admitted is never shed");
        assert_eq!(queue.next_expiry(), Some(at(1000)));
        assert_eq!(drain(&mut queue), [1, 2, 9, 3]);
        queue.push_moved(RequestId(4), at(9000), at(20));
        assert_eq!(queue.next_expiry(), Some(at(1020)), "nobody waits longer than the new queue lets anybody");
        assert_eq!(queue.take(RequestId(5)), None);
    }

    #[test]
    fn offers_are_made_in_order_and_a_withdrawn_one_stands_ahead_of_those_not_offered() {
        let now = origin();
        let mut queue = Queue::new(8, Duration::from_secs(1));
        for request in 1..=5 {
            assert_eq!(queue.push(RequestId(request), now), Ok(()));
        }
        for request in 1..=3 {
            assert_eq!(queue.next_to_offer(), Some(RequestId(request)));
            queue.handle_offered();
        }
        assert_eq!(queue.front(), Some((RequestId(1), true)));
        queue.handle_withdrawn(RequestId(1));
        assert_eq!(queue.next_to_offer(), Some(RequestId(1)));
        queue.push_again(RequestId(9), now);
        assert_eq!(queue.next_to_offer(), Some(RequestId(9)));
        queue.remove(RequestId(3));
        queue.handle_withdrawn(RequestId(4));
        assert_eq!(drain(&mut queue), [2, 9, 1, 4, 5], "what was not offered cannot be withdrawn");
    }
}

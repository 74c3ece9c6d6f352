//! Requests that wait for a worker: first come, first served, bounded in number and in time.
//!
//! Pure state. Driven by the reactor, which answers 503 for what does not fit and for what has waited too long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rusmd_proto::RequestId;

/// A bounded queue. All entries may wait equally long, so the first is always the first to expire.
#[derive(Debug)]
pub struct Queue {
    entries: VecDeque<Entry>,
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
        Queue { entries: VecDeque::new(), length_max, wait_max }
    }

    pub fn push(&mut self, request: RequestId, now: Instant) -> Result<(), QueueFull> {
        if self.entries.len() >= self.length_max {
            return Err(QueueFull);
        }
        self.entries.push_back(Entry { request, expires: now + self.wait_max });
        Ok(())
    }

    /// Puts back, at the front and past the limit, a request that had left the queue for a worker that died before starting it.
    pub fn push_again(&mut self, request: RequestId, now: Instant) {
        self.entries.push_front(Entry { request, expires: now + self.wait_max });
    }

    pub fn pop(&mut self) -> Option<RequestId> {
        self.entries.pop_front().map(|entry| entry.request)
    }

    /// Takes a request that has waited too long.
    pub fn pop_expired(&mut self, now: Instant) -> Option<RequestId> {
        if self.next_expiry()? > now {
            return None;
        }
        self.pop()
    }

    /// Removes a request whose client has left.
    pub fn remove(&mut self, request: RequestId) {
        if let Some(at) = self.entries.iter().position(|entry| entry.request == request) {
            self.entries.remove(at);
        }
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.expires)
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

    #[test]
    fn the_queue_takes_its_limit_and_not_one_more() {
        let now = origin();
        let mut queue = Queue::new(2, Duration::from_secs(1));
        assert_eq!(queue.push(RequestId(1), now), Ok(()));
        assert_eq!(queue.push(RequestId(2), now), Ok(()));
        assert_eq!(queue.push(RequestId(3), now), Err(QueueFull));
        queue.push_again(RequestId(0), now);
        assert_eq!(queue.pop(), Some(RequestId(0)), "who had been admitted is never shed");
        assert_eq!(queue.pop(), Some(RequestId(1)));
        queue.remove(RequestId(2));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_request_expires_at_its_time_and_not_before() {
        let now = origin();
        let mut queue = Queue::new(8, Duration::from_secs(1));
        assert_eq!(queue.push(RequestId(1), now), Ok(()));
        assert_eq!(queue.pop_expired(now + Duration::from_millis(999)), None);
        assert_eq!(queue.pop_expired(now + Duration::from_secs(1)), Some(RequestId(1)));
        assert_eq!(queue.next_expiry(), None);
    }

    #[test]
    fn a_queue_of_length_zero_admits_nobody() {
        assert_eq!(Queue::new(0, Duration::from_secs(1)).push(RequestId(1), origin()), Err(QueueFull));
    }
}

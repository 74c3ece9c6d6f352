//! Which clients have something to do, and in which order they come to it.
//!
//! Pure: owns names of clients, knows no client. `clients` keeps it, `drive` takes from it. A turn of the loop has an end however many clients have sent
//! something, or workers would wait for work meanwhile; who was not reached is the next turn's first.

use std::collections::VecDeque;

use crate::request::ClientKey;

/// Clients with something to do.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// For whom the supervisor has something, all of whom are reached in each turn: workers say no more than that in one.
    answered: Vec<ClientKey>,
    /// Those of whom something has come, the one that waits longest first.
    waiting: VecDeque<ClientKey>,
    /// Connections of HTTP/2: after their requests, so that what those have is written at once.
    sessions: VecDeque<ClientKey>,
    /// Clients that have used up their share of this turn.
    later: Vec<ClientKey>,
}

/// Why a client has something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The supervisor has something for it.
    Answer,
    /// It has sent something, or can be sent something, or goes on from an earlier turn.
    Event,
    /// The same for a connection of HTTP/2, whatever the reason.
    Session,
}

impl Turns {
    pub(super) fn add(&mut self, key: ClientKey, cause: Cause) {
        match cause {
            Cause::Answer => self.answered.push(key),
            Cause::Event => self.waiting.push_back(key),
            Cause::Session => self.sessions.push_back(key),
        }
    }

    /// The next one of this cause.
    pub(super) fn pop(&mut self, cause: Cause) -> Option<ClientKey> {
        match cause {
            Cause::Answer => self.answered.pop(),
            Cause::Event => self.waiting.pop_front(),
            Cause::Session => self.sessions.pop_front(),
        }
    }

    pub(super) fn postpone(&mut self, key: ClientKey) {
        self.later.push(key);
    }

    pub(super) fn take_postponed(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.later)
    }

    pub(super) fn len(&self) -> usize {
        self.answered.len() + self.waiting.len() + self.sessions.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.later.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> ClientKey {
        ClientKey { index, generation: 1 }
    }

    #[test]
    fn each_cause_has_its_own_line_and_who_waits_longest_is_its_first() {
        let mut turns = Turns::default();
        turns.add(key(1), Cause::Event);
        turns.add(key(2), Cause::Event);
        turns.add(key(3), Cause::Answer);
        turns.add(key(4), Cause::Session);
        turns.postpone(key(5));
        assert_eq!(turns.len(), 4);
        let mut all = |cause| std::iter::from_fn(|| turns.pop(cause)).map(|key| key.index).collect::<Vec<u32>>();
        assert_eq!((all(Cause::Answer), all(Cause::Event), all(Cause::Session)), (vec![3], vec![1, 2], vec![4]));
        assert!(!turns.is_empty());
        assert_eq!(turns.take_postponed(), [key(5)]);
        assert!(turns.is_empty());
    }
}

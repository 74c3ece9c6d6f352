//! Upgrade: placeholder while the loop is put together.

use std::time::Instant;

use super::Reactor;

#[derive(Debug)]
pub(super) struct Upgrade {}

impl Reactor<'_> {
    pub(super) fn begin_upgrade(&mut self, _now: Instant) {}
}

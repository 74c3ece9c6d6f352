//! The last deaths of workers, for the status. Pure data, bounded.

use std::collections::VecDeque;
use std::time::Instant;

use crate::control::counters::RestartReason;
use crate::control::status::LAST_DEATHS_MAX;
use crate::http::PublicId;
use crate::pool::SlotId;
use crate::sys::Exit;

/// The end of one worker.
#[derive(Clone, Debug)]
pub struct Death {
    pub at: Instant,
    pub pid: i32,
    pub slot: SlotId,
    pub generation: u64,
    pub reason: RestartReason,
    pub exit: Exit,
    pub never_ready: bool,
    /// What it had started and not finished.
    pub request: Option<PublicId>,
    pub component: Option<String>,
    pub action: Option<String>,
}

/// The newest last.
#[derive(Debug, Default)]
pub struct Deaths(VecDeque<Death>);

impl Deaths {
    pub fn push(&mut self, death: Death) {
        if self.0.len() >= LAST_DEATHS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(death);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Death> {
        self.0.iter()
    }
}

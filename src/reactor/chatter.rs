//! How much a worker may write to the log: a guest that prints without end fills neither the disk nor the time of everybody else.
//!
//! Pure state; one for each worker and each template, which `frames` and `template` ask for each line.

use std::time::{Duration, Instant};

/// Bytes of lines that one worker may write to the log in a second.
pub(super) const LOG_BYTES_MAX: usize = 1 << 20;

/// What a line counts beside its own bytes: time, level, names.
const LINE_BYTES: usize = 64;

const WINDOW: Duration = Duration::from_secs(1);

/// What is left of a worker's share of the log.
#[derive(Debug, Default)]
pub(super) struct Chatter {
    /// When the present second began, and how much has been written in it.
    since: Option<Instant>,
    bytes: usize,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line {
    Written,
    /// It is written, and so many before it were not.
    WrittenAfter {
        dropped: u64,
    },
    /// It is not written, and is the first.
    FirstDropped,
    Dropped,
}

impl Chatter {
    /// A line of so many bytes.
    pub fn handle_line(&mut self, bytes: usize, now: Instant) -> Line {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.bytes) = (Some(now), 0);
        }
        let with_this = self.bytes.saturating_add(bytes).saturating_add(LINE_BYTES);
        if with_this > LOG_BYTES_MAX {
            self.dropped += 1;
            return if self.dropped == 1 { Line::FirstDropped } else { Line::Dropped };
        }
        self.bytes = with_this;
        match std::mem::take(&mut self.dropped) {
            0 => Line::Written,
            dropped => Line::WrittenAfter { dropped },
        }
    }

    /// Lines that were not written and of which nobody has been told how many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin; no time passes in this test")]
    fn lines_are_written_up_to_the_limit_of_a_second_and_counted_past_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut chatter = Chatter::default();
        assert_eq!(chatter.handle_line(LOG_BYTES_MAX - 2 * LINE_BYTES - 10, at(0)), Line::Written);
        assert_eq!(chatter.handle_line(10, at(1)), Line::Written, "at the limit");
        assert_eq!(chatter.handle_line(0, at(2)), Line::FirstDropped, "one past it");
        assert_eq!(chatter.handle_line(usize::MAX, at(999)), Line::Dropped);
        assert_eq!(chatter.dropped(), 2);
        assert_eq!(chatter.handle_line(1, at(1000)), Line::WrittenAfter { dropped: 2 });
        assert_eq!(chatter.handle_line(1, at(1001)), Line::Written);
        assert_eq!(chatter.dropped(), 0);
    }
}

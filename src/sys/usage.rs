//! What a living process uses, from `/proc` (proc_pid_stat(5)). One read of a small file: for when somebody asks, not for every request.

use std::time::Duration;

/// What a process uses now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveUsage {
    /// Resident memory, with what is shared.
    pub memory_kib: u64,
    /// User and system time since its start.
    pub cpu: Duration,
}

impl LiveUsage {
    /// `None` when there is no such process, or no `/proc`.
    pub fn of(pid: i32) -> Option<LiveUsage> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        LiveUsage::parse(&String::from_utf8_lossy(&text), page_bytes(), ticks_per_second())
    }

    fn parse(stat: &str, page_bytes: u64, ticks_per_second: u64) -> Option<LiveUsage> {
        // The name stands in parentheses and may contain anything, parentheses too.
        let (_, rest) = stat.rsplit_once(')')?;
        // The first field after the name is the third of the file.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        let milliseconds = ticks.checked_mul(1000)?.checked_div(ticks_per_second)?;
        let memory_kib = field(24)?.checked_mul(page_bytes)? / 1024;
        Some(LiveUsage { memory_kib, cpu: Duration::from_millis(milliseconds) })
    }
}

fn page_bytes() -> u64 {
    sysconf(libc::_SC_PAGESIZE).unwrap_or(4096)
}

fn ticks_per_second() -> u64 {
    sysconf(libc::_SC_CLK_TCK).unwrap_or(100)
}

fn sysconf(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf takes an integer and touches no memory of ours.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 9 1000000 300 18446744073709551615 1";
        let expected = LiveUsage { memory_kib: 1200, cpu: Duration::from_secs(3) };
        assert_eq!(LiveUsage::parse(stat, 4096, 100), Some(expected));
    }

    #[test]
    fn what_is_not_such_a_file_is_nothing() {
        for text in ["", "7 (a", "7 (a) S", "7 (a) S 1 7 7 0 -1 0 0 0 0 0 x 50 0 0 20 0 1 0 9 1 3"] {
            assert_eq!(LiveUsage::parse(text, 4096, 100), None, "{text}");
        }
    }

    #[test]
    fn this_process_has_memory_and_a_dead_one_has_nothing() {
        let own = LiveUsage::of(std::process::id() as i32).expect("it lives");
        assert!(own.memory_kib > 100, "{own:?}");
        assert_eq!(LiveUsage::of(-1), None);
    }
}

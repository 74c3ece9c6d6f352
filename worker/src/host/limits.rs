//! What one instance may take: linear memory, table elements, instances.
//!
//! Drives nothing; wasmtime asks before each growth. An instance that asks for too much ends there, so that the failure
//! can be named as what it is, whatever the guest's allocator would make of a refusal.

use std::fmt;

use wasmtime::ResourceLimiter;

use crate::engine::TABLE_ELEMENTS_MAX;

/// Counts the linear memory of one instance against its limit.
#[derive(Debug)]
pub struct Limits {
    memory_bytes: u64,
    memory_bytes_max: u64,
}

impl Limits {
    pub fn new(memory_bytes_max: u64) -> Limits {
        Limits { memory_bytes: 0, memory_bytes_max }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.memory_bytes + desired.saturating_sub(current) as u64;
        if grown > self.memory_bytes_max {
            return Err(MemoryLimit { memory_bytes_max: self.memory_bytes_max }.into());
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // A limit that the component set for itself: it learns of it as WebAssembly says.
            return Ok(false);
        }
        self.memory_bytes = grown;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(MemoryRefused { reason: error.to_string() }.into())
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX && maximum.is_none_or(|maximum| desired <= maximum))
    }
}

/// The instance asked for more memory than it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    pub memory_bytes_max: u64,
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the instance needs more than its {} of memory", megabytes(self.memory_bytes_max))
    }
}

impl std::error::Error for MemoryLimit {}

/// The instance may have more memory, but the operating system does not give it: the process has reached its ceiling, or the machine its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryRefused {
    pub reason: String,
}

impl fmt::Display for MemoryRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the worker process gets no more memory, of which it may have `worker-memory-mb`: {}", self.reason)
    }
}

impl std::error::Error for MemoryRefused {}

fn megabytes(bytes: u64) -> String {
    const MEGABYTE: u64 = 1 << 20;
    if bytes.is_multiple_of(MEGABYTE) { format!("{} MiB", bytes / MEGABYTE) } else { format!("{bytes} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    #[test]
    fn memories_count_together_up_to_the_limit_and_not_beyond() {
        let mut limits = Limits::new(4 * PAGE as u64);
        assert_eq!(limits.memory_growing(0, 2 * PAGE, None).ok(), Some(true));
        assert_eq!(limits.memory_growing(0, PAGE, None).ok(), Some(true));
        assert_eq!(limits.memory_growing(PAGE, 2 * PAGE, None).ok(), Some(true));
        let error = limits.memory_growing(2 * PAGE, 3 * PAGE, None).expect_err("one page too many");
        assert_eq!(error.downcast_ref(), Some(&MemoryLimit { memory_bytes_max: 4 * PAGE as u64 }));
    }

    #[test]
    fn a_limit_of_the_components_own_is_no_failure() {
        let mut limits = Limits::new(4 * PAGE as u64);
        assert_eq!(limits.memory_growing(0, 2 * PAGE, Some(PAGE)).ok(), Some(false));
        assert_eq!(limits.memory_growing(0, 4 * PAGE, None).ok(), Some(true));
    }

    #[test]
    fn tables_grow_up_to_the_limit_and_not_beyond() {
        let mut limits = Limits::new(0);
        for (desired, allowed) in [(TABLE_ELEMENTS_MAX, true), (TABLE_ELEMENTS_MAX + 1, false)] {
            assert_eq!(limits.table_growing(0, desired, None).ok(), Some(allowed));
        }
    }
}

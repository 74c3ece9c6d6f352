//! rlimits of a worker.
//!
//! Owns the numbers. Nothing that a worker does comes near them, but for memory: they are a second line behind the other steps, and
//! hold where those are not possible.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::SandboxError;
use super::needs::Needs;

/// Descriptors that a worker opens beside those that it was forked with.
const DESCRIPTORS_SPARE: u64 = 32;

/// Descriptors for files and connections of guests, where these are granted.
const DESCRIPTORS_GRANTED: u64 = 1024;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    descriptors: u64,
    threads: bool,
    files: bool,
    data_bytes_max: Option<u64>,
}

impl Limits {
    /// `data_bytes_max` of zero is no limit.
    pub fn of(needs: &Needs, data_bytes_max: u64) -> Result<Limits, SandboxError> {
        let data_bytes_max = Some(data_bytes_max).filter(|bytes| *bytes > 0);
        if let Some(bytes_max) = data_bytes_max {
            let used_bytes = data_bytes().unwrap_or(0);
            if used_bytes >= bytes_max {
                return Err(SandboxError::Data { used_bytes, bytes_max });
            }
        }
        let granted = if needs.threads() { DESCRIPTORS_GRANTED } else { 0 };
        Ok(Limits {
            descriptors: highest_descriptor().unwrap_or(0) + 1 + DESCRIPTORS_SPARE + granted,
            threads: needs.threads(),
            // Standard error may be a file, to which a last word must be possible.
            files: needs.writes() || is_file_on_stderr(),
            data_bytes_max,
        })
    }

    /// The ceiling of memory alone, which holds without a sandbox too. It counts private writable memory, not the address space that
    /// the pool reserves, and what the worker has already counts as well.
    pub fn apply_data(&self) -> Result<(), SandboxError> {
        self.data_bytes_max.map_or(Ok(()), |bytes| limit(Resource::Data, bytes))
    }

    pub fn apply(&self) -> Result<(), SandboxError> {
        self.apply_data()?;
        limit(Resource::Nofile, self.descriptors)?;
        limit(Resource::Core, 0)?;
        limit(Resource::Memlock, 0)?;
        limit(Resource::Msgqueue, 0)?;
        if !self.threads {
            limit(Resource::Nproc, 0)?;
        }
        if !self.files {
            limit(Resource::Fsize, 0)?;
        }
        Ok(())
    }
}

fn limit(resource: Resource, most: u64) -> Result<(), SandboxError> {
    // An unprivileged process cannot raise a hard limit, and need not.
    let most = rustix::process::getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
        .map_err(|errno| SandboxError::Step("rlimits", errno.into()))
}

fn highest_descriptor() -> io::Result<u64> {
    let numbers = fs::read_dir("/proc/self/fd")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// What `RLIMIT_DATA` counts.
fn data_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

fn is_file_on_stderr() -> bool {
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::needs::Network;

    fn needs() -> Needs {
        Needs { directories: Vec::new(), network: Network::Denied }
    }

    #[test]
    fn a_ceiling_below_what_is_used_already_is_refused() {
        let used = data_bytes().expect("the kernel tells");
        assert!(matches!(Limits::of(&needs(), 1), Err(SandboxError::Data { bytes_max: 1, .. })));
        assert!(Limits::of(&needs(), used * 2).is_ok());
        assert_eq!(Limits::of(&needs(), 0).map(|limits| limits.data_bytes_max).ok(), Some(None));
    }

    #[test]
    fn there_is_room_for_some_descriptors_more_than_there_are() {
        let limits = Limits::of(&needs(), 0).expect("no ceiling");
        let highest = highest_descriptor().expect("the kernel tells");
        assert!(limits.descriptors > highest && limits.descriptors <= highest + 1 + DESCRIPTORS_SPARE + 8);
    }
}

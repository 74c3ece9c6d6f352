//! Processes as `/proc` shows them: children, descriptors, threads, memory, CPU time.
//!
//! Owns reading `/proc` and sending signals to processes that a test started. Never waits; `server` and the tests drive it.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a supervisor or a worker uses at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    pub descriptors: usize,
    pub threads: usize,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// The most resident memory so far, in KiB.
    pub resident_kib_peak: u64,
}

/// The fields of `/proc/PID/stat` that the tests look at.
#[derive(Clone, Debug)]
struct Stat {
    name: String,
    state: char,
    parent: i32,
    group: i32,
    session: i32,
    cpu_ticks: u64,
}

/// What `pid` uses, or `None` when it is gone.
pub fn usage(pid: i32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |key: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Usage {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        threads: usize::try_from(number("Threads:")?).ok()?,
        resident_kib: number("VmRSS:")?,
        resident_kib_peak: number("VmHWM:")?,
    })
}

/// Every live child of `pid`, oldest first. A child that has exited but is not yet reaped counts too: it must be reaped.
pub fn children(pid: i32) -> Vec<i32> {
    all().into_iter().filter(|(_, stat)| stat.parent == pid).map(|(child, _)| child).collect()
}

/// Every process of the group `group`, its leader included.
pub fn group(group: i32) -> Vec<i32> {
    all().into_iter().filter(|(_, stat)| stat.group == group).map(|(pid, _)| pid).collect()
}

/// Whether `pid` runs, waits or is stopped: not gone and not a zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// Whether `pid` is stopped by a signal.
pub fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'T')
}

/// Whether `pid` is a worker that has been executed, rather than a fork of the supervisor that is about to be one.
pub fn is_worker(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.name.starts_with("rusmd-worker"))
}

/// Whether `pid` is there under this name, ended or not.
pub fn is_named(pid: i32, name: &str) -> bool {
    stat(pid).is_some_and(|stat| stat.name == name)
}

/// The effective user and group of `pid`.
pub fn user(pid: i32) -> Option<(u32, u32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let effective = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(2)?.parse().ok()
    };
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// The terminal session that `pid` belongs to.
pub fn session(pid: i32) -> Option<i32> {
    stat(pid).map(|stat| stat.session)
}

/// CPU time of `pid` so far, user and system, in clock ticks.
pub fn cpu_ticks(pid: i32) -> u64 {
    stat(pid).map_or(0, |stat| stat.cpu_ticks)
}

/// Sends `signal` to `pid`; a process that is already gone is no error.
pub fn signal(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// What `pid` holds open, for messages: `3 -> socket:[123]`.
pub fn descriptor_list(pid: i32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut list: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some(format!("{} -> {}", entry.file_name().to_string_lossy(), target.display()))
        })
        .collect();
    list.sort();
    list
}

fn all() -> Vec<(i32, Stat)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut processes: Vec<(i32, Stat)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    processes.sort_by_key(|(pid, _)| *pid);
    processes
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may itself contain any character, so the last one closes it.
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        cpu_ticks: number(11)? + number(12)?,
    })
}

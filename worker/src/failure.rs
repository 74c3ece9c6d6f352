//! What a wasmtime error means for the contract: whose fault it is, in one line, and where in the guest it happened.

use std::fmt::Write;
use std::io;

use rusmd_proto::limits::FAILURE_TEXT_BYTES_MAX;
use rusmd_proto::message::cut_text;
use rusmd_proto::{Failure, FailureCause, RequestId, ToSupervisor};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::host::Interrupted;
use crate::host::limits::{MemoryLimit, MemoryRefused};
use crate::link::Outbox;

/// A failure with its texts, ready for the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub cause: FailureCause,
    pub message: String,
    pub backtrace: String,
}

impl Report {
    pub fn new(cause: FailureCause, message: impl Into<String>) -> Report {
        Report { cause, message: message.into(), backtrace: String::new() }
    }

    /// Reads an error that ended an instance. Unless this process lacked something, the guest is to blame: a result that
    /// breaks the canonical ABI is no trap to wasmtime, but it is one to us.
    pub fn of(error: &wasmtime::Error) -> Report {
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        let cause = if error.is::<Interrupted>() {
            FailureCause::Interrupted
        } else if error.is::<MemoryLimit>() || error.is::<MemoryRefused>() {
            FailureCause::Memory
        } else if error.is::<PoolConcurrencyLimitError>() || error.chain().any(|cause| cause.is::<io::Error>()) {
            FailureCause::Internal
        } else {
            FailureCause::Trap
        };
        Report { cause, message: message(error), backtrace }
    }

    /// Appends the frame of this failure.
    pub fn send(&self, id: RequestId, outbox: &Outbox) {
        let failure = Failure {
            cause: self.cause,
            message: cut_text(&self.message, FAILURE_TEXT_BYTES_MAX),
            backtrace: cut_text(&self.backtrace, FAILURE_TEXT_BYTES_MAX),
        };
        let pushed = outbox.push(&ToSupervisor::Failed { id, failure });
        debug_assert!(pushed.is_ok(), "a failure within its limits can be encoded");
    }
}

/// The root of an error on one line, without the backtrace that wasmtime makes part of it.
pub fn message(error: &wasmtime::Error) -> String {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return format!("the guest called exit({code})");
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return text.strip_prefix("wasm trap: ").map_or(text.clone(), str::to_owned);
    }
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if text.starts_with("error while executing at wasm backtrace") || message.contains(&text) {
            continue;
        }
        let separator = if message.is_empty() { "" } else { ": " };
        let _ = write!(message, "{separator}{text}");
    }
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The guest's frames, one a line, innermost first. A recursion is told once.
pub fn frames(backtrace: &WasmBacktrace) -> String {
    let named = backtrace.frames().iter().map(|frame| {
        let module = frame.module().name().unwrap_or("?");
        match frame.func_name() {
            Some(name) => format!("{module}!{}", rustc_demangle::demangle(name)),
            None => format!("{module}!function {}", frame.func_index()),
        }
    });
    fold(named)
}

fn fold(frames: impl Iterator<Item = String>) -> String {
    let mut frames = frames.peekable();
    let mut lines = String::new();
    while let Some(frame) = frames.next() {
        let mut times = 1;
        while frames.next_if_eq(&frame).is_some() {
            times += 1;
        }
        let separator = if lines.is_empty() { "" } else { "\n" };
        let _ = write!(lines, "{separator}{frame}");
        if times > 1 {
            let _ = write!(lines, " ({times} times)");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_frames_in_a_row_are_told_once() {
        let frames = ["a", "b", "b", "b", "c", "b"].map(str::to_owned);
        assert_eq!(fold(frames.into_iter()), "a\nb (3 times)\nc\nb");
        assert_eq!(fold(std::iter::empty()), "");
    }

    #[test]
    fn each_cause_is_told_apart() {
        for (error, cause, message) in [
            (Interrupted.into(), FailureCause::Interrupted, "interrupted"),
            (MemoryLimit { memory_bytes_max: 1 << 20 }.into(), FailureCause::Memory, "1 MiB"),
            (MemoryRefused { reason: "no".to_owned() }.into(), FailureCause::Memory, "worker-memory-mb"),
            (Trap::StackOverflow.into(), FailureCause::Trap, "stack"),
            (wasmtime::Error::from(I32Exit(3)), FailureCause::Trap, "exit(3)"),
            (wasmtime::format_err!("bad\nlist").context("lifting"), FailureCause::Trap, "lifting: bad list"),
            (io::Error::other("no memory").into(), FailureCause::Internal, "no memory"),
        ] {
            let report = Report::of(&error);
            assert_eq!(report.cause, cause);
            assert!(report.message.contains(message), "{}", report.message);
        }
    }

    #[test]
    fn a_text_of_the_limit_is_sent_whole_and_a_longer_one_cut() {
        for length in [FAILURE_TEXT_BYTES_MAX, FAILURE_TEXT_BYTES_MAX + 1] {
            let outbox = Outbox::default();
            Report::new(FailureCause::Trap, "x".repeat(length)).send(RequestId(1), &outbox);
            let bytes = outbox.lock();
            let (frame, _) = rusmd_proto::Frame::split(&bytes).expect("well formed").expect("whole");
            let ToSupervisor::Failed { failure, .. } = ToSupervisor::decode(&frame).expect("legal") else {
                panic!("not a failure");
            };
            assert_eq!(failure.message.len(), FAILURE_TEXT_BYTES_MAX);
        }
    }
}

//! What a guest says: standard output, standard error and `rusm:http/log`, as lines for the server's log.
//!
//! Owns the cutting into lines and the bounds on them. Lines go into the outbox as frames at once, so they keep their order
//! among each other and precede the failure that they may explain.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use rusmd_proto::limits::{LOG_MESSAGE_BYTES_MAX, LOG_TARGET_BYTES_MAX};
use rusmd_proto::message::cut_text;
use rusmd_proto::{LogLevel, LogLine, RequestId, ToSupervisor};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

use crate::link::Outbox;

/// Most bytes of log lines that one request may cause.
const LOG_BYTES_MAX: usize = 256 * 1024;

/// What a line costs beside its text: a flood of empty lines is a flood too.
const LINE_BYTES: usize = 64;

/// A longer line is cut; what follows the cut is a line of its own.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Most bytes that a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// The two streams, by the names that their lines carry as target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    const fn target(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    const fn level(self) -> LogLevel {
        match self {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => LogLevel::Warn,
        }
    }
}

#[derive(Debug)]
struct State {
    bytes_left: usize,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// The log of one request.
#[derive(Clone, Debug)]
pub struct GuestLog {
    id: RequestId,
    shown: Option<LogLevel>,
    outbox: Outbox,
    state: Arc<Mutex<State>>,
}

impl GuestLog {
    /// `shown` is the most detailed level that anyone reads.
    pub fn new(id: RequestId, shown: Option<LogLevel>, outbox: Outbox) -> GuestLog {
        let state = State { bytes_left: LOG_BYTES_MAX, stdout: Vec::new(), stderr: Vec::new() };
        GuestLog { id, shown, outbox, state: Arc::new(Mutex::new(state)) }
    }

    /// The most detailed level that anyone reads.
    pub fn shown(&self) -> Option<LogLevel> {
        self.shown
    }

    /// The stream to give to the guest.
    pub fn stream(&self, stream: Stream) -> GuestStream {
        GuestStream { log: self.clone(), stream }
    }

    /// One message, of one line or several.
    pub fn line(&self, level: LogLevel, target: &str, message: &str) {
        self.emit(&mut self.lock(), level, target, message);
    }

    /// Ends the lines that lack an end. Called when the guest has.
    pub fn finish(&self) {
        let mut state = self.lock();
        for (stream, rest) in
            [(Stream::Stdout, std::mem::take(&mut state.stdout)), (Stream::Stderr, std::mem::take(&mut state.stderr))]
        {
            if !rest.is_empty() {
                self.emit(&mut state, stream.level(), stream.target(), &String::from_utf8_lossy(&rest));
            }
        }
    }

    fn write(&self, stream: Stream, mut bytes: &[u8]) {
        let mut state = self.lock();
        while !bytes.is_empty() {
            let partial = match stream {
                Stream::Stdout => &mut state.stdout,
                Stream::Stderr => &mut state.stderr,
            };
            let room = LINE_BYTES_MAX - partial.len();
            let newline = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let (taken, skipped) = newline.map_or((room.min(bytes.len()), 0), |at| (at, 1));
            let (line, rest) = bytes.split_at(taken);
            partial.extend_from_slice(line);
            bytes = rest.get(skipped..).unwrap_or_default();
            if newline.is_some() || partial.len() == LINE_BYTES_MAX {
                let line = std::mem::take(partial);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                self.emit(&mut state, stream.level(), stream.target(), &String::from_utf8_lossy(line));
            }
        }
    }

    fn emit(&self, state: &mut State, level: LogLevel, target: &str, message: &str) {
        if self.shown.is_none_or(|shown| level > shown) || state.bytes_left == 0 {
            return;
        }
        let message = cut_text(message, LOG_MESSAGE_BYTES_MAX);
        let target = cut_text(target, LOG_TARGET_BYTES_MAX);
        match state.bytes_left.checked_sub(LINE_BYTES + message.len() + target.len()) {
            Some(left) => {
                state.bytes_left = left;
                self.push(level, target, message);
            }
            None => {
                state.bytes_left = 0;
                let message = format!("the rest of this request's output, beyond {LOG_BYTES_MAX} bytes, is dropped");
                self.push(LogLevel::Warn, target, &message);
            }
        }
    }

    fn push(&self, level: LogLevel, target: &str, message: &str) {
        let line = LogLine { level, target, message };
        let pushed = self.outbox.push(&ToSupervisor::Log { id: self.id, line });
        debug_assert!(pushed.is_ok(), "a line within its limits can be encoded");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a guest's standard streams. Always ready: what is too much is dropped, not waited for.
#[derive(Clone, Debug)]
pub struct GuestStream {
    log: GuestLog,
    stream: Stream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.log.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl Pollable for GuestStream {
    fn ready<'a: 'b, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmd_proto::Frame;

    fn log(shown: Option<LogLevel>) -> GuestLog {
        GuestLog::new(RequestId(1), shown, Outbox::default())
    }

    fn lines(log: &GuestLog) -> Vec<(LogLevel, String, String)> {
        let outbox = log.outbox.lock();
        let mut rest = outbox.as_slice();
        let mut lines = Vec::new();
        while let Some((frame, after)) = Frame::split(rest).expect("well formed") {
            if let ToSupervisor::Log { line, .. } = ToSupervisor::decode(&frame).expect("legal") {
                lines.push((line.level, line.target.to_owned(), line.message.to_owned()));
            }
            rest = after;
        }
        lines
    }

    #[test]
    fn output_is_cut_into_lines_however_it_is_written() {
        let log = log(Some(LogLevel::Trace));
        for piece in ["he", "llo\nwor", "ld\r\n", "\nrest"] {
            log.write(Stream::Stdout, piece.as_bytes());
        }
        log.finish();
        let messages: Vec<_> = lines(&log).into_iter().map(|(.., message)| message).collect();
        assert_eq!(messages, ["hello", "world", "", "rest"]);
    }

    #[test]
    fn a_line_of_the_limit_is_whole_and_a_longer_one_is_cut() {
        let log = log(Some(LogLevel::Trace));
        log.write(Stream::Stderr, "x".repeat(LINE_BYTES_MAX + 1).as_bytes());
        log.finish();
        let lengths: Vec<_> = lines(&log).into_iter().map(|(.., message)| message.len()).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, 1]);
    }

    #[test]
    fn levels_that_nobody_reads_are_not_sent() {
        let log = log(Some(LogLevel::Warn));
        log.write(Stream::Stdout, b"information\n");
        log.write(Stream::Stderr, b"warning\n");
        log.line(LogLevel::Error, "app", "error");
        let levels: Vec<_> = lines(&log).into_iter().map(|(level, ..)| level).collect();
        assert_eq!(levels, [LogLevel::Warn, LogLevel::Error]);
    }

    #[test]
    fn a_flood_ends_with_one_line_that_says_so() {
        let log = log(Some(LogLevel::Trace));
        for _ in 0..LOG_BYTES_MAX {
            log.write(Stream::Stdout, b"\n");
        }
        let lines = lines(&log);
        assert!(lines.len() <= LOG_BYTES_MAX / LINE_BYTES + 1);
        assert!(lines.last().is_some_and(|(.., message)| message.contains("dropped")));
    }
}

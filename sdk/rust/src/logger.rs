//! The way from `log::info!`, and from a panic, to the server's log.
//!
//! Owns the one [`log::Log`] of a component and its panic hook. It asks the server for its level at the first line that is
//! logged, not before, so that a request which logs nothing makes no call. `guest` installs it before an action runs.

use std::panic::{self, PanicHookInfo};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::bindings::rusm::http::log as server;

struct ServerLog;

static SERVER_LOG: ServerLog = ServerLog;

/// Sends `log`'s lines and panics to the server, unless the component has installed a logger of its own.
pub(crate) fn install() {
    // The usual hook would write three lines to standard error, one of them a hint that is of no use here.
    panic::set_hook(Box::new(|info| server::log(server::Level::Error, "panic", &line(info))));
    if log::set_logger(&SERVER_LOG).is_ok() {
        // Everything, until the first line asks the server what it shows.
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for ServerLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        if log::max_level() == LevelFilter::Trace {
            log::set_max_level(server::max_level().map_or(LevelFilter::Off, filter));
        }
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = wire(record.level());
        match record.args().as_str() {
            Some(text) => server::log(level, record.target(), text),
            None => server::log(level, record.target(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

fn line(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("(the panic has no message)");
    match info.location() {
        Some(location) => format!("panicked at {location}: {message}"),
        None => format!("panicked: {message}"),
    }
}

fn filter(level: server::Level) -> LevelFilter {
    match level {
        server::Level::Error => LevelFilter::Error,
        server::Level::Warn => LevelFilter::Warn,
        server::Level::Info => LevelFilter::Info,
        server::Level::Debug => LevelFilter::Debug,
        server::Level::Trace => LevelFilter::Trace,
    }
}

fn wire(level: Level) -> server::Level {
    match level {
        Level::Error => server::Level::Error,
        Level::Warn => server::Level::Warn,
        Level::Info => server::Level::Info,
        Level::Debug => server::Level::Debug,
        Level::Trace => server::Level::Trace,
    }
}

//! The logs: the main one, which everything that uses `log` writes to, and the access log.
//!
//! Owns their files, from the start to the last line. Reads no clock, blocks on nothing but a disk, and survives a disk that is full. The
//! reactor drives it: entries, a look each turn, SIGUSR1, a reload.

mod access;
mod main_log;
mod sink;
mod stamp;
mod text;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use crate::config::{self, AccessPlace};
use crate::sys::{self, Output, Standard};

pub use access::AccessEntry;
pub use sink::BUFFER_BYTES_MAX;

use access::AccessLog;
use main_log::{MainLog, complain};
use sink::{Place, Report};

/// All logs of this process.
#[expect(missing_debug_implementations, reason = "env_logger's part says nothing of use")]
pub struct Logs {
    main: MainLog,
    access: AccessLog,
    /// What `RUST_LOG` says.
    filters: Option<String>,
    /// The standard error is the main log too, or nothing.
    is_detached: bool,
}

/// A log could not be opened.
#[derive(Debug)]
pub struct LogsError {
    what: &'static str,
    place: Place,
    source: io::Error,
}

impl Logs {
    /// Opens the logs, and has everything that is logged in this process go there. `filters` is what `RUST_LOG` says.
    ///
    /// # Errors
    ///
    /// A file cannot be opened.
    pub fn start(config: &config::Log, filters: Option<String>) -> Result<Logs, LogsError> {
        sys::survive_file_size_limit();
        let place = main_place(config);
        let main = MainLog::open(place.clone(), config.level, filters.as_deref()).map_err(|source| LogsError {
            what: MAIN,
            place,
            source,
        })?;
        let access = AccessLog::open(access_place(config), config.access_format).map_err(|source| LogsError {
            what: ACCESS,
            place: access_place(config).unwrap_or(Place::Standard(Standard::Output)),
            source,
        })?;
        main.install();
        Ok(Logs { main, access, filters, is_detached: false })
    }

    /// Whether [`Logs::push`] does anything.
    pub fn has_access_log(&self) -> bool {
        self.access.is_on()
    }

    /// Why the main log cannot be written at present, if its first lines have met that.
    pub fn trouble(&self) -> Option<String> {
        self.main.trouble()
    }

    /// Adds a line to the access log.
    pub fn push(&mut self, entry: &AccessEntry<'_>) {
        self.access.push(entry);
    }

    /// To be called once a turn of the loop.
    pub fn flush(&mut self, now: Instant) {
        self.main.handle_timers(now);
        self.access.flush(now);
        self.tell();
    }

    /// Writes all that waits: for the end.
    pub fn flush_all(&mut self, now: Instant) {
        self.access.flush_all(now);
        self.tell();
        log::Log::flush(&self.main);
    }

    /// When [`Logs::flush`] has something to do without a new line.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.main.next_deadline(now).into_iter().chain(self.access.next_deadline(now)).min()
    }

    /// Opens the files anew, for they may have been renamed. One that cannot be opened stays as it was, and the main log says why.
    /// Whether all of them could be.
    pub fn reopen(&mut self) -> bool {
        let (main, access, format) = (self.main.place(), self.access.place().cloned(), self.access.format());
        let is_done = self.move_to(main, access, format);
        if is_done {
            log::info!("the logs are reopened");
        }
        is_done
    }

    /// Follows a new manifest. What cannot be opened stays as it was, and the main log says why.
    pub fn reload(&mut self, config: &config::Log) {
        self.main.set_level(config.level, self.filters.as_deref());
        self.move_to(main_place(config), access_place(config), config.access_format);
    }

    /// Has the standard error of this process, and with it that of each worker to come, be the main log where that is a file, and nothing
    /// otherwise. The main log itself stays where it is.
    pub fn detach_error(&mut self) -> io::Result<()> {
        self.is_detached = true;
        match self.main.place() {
            Place::File(_) => self.main.with_output(|output| sys::redirect(Standard::Error, output)),
            Place::Standard(_) => sys::redirect(Standard::Error, &Output::nowhere()?),
        }
    }

    /// Lets go of all that was inherited from the parent, whose terminal is none of a daemon's business any more. A log that went there goes
    /// nowhere from now on.
    pub fn detach(&mut self) -> io::Result<()> {
        self.detach_error()?;
        let nothing = Output::nowhere()?;
        sys::redirect_input(&nothing)?;
        sys::redirect(Standard::Output, &nothing)?;
        let (main, access, format) = (self.main.place(), self.access.place().cloned(), self.access.format());
        self.move_to(main, access, format);
        Ok(())
    }

    fn move_to(&mut self, main: Place, access: Option<Place>, format: config::AccessFormat) -> bool {
        let mut is_done = true;
        let mut told = |what: &str, place: &dyn fmt::Display, reopened: io::Result<()>| {
            if let Err(error) = reopened {
                is_done = false;
                log::error!("cannot open {what} ({place}): {error}; it stays where it was");
            }
        };
        if self.is_detached && matches!(main, Place::Standard(_)) {
            // The standard error may be a log file that the new manifest does not name any more.
            told("the standard error", &main, Output::nowhere().and_then(|to| sys::redirect(Standard::Error, &to)));
        }
        told(MAIN, &main, self.main.reopen(main.clone()));
        let place = access.as_ref().map_or_else(String::new, Place::to_string);
        told(ACCESS, &place, self.access.reopen(access, format));
        if self.is_detached {
            told("the standard error", &self.main.place(), self.detach_error());
        }
        self.tell();
        is_done
    }

    /// What has become of the access log's lines belongs in the main log; and a failure on the standard error besides, for the main log may be
    /// on the same disk.
    fn tell(&mut self) {
        let Some((report, text)) = self.access.take_report() else { return };
        match report {
            Report::Failing(_) => {
                log::error!("{text}");
                // A daemon's standard error is the main log, or nothing.
                if !self.is_detached {
                    complain(&text, &self.main.place());
                }
            }
            Report::Recovered { .. } => log::warn!("{text}"),
        }
    }
}

const MAIN: &str = "the log";
const ACCESS: &str = "the access log";

fn main_place(config: &config::Log) -> Place {
    config.file.clone().map_or(Place::Standard(Standard::Error), Place::File)
}

fn access_place(config: &config::Log) -> Option<Place> {
    config.access.as_ref().map(|place| match place {
        AccessPlace::StandardOutput => Place::Standard(Standard::Output),
        AccessPlace::File(path) => Place::File(PathBuf::clone(path)),
    })
}

impl fmt::Display for LogsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open {} ({})", self.what, self.place)
    }
}

impl std::error::Error for LogsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

//! Owns rusmd's main log: what `log` is told, formatted by env_logger, written to a file or the standard error. Each line is written at once,
//! and what finds no room waits in the sink. Can be reopened, and its level changed, while it is in use.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use env_logger::{Target, WriteStyle};
use log::{LevelFilter, Log, Metadata, Record};

use super::sink::{Place, Report, Sink};
use crate::sys::{Output, Standard};

/// A handle on the log; all handles are of one log.
#[derive(Clone)]
pub struct MainLog {
    shared: Arc<Shared>,
}

struct Shared {
    logger: RwLock<env_logger::Logger>,
    sink: Arc<Mutex<Sink>>,
    /// Why it cannot be written at present, if that has been told.
    trouble: Mutex<Option<String>>,
}

impl MainLog {
    /// `filters` refines the level for parts of the program, as `RUST_LOG` does.
    pub fn open(place: Place, level: LevelFilter, filters: Option<&str>) -> io::Result<MainLog> {
        let sink = Arc::new(Mutex::new(Sink::open(place)?));
        let logger = RwLock::new(logger(&sink, level, filters));
        Ok(MainLog { shared: Arc::new(Shared { logger, sink, trouble: Mutex::default() }) })
    }

    /// Has everything that is logged in this process go here. Without effect when there is a logger already, as in tests.
    pub fn install(&self) {
        if log::set_boxed_logger(Box::new(self.clone())).is_ok() {
            log::set_max_level(self.max_level());
        }
    }

    /// Changes what is logged from now on.
    pub fn set_level(&self, level: LevelFilter, filters: Option<&str>) {
        let logger = logger(&self.shared.sink, level, filters);
        *self.shared.logger.write().unwrap_or_else(PoisonError::into_inner) = logger;
        log::set_max_level(self.max_level());
    }

    /// Opens this place and goes on there; see [`Sink::reopen`].
    pub fn reopen(&self, place: Place) -> io::Result<()> {
        let reopened = self.sink().reopen(place);
        self.tell();
        reopened
    }

    pub fn place(&self) -> Place {
        self.sink().place().clone()
    }

    /// Does something with what it writes to.
    pub fn with_output<T>(&self, act: impl FnOnce(&Output) -> T) -> T {
        act(self.sink().output())
    }

    /// Tries again, if lines wait and it is time.
    pub fn handle_timers(&self, now: Instant) {
        self.sink().write_after_pause(now);
        self.tell();
    }

    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.sink().next_deadline(now)
    }

    /// Why it cannot be written at present, if it has been tried.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn max_level(&self) -> LevelFilter {
        self.shared.logger.read().unwrap_or_else(PoisonError::into_inner).filter()
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what has become of earlier lines: on the standard error while this log cannot be written, in this log when it can again.
    fn tell(&self) {
        let (report, place) = {
            let mut sink = self.sink();
            (sink.take_report(), sink.place().clone())
        };
        let Some(report) = report else { return };
        let text = report.describe("the log", &place);
        let is_failing = matches!(report, Report::Failing(_));
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = is_failing.then(|| text.clone());
        match report {
            Report::Failing(_) => complain(&text, &place),
            Report::Recovered { .. } => {
                let logger = self.shared.logger.read().unwrap_or_else(PoisonError::into_inner);
                let mut record = Record::builder();
                logger.log(&record.level(log::Level::Warn).target("rusmd::logs").args(format_args!("{text}")).build());
            }
        }
    }
}

/// Says something on the standard error without waiting for its reader, unless that is the place which cannot be written.
pub(super) fn complain(text: &str, place: &Place) {
    if *place == Place::Standard(Standard::Error) {
        return;
    }
    if let Ok(output) = Output::standard(Standard::Error) {
        // There is nowhere left to say that this failed.
        let _ = output.write(format!("rusmd: {text}\n").as_bytes());
    }
}

fn logger(sink: &Arc<Mutex<Sink>>, level: LevelFilter, filters: Option<&str>) -> env_logger::Logger {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level).filter_module(TLS_LIBRARY, of_tls_library(level)).format_timestamp_millis();
    if let Some(filters) = filters {
        builder.parse_filters(filters);
    }
    let is_standard = *sink.lock().unwrap_or_else(PoisonError::into_inner).place() == Place::Standard(Standard::Error);
    let is_coloured = is_standard && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    builder.write_style(if is_coloured { WriteStyle::Always } else { WriteStyle::Never });
    builder.target(Target::Pipe(Box::new(Lines(Arc::clone(sink)))));
    builder.build()
}

/// What the TLS library logs is what clients do wrong, so that any of them could fill the log: as with HTTP, that is for debugging.
/// `RUST_LOG` can name it.
const TLS_LIBRARY: &str = "rustls";

fn of_tls_library(level: LevelFilter) -> LevelFilter {
    match level {
        LevelFilter::Debug | LevelFilter::Trace => level,
        LevelFilter::Off | LevelFilter::Error | LevelFilter::Warn | LevelFilter::Info => level.min(LevelFilter::Error),
    }
}

impl Log for MainLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.shared.logger.read().unwrap_or_else(PoisonError::into_inner).enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.shared.logger.read().unwrap_or_else(PoisonError::into_inner).log(record);
        self.tell();
    }

    fn flush(&self) {
        self.sink().write(None);
        self.tell();
    }
}

/// env_logger writes one record at a time, whole, and flushes after each.
struct Lines(Arc<Mutex<Sink>>);

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.is_working() {
            sink.write(None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::testing::Scratch;

    fn log(main: &MainLog, level: log::Level, text: &str) {
        main.log(&Record::builder().level(level).target("t").args(format_args!("{text}")).build());
    }

    #[test]
    fn what_clients_do_wrong_in_tls_fills_no_log_unless_it_is_asked_for() {
        let scratch = Scratch::new();
        let main = open(&scratch.path().join("log"));
        let warns = |main: &MainLog| {
            main.enabled(&Metadata::builder().level(log::Level::Warn).target("rustls::common_state").build())
        };
        assert!(!warns(&main));
        main.set_level(LevelFilter::Debug, None);
        assert!(warns(&main));
        main.set_level(LevelFilter::Info, Some("info,rustls=warn"));
        assert!(warns(&main));
    }

    fn open(path: &Path) -> MainLog {
        MainLog::open(Place::File(path.to_owned()), LevelFilter::Info, None).expect("the place can be opened")
    }

    fn read(path: &PathBuf) -> String {
        std::fs::read_to_string(path).expect("the log is there")
    }

    #[test]
    fn a_line_is_in_the_file_as_soon_as_it_is_logged() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let main = open(&path);
        log(&main, log::Level::Info, "hello");
        log(&main, log::Level::Debug, "too much");
        let text = read(&path);
        assert!(text.ends_with("INFO  t] hello\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn the_level_changes_while_it_is_in_use() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let main = open(&path);
        assert!(!main.enabled(&Metadata::builder().level(log::Level::Debug).target("t").build()));
        main.set_level(LevelFilter::Warn, Some("t=debug"));
        assert_eq!(main.max_level(), LevelFilter::Debug);
        log(&main, log::Level::Debug, "now");
        assert!(read(&path).contains("now"));
    }

    #[test]
    fn after_a_rename_and_a_reopen_lines_go_to_a_new_file() {
        let scratch = Scratch::new();
        let (path, old) = (scratch.path().join("log"), scratch.path().join("log.1"));
        let main = open(&path);
        log(&main, log::Level::Info, "one");
        std::fs::rename(&path, &old).expect("it can be renamed");
        log(&main, log::Level::Info, "two");
        main.reopen(main.place()).expect("the directory is writable");
        log(&main, log::Level::Info, "three");
        assert!(read(&old).contains("one") && read(&old).contains("two"));
        assert!(read(&path).contains("three") && read(&path).lines().count() == 1);
    }

    #[test]
    fn a_log_on_a_full_disk_says_afterwards_what_it_had_kept_and_how_much_was_lost() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let main = open(Path::new("/dev/full"));
        log(&main, log::Level::Error, "kept");
        main.reopen(Place::File(path.clone())).expect("the directory is writable");
        let text = read(&path);
        assert!(text.contains("kept") && text.contains("can be written again; 0 lines were lost"), "{text}");
    }
}

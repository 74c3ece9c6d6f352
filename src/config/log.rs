//! Owns the `[log]` table: how much is logged, and where to. Opens nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;

use super::diagnostic::Report;
use super::document::{self, Shape, Value};

/// The levels of the log, from nothing to everything.
pub const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What `access` is for the standard output.
const STANDARD_OUTPUT: &str = "-";

const FORMATS: [&str; 2] = ["combined", "json"];

/// Longest time that a request may take without being called slow.
const SLOW_MS_MAX: u64 = 24 * 60 * 60 * 1000;

const SHAPE: Shape =
    Shape { name: "[log]", keys: &["level", "file", "access", "access-format", "slow-ms"], unsupported: &[] };

/// The `[log]` table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    pub level: LevelFilter,
    /// Where the main log goes; the standard error unless it is set.
    pub file: Option<PathBuf>,
    /// Where the access log goes; off unless it is set.
    pub access: Option<AccessPlace>,
    pub access_format: AccessFormat,
    /// From which time on a request is slow, and logged as such.
    pub slow: Option<Duration>,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessPlace {
    StandardOutput,
    File(PathBuf),
}

/// How the access log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessFormat {
    /// As Apache and nginx write it, with fields of ours after that.
    Combined,
    /// One object on each line.
    Json,
}

impl Default for Log {
    fn default() -> Log {
        Log { level: LevelFilter::Info, file: None, access: None, access_format: AccessFormat::Combined, slow: None }
    }
}

impl Log {
    /// Takes what the table sets. Relative paths start at `directory`.
    pub(super) fn read<'d>(&mut self, value: &'d Value<'d>, directory: &Path, report: &mut Report) {
        let Some(table) = document::table(value, report) else { return };
        for (key, value) in document::entries(table) {
            let name: &str = key.get_ref();
            match name {
                "level" => {
                    let level = document::word(value, &LOG_LEVELS, report).and_then(|level| level.parse().ok());
                    self.level = level.unwrap_or(self.level);
                }
                "file" => self.file = document::file_path(value, report).map(|path| directory.join(path)),
                "access" => {
                    self.access = document::file_path(value, report).map(|path| match path {
                        STANDARD_OUTPUT => AccessPlace::StandardOutput,
                        path => AccessPlace::File(directory.join(path)),
                    });
                }
                "access-format" => {
                    self.access_format = match document::word(value, &FORMATS, report) {
                        Some("json") => AccessFormat::Json,
                        Some(_) | None => AccessFormat::Combined,
                    };
                }
                "slow-ms" => {
                    let number = document::integer(value, &(0..=SLOW_MS_MAX), " ms", report);
                    self.slow = number.filter(|number| *number > 0).map(Duration::from_millis);
                }
                _ => document::unknown_key(key, value, &SHAPE, report),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    fn read(text: &str) -> (Log, usize) {
        let text = format!("log = {{ {text} }}");
        let table = DeTable::parse(&text).expect("TOML");
        let (_, value) = document::entries(table.get_ref())[0];
        let (mut log, mut report) = (Log::default(), Report::default());
        log.read(value, Path::new("app"), &mut report);
        (log, report.list.len())
    }

    #[test]
    fn every_key_lands_in_its_field_and_paths_start_at_the_manifest() {
        let text =
            "level = 'warn', file = 'log/main', access = '/var/log/access', access-format = 'json', slow-ms = 500";
        let expected = Log {
            level: LevelFilter::Warn,
            file: Some("app/log/main".into()),
            access: Some(AccessPlace::File("/var/log/access".into())),
            access_format: AccessFormat::Json,
            slow: Some(Duration::from_millis(500)),
        };
        assert_eq!(read(text), (expected, 0));
        assert_eq!(read("access = '-'").0.access, Some(AccessPlace::StandardOutput));
        assert_eq!(read("slow-ms = 0, access-format = 'combined'"), (Log::default(), 0));
    }

    #[test]
    fn what_makes_no_sense_is_an_error() {
        for wrong in ["file = ''", "access = 3", "access-format = 'xml'", "slow-ms = 86400001", "files = 1"] {
            assert_eq!(read(wrong).1, 1, "{wrong}");
        }
    }
}

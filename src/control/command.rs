//! Owns the language of the control socket: a command is one line of text, the reply one JSON document on a line, and then the
//! connection is closed. Pure; the socket reads and writes it, `rusmd ctl` speaks the other side.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::status::{Status, WorkerStatus, excerpt};
use crate::config::settings::WORKERS_MAX;

/// Most bytes of a command's line, its end included.
pub const LINE_BYTES_MAX: usize = 4096;

/// What an operator can tell the server to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Status,
    Workers,
    /// As SIGHUP. Answered when the next generation serves, or has failed.
    Reload,
    /// As SIGQUIT: what is in flight may finish.
    Stop,
    /// As SIGTERM.
    StopNow,
    /// This many workers. Answered when they are ready, or have failed to be.
    Scale(usize),
    /// As SIGUSR1: opens the log files anew.
    Reopen,
    /// As SIGUSR2. Answered when the next supervisor serves, or has failed.
    Upgrade,
}

/// Why a line is not a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    TooLong,
    /// The other side has closed before the end of the line.
    Unfinished,
    /// More came after the line.
    NotAlone,
    NotText,
    Unknown(String),
    BadCount(String),
}

/// What the server says to a command. `ok` says which of the others can be there.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What has been done, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Box<Status>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<WorkerStatus>>,
}

impl Command {
    /// Reads a line without its end. Strict: one form for each command, single spaces, lower case.
    ///
    /// # Errors
    ///
    /// It is not a command; the error says why.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        if line.len() >= LINE_BYTES_MAX {
            return Err(CommandError::TooLong);
        }
        let line = std::str::from_utf8(line).map_err(|_| CommandError::NotText)?;
        Ok(match line {
            "status" => Command::Status,
            "workers" => Command::Workers,
            "reload" => Command::Reload,
            "stop" => Command::Stop,
            "stop now" => Command::StopNow,
            "reopen" => Command::Reopen,
            "upgrade" => Command::Upgrade,
            _ => match line.strip_prefix("scale ") {
                Some(count) => Command::Scale(parse_count(count)?),
                None => return Err(CommandError::Unknown(excerpt(line))),
            },
        })
    }
}

fn parse_count(text: &str) -> Result<usize, CommandError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|count| digits && (1..=WORKERS_MAX).contains(&(*count as u64)))
        .ok_or_else(|| CommandError::BadCount(excerpt(text)))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Status => f.write_str("status"),
            Command::Workers => f.write_str("workers"),
            Command::Reload => f.write_str("reload"),
            Command::Stop => f.write_str("stop"),
            Command::StopNow => f.write_str("stop now"),
            Command::Scale(count) => write!(f, "scale {count}"),
            Command::Reopen => f.write_str("reopen"),
            Command::Upgrade => f.write_str("upgrade"),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::TooLong => write!(f, "the command has more than {LINE_BYTES_MAX} bytes"),
            CommandError::Unfinished => f.write_str("the command has no end: a newline is missing"),
            CommandError::NotAlone => f.write_str("there is more than one command"),
            CommandError::NotText => f.write_str("the command is not text"),
            CommandError::Unknown(line) => write!(
                f,
                "unknown command {line:?}; the commands are status, workers, reload, stop, stop now, scale N, reopen, upgrade"
            ),
            CommandError::BadCount(count) => write!(f, "{count:?} is not a number of workers from 1 to {WORKERS_MAX}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl Reply {
    /// The command was carried out.
    pub fn done(message: impl Into<String>) -> Reply {
        Reply { ok: true, message: Some(message.into()), ..Reply::default() }
    }

    /// The command was not carried out, for this reason.
    pub fn failed(error: impl Into<String>) -> Reply {
        Reply { error: Some(error.into()), ..Reply::default() }
    }

    pub fn status(status: Status) -> Reply {
        Reply { ok: true, status: Some(Box::new(status)), ..Reply::default() }
    }

    pub fn workers(workers: Vec<WorkerStatus>) -> Reply {
        Reply { ok: true, workers: Some(workers), ..Reply::default() }
    }

    /// The document on its line.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("keys are text, and numbers are whole");
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_read_as_it_is_written() {
        let commands = [
            Command::Status,
            Command::Workers,
            Command::Reload,
            Command::Stop,
            Command::StopNow,
            Command::Scale(1),
            Command::Scale(WORKERS_MAX as usize),
            Command::Reopen,
            Command::Upgrade,
        ];
        for command in commands {
            assert_eq!(Command::parse(command.to_string().as_bytes()), Ok(command));
        }
    }

    #[test]
    fn nothing_else_is_a_command() {
        for line in ["", " ", "Status", "status ", " status", "status\r", "statuss", "stop  now", "scale", "scale2"] {
            assert_eq!(Command::parse(line.as_bytes()), Err(CommandError::Unknown(line.to_owned())), "{line:?}");
        }
        for count in ["", "0", "1025", "-1", "+1", "1 ", " 1", "1.0", "two", "99999999999999999999"] {
            let line = format!("scale {count}");
            assert_eq!(Command::parse(line.as_bytes()), Err(CommandError::BadCount(count.to_owned())), "{line:?}");
        }
        assert_eq!(Command::parse(b"st\xffatus"), Err(CommandError::NotText));
    }

    #[test]
    fn a_line_has_its_limit() {
        let at_the_limit = vec![b'x'; LINE_BYTES_MAX - 1];
        assert!(matches!(Command::parse(&at_the_limit), Err(CommandError::Unknown(_))));
        assert_eq!(Command::parse(&vec![b'x'; LINE_BYTES_MAX]), Err(CommandError::TooLong));
    }

    #[test]
    fn errors_show_what_was_sent_cut_and_without_control_characters() {
        let line = format!("\u{1b}[2J{}", "x".repeat(1000));
        let text = Command::parse(line.as_bytes()).expect_err("no command").to_string();
        assert!(text.contains(r"\u{1b}[2J") && !text.contains('\u{1b}') && text.len() < 500, "{text}");
    }

    #[test]
    fn a_reply_is_one_line_that_says_only_what_there_is_to_say() {
        assert_eq!(Reply::failed("no\nway").to_line(), "{\"ok\":false,\"error\":\"no\\nway\"}\n");
        assert_eq!(Reply::done("reloaded").to_line(), "{\"ok\":true,\"message\":\"reloaded\"}\n");
        let line = Reply::status(Status::default()).to_line();
        assert_eq!(serde_json::from_str::<Reply>(&line).expect("the same"), Reply::status(Status::default()));
        assert!(line.starts_with("{\"ok\":true,\"status\":{"), "{line}");
    }
}

//! Owns the command line: arguments in, a [`Command`] or an [`Answer`] out. One struct of flags makes the parser and the help. Reads no
//! file and opens nothing; `main` drives it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use log::LevelFilter;

use crate::config::{LOG_LEVELS, Listen, MANIFEST, Overrides, settings};
use crate::control;

/// What rusmd exits with, besides 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Failure {
    /// It could not start, or failed while it ran.
    Runtime = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The manifest or a component has errors. `EX_CONFIG` of sysexits.h, so that a script can tell a bad manifest from a bad machine.
    Config = 78,
}

/// What rusmd is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Serve until told to stop.
    Serve(Overrides),
    /// The same in the background, as a daemon.
    Daemon(Overrides),
    /// Check the manifest and its components, and exit.
    Check(Overrides),
    /// Tell a running server something.
    Control(control::Order),
}

/// A text that is the whole outcome: help, the version, or what is wrong with the arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub text: String,
    /// Absent when the text is what was asked for, and belongs on the standard output.
    pub failure: Option<Failure>,
}

#[derive(Parser, Debug)]
#[command(
    name = "rusmd",
    version,
    about = "Serves HTTP with WebAssembly components, a fresh sandboxed instance for every request",
    disable_help_subcommand = true,
    override_usage = "rusmd [OPTIONS]\n       rusmd check [OPTIONS]\n       rusmd ctl [--config FILE] [--socket PATH] [--json] COMMAND"
)]
struct Line {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    flags: Flags,
    /// Serve in the background; exit with 0 once requests are served
    #[arg(long)]
    daemon: bool,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Check the manifest and every component, print the routes, and exit
    Check,
    /// Ask or tell the running server: status, workers, reload, stop, scale, reopen, upgrade
    Ctl(ControlFlags),
}

#[derive(Args, Debug)]
struct ControlFlags {
    /// The server's control socket [default: as its manifest says]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    order: Order,
}

#[derive(Subcommand, Clone, Copy, Debug)]
enum Order {
    /// Show what the server does
    Status,
    /// Show its workers alone
    Workers,
    /// Load the manifest and the components anew, and wait until they serve
    Reload,
    /// Finish what is in flight, and stop
    Stop {
        /// Stop as soon as it can be done cleanly
        #[arg(long)]
        now: bool,
    },
    /// Have this many workers
    Scale {
        #[arg(value_name = "N", value_parser = workers)]
        count: usize,
    },
    /// Open the log files anew
    Reopen,
    /// Replace the program by the one that is at its path now, and wait until that serves
    Upgrade,
}

/// The flags, which go before the manifest.
#[derive(Args, Debug)]
struct Flags {
    /// The manifest [default: rusm.toml]
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Worker processes [default: one per CPU]
    #[arg(long, short, value_name = "N", global = true, value_parser = workers)]
    workers: Option<usize>,
    /// Listen here instead of where the manifest's only `[[serve]]` says; may be repeated
    #[arg(long, short, value_name = "ADDRESS", global = true, value_parser = listen)]
    listen: Vec<Listen>,
    /// Most detailed level that is logged: off, error, warn, info, debug, trace [default: info]
    #[arg(long = "log", value_name = "LEVEL", global = true, value_parser = level)]
    log_level: Option<LevelFilter>,
    /// The worker's program [default: rusmd-worker, beside rusmd]
    #[arg(long, value_name = "FILE", global = true)]
    worker_bin: Option<PathBuf>,
    /// Holds the pid while rusmd serves, and keeps a second one from starting
    #[arg(long, value_name = "FILE", global = true)]
    pidfile: Option<PathBuf>,
}

/// Reads the arguments, the program's name first.
///
/// # Errors
///
/// The text to print instead: help and the version too end here.
pub fn parse(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Command, Answer> {
    let after = format!(
        "Settings of [server] in the manifest, with their defaults:\n{}\n\
         Exit codes: 0 done, 1 failed, 2 bad command line, 78 the manifest or a component has errors",
        settings::help()
    );
    let parser = <Line as clap::CommandFactory>::command().after_long_help(after);
    let matches = parser.try_get_matches_from(arguments).map_err(|error| answer(&error))?;
    let line = <Line as clap::FromArgMatches>::from_arg_matches(&matches).map_err(|error| answer(&error))?;
    let Flags { config, workers, listen, log_level, worker_bin, pidfile } = line.flags;
    let overrides = Overrides { config, workers, listen, worker_bin, log_level, pidfile };
    Ok(match line.action {
        None if line.daemon => Command::Daemon(overrides),
        None => Command::Serve(overrides),
        Some(Action::Check) => Command::Check(overrides),
        Some(Action::Ctl(flags)) => Command::Control(control_order(flags, overrides)?),
    })
}

impl Failure {
    /// What a process has exited with.
    pub const fn from_code(code: u8) -> Failure {
        match code {
            2 => Failure::Usage,
            78 => Failure::Config,
            _ => Failure::Runtime,
        }
    }
}

/// Flags for a server mean nothing to one that runs: refused, so that nobody believes that they have had an effect.
fn control_order(flags: ControlFlags, overrides: Overrides) -> Result<control::Order, Answer> {
    let ControlFlags { socket, json, order } = flags;
    let config = overrides.config.clone();
    if overrides != (Overrides { config: config.clone(), ..Overrides::default() }) {
        let message = "of a server's flags, `rusmd ctl` takes only --config";
        let mut parser = <Line as clap::CommandFactory>::command();
        return Err(answer(&parser.error(clap::error::ErrorKind::ArgumentConflict, message)));
    }
    let command = match order {
        Order::Status => control::Command::Status,
        Order::Workers => control::Command::Workers,
        Order::Reload => control::Command::Reload,
        Order::Stop { now: false } => control::Command::Stop,
        Order::Stop { now: true } => control::Command::StopNow,
        Order::Scale { count } => control::Command::Scale(count),
        Order::Reopen => control::Command::Reopen,
        Order::Upgrade => control::Command::Upgrade,
    };
    Ok(control::Order { manifest: config.unwrap_or_else(|| MANIFEST.into()), socket, command, json })
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> ExitCode {
        ExitCode::from(failure as u8)
    }
}

/// House style is `hint:` where clap says `tip:`.
fn answer(error: &clap::Error) -> Answer {
    let text = error.render().to_string().replace("\n  tip: ", "\nhint: ");
    Answer { text, failure: (error.exit_code() != 0).then_some(Failure::Usage) }
}

fn workers(text: &str) -> Result<usize, String> {
    let number = text.parse::<u64>().ok().filter(|number| (1..=settings::WORKERS_MAX).contains(number));
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("must be from 1 to {}", settings::WORKERS_MAX))
}

fn listen(text: &str) -> Result<Listen, String> {
    text.parse().map_err(|error: crate::config::ListenError| format!("{error}\n\nhint: {}", error.hint()))
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let known = LOG_LEVELS.contains(&text);
    text.parse().ok().filter(|_| known).ok_or_else(|| format!("must be one of {}", LOG_LEVELS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Command, Answer> {
        parse(std::iter::once(&"rusmd").chain(arguments))
    }

    fn refused(arguments: &[&str]) -> String {
        let answer = run(arguments).expect_err("a refusal");
        assert_eq!(answer.failure, Some(Failure::Usage));
        answer.text
    }

    #[test]
    fn no_arguments_serve_the_manifest_as_it_is() {
        assert_eq!(run(&[]), Ok(Command::Serve(Overrides::default())));
        assert_eq!(run(&["check"]), Ok(Command::Check(Overrides::default())));
    }

    #[test]
    fn flags_are_taken_before_and_after_the_command() {
        let expected = Overrides {
            config: Some("a.toml".into()),
            workers: Some(8),
            listen: vec!["127.0.0.1:0".parse().expect("an address"), "[::1]:80".parse().expect("an address")],
            worker_bin: Some("w".into()),
            log_level: Some(LevelFilter::Debug),
            pidfile: Some("p".into()),
        };
        let flags = ["--config", "a.toml", "--workers=8", "--listen", "127.0.0.1:0", "--listen", "[::1]:80"];
        let more = ["--worker-bin", "w", "--log", "debug", "--pidfile", "p"];
        let all: Vec<_> = flags.iter().chain(&more).copied().collect();
        assert_eq!(run(&all), Ok(Command::Serve(expected.clone())));
        let daemon: Vec<_> = all.iter().copied().chain(std::iter::once("--daemon")).collect();
        assert_eq!(run(&daemon), Ok(Command::Daemon(expected.clone())));
        let after: Vec<_> = std::iter::once("check").chain(all.iter().copied()).collect();
        assert_eq!(run(&after), Ok(Command::Check(expected.clone())));
        let before: Vec<_> = all.iter().copied().chain(std::iter::once("check")).collect();
        assert_eq!(run(&before), Ok(Command::Check(expected)));
    }

    #[test]
    fn every_command_for_a_running_server_can_be_said() {
        let order = |command| control::Order { manifest: "rusm.toml".into(), socket: None, command, json: false };
        let table: [(&[&str], control::Command); 8] = [
            (&["status"], control::Command::Status),
            (&["workers"], control::Command::Workers),
            (&["reload"], control::Command::Reload),
            (&["stop"], control::Command::Stop),
            (&["stop", "--now"], control::Command::StopNow),
            (&["scale", "7"], control::Command::Scale(7)),
            (&["reopen"], control::Command::Reopen),
            (&["upgrade"], control::Command::Upgrade),
        ];
        for (words, command) in table {
            let line: Vec<_> = std::iter::once("ctl").chain(words.iter().copied()).collect();
            assert_eq!(run(&line), Ok(Command::Control(order(command))));
        }
        let all = control::Order {
            manifest: "a.toml".into(),
            socket: Some("s".into()),
            json: true,
            ..order(control::Command::Status)
        };
        for line in [
            ["ctl", "--config", "a.toml", "--socket", "s", "--json", "status"],
            ["ctl", "status", "--json", "--socket", "s", "-c", "a.toml"],
        ] {
            assert_eq!(run(&line), Ok(Command::Control(all.clone())));
        }
    }

    #[test]
    fn what_a_running_server_cannot_be_told_is_refused() {
        assert!(refused(&["ctl", "statsu"]).contains("hint: a similar subcommand exists: 'status'"));
        assert!(refused(&["ctl", "scale", "0"]).contains("must be from 1 to 1024"));
        assert!(refused(&["ctl", "status", "--workers", "3"]).contains("takes only --config"));
        assert!(refused(&["--socket", "s"]).contains("unexpected argument '--socket'"));
        assert!(run(&["ctl"]).is_err() && run(&["ctl", "scale"]).is_err());
    }

    #[test]
    fn workers_are_counted_within_their_bounds() {
        assert!(run(&["--workers", "1"]).is_ok() && run(&["--workers", "1024"]).is_ok());
        for wrong in ["0", "1025", "-1", "many", ""] {
            let text = refused(&[&format!("--workers={wrong}")]);
            assert!(text.contains("must be from 1 to 1024"), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_a_hint() {
        let text = refused(&["--worker", "8"]);
        assert!(text.starts_with("error: unexpected argument '--worker' found\n"), "{text}");
        assert!(text.contains("\nhint: a similar argument exists: '--workers'\n"), "{text}");
        let text = refused(&["--listen", "8080"]);
        assert!(text.contains("the address has no host\n\nhint: write \"0.0.0.0:8080\""), "{text}");
        let text = refused(&["--log", "loud"]);
        assert!(text.contains("must be one of off, error, warn, info, debug, trace"), "{text}");
        assert!(refused(&["chekc"]).contains("hint: a similar subcommand exists: 'check'"));
    }

    #[test]
    fn help_and_version_are_answers_and_not_failures() {
        let version = run(&["--version"]).expect_err("an answer");
        assert_eq!(version, Answer { text: format!("rusmd {}\n", env!("CARGO_PKG_VERSION")), failure: None });
        let help = run(&["--help"]).expect_err("an answer");
        assert_eq!(help.failure, None);
        for setting in settings::SETTINGS {
            assert!(help.text.contains(setting.name), "{}", setting.name);
        }
        let short = run(&["-h"]).expect_err("an answer");
        assert!(!short.text.contains("kill-grace-ms") && short.text.contains("--workers"));
    }
}

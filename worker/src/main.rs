//! `rusmd-worker`: the process that runs WebAssembly for `rusmd`.
//!
//! Arguments to a command, the command to an exit status. Not meant to be started by hand, except for `compile`.
//!
//! The rooms are those of the library beside it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use rusmd_worker::cache::Cache;
use rusmd_worker::serve::Components;
use rusmd_worker::{abort_on_panic, template};

const HELP: &str = "\
Runs WebAssembly components for rusmd, one request at a time.

Usage:
  rusmd-worker compile --cache DIR FILE...   compile components into the cache; prints one line for each
  rusmd-worker serve                         serve requests; started by rusmd, never by hand
  rusmd-worker --version
  rusmd-worker --help
";

/// Exit status for a command line that makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    abort_on_panic();
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|command| command.to_str()) {
        Some("serve") if arguments.len() == 0 => match template::serve::<Components>() {
            Ok(code) => code,
            Err(error) => fail(&error.to_string()),
        },
        Some("compile") => match compile_arguments(arguments) {
            Ok((cache, files)) => compile(&cache, &files),
            Err(message) => usage(&message),
        },
        Some("--version" | "-V") => print(&format!("rusmd-worker {}\n", rusmd_proto::BUILD)),
        Some("--help" | "-h") => print(HELP),
        Some(command) => usage(&format!("cannot make sense of `{command}`")),
        None => usage("a command is missing"),
    }
}

/// The cache directory and the files.
fn compile_arguments(arguments: impl Iterator<Item = OsString>) -> Result<(PathBuf, Vec<PathBuf>), String> {
    let mut arguments = arguments;
    let mut cache = None;
    let mut files = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--cache") => {
                cache = Some(PathBuf::from(arguments.next().ok_or("--cache needs a directory")?));
            }
            Some("--") => files.extend(arguments.by_ref().map(PathBuf::from)),
            Some(flag) if flag.starts_with("--") => return Err(format!("`compile` has no flag {flag}")),
            Some(_) | None => files.push(PathBuf::from(argument)),
        }
    }
    let cache = cache.ok_or("`compile` needs --cache DIR")?;
    if files.is_empty() { Err("`compile` needs a file".to_owned()) } else { Ok((cache, files)) }
}

/// Prints one line for each file: `ok`, source, artifact, `cached` or `compiled`, milliseconds; or `error`, source, two empty
/// fields, message. Separated by tabs.
fn compile(directory: &Path, files: &[PathBuf]) -> ExitCode {
    let cache = match Cache::open(directory) {
        Ok(cache) => cache,
        Err(error) => return fail(&error.to_string()),
    };
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let start = now();
        let source = file.display();
        let line = match cache.artifact(file, &mut |message| eprintln!("{message}")) {
            Ok(artifact) => {
                let how = if artifact.cached { "cached" } else { "compiled" };
                format!("ok\t{source}\t{}\t{how}\t{}\n", artifact.path.display(), start.elapsed().as_millis())
            }
            Err(error) => {
                code = ExitCode::FAILURE;
                format!("error\t{source}\t\t\t{error}\n")
            }
        };
        if print(&line) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
    }
    code
}

#[allow(clippy::disallowed_methods, reason = "the duration of a compilation is part of what `compile` prints")]
fn now() -> Instant {
    Instant::now()
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("rusmd-worker: {message}");
    ExitCode::FAILURE
}

fn usage(message: &str) -> ExitCode {
    eprintln!("rusmd-worker: {message}\nhint: `rusmd-worker --help` shows what there is");
    ExitCode::from(USAGE)
}

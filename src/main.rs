//! The program `rusmd`: arguments, and an exit code. Everything between is in the library.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match rusmd::cli::parse(std::env::args_os()) {
        Ok(command) => rusmd::run::run(command),
        Err(rusmd::cli::Answer { text, failure: None }) => {
            // Nobody reads a closed standard output.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(rusmd::cli::Answer { text, failure: Some(failure) }) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            failure.into()
        }
    }
}

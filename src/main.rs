//! The program `rusmd`: arguments, and an exit code. Everything between is in the library.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic();
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

/// A panic is a bug of ours, after which no state can be trusted. It aborts from a hook rather than by `panic = "abort"` in the profile,
/// because tests are always built to unwind, and wasmtime would be compiled twice.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

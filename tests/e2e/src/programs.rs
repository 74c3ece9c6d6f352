//! Programs of others: where the real clients are that some tests run, and what becomes of a test when one is missing.
//!
//! Owns finding and running them; `scripts/check clients` installs them. Starts no `rusmd` and knows nothing of it.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::paths::Scratch;
use crate::wait;

/// How long a client may take with all that one test has it do. Generous: the machine may be busy.
const RUN: Duration = Duration::from_secs(120);

/// Where `scripts/check clients` puts a Python with the packages that tests need.
const PYTHON: &str = "../../target/tools/clients/bin/python";

/// The program `name`. Without it there is `None`, and a line that says so whatever is captured; where `CI` is set, a failure.
#[track_caller]
pub fn find(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.or_else(|| missing(name))
}

/// The Python that has the clients from PyPI.
#[track_caller]
pub fn python() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PYTHON);
    if path.is_file() { Some(path) } else { missing("Python with `requests` and `httpx`") }
}

/// A script of `tests/e2e/clients`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Runs a program to its end and returns what it printed; fails with all of that unless it succeeds in time.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let scratch = Scratch::new();
    let (out, err) = (scratch.path().join("stdout"), scratch.path().join("stderr"));
    let create = |path: &Path| File::create(path).expect("the scratch directory is writable");
    command.stdout(create(&out)).stderr(create(&err));
    let mut child = command.spawn().expect("a program that was found can be executed");
    let status = wait::poll(RUN, || child.try_wait().expect("a child can be waited for"));
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let printed = text(&out);
    assert!(
        status.is_some_and(|status| status.success()),
        "{command:?}\nended with {status:?} (nothing: not within {RUN:?}) and printed:\n{printed}{}",
        text(&err)
    );
    printed
}

/// Names of variables by which an environment puts a proxy or other authorities between a client and its server.
const MEDDLING: &[&str] =
    &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"];

/// A program with nothing to read, and with nothing between it and the server.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    MEDDLING.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

#[track_caller]
fn missing(what: &str) -> Option<PathBuf> {
    const HINT: &str = "`scripts/check clients` installs what it can";
    assert!(env::var_os("CI").is_none(), "{what} is missing; {HINT}");
    // Not by a macro: what those print of a test that passes is thrown away.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what} is missing; {HINT}");
    None
}

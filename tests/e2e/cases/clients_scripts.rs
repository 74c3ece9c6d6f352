//! Clients of other languages: Python's own, `requests` and `httpx`; Node's `fetch` and `http`.
//!
//! Owns the running of `clients/*`, which say what has to come out of each.

use std::path::Path;

use nix::sys::signal::Signal;
use rusmd_e2e::programs;

use crate::clients::{secure_url, setup, url};
use crate::common::assert_serves;

/// Runs a script against a server of its own.
#[track_caller]
fn serves(interpreter: &Path, script: &str) {
    let server = setup().1.start();
    let authority = server.scratch().join("authority.pem");
    let mut command = programs::command(interpreter);
    command.arg(programs::script(script)).arg(url(&server, "")).arg(secure_url(&server, "")).arg(authority);
    programs::run(&mut command);
    assert_serves(&server);
    // The scripts leave downloads; a handler whose client has left runs to its end.
    server.stop_by(Signal::SIGQUIT);
}

#[test]
fn python_by_itself_is_served() {
    let Some(python) = programs::find("python3") else { return };
    serves(&python, "with_stdlib.py");
}

#[test]
fn requests_of_python_is_served() {
    let Some(python) = programs::python() else { return };
    serves(&python, "with_requests.py");
}

#[test]
fn httpx_of_python_is_served() {
    let Some(python) = programs::python() else { return };
    serves(&python, "with_httpx.py");
}

#[test]
fn fetch_and_the_agent_of_node_are_served() {
    let Some(node) = programs::find("node") else { return };
    serves(&node, "with_node.mjs");
}

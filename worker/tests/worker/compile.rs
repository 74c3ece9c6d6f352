//! `rusmd-worker compile` and the command line.

use std::process::{Command, Output};

use crate::harness::{binary, cache};
use crate::wat;

fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().expect("the worker runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_file_gets_its_line_and_one_bad_file_fails_the_command() {
    let good = wat::write("compile-good", "(component)").to_string_lossy().into_owned();
    let module = wat::write("compile-module", "(module)").to_string_lossy().into_owned();
    let directory = cache().to_string_lossy().into_owned();
    let output = run(&["compile", "--cache", &directory, &good, &module, "/nowhere/none.wasm"]);
    let lines: Vec<Vec<String>> =
        text(&output.stdout).lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5]);
    assert_eq!((lines[0][0].as_str(), lines[0][1].as_str()), ("ok", good.as_str()));
    assert!(std::path::Path::new(&lines[0][2]).exists());
    assert!(lines[0][4].parse::<u64>().is_ok());
    assert_eq!((lines[1][0].as_str(), lines[1][2].as_str()), ("error", ""));
    assert!(lines[1][4].contains("wasm-tools component new"), "{:?}", lines[1]);
    assert!(lines[2][4].contains("/nowhere/none.wasm"), "{:?}", lines[2]);
}

#[test]
fn a_command_line_that_makes_no_sense_says_what_would() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["compile"],
        &["compile", "--cache"],
        &["compile", "--cache", "/tmp/x"],
        &["compile", "--frob", "x"],
        &["serve", "now"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}");
    }
}

#[test]
fn serve_by_hand_says_who_starts_it() {
    let output = run(&["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("started by rusmd"));
}

#[test]
fn the_version_is_the_builds() {
    assert_eq!(text(&run(&["--version"]).stdout), format!("rusmd-worker {}\n", rusmd_proto::BUILD));
}

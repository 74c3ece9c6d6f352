//! What the supervisor may not contain, and what every dependency owes to the reader: one line in CONTRIBUTING.md.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Crates that run guest code or that are an asynchronous runtime: the process that holds every client's socket has none of them.
const NOT_IN_THE_SUPERVISOR: [&str; 11] = [
    "wasmtime",
    "cranelift",
    "wasmi",
    "wasmer",
    "async-std",
    "async-executor",
    "async-io",
    "smol",
    "futures-executor",
    "hyper",
    "rusmd-worker",
];

/// Of tokio it has the traits by which `h2` reads and writes: no tasks, no timers, no sockets, no threads.
const NOT_OF_TOKIO_IN_THE_SUPERVISOR: [&str; 10] =
    ["rt", "rt-multi-thread", "net", "time", "process", "signal", "fs", "io-std", "macros", "full"];

#[test]
fn the_supervisor_contains_no_webassembly_and_no_async_runtime() {
    let packages = cargo_tree(&["--package", "rusmd", "--edges", "normal,build", "--prefix", "none"]);
    assert!(packages.lines().any(|line| line.starts_with("rusmd-proto ")), "an unexpected tree:\n{packages}");
    for line in packages.lines() {
        let name = package_name(line);
        assert!(!NOT_IN_THE_SUPERVISOR.iter().any(|banned| name.starts_with(banned)), "rusmd depends on {line}");
    }
    let features = tokio_features("rusmd");
    let runtime: Vec<_> = NOT_OF_TOKIO_IN_THE_SUPERVISOR.iter().filter(|name| features.contains(**name)).collect();
    assert!(runtime.is_empty(), "rusmd has these features of tokio: {runtime:?}");
}

#[test]
fn the_list_of_what_is_kept_out_would_notice_the_worker() {
    let packages = cargo_tree(&["--package", "rusmd-worker", "--edges", "normal", "--prefix", "none"]);
    for banned in ["wasmtime", "cranelift", "tokio"] {
        assert!(packages.lines().any(|line| package_name(line).starts_with(banned)), "the worker is without {banned}");
    }
    let features = tokio_features("rusmd-worker");
    assert!(features.contains("rt") && features.contains("net"), "the worker has no runtime: {features:?}");
}

/// What a package of this workspace has of tokio when it is built by itself. Built together with others it is linked to what those have as well,
/// which it does not call.
fn tokio_features(package: &str) -> BTreeSet<String> {
    let tree = cargo_tree(&["--package", package, "--edges", "normal,features", "--prefix", "none"]);
    let feature = |line: &str| line.strip_prefix("tokio feature \"")?.split('"').next().map(str::to_owned);
    let features: BTreeSet<String> = tree.lines().filter_map(feature).collect();
    assert!(!features.is_empty(), "{package} has no tokio, or the tree has another form:\n{tree}");
    features
}

#[test]
fn every_direct_dependency_has_its_reason_in_contributing() {
    let direct = direct_dependencies();
    let explained = explained_dependencies();
    let unexplained: Vec<_> = direct.difference(&explained).collect();
    let left_over: Vec<_> = explained.difference(&direct).collect();
    assert!(unexplained.is_empty(), "CONTRIBUTING.md, \"Dependencies\", has no line for {unexplained:?}");
    assert!(left_over.is_empty(), "CONTRIBUTING.md, \"Dependencies\", still has lines for {left_over:?}");
}

/// The crates that packages of this workspace name in their manifests, but for each other.
fn direct_dependencies() -> BTreeSet<String> {
    let tree =
        cargo_tree(&["--workspace", "--edges", "normal,build,dev", "--depth", "1", "--no-dedupe", "--prefix", "depth"]);
    let at_depth = |depth| tree.lines().filter_map(move |line| line.strip_prefix(depth)).map(package_name);
    let own: BTreeSet<&str> = at_depth('0').collect();
    at_depth('1').filter(|name| !own.contains(name)).map(str::to_owned).collect()
}

/// The first column of the tables below the heading "Dependencies".
fn explained_dependencies() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CONTRIBUTING.md"))
        .expect("CONTRIBUTING.md is in the root");
    let (_, section) = text.split_once("\n## Dependencies\n").expect("it has a section \"Dependencies\"");
    let section = section.split("\n## ").next().unwrap_or(section);
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, reason)| {
            assert!(reason.trim_matches([' ', '|']).len() > 10, "`{name}` has no reason in CONTRIBUTING.md");
            name.to_owned()
        })
        .collect()
}

fn package_name(line: &str) -> &str {
    line.split(' ').next().unwrap_or(line)
}

fn cargo_tree(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .args(arguments)
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("names of packages are UTF-8")
}

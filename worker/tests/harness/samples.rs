//! What tests feed a worker with: the binary, the components that `scripts/guests` built, and messages that are good enough.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{
    BUILD, ComponentSpec, Hello, LogLevel, Network, RequestHead, Sandbox, SandboxLevel, Scheme, ToWorker,
};

/// The worker's binary: cargo names it for tests; an example finds it beside itself, unless it is told where.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RUSMD_WORKER") {
        return path.into();
    }
    match option_env!("CARGO_BIN_EXE_rusmd-worker") {
        Some(path) => path.into(),
        None => {
            let example = std::env::current_exe().expect("a program has a path");
            let release = example.ancestors().nth(2).expect("examples lie in a directory of their own");
            release.join("rusmd-worker")
        }
    }
}

/// Where compiled components of tests go.
pub fn cache() -> PathBuf {
    repository().join("target/guests/worker-cache")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// A component that `scripts/guests` built, by its name.
pub fn guest(name: &str) -> PathBuf {
    let path = repository().join(format!("target/guests/{name}.wasm"));
    assert!(path.exists(), "{} is missing; build it with scripts/guests", path.display());
    path
}

/// Compiles a component and returns the artifact's path.
pub fn compile(wasm: &Path) -> String {
    let output =
        Command::new(binary()).arg("compile").arg("--cache").arg(cache()).arg(wasm).output().expect("compile runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text.split('\t').nth(2).expect("the third field is the artifact").to_owned()
}

pub fn spec(artifact: &str) -> ComponentSpec<'_> {
    ComponentSpec {
        name: "test",
        artifact,
        memory_bytes_max: 256 << 20,
        env: Vec::new(),
        preopens: Vec::new(),
        network: Network::Denied,
    }
}

pub fn hello(components: Vec<ComponentSpec<'_>>) -> ToWorker<'_> {
    ToWorker::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        build: BUILD,
        supervisor_pid: std::process::id(),
        log_level: Some(LogLevel::Trace),
        sandbox: Sandbox { wanted: SandboxLevel::BestEffort, identity: None, data_bytes_max: 0 },
        components,
    })
}

/// A plain request with a query.
pub fn head_with_query<'a>(path: &'a str, query: &'a str) -> RequestHead<'a> {
    RequestHead { query: Some(query).filter(|query| !query.is_empty()), ..head("GET", path) }
}

/// A plain request for component 0.
pub fn head<'a>(method: &'a str, path: &'a str) -> RequestHead<'a> {
    RequestHead {
        component: 0,
        action: None,
        method,
        scheme: Scheme::Http,
        authority: "test.example:8080",
        path,
        query: None,
        peer: None,
        body_bytes: None,
        params: Vec::new(),
        headers: vec![("user-agent", b"test"), ("accept", b"*/*")],
    }
}

//! The command line: help, version, `check`, and starts that must be refused with a reason.
//!
//! Owns exit codes and messages. No test here needs a client for long.

use std::net::TcpListener;
use std::process::{Command, Output};

use rusmd_e2e::paths::{self, Scratch};
use rusmd_e2e::{Setup, manifest::Manifest};

use crate::common::{Form, HELLO};

/// Exit code of a misused command line.
const USAGE: i32 = 2;
/// Exit code of a manifest or component that is at fault.
const CONFIG: i32 = 78;

fn rusmd(arguments: &[&str]) -> Output {
    Command::new(paths::binary("rusmd")).args(arguments).env_remove("RUST_LOG").output().expect("it can be executed")
}

fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `rusmd check` on a manifest.
#[track_caller]
fn check(manifest: &Manifest) -> (Option<i32>, String) {
    check_text(&manifest.to_toml())
}

#[track_caller]
fn check_text(toml: &str) -> (Option<i32>, String) {
    let scratch = Scratch::new();
    let path = scratch.write("rusm.toml", toml);
    let output = rusmd(&["check", "--config", path.to_str().unwrap()]);
    (output.status.code(), printed(&output))
}

#[test]
fn help_names_every_flag_and_succeeds() {
    let output = rusmd(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    for word in ["--config", "--workers", "--listen", "check", "--version", "rusm.toml"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "a line is too long for a terminal:\n{text}");
}

#[test]
fn version_is_one_line() {
    let output = rusmd(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("rusmd ") && text.lines().count() == 1, "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = rusmd(&["--wrokers", "2"]);
    assert_eq!(output.status.code(), Some(USAGE));
    let text = printed(&output);
    assert!(text.contains("--wrokers") && text.contains("--workers"), "{text}");
}

#[test]
fn a_missing_manifest_says_where_it_was_looked_for() {
    let output = rusmd(&["--config", "/no/such/rusm.toml"]);
    assert_ne!(output.status.code(), Some(0));
    let text = printed(&output);
    assert!(text.contains("/no/such/rusm.toml") && text.contains("hint:"), "{text}");
}

#[test]
fn check_prints_the_routes_and_succeeds() {
    let mut manifest = Manifest::new();
    manifest.add_routes_listener(&[("GET /users/:id", "faults#hello"), ("/files/*", "wasi-faults")]);
    let (code, text) = check(&manifest);
    assert_eq!(code, Some(0), "{text}");
    for word in ["GET", "/users/:id", "faults#hello", "/files/*", "wasi-faults"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn check_shows_every_mistake_at_once() {
    let (code, text) = check_text(
        "[server]\nwrokers = 2\n\n[[serve]]\nprotocol = \"http\"\nlisten = \"127.0.0.1:0\"\n[serve.routes]\n\
         \"GET /a\" = \"one\"\n\"GET /a/\" = \"two\"\n\n[capabilities.small]\nmax-memory = 64\n",
    );
    assert_eq!(code, Some(CONFIG), "{text}");
    for word in ["wrokers", "did you mean `workers`", "max-memory-mb", "rusm.toml:2:1", "^^^"] {
        assert!(text.contains(word), "no {word} in\n{text}");
    }
}

#[test]
fn check_finds_missing_components_and_actions() {
    let mut manifest = Manifest::new();
    manifest.add_routes_listener(&[("GET /a", "faults#no_such_action"), ("GET /b", "unregistered-name#show")]);
    let (code, text) = check(&manifest);
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("no_such_action") && text.contains("unregistered-name"), "{text}");
}

#[test]
fn a_file_that_is_no_component_is_refused_with_what_to_do() {
    let scratch = Scratch::new();
    let cases: [(&str, &[u8], &str); 3] = [
        ("text", b"this is not WebAssembly", "WebAssembly"),
        ("module", b"\0asm\x01\0\0\0", "component"),
        ("empty", b"", "WebAssembly"),
    ];
    for (name, bytes, word) in cases {
        let source = scratch.write(&format!("{name}.wasm"), bytes);
        let mut manifest = Manifest::new();
        manifest.set_source(name, source);
        manifest.add_component_listener(name);
        let (code, text) = check(&manifest);
        assert_eq!(code, Some(CONFIG), "{text}");
        assert!(text.contains(word), "no {word} in\n{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_component_that_exports_no_handler_is_refused_with_what_it_exports() {
    let scratch = Scratch::new();
    // The empty component.
    let source = scratch.write("nothing.wasm", b"\0asm\x0d\0\x01\0");
    let mut manifest = Manifest::new();
    manifest.set_source("nothing", source);
    manifest.add_component_listener("nothing");
    let (code, text) = check(&manifest);
    assert_eq!(code, Some(CONFIG), "{text}");
    assert!(text.contains("wasi:http") && text.contains("rusm:http"), "{text}");
}

#[test]
fn one_unloadable_component_does_not_stop_the_others() {
    let scratch = Scratch::new();
    let source = scratch.write("broken.wasm", b"this is not WebAssembly");
    let server = Form::Handlers
        .setup()
        .source("broken", source)
        .routes(&[("GET /broken", "broken#show"), ("GET /hello", "faults#hello")])
        .expect_error("broken")
        .start();
    server.get("/hello").assert(200, HELLO);
    let mut client = rusmd_e2e::Client::connect(server.addresses()[1]);
    client.get("/broken");
    assert_eq!(client.response().status(), 500);
}

#[test]
fn a_component_that_fails_while_it_is_loaded_is_reported_and_the_others_are_served() {
    for broken in ["traps-at-load", "hangs-at-load"] {
        let server = Form::Handlers
            .setup()
            .routes(&[("GET /broken", &format!("{broken}#show")), ("GET /hello", "faults#hello")])
            .expect_error(broken)
            .expect_error("panicked")
            .start();
        server.wait_for_log(&[broken]);
        let mut client = rusmd_e2e::Client::connect(server.addresses()[1]);
        client.get("/broken");
        assert_eq!(client.response().status(), 500);
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
}

#[test]
fn a_missing_component_file_is_reported_and_the_others_are_served() {
    let server = Form::Handlers
        .setup()
        .source("absent", "/no/such/absent.wasm".into())
        .routes(&[("GET /absent", "absent#show"), ("GET /hello", "faults#hello")])
        .expect_error("absent")
        .start();
    assert!(server.log().contains("/no/such/absent.wasm"), "the start does not report it");
    server.get("/hello").assert(200, HELLO);
    let mut client = rusmd_e2e::Client::connect(server.addresses()[1]);
    client.get("/absent");
    assert_eq!(client.response().status(), 500);
    client.get("/hello");
    client.response().assert(200, HELLO);
}

#[test]
fn a_missing_worker_binary_is_named() {
    let (status, log) = Form::Handlers.setup().argument("--worker-bin").argument("/no/such/worker").start_refused();
    assert!(!status.success());
    assert!(log.contains("/no/such/worker") && log.contains("hint:"), "{log}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = taken.local_addr().unwrap().to_string();
    let (status, log) = Form::Handlers.setup().listen(&address).start_refused();
    assert!(!status.success());
    assert!(log.contains(&address) && log.to_lowercase().contains("in use"), "{log}");
}

#[test]
fn flags_override_the_manifest() {
    let server = Form::Handlers
        .setup()
        .server("workers", 1)
        .server("spare-workers", 0)
        .argument("--workers")
        .argument("3")
        .argument("--listen")
        .argument("127.0.0.1:0")
        .start();
    assert_eq!(server.workers().len(), 3);
    server.get("/hello").assert(200, HELLO);
}

#[test]
fn a_manifest_of_any_bytes_is_an_error_and_no_panic() {
    let scratch = Scratch::new();
    let deep = format!("a = {}", "[".repeat(100_000));
    let cases: [&[u8]; 4] = [b"\xff\xfe\x00", b"[server", deep.as_bytes(), b""];
    for bytes in cases {
        let path = scratch.write("rusm.toml", bytes);
        let output = rusmd(&["check", "--config", path.to_str().unwrap()]);
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(CONFIG), "{text}");
        assert!(text.contains("error:") && !text.contains("panicked"), "{text}");
    }
}

#[test]
fn a_start_with_everything_cached_is_quick() {
    // A figure is promised elsewhere; here it only must not compile anything again.
    let server = Setup::new().component("ts-hello").start();
    assert!(!server.log().contains("compiling"), "{}", server.log());
    assert_eq!(server.get("/users/42").text(), "user 42");
}

#[test]
fn a_control_socket_where_nobody_listens_is_named_and_who_wants_json_gets_json() {
    let scratch = Scratch::new();
    let nowhere = scratch.path().join("nowhere.sock");
    let output = rusmd(&["ctl", "status", "--json", "--socket", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains(&format!("no server listens at {}", nowhere.display())), "{why}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["ok"], false);
    assert!(told["error"].as_str().is_some_and(|error| error.contains("nowhere.sock")), "{told}");
}

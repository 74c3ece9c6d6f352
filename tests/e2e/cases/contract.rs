//! The contract's rows about guests: what a client gets for what a component does, in each form of component.
//!
//! Owns traps, limits, missing and invalid responses. Deadlines and dying processes are in `workers`, broken bodies in
//! `bodies`, requests that never reach a guest in `http`.

use std::thread;

use rusmd_e2e::paths::Scratch;
use rusmd_e2e::{Client, Setup, process, wait};

use crate::common::{Form, HELLO, assert_failed, assert_fails, assert_serves, is_request_id};

const FORMS: [Form; 3] = [Form::Handlers, Form::Wasi, Form::TypeScript];

#[test]
fn a_normal_request_gets_the_guests_response() {
    for form in FORMS {
        let server = form.setup().start();
        let response = server.get("/hello");
        assert_eq!(response.status(), 200, "{form:?}");
        assert!(response.text().starts_with("hello"), "{form:?}");
    }
    let server = Form::Handlers.setup().start();
    let media_type = server.get("/hello").header("content-type").map(str::to_owned);
    assert!(media_type.as_deref().is_some_and(|value| value.starts_with("text/plain")), "{media_type:?}");
}

#[test]
fn an_error_status_of_the_guests_choice_is_passed_on() {
    for form in FORMS {
        let server = form.setup().start();
        for status in [400, 404, 418, 500, 502, 503, 599] {
            assert_eq!(server.get(&format!("/status/{status}")).status(), status, "{form:?}");
        }
        assert_serves(&server);
    }
}

#[test]
fn every_request_gets_a_fresh_instance() {
    let server = Form::Handlers.setup().server("workers", 1).component("ts-fetch").start();
    for _ in 0..3 {
        server.get("/count").assert(200, "1\n");
        let mut client = Client::connect(server.addresses()[1]);
        client.get("/users/42?page=2");
        let text = client.response().text();
        assert!(text.contains("\"hits\":1") && text.contains("\"page\":\"2\""), "{text}");
    }
}

/// One fault in one form, three times, with an unchanged set of workers: a trap costs an instance, not a process.
#[track_caller]
fn fault(form: Form, path: &str, log: &[&str]) {
    let mut server = form.setup().start();
    let workers = server.workers();
    for _ in 0..3 {
        assert_fails(&mut server, path, 502, log);
    }
    assert_eq!(server.workers(), workers, "a fault in the guest does not cost the worker");
}

#[test]
fn a_panic_in_a_handler_is_502_with_its_message_and_backtrace_in_the_log() {
    fault(Form::Handlers, "/panic", &["panicked"]);
    let mut server = Form::Handlers.setup().start();
    assert_fails(&mut server, "/panic", 502, &["trap"]);
    wait::until("the guest's backtrace is logged", || {
        let log = server.log();
        log.contains("a deliberate panic") && log.contains("guest backtrace") && log.contains("panic_fmt")
    });
}

#[test]
fn a_panic_in_a_wasi_http_component_is_502() {
    fault(Form::Wasi, "/panic", &["panicked"]);
}

#[test]
fn an_uncaught_exception_is_502_with_its_stack_in_the_log_only() {
    fault(Form::TypeScript, "/throw", &["thrown on purpose"]);
}

#[test]
fn a_rejected_promise_is_502() {
    fault(Form::TypeScript, "/reject", &["rejected on purpose"]);
}

#[test]
fn an_exception_in_a_timer_is_502() {
    fault(Form::TypeScript, "/throw-in-timer", &["thrown in a timer on purpose"]);
}

#[test]
fn an_unreachable_instruction_is_502() {
    fault(Form::Handlers, "/unreachable", &["trap"]);
    fault(Form::Handlers, "/divide-by-zero", &["trap"]);
    fault(Form::Handlers, "/unwrap-none", &["panicked"]);
}

#[test]
fn infinite_recursion_in_a_handler_is_502() {
    fault(Form::Handlers, "/recursion", &["stack"]);
}

#[test]
fn infinite_recursion_in_a_wasi_http_component_is_502() {
    fault(Form::Wasi, "/recursion", &["stack"]);
}

#[test]
fn infinite_recursion_in_typescript_is_502() {
    fault(Form::TypeScript, "/recursion", &["recursion"]);
}

#[test]
fn an_exit_is_502() {
    fault(Form::Handlers, "/exit/success", &[]);
    fault(Form::Handlers, "/exit/failure", &[]);
    fault(Form::Wasi, "/exit?code=0", &[]);
    fault(Form::Wasi, "/exit?code=1", &[]);
}

/// Beyond the limit is 502, named as memory; the limit itself is really there.
#[track_caller]
fn memory(form: Form, limit_mb: u32, over: &str, within: &str) {
    let mut server = form.setup().capability(form.component(), &format!("max-memory-mb = {limit_mb}")).start();
    for _ in 0..3 {
        assert_fails(&mut server, over, 502, &["memory"]);
        assert_eq!(server.get(within).status(), 200, "{within} fits into {limit_mb} MiB");
    }
}

#[test]
fn the_memory_limit_of_a_handler_is_502_and_what_it_grants_is_there() {
    memory(Form::Handlers, 32, "/memory", "/fit?mb=24");
    memory(Form::Handlers, 256, "/grow?mb=300", "/fit?mb=240");
}

#[test]
fn the_memory_limit_of_a_wasi_http_component_is_502_and_what_it_grants_is_there() {
    memory(Form::Wasi, 256, "/memory", "/fit?mb=240");
}

#[test]
fn the_memory_limit_of_typescript_is_502_and_what_it_grants_is_there() {
    memory(Form::TypeScript, 256, "/memory", "/memory-use?mb=128");
}

#[test]
fn a_wasi_http_component_that_returns_nothing_is_502() {
    fault(Form::Wasi, "/no-response", &["no response"]);
}

#[test]
fn typescript_that_returns_nothing_is_502() {
    fault(Form::TypeScript, "/returns-nothing", &["returned undefined"]);
}

#[test]
fn typescript_that_returns_no_response_is_502() {
    fault(Form::TypeScript, "/returns-string", &["returned a string"]);
}

#[test]
fn an_invalid_status_from_a_handler_is_502() {
    fault(Form::Handlers, "/invalid-status", &["invalid response"]);
}

#[test]
fn an_invalid_header_from_a_handler_is_502() {
    fault(Form::Handlers, "/invalid-header/name", &["invalid response"]);
    fault(Form::Handlers, "/invalid-header/value", &["invalid response"]);
}

#[test]
fn an_invalid_status_from_a_wasi_http_component_is_502() {
    fault(Form::Wasi, "/bad-status?code=999", &["invalid response"]);
    fault(Form::Wasi, "/bad-status?code=101", &["invalid response"]);
}

#[test]
fn an_error_code_instead_of_a_response_is_502() {
    fault(Form::Wasi, "/error-response", &["asked for"]);
}

#[test]
fn a_wasi_http_component_cannot_split_a_response() {
    let server = Form::Wasi.setup().start();
    assert_eq!(server.get("/bad-header").header("set-cookie"), None);
    assert_serves(&server);
}

#[test]
fn a_panic_in_a_wasi_http_0_3_component_is_502() {
    let mut server = Setup::new().component("hello-wasi3").start();
    for _ in 0..3 {
        let response = server.get("/panic");
        assert_failed(&mut server, &response, 502);
        server.get("/").assert(200, "hello world\n");
    }
}

#[test]
fn an_invalid_status_in_typescript_is_502() {
    fault(Form::TypeScript, "/invalid-status", &["RangeError"]);
}

#[test]
fn an_invalid_header_in_typescript_is_502() {
    fault(Form::TypeScript, "/invalid-header", &[]);
}

#[test]
fn a_fault_touches_no_other_request() {
    for form in FORMS {
        let mut server = form.setup().start();
        let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let faulty = if matches!(form, Form::TypeScript) { "/throw" } else { "/panic" };
        for (n, client) in clients.iter_mut().enumerate() {
            client.get(if n % 2 == 0 { "/hello" } else { faulty });
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let response = client.response();
            if n % 2 == 0 {
                assert!(response.text().starts_with("hello"), "{}", response.text());
            } else {
                assert_failed(&mut server, &response, 502);
            }
        }
    }
}

#[test]
fn a_connection_outlives_a_fault() {
    let mut server = Form::Handlers.setup().start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.get("/panic");
        let response = client.response();
        assert_failed(&mut server, &response, 502);
        client.get("/hello");
        client.response().assert(200, HELLO);
    }
}

#[test]
fn what_guests_log_carries_the_request_id() {
    let server =
        Form::Handlers.setup().component("wasi-faults").component("ts-faults").expect_error("an error line").start();
    let ask = |listener: usize| {
        let mut client = Client::connect(server.addresses()[listener]);
        client.get("/log");
        assert_eq!(client.response().status(), 200);
    };
    (0..3).for_each(ask);
    for part in ["a warn line", "an info line", "a line on stdout", "a line on stderr", "a line by console.log"] {
        let line = server.wait_for_log(&[part]);
        assert!(line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_request_id), "no request id in {line:?}");
    }
    assert!(!server.log().contains("a debug line"), "the level is info");
}

#[test]
fn a_guest_cannot_forge_log_lines() {
    let server = Form::Handlers.setup().expect_error("forged").start();
    server.get("/log/forgery").assert(200, "logged\n");
    server.wait_for_log(&["forged fourth"]);
    let log = server.log();
    assert!(!log.contains(['\r', '\0', '\x1b']), "control bytes reach the log: {log:?}");
    for line in log.lines().filter(|line| line.contains("forged")) {
        // A line of the log's own has the request's id; what a message adds is indented.
        let marked = line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_request_id) || line.starts_with("    ");
        assert!(marked, "a forged line: {line:?}");
    }
}

#[test]
fn a_flood_of_output_is_bounded() {
    let server = Form::Handlers.setup().start();
    for path in ["/stderr/flood?bytes=20000000", "/stderr/endless-line?bytes=20000000"] {
        server.get(path).assert(200, "flooded\n");
        assert_serves(&server);
    }
    assert!(server.log().len() < 4 << 20, "the log has {} bytes", server.log().len());
}

#[test]
fn a_component_has_only_what_it_is_given() {
    let server = Form::Handlers.setup().component("wasi-faults").start();
    server.get("/env").assert(200, "");
    assert_eq!(server.get("/read?path=/etc/passwd").status(), 403);
    for path in ["/fs", &format!("/net?authority={}", server.address())] {
        let mut client = Client::connect(server.addresses()[1]);
        client.get(path);
        let text = client.response().text();
        assert!(text.starts_with("refused"), "{path}: {text}");
    }
}

#[test]
fn a_component_is_given_what_its_capability_says() {
    let scratch = Scratch::new();
    scratch.write("greeting", "good morning\n");
    let server = Form::Handlers
        .setup()
        .capability("faults", "env = { COLOUR = \"green\" }")
        .capability("faults", &format!("preopen = [{{ host = {:?}, guest = \"/data\" }}]", scratch.path()))
        .component("wasi-faults")
        .capability("wasi-faults", "allow-network = true")
        .start();
    server.get("/env").assert(200, "COLOUR=green\n");
    server.get("/read?path=/data/greeting").assert(200, "good morning\n");
    let mut client = Client::connect(server.addresses()[1]);
    client.get(&format!("/net?authority={}", server.address()));
    client.response().assert(200, "allowed: 404\n");
}

#[test]
fn many_faults_leave_nothing_behind() {
    const ROUNDS: usize = 300;
    const GROWTH_KIB_MAX: u64 = 4 * 1024;
    let mut server = Form::Handlers.setup().expect_error("trap").expect_error("panicked").start();
    let round = |count: usize| {
        let mut client = server.connect();
        for _ in 0..count {
            client.get("/panic");
            assert_eq!(client.response().status(), 502);
            client.get("/hello");
            client.response().assert(200, HELLO);
        }
        let workers = server.workers();
        let resident = |pid: i32| process::usage(pid).map_or(0, |usage| usage.resident_kib);
        (server.usage().resident_kib, workers.iter().copied().map(resident).sum::<u64>(), workers)
    };
    // The first rounds fill caches.
    let before = round(ROUNDS);
    let after = round(ROUNDS);
    assert_eq!(before.2, after.2, "no worker was replaced");
    assert!(after.0 <= before.0 + GROWTH_KIB_MAX, "the supervisor grew: {} to {} KiB", before.0, after.0);
    assert!(after.1 <= before.1 + GROWTH_KIB_MAX, "the workers grew: {} to {} KiB", before.1, after.1);
    server.expect_error("backtrace");
}

#[test]
fn concurrent_requests_get_their_own_answers() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 100;
    let server = Form::Handlers.setup().server("workers", 4).start();
    let address = server.address();
    thread::scope(|scope| {
        for client_number in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for request_number in 0..REQUESTS {
                    let body = format!("client {client_number} request {request_number} ").repeat(request_number + 1);
                    client.post("/echo", body.as_bytes());
                    client.response().assert(200, &body);
                }
            });
        }
    });
}

#[test]
fn a_component_of_another_toolchain_is_served() {
    let mut server = Setup::new().component("wstd-echo").start();
    assert_serves(&server);
    let mut client = server.connect();
    client.post("/echo", b"through wstd");
    client.response().assert(200, "through wstd");
    assert_eq!(server.get("/no/such").status(), 404);
    assert_fails(&mut server, "/panic", 502, &["panicked"]);
}

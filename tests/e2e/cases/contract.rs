//! The contract's rows about guests: what a client gets for what a component does, in each form of component.
//!
//! Owns traps, limits, missing and invalid responses. Deadlines and dying processes are in `workers`, broken bodies in
//! `bodies`, requests that never reach a guest in `http`.

use rusmd_e2e::wait;

use crate::common::{Form, HELLO, assert_failed, assert_fails};

const FORMS: [Form; 3] = [Form::Handlers, Form::Wasi, Form::TypeScript];

#[test]
fn a_normal_request_gets_the_guests_response() {
    for form in FORMS {
        let server = form.setup().start();
        let response = server.get("/hello");
        response.assert(200, HELLO);
        assert!(response.header("content-type").is_some_and(|value| value.starts_with("text/plain")), "{form:?}");
    }
}

#[test]
fn an_error_status_of_the_guests_choice_is_passed_on() {
    for form in FORMS {
        let server = form.setup().start();
        for status in [400, 404, 418, 500, 502, 503, 599] {
            assert_eq!(server.get(&format!("/status/{status}")).status(), status, "{form:?}");
        }
        server.get("/hello").assert(200, HELLO);
    }
}

#[test]
fn every_request_gets_a_fresh_instance() {
    let server = Form::Handlers.setup().server("workers", 1).start();
    for _ in 0..3 {
        server.get("/counter").assert(200, "1\n");
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
    assert_fails(&mut server, "/panic", 502, &["on purpose"]);
    wait::until("the guest's backtrace is logged", || {
        let log = server.log();
        log.contains("trap") && log.contains("faults")
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
    fault(Form::Handlers, "/exit/0", &[]);
    fault(Form::Handlers, "/exit/1", &[]);
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
    memory(Form::Handlers, 32, "/memory/64", "/memory/24");
    memory(Form::Handlers, 256, "/memory/300", "/memory/240");
}

#[test]
fn the_memory_limit_of_a_wasi_http_component_is_502_and_what_it_grants_is_there() {
    memory(Form::Wasi, 256, "/memory?mb=300", "/memory?mb=240");
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
    fault(Form::Handlers, "/invalid-header", &["invalid response"]);
}

#[test]
fn an_invalid_status_from_a_wasi_http_component_is_502() {
    fault(Form::Wasi, "/bad-status", &[]);
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
        let mut server = form.setup().server("workers", 2).start();
        let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let faulty = if matches!(form, Form::TypeScript) { "/throw" } else { "/panic" };
        for (n, client) in clients.iter_mut().enumerate() {
            client.get(if n % 2 == 0 { "/hello" } else { faulty });
        }
        for (n, client) in clients.iter_mut().enumerate() {
            let response = client.response();
            if n % 2 == 0 {
                response.assert(200, HELLO);
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
    let server = Form::Handlers.setup().start();
    server.get("/log/a-line-by-log-info").header("x-request-id");
    let line = server.wait_for_log(&["a-line-by-log-info"]);
    let has_id = line
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| word.len() == 16 && word.chars().all(|c| c.is_ascii_hexdigit()));
    assert!(has_id, "no request id in {line:?}");
}

#[test]
fn a_flood_of_output_is_bounded() {
    let server = Form::Handlers.setup().start();
    server.get("/flood").status();
    server.get("/hello").assert(200, HELLO);
    assert!(server.log().len() < 4 << 20, "the log has {} bytes", server.log().len());
}

#[test]
fn a_component_has_only_the_environment_that_it_is_given() {
    let server = Form::Handlers.setup().capability("faults", "env = { COLOUR = \"green\" }").start();
    server.get("/env").assert(200, "COLOUR=green\n");
    let server = Form::Handlers.setup().start();
    server.get("/env").assert(200, "");
}

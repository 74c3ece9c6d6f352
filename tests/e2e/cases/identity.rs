//! The one id that a request has: for its client, its component, every log and the operator.

use rusmd_e2e::wait::{self, SOON};
use rusmd_e2e::{Client, Response, Server, Setup, paths};
use serde_json::Value;

use crate::common::{is_request_id, request_id};

const ROUTES: &[(&str, &str)] = &[
    ("/show", "faults#show"),
    ("/panic", "faults#panic"),
    ("/log", "faults#log"),
    ("/spin", "faults#spin"),
    ("POST /echo", "faults#echo"),
    ("/unregistered", "unregistered#show"),
    ("GET /files/*", "dir:public"),
];
const TRUSTED: &str = "trusted-proxies = [\"127.0.0.0/8\"]";

fn setup() -> Setup {
    let setup = Setup::new().routes(ROUTES).public("a.txt", "a\n");
    setup.log("access", "\"access.log\"").log("access-format", "\"json\"").expect_error("unregistered")
}

/// Asks with an id, if there is one.
fn ask(server: &Server, request_line: &str, id: Option<&str>) -> Response {
    let mut client = server.connect();
    let field = id.map(|id| format!("X-Request-Id: {id}\r\n")).unwrap_or_default();
    client.send(format!("{request_line} HTTP/1.1\r\nHost: a\r\n{field}\r\n"));
    client.response_to(request_line.split(' ').next().unwrap_or_default())
}

#[track_caller]
fn id_of(response: &Response) -> String {
    let fields: Vec<_> = response.head.headers.iter().filter(|(name, _)| name == "x-request-id").collect();
    assert_eq!(fields.len(), 1, "{:?}", response.head);
    fields[0].1.clone()
}

/// The lines of the access log with this id, once there is one.
#[track_caller]
fn logged(server: &Server, id: &str) -> Vec<Value> {
    let found = || -> Option<Vec<Value>> {
        let log = server.read("access.log");
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let lines: Vec<Value> = lines.into_iter().filter(|line| line["id"] == id).collect();
        (!lines.is_empty()).then_some(lines)
    };
    wait::poll(SOON, found).unwrap_or_else(|| panic!("no line with {id} in {}", server.read("access.log")))
}

#[test]
fn every_response_has_the_id_that_the_access_log_has() {
    let server = setup().expect_error("panic").expect_error("guest backtrace").start();
    let mut seen = Vec::new();
    for (request, status) in [
        ("GET /show", 200),
        ("HEAD /show", 200),
        ("GET /panic", 502),
        ("GET /none", 404),
        ("DELETE /files/a.txt", 405),
        ("OPTIONS /files/a.txt", 204),
        ("OPTIONS *", 204),
        ("GET /unregistered", 500),
        ("GET /files/a.txt", 200),
        ("HEAD /files/a.txt", 200),
        ("GET /files/none", 404),
        ("GET /files/", 404),
        ("GET /%", 400),
        ("GET http:/", 400),
    ] {
        let response = ask(&server, request, None);
        let id = id_of(&response);
        assert_eq!(response.status(), status, "{request}");
        assert!(is_request_id(&id), "{request}: {id}");
        assert!(!seen.contains(&id), "{request}: {id} came twice");
        if status >= 400 {
            assert_eq!(request_id(&response), id, "{request}");
        }
        let lines = logged(&server, &id);
        assert_eq!((lines.len(), &lines[0]["status"]), (1, &status.into()), "{request}");
        seen.push(id);
    }
}

#[test]
fn a_component_is_told_the_id_and_no_other() {
    let server = setup().listener_line("trusted-proxies = [\"192.0.2.0/24\"]").start();
    let response = ask(&server, "GET /show", Some("from-a-stranger"));
    let (id, text) = (id_of(&response), response.text());
    assert!(is_request_id(&id), "{id}");
    assert!(text.contains(&format!("\nid {id}\n")), "{text}");
    assert_eq!(text.matches("request-id").count(), 1, "{text}");
    assert!(text.contains(&format!("header x-request-id: {id}\n")), "{text}");
    // Who makes variables of fields cannot tell an underscore from a hyphen.
    let mut client = server.connect();
    client.send("GET /show HTTP/1.1\r\nHost: a\r\nX_Request_Id: forged\r\n\r\n");
    assert!(!client.response().text().contains("forged"));
}

#[test]
fn a_trusted_proxy_may_say_what_a_request_is_called() {
    let server = setup().listener_line(TRUSTED).expect_error("crash-7").expect_error("an error line").start();
    let longest = "a".repeat(128);
    for id in ["r-1.2_3", "f47ac10b-58cc-4372-a567-0e02b2c3d479", &longest] {
        let response = ask(&server, "GET /show", Some(id));
        assert_eq!(id_of(&response), id);
        assert!(response.text().contains(&format!("\nid {id}\n")), "{}", response.text());
        assert_eq!(logged(&server, id)[0]["status"], 200);
    }
    for id in ["a b", "a\"b", "a,b", "a\u{e4}", "", &"a".repeat(129), "a\r\nX-Request-Id: b"] {
        let response = ask(&server, "GET /show", Some(id));
        assert!(is_request_id(&id_of(&response)), "{id:?}");
        assert_eq!(response.text().matches("header x-request-id: ").count(), 1, "{id:?}");
    }
    let response = ask(&server, "GET /panic", Some("crash-7"));
    assert!(response.text().ends_with("\nrequest id: crash-7\n"), "{}", response.text());
    server.wait_for_log(&["crash-7 GET /panic (faults#panic): trap"]);
    ask(&server, "GET /log", Some("lines-of-a-guest"));
    server.wait_for_log(&["lines-of-a-guest ", "an info line"]);
}

#[test]
fn where_there_are_proxies_nobody_else_names_a_request() {
    let server = setup().start();
    assert_eq!(id_of(&ask(&server, "GET /show", Some("r-1"))), "r-1", "there are none");
    assert!(is_request_id(&id_of(&ask(&server, "GET /show", Some("r 1")))), "that is no id");
    let server = setup().listener_line("trusted-proxies = [\"192.0.2.0/24\"]").start();
    assert!(is_request_id(&id_of(&ask(&server, "GET /show", Some("r-1")))));
    let server = setup().listener_line("proxy-protocol = true").listener_line(TRUSTED).start();
    let mut client = server.connect();
    client.send("PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\nGET /show HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\n\r\n");
    let response = client.response();
    assert!(is_request_id(&id_of(&response)), "{}", response.text());
}

#[test]
fn what_is_no_request_has_an_id_too() {
    let server = setup().start();
    for wire in ["GET / HTTP/1.1\r\n\r\n", "\0\r\n", "GET / HTTP/3.0\r\nHost: a\r\n\r\n", "\r\n\r\n\r\n"] {
        let mut client = server.connect();
        client.send(wire);
        let response = client.response();
        let id = id_of(&response);
        assert!(is_request_id(&id) && request_id(&response) == id, "{wire:?}: {id}");
        let lines = logged(&server, &id);
        assert_eq!((lines.len(), &lines[0]["outcome"]), (1, &"malformed".into()), "{lines:?}");
    }
}

#[test]
fn a_body_that_turns_out_to_be_bad_is_told_with_its_request() {
    let server = setup().listener_line(TRUSTED).start();
    let mut client = server.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Request-Id: upload-1\r\n";
    client.send(format!("{head}Expect: 100-continue\r\n\r\n"));
    assert_eq!(client.try_head().expect("an interim response").status, 100);
    client.send("3\r\nabc\r\nx\r\n");
    let response = client.response();
    assert_eq!((response.status(), id_of(&response).as_str()), (400, "upload-1"));
    let lines = logged(&server, "upload-1");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!((&line["status"], &line["outcome"]), (&400.into(), &"malformed".into()), "{line}");
    assert_eq!((&line["target"], &line["method"]), (&"/echo".into(), &"POST".into()), "{line}");
}

#[test]
fn an_operator_sees_the_id_of_what_runs() {
    let server =
        setup().server("request-timeout-ms", 1_500).log("slow-ms", "100").listener_line(TRUSTED).expect_error("spin-1");
    let server = server.start();
    let mut client = Client::connect(server.address());
    client.send("GET /spin HTTP/1.1\r\nHost: a\r\nX-Request-Id: spin-1\r\n\r\n");
    wait::until("the status shows the request", || {
        let mut command = std::process::Command::new(paths::binary("rusmd"));
        command.args(["ctl", "--config"]).arg(server.scratch().join("rusm.toml")).args(["workers", "--json"]);
        let output = rusmd_e2e::daemon::run(&mut command);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let workers = told["workers"].as_array().cloned().unwrap_or_default();
        workers.iter().any(|worker| worker["request"]["id"] == "spin-1")
    });
    server.wait_for_log(&["spin-1 GET /spin", "still running in worker"]);
    server.wait_for_log(&["spin-1 guest backtrace"]);
    assert_eq!(id_of(&client.response()), "spin-1");
}

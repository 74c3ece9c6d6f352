//! A load generator and a browser: many connections at once, and the strangest client of all.

use rusmd_e2e::paths::Scratch;
use rusmd_e2e::programs;

use crate::clients::{setup, url};
use crate::common::assert_serves;

#[test]
fn wrk_sees_no_error_on_many_connections() {
    let Some(wrk) = programs::find("wrk") else { return };
    let server = setup().1.start();
    for path in ["/hello", "/assets/digits.txt", "/download?bytes=100000"] {
        let mut command = programs::command(&wrk);
        command.args(["--threads", "1", "--connections", "50", "--duration", "2s", "--timeout", "30s"]);
        let report = programs::run(command.arg(url(&server, path)));
        // It tells of errors only if there are any.
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{path}: {report}");
        assert!(!report.contains(" 0 requests in"), "{path}: {report}");
    }
    assert_serves(&server);
}

#[test]
fn chromium_shows_a_page() {
    let Some(chromium) = programs::find("chromium") else { return };
    let (server, profile) = (setup().1.start(), Scratch::new());
    let mut command = programs::command(&chromium);
    // Without those in the second line it asks its maker's hosts for news. As root it has no sandbox.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    let page = programs::run(command.arg(url(&server, "/")));
    assert!(page.contains("<h1>It works</h1>") && page.contains("<title>rusmd</title>"), "{page}");
    assert_serves(&server);
}

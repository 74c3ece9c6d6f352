//! curl, as people use it: what it does must come out as it does with any other server.
//!
//! Owns the server that all real clients are tried on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use rusmd_e2e::paths::Scratch;
use rusmd_e2e::{Authority, Server, Setup, programs};

use crate::common::{HELLO, assert_serves};

const ROUTES: &[(&str, &str)] = &[
    ("GET /", "api#index"),
    ("GET /hello", "faults#hello"),
    ("/show", "faults#show"),
    ("/sleep", "faults#sleep"),
    ("/status/:code", "faults#status"),
    // These stream.
    ("/echo", "wasi-faults"),
    ("/read-then-reply", "wasi-faults"),
    ("/download", "wasi-faults"),
    ("/slow-body", "wasi-faults"),
    ("/trailers", "wasi-faults"),
    ("GET /assets/*", "dir:public"),
];

/// What a client uploads whose every byte counts.
const UPLOAD_BYTES: usize = 50 << 20;

const DIGITS: &str = "0123456789";

/// A server with one listener in the clear, one with TLS, and one at a Unix socket; and the authority of its certificate.
pub fn setup() -> (Authority, Setup) {
    let authority = Authority::new();
    let setup = Setup::new()
        .routes(ROUTES)
        .listener_line("compression = [\"gzip\", \"br\", \"zstd\"]")
        .routes(ROUTES)
        .certificate("one", &authority.issue(&["localhost"]))
        .listener_line("tls = { cert = \"one.pem\", key = \"one.key\" }")
        .routes(ROUTES)
        .listen("unix:x.sock")
        .file("authority.pem", &authority.cert())
        .public("digits.txt", DIGITS)
        .public("text.txt", &"all work and no play\n".repeat(1000));
    (authority, setup)
}

/// The URL of a path in the clear.
pub fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

/// The same with TLS, by the name that is in the certificate.
pub fn secure_url(server: &Server, path: &str) -> String {
    format!("https://localhost:{}{path}", server.addresses()[1].port())
}

struct Curl {
    program: PathBuf,
    server: Server,
    scratch: Scratch,
}

impl Curl {
    /// Nothing without curl.
    #[track_caller]
    fn new() -> Option<Curl> {
        let program = programs::find("curl")?;
        Some(Curl { program, server: setup().1.start(), scratch: Scratch::new() })
    }

    /// curl without its configuration file, silent but for errors.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = programs::command(&self.program);
        command.args(["-q", "--silent", "--show-error"]).args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        programs::run(&mut self.command(arguments))
    }

    fn url(&self, path: &str) -> String {
        url(&self.server, path)
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    /// A file of bytes that show what is shifted, lost or doubled.
    fn upload(&self) -> (PathBuf, Vec<u8>) {
        let bytes: Vec<u8> = (0..UPLOAD_BYTES).map(|n| (n % 251) as u8).collect();
        (self.scratch.write("upload", &bytes), bytes)
    }

    #[track_caller]
    fn assert_same(&self, bytes: &[u8], name: &str) {
        let seen = fs::read(Path::new(&self.path(name))).expect("curl has written it");
        assert!(seen == bytes, "{} bytes came back of {}, or others", seen.len(), bytes.len());
    }
}

#[test]
fn curl_gets_a_page_and_its_head_and_keeps_its_connection() {
    let Some(curl) = Curl::new() else { return };
    let url = curl.url("/hello");
    assert_eq!(curl.run(&[&url]), HELLO);
    let told = "%{response_code} %{http_version} %{num_connects}\n";
    let three = curl.run(&["--write-out", told, &url, "-o", "/dev/null", &url, "-o", "/dev/null", &url]);
    assert_eq!(three, format!("{told_1}{told_0}{HELLO}{told_0}", told_1 = "200 1.1 1\n", told_0 = "200 1.1 0\n"));
    let head = curl.run(&["--head", &url, "--next", "-q", "--silent", "--write-out", told, &url]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-length: 6\r\n"), "{head}");
    assert!(head.ends_with(&format!("{HELLO}200 1.1 0\n")), "HEAD keeps the connection: {head}");
}

#[test]
fn curl_speaks_http_1_0_and_has_its_connection_closed() {
    let Some(curl) = Curl::new() else { return };
    let (hello, download) = (curl.url("/hello"), curl.url("/download?bytes=300000"));
    let text = curl.run(&["--http1.0", "--include", &hello]);
    assert!(text.ends_with(HELLO) && text.contains("connection: close\r\n"), "{text}");
    // What has no length ends with the connection.
    let sizes = ["--write-out", "%{size_download} %{num_connects}", "-o", "/dev/null", "--dump-header", "-"];
    let told = curl.run(&[&["--http1.0"], &sizes[..], &[&download]].concat());
    assert!(told.ends_with("\r\n300000 1") && !told.contains("transfer-encoding"), "{told}");
}

#[test]
fn curl_posts_with_and_without_waiting_to_be_told_to_go_on() {
    let Some(curl) = Curl::new() else { return };
    let echo = curl.url("/echo");
    assert_eq!(curl.run(&["--data", "a=b&c=d", &echo]), "a=b&c=d");
    let asked = curl.run(&["-v", "--stderr", "-", "--header", "Expect: 100-continue", "--data", "patience", &echo]);
    assert!(asked.contains("< HTTP/1.1 100 Continue") && asked.contains("\npatience"), "{asked}");
    let refused =
        curl.run(&["--header", "Expect: a-miracle", "--data", "x", "-o", "/dev/null", "-w", "%{response_code}", &echo]);
    assert_eq!(refused, "417");
    let form = curl.run(&["--form", "file=@/dev/null;filename=x", "--form", "field=value", &echo]);
    assert!(form.contains("name=\"field\"\r\n\r\nvalue\r\n"), "{form}");
}

#[test]
fn curl_uploads_fifty_megabytes_by_length_and_in_chunks_and_gets_them_back() {
    let Some(curl) = Curl::new() else { return };
    let (file, bytes) = curl.upload();
    let (file_text, echo, back) = (file.display().to_string(), curl.url("/echo"), curl.path("back"));
    let code = ["--write-out", "%{response_code} %{size_upload}", "--output", &back];
    let sent = format!("200 {UPLOAD_BYTES}");
    assert_eq!(curl.run(&[&code[..], &["--data-binary", &format!("@{file_text}"), &echo]].concat()), sent);
    curl.assert_same(&bytes, "back");
    assert_eq!(curl.run(&[&code[..], &["--header", "Expect:", "--upload-file", &file_text, &echo]].concat()), sent);
    curl.assert_same(&bytes, "back");
    // What is read from a pipe has no length.
    let mut chunked = curl.command(&[&code[..], &["--upload-file", "-", &echo]].concat());
    chunked.stdin(File::open(&file).expect("it has just been written"));
    assert!(programs::run(&mut chunked).starts_with("200 "));
    curl.assert_same(&bytes, "back");
    assert_serves(&curl.server);
}

#[test]
fn curl_resumes_and_revalidates_a_file() {
    let Some(curl) = Curl::new() else { return };
    let (digits, tag) = (curl.url("/assets/digits.txt"), curl.path("tag"));
    assert_eq!(curl.run(&["--range", "2-4", "--write-out", " %{response_code}", &digits]), "234 206");
    assert_eq!(curl.run(&["--range", "-3", &digits]), "789");
    assert_eq!(curl.run(&["--range", "90-", "-o", "/dev/null", "--write-out", "%{response_code}", &digits]), "416");
    curl.scratch.write("part", "0123");
    let part = curl.path("part");
    curl.run(&["--continue-at", "-", "--output", &part, &digits]);
    curl.assert_same(DIGITS.as_bytes(), "part");
    let code = "%{response_code} %{size_download}";
    assert_eq!(curl.run(&["--etag-save", &tag, "-o", "/dev/null", "--write-out", code, &digits]), "200 10");
    assert_eq!(curl.run(&["--etag-compare", &tag, "--write-out", code, &digits]), "304 0");
    let since = curl.run(&["--head", &digits]);
    let modified = since.lines().find_map(|line| line.strip_prefix("last-modified: ")).expect("a file has a date");
    assert_eq!(curl.run(&["--time-cond", modified.trim(), "--write-out", code, &digits]), "304 0");
}

#[test]
fn curl_is_sent_less_when_it_can_decompress() {
    let Some(curl) = Curl::new() else { return };
    let text = curl.url("/assets/text.txt");
    let plain = curl.run(&[&text]);
    assert_eq!(curl.run(&["--compressed", &text]), plain);
    let size = |arguments: &[&str]| -> usize {
        let printed = curl.run(&[arguments, &["-o", "/dev/null", "--write-out", "%{size_download}", &text]].concat());
        printed.parse().expect("a number")
    };
    assert_eq!(size(&[]), plain.len());
    // Files are sent as they are; what a component makes is compressed.
    let download = curl.url("/show?text=");
    let long = format!("{download}{}", "a".repeat(4000));
    let (whole, packed) = (curl.run(&[&long]), curl.run(&["--compressed", &long, "--write-out", "\n%{size_download}"]));
    let (text, size) = packed.rsplit_once('\n').expect("the size is on a line of its own");
    assert!(text.contains(&"a".repeat(4000)) && size.parse::<usize>().expect("a number") < whole.len() / 4, "{size}");
}

#[test]
fn curl_comes_by_tls_and_by_a_unix_socket() {
    let Some(curl) = Curl::new() else { return };
    let authority = curl.server.scratch().join("authority.pem").display().to_string();
    let (show, port) = (secure_url(&curl.server, "/show"), curl.server.addresses()[1].port());
    let resolve = format!("localhost:{port}:127.0.0.1");
    for versions in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let trusting = [versions, &["--cacert", &authority, "--resolve", &resolve, "--data", "x", &show]].concat();
        assert!(curl.run(&trusting).starts_with(&format!("POST https://localhost:{port}/show\n")));
    }
    let code = curl.command(&["--resolve", &resolve, &show]).output().expect("curl can be executed").status.code();
    assert_eq!(code, Some(60), "an authority that it does not know");
    let socket = curl.server.scratch().join("x.sock").display().to_string();
    let twice = curl.run(&["--unix-socket", &socket, "http://localhost/hello", "http://localhost/hello"]);
    assert_eq!(twice, HELLO.repeat(2));
}

#[test]
fn many_curls_at_once_are_all_served_and_one_that_gives_up_harms_nobody() {
    let Some(curl) = Curl::new() else { return };
    let urls = curl.url("/hello?[1-200]");
    let codes = curl.run(&["--parallel", "--parallel-max", "20", "-o", "/dev/null", "-w", "%{response_code}\n", &urls]);
    assert_eq!(codes.lines().filter(|code| *code == "200").count(), 200, "{codes}");
    let endless = curl.url("/slow-body?pieces=30&ms=100");
    let status =
        curl.command(&["--max-time", "1", "-o", "/dev/null", &endless]).status().expect("curl can be executed");
    assert_eq!(status.code(), Some(28), "it has run out of time");
    assert_serves(&curl.server);
    // A handler whose client has left runs to its end.
    curl.server.stop_by(Signal::SIGQUIT);
}

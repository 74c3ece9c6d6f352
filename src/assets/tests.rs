//! What is served of a directory on a disk, and what is not, whatever a client writes.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::testing::with_headers;
use super::*;
use crate::http::target::normalise;
use crate::testing::Scratch;

/// A directory `public` with what is to be found, and a file beside it that is not.
struct Site {
    scratch: Scratch,
    root: Root,
}

impl Site {
    fn new() -> Site {
        let scratch = Scratch::new();
        let public = scratch.path().join("public");
        fs::create_dir_all(public.join("deep/er")).expect("a directory");
        for (name, text) in [
            ("a.css", "body{}"),
            ("deep/index.html", "<p>"),
            ("deep/er/b.txt", "0123456789"),
            (".env", "secret"),
            ("../outside.txt", "secret"),
        ] {
            fs::write(public.join(name), text).expect("a file");
        }
        let root = Root::open_at(&public, None).expect("it is there");
        Site { scratch, root }
    }

    fn link(&self, to: &str, name: &str) {
        symlink(to, self.scratch.path().join("public").join(name)).expect("a link");
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> Reply {
        with_headers(method, target, fields, |head| {
            let path = normalise(head.path).expect("a path");
            reply(&self.root, 1, &path, head)
        })
    }

    fn get(&self, target: &str) -> Reply {
        self.ask("GET", target, "")
    }
}

fn text(reply: Reply) -> String {
    match reply {
        Reply::Content(mut content) => {
            let mut text = String::new();
            content.file.read_to_string(&mut text).expect("text");
            text
        }
        other => panic!("no content: {other:?}"),
    }
}

fn status(reply: &Reply) -> u16 {
    match reply {
        Reply::Content(content) => content.status(),
        Reply::NotModified(_) => 304,
        Reply::Brief(brief) => brief.status,
    }
}

#[test]
fn files_and_indexes_are_found() {
    let site = Site::new();
    for (target, expected) in [
        ("/a/a.css", "body{}"),
        ("/a/%61.css?x=y", "body{}"),
        ("/a/deep/er/b.txt", "0123456789"),
        ("/a/deep//er/../er/b.txt", "0123456789"),
        ("/a/deep/", "<p>"),
    ] {
        assert_eq!(text(site.get(target)), expected, "{target}");
    }
}

#[test]
fn a_directory_without_its_slash_is_moved_there() {
    let site = Site::new();
    for (target, expected) in
        [("/a/deep", "/a/deep/"), ("//a//deep?q=1", "/a/deep/?q=1"), ("/a", "/a/"), ("/a/deep/er", "/a/deep/er/")]
    {
        match site.get(target) {
            Reply::Brief(Brief { status: 301, field: Some(("location", to)), .. }) => assert_eq!(to, expected),
            other => panic!("{target}: {other:?}"),
        }
    }
}

#[test]
fn nothing_else_is_found() {
    let site = Site::new();
    for target in [
        "/a/",
        "/a/gone",
        "/a/a.css/",
        "/a/a.css/b",
        "/a/deep/er/",
        "/a/.env",
        "/a/%2eenv",
        "/a/..%2foutside.txt",
        "/a/%2e%2e%2foutside.txt",
        "/a/deep/..%2f..%2foutside.txt",
        "/a/%252e%252e/outside.txt",
        "/a/%2fetc%2fpasswd",
        "/a/%5c..%5coutside.txt",
        &format!("/a/{}", "x".repeat(300)),
    ] {
        assert_eq!(status(&site.get(target)), 404, "{target}");
    }
}

#[test]
fn links_are_followed_as_long_as_they_stay_beneath() {
    let site = Site::new();
    site.link("deep/er/b.txt", "in");
    site.link("../public/a.css", "out-and-in");
    site.link("../outside.txt", "out");
    site.link("/etc/passwd", "absolute");
    site.link("/proc/self/root/etc/passwd", "magic");
    site.link("loop", "loop");
    site.link("deep", "directory");
    assert_eq!(text(site.get("/a/in")), "0123456789");
    assert_eq!(text(site.get("/a/directory/er/b.txt")), "0123456789");
    for name in ["out-and-in", "out", "absolute", "magic", "loop"] {
        assert_eq!(status(&site.get(&format!("/a/{name}"))), 404, "{name}");
    }
}

#[test]
fn what_is_no_regular_file_is_not_opened_for_anybody() {
    let site = Site::new();
    let public = site.scratch.path().join("public");
    mkfifo(&public.join("fifo"), Mode::S_IRUSR).expect("a fifo");
    let _socket = UnixListener::bind(public.join("socket")).expect("a socket");
    fs::create_dir_all(public.join("odd/index.html")).expect("a directory");
    for target in ["/a/fifo", "/a/socket", "/a/odd/"] {
        assert_eq!(status(&site.get(target)), 404, "{target}");
    }
}

#[test]
fn a_directory_that_is_renamed_is_served_on() {
    let site = Site::new();
    fs::rename(site.scratch.path().join("public"), site.scratch.path().join("moved")).expect("a new name");
    assert_eq!(text(site.get("/a/a.css")), "body{}");
}

#[test]
fn a_reader_has_the_rights_of_a_user_and_the_process_its_own_again() {
    if !crate::sys::may_change_identity() {
        return;
    }
    let site = Site::new();
    let public = site.scratch.path().join("public");
    fs::write(public.join("mine"), "secret").expect("a file");
    fs::set_permissions(public.join("mine"), fs::Permissions::from_mode(0o600)).expect("its mode");
    let nobody = crate::sys::Identity { uid: 65_534, gid: 65_534, groups: vec![65_534] };
    let other = Site { root: Root::open_at(&public, Some(nobody)).expect("it is there"), scratch: Scratch::new() };
    assert_eq!(status(&other.get("/a/mine")), 404);
    assert_eq!(text(other.get("/a/a.css")), "body{}");
    assert_eq!(text(site.get("/a/mine")), "secret");
}

#[test]
fn a_part_is_for_get_alone_and_for_one_range() {
    let site = Site::new();
    let range = |method: &str, fields: &str| match site.ask(method, "/a/deep/er/b.txt", fields) {
        Reply::Content(content) => (content.status(), content.range()),
        Reply::Brief(Brief { status, field: Some(("content-range", field)), .. }) => {
            assert_eq!(field, "bytes */10");
            (status, 0..0)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(range("GET", "range: bytes=2-4\r\n"), (206, 2..5));
    assert_eq!(range("HEAD", "range: bytes=2-4\r\n"), (200, 0..10));
    assert_eq!(range("GET", "range: bytes=2-4,6-7\r\n"), (200, 0..10));
    assert_eq!(range("GET", "range: bytes=2-4\r\nrange: bytes=6-7\r\n"), (200, 0..10));
    assert_eq!(range("GET", "range: bytes=10-\r\n"), (416, 0..0));
    assert_eq!(range("GET", "range: bytes=10-\r\nif-range: \"other\"\r\n"), (200, 0..10));
    assert_eq!(status(&site.ask("GET", "/a/a.css", "if-none-match: *\r\nrange: bytes=0-0\r\n")), 304);
    assert_eq!(status(&site.ask("GET", "/a/a.css", "if-match: \"other\"\r\n")), 412);
    // Nothing has preconditions that is not there.
    assert_eq!(status(&site.ask("GET", "/a/gone", "if-none-match: *\r\n")), 404);
}

//! Owns what a request's path names below a directory: from the encoded rest of a path to a name for the kernel, or to nothing. Pure
//! functions on text from clients. `super::reply` drives it.
//!
//! Segments are split first and decoded once, so that what comes out of an encoding is data: it can end no segment and begin no other. A
//! segment that would mean more than a name to a file system, here or elsewhere, names nothing.

use std::fmt::Write as _;

/// Most bytes of a name, well above what the kernel takes for a whole path (`PATH_MAX`).
pub const NAME_BYTES_MAX: usize = 4096;

/// What a path asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// A file, or a directory that the path forgets to end with a slash.
    File(String),
    /// A directory, by its name with a slash behind it; empty for the outermost.
    Directory(String),
}

/// Reads the path behind the first `skipped` segments, which are the route's. `path` is normalised: it has no dot segments and no
/// malformed escapes.
pub(super) fn wanted(path: &str, skipped: usize) -> Option<Wanted> {
    let mut name = String::new();
    for segment in segments(path).skip(skipped) {
        if !name.is_empty() {
            name.push('/');
        }
        let start = name.len();
        decode(segment, &mut name)?;
        let decoded = &name[start..];
        // Names that begin with a dot are for programs, not for the public: `.git`, `.env`, `.htpasswd`.
        let is_foreign = |c: char| c.is_control() || matches!(c, '/' | '\\');
        if decoded.is_empty() || decoded.starts_with('.') || decoded.contains(is_foreign) {
            return None;
        }
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
    }
    if name.is_empty() {
        return Some(Wanted::Directory(name));
    }
    if path.ends_with('/') {
        name.push('/');
        return Some(Wanted::Directory(name));
    }
    Some(Wanted::File(name))
}

/// The same path, ended by a slash. One slash begins it, so that no browser takes its first segment for a host (RFC 3986, section 4.2).
pub(super) fn with_slash(path: &str, query: Option<&str>) -> String {
    let mut location = String::with_capacity(path.len() + 1);
    for segment in segments(path) {
        location.push('/');
        location.push_str(segment);
    }
    location.push('/');
    if let Some(query) = query {
        // Writing to a String cannot fail.
        let _ = write!(location, "?{query}");
    }
    location
}

/// Whether a path is that of the outermost directory of a route, without the slash that links in its files count on.
pub(super) fn lacks_slash(path: &str, skipped: usize) -> bool {
    !path.ends_with('/') && segments(path).count() == skipped
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

fn decode(segment: &str, out: &mut String) -> Option<()> {
    if !segment.contains('%') {
        out.push_str(segment);
        return Some(());
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] => {
                decoded.push(hex(*high)? << 4 | hex(*low)?);
                tail
            }
            [byte, tail @ ..] => {
                decoded.push(*byte);
                tail
            }
        };
    }
    out.push_str(std::str::from_utf8(&decoded).ok()?);
    Some(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> Option<Wanted> {
        Some(Wanted::File(name.to_owned()))
    }

    fn directory(name: &str) -> Option<Wanted> {
        Some(Wanted::Directory(name.to_owned()))
    }

    #[test]
    fn a_path_names_what_follows_the_segments_of_its_route() {
        let table = [
            ("/assets/a.css", file("a.css")),
            ("/assets/a/b.css", file("a/b.css")),
            ("//assets///a//b.css", file("a/b.css")),
            ("/assets/a%20b%C3%A9", file("a bé")),
            ("/assets/a..b", file("a..b")),
            ("/assets/a%2525", file("a%25")),
            ("/assets/a/", directory("a/")),
            ("/assets/", directory("")),
            ("/assets", directory("")),
        ];
        for (path, expected) in table {
            assert_eq!(wanted(path, 1), expected, "{path}");
        }
        assert_eq!(wanted("/", 0), directory(""));
    }

    #[test]
    fn what_is_more_than_a_name_names_nothing() {
        let table = [
            "/a/..%2fetc",
            "/a/%2e%2e%2fetc",
            "/a/%2fetc",
            "/a/b%2fc",
            "/a/b%5cc",
            "/a/%5c..%5cc",
            "/a/%00",
            "/a/b%0a",
            "/a/b%7f",
            "/a/%ff",
            "/a/.git/config",
            "/a/%2egit",
            "/a/..",
            "/a/.",
            "/a/...",
        ];
        for path in table {
            assert_eq!(wanted(path, 1), None, "{path}");
        }
        // Decoded once: the rest is a name as any other.
        assert_eq!(wanted("/a/%252e%252e%252fetc", 1), file("%2e%2e%2fetc"));
    }

    #[test]
    fn names_are_taken_up_to_their_limit() {
        let path = |length: usize| format!("/a/{}", "b".repeat(length));
        assert!(wanted(&path(NAME_BYTES_MAX), 1).is_some());
        assert_eq!(wanted(&path(NAME_BYTES_MAX + 1), 1), None);
    }

    #[test]
    fn a_redirection_leads_to_no_other_host() {
        assert_eq!(with_slash("//evil.example", None), "/evil.example/");
        assert_eq!(with_slash("/a//b%20c", Some("x=//y")), "/a/b%20c/?x=//y");
    }

    #[test]
    fn the_outermost_directory_has_a_slash_behind_it() {
        assert!(lacks_slash("/assets", 1) && !lacks_slash("/assets/", 1));
        assert!(!lacks_slash("/", 0) && !lacks_slash("/assets/a", 1));
    }
}

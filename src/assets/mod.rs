//! Static files: what a request for a file below a directory is answered with.
//!
//! Owns the directories that the manifest names, from `dir:` in a route to an open file, and all that a response tells of a file. Touches the
//! disk only by [`Root`], through `sys`, and sends nothing: the reactor does, with what [`reply`] has found. Knows `http`'s requests.
//!
//! - `root`: a directory, and how what is below it is opened
//! - `path`: what a request's path names there
//! - `conditions`, `range`: which state of a file, and how much of it, a request wants
//! - `types`: what is in it

mod conditions;
mod path;
mod range;
mod root;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod types;

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;

use nix::errno::Errno;

pub use conditions::Validators;
pub use path::NAME_BYTES_MAX;
pub use root::Root;

use crate::http::RequestHead;
use conditions::Verdict;
use path::Wanted;
use range::Part;

/// The file that stands for its directory.
const INDEX: &str = "index.html";

/// What a request is answered with.
#[derive(Debug)]
pub enum Reply {
    Content(Content),
    /// 304
    NotModified(Validators),
    /// Everything else: a short text of the server's own.
    Brief(Brief),
}

/// 200 or 206, with a file or a part of it.
#[derive(Debug)]
pub struct Content {
    pub file: File,
    pub media_type: &'static str,
    pub validators: Validators,
    pub size: u64,
    /// What is sent; the whole of it is a 200.
    pub part: Option<Range<u64>>,
}

/// A status, a few words, and at most one field.
#[derive(Debug)]
pub struct Brief {
    pub status: u16,
    pub detail: &'static str,
    pub field: Option<(&'static str, String)>,
}

/// Answers GET or HEAD for `path`, of which the first `skipped` segments are the route's. `path` is normalised.
pub fn reply(root: &Root, skipped: usize, path: &str, head: &RequestHead<'_>) -> Reply {
    if path::lacks_slash(path, skipped) {
        return moved(path, head);
    }
    let opened = match path::wanted(path, skipped) {
        None => return Reply::Brief(Brief::NOT_FOUND),
        Some(Wanted::File(name)) => open(root, name),
        Some(Wanted::Directory(name)) => open(root, name + INDEX),
    };
    match opened {
        Ok((name, file, metadata)) if metadata.is_file() => serve(&name, file, &metadata, head),
        // One called index.html is no index.
        Ok((_, _, metadata)) if metadata.is_dir() && !path.ends_with('/') => moved(path, head),
        // A fifo, a device, a socket.
        Ok(_) => Reply::Brief(Brief::NOT_FOUND),
        Err(error) => Reply::Brief(failure(&error, root, path)),
    }
}

fn open(root: &Root, name: String) -> io::Result<(String, File, Metadata)> {
    let file = root.open(&name)?;
    let metadata = file.metadata()?;
    Ok((name, file, metadata))
}

fn serve(name: &str, file: File, metadata: &Metadata, head: &RequestHead<'_>) -> Reply {
    let size = metadata.size();
    let validators = Validators::new(size, metadata.mtime(), metadata.mtime_nsec());
    let ranged = match validators.judge(&head.headers) {
        Verdict::Met { ranged } => ranged,
        Verdict::NotModified => return Reply::NotModified(validators),
        Verdict::Failed => return Reply::Brief(Brief::FAILED),
    };
    let part = match range_field(head).filter(|_| ranged).map(|field| range::part(field, size)) {
        None | Some(Part::Whole) => None,
        Some(Part::Of(part)) => Some(part),
        Some(Part::Unsatisfiable) => return Reply::Brief(Brief::unsatisfiable(size)),
    };
    Reply::Content(Content { file, media_type: types::of(name), validators, size, part })
}

/// Ranges are defined for GET alone, and the field is no list (RFC 9110, section 14.2).
fn range_field<'a>(head: &RequestHead<'a>) -> Option<&'a [u8]> {
    let mut fields = head.headers.iter().filter(|(name, _)| *name == "range" && head.method == "GET");
    match (fields.next(), fields.next()) {
        (Some((_, field)), None) => Some(field),
        (_, _) => None,
    }
}

fn moved(path: &str, head: &RequestHead<'_>) -> Reply {
    let location = path::with_slash(path, head.query);
    Reply::Brief(Brief { status: 301, detail: "this is a directory", field: Some(("location", location)) })
}

/// What may not be read is as good as not there, for everybody but the operator.
fn failure(error: &io::Error, root: &Root, path: &str) -> Brief {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) => {
            log::warn!("cannot open a file in {}: {error}", root.path().display());
            Brief::busy()
        }
        None if error.kind() == io::ErrorKind::WouldBlock => Brief::busy(),
        Some(Errno::EIO) => {
            log::error!("cannot open a file in {}: {error}", root.path().display());
            Brief { status: 500, detail: "the file cannot be read", field: None }
        }
        _ => {
            log::debug!("no file in {} for {path:?}: {error}", root.path().display());
            Brief::NOT_FOUND
        }
    }
}

impl Brief {
    const NOT_FOUND: Brief = Brief { status: 404, detail: "there is no such file", field: None };
    const FAILED: Brief = Brief { status: 412, detail: "the file is in another state", field: None };
    fn busy() -> Brief {
        Brief { status: 503, detail: "too many files are open", field: Some(("retry-after", "1".to_owned())) }
    }

    /// RFC 9110, section 15.5.17.
    fn unsatisfiable(size: u64) -> Brief {
        let field = Some(("content-range", format!("bytes */{size}")));
        Brief { status: 416, detail: "the file has no such part", field }
    }
}

impl Content {
    pub fn status(&self) -> u16 {
        if self.part.is_some() { 206 } else { 200 }
    }

    pub fn range(&self) -> Range<u64> {
        self.part.clone().unwrap_or(0..self.size)
    }
}

//! Owns a directory of the manifest: its descriptor, opened when the manifest is loaded, is the only way to what is below it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::sys::{self, Identity};

/// A directory whose files are served. It stays the same directory when its path becomes another's.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    path: PathBuf,
    /// Whose rights decide what can be read, where that is not this process.
    reader: Option<Identity>,
}

impl Root {
    /// # Errors
    ///
    /// The directory cannot be opened.
    pub fn open_at(path: &Path, reader: Option<Identity>) -> io::Result<Root> {
        Ok(Root { directory: sys::open_directory(path)?, path: path.to_owned(), reader })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what `name` leads to, if that is below this directory.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        sys::open_beneath(&self.directory, name, self.reader.as_ref())
    }
}

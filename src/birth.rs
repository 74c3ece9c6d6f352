//! By which names this program and the directory of its start are known to whoever started it: for an upgrade, which starts what has these names
//! by then. Links in them are not resolved, for a link is what a deployment switches.
//!
//! Looks at arguments, environment and files, and changes nothing. Driven by the start, before the directory changes.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What this process was started as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Birth {
    /// The program's path, absolute.
    pub program: PathBuf,
    /// Where relative paths of the arguments begin.
    pub directory: PathBuf,
}

/// What tells of it.
#[derive(Debug)]
struct Traces {
    /// The first word of the command line.
    word: Option<OsString>,
    /// `$PATH`.
    search: Option<OsString>,
    /// `$PWD`: where a shell believes to be, with its links.
    believed: Option<OsString>,
    /// The working directory, without links.
    directory: PathBuf,
    /// This program's file, without links.
    file: PathBuf,
}

impl Birth {
    /// Finds it out.
    ///
    /// # Errors
    ///
    /// The working directory, or this program's own file, cannot be found.
    pub fn of_this_process() -> io::Result<Birth> {
        Ok(Birth::from_traces(Traces {
            word: env::args_os().next(),
            search: env::var_os("PATH"),
            believed: env::var_os("PWD"),
            directory: env::current_dir()?,
            file: env::current_exe()?,
        }))
    }

    /// A name is believed if it leads to what is known without names: everything here is what somebody says.
    fn from_traces(traces: Traces) -> Birth {
        let Traces { word, search, believed, directory, file } = traces;
        let believed = believed.map(PathBuf::from).filter(|path| path.is_absolute() && is_same(path, &directory));
        let directory = believed.unwrap_or(directory);
        let named = word.and_then(|word| find(&word, search.as_deref(), &directory));
        let program = named.filter(|path| is_same(path, &file)).unwrap_or(file);
        Birth { program, directory }
    }
}

/// Where a shell finds the program that is called so (execvp(3)).
fn find(word: &OsStr, search: Option<&OsStr>, directory: &Path) -> Option<PathBuf> {
    if word.as_bytes().contains(&b'/') {
        return Some(directory.join(word));
    }
    let places = env::split_paths(search?);
    places.map(|place| directory.join(place).join(word)).find(|path| path.is_file())
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::Scratch;

    /// A directory with `release/rusmd`, and `current`, which is a link to `release`.
    fn deployment() -> Scratch {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("release")).expect("the scratch directory is writable");
        fs::write(scratch.path().join("release/rusmd"), "").expect("it is writable");
        symlink("release", scratch.path().join("current")).expect("links can be made here");
        scratch
    }

    fn birth(scratch: &Scratch, word: &str, change: impl FnOnce(&mut Traces)) -> Birth {
        let base = scratch.path();
        let mut traces = Traces {
            word: Some(word.into()),
            search: None,
            believed: None,
            directory: base.join("release"),
            file: base.join("release/rusmd"),
        };
        change(&mut traces);
        Birth::from_traces(traces)
    }

    #[test]
    fn links_on_the_way_to_the_program_are_kept() {
        let scratch = deployment();
        let linked = scratch.path().join("current/rusmd");
        assert_eq!(birth(&scratch, linked.to_str().expect("text"), |_| {}).program, linked);
        let by_search = |search: &str| birth(&scratch, "rusmd", |traces| traces.search = Some(search.into())).program;
        let current = scratch.path().join("current");
        assert_eq!(by_search(&format!("/no/such:{}:/bin", current.display())), linked);
        assert_eq!(by_search("../current"), scratch.path().join("release/../current/rusmd"));
    }

    #[test]
    fn a_relative_path_begins_where_the_shell_was_with_its_links() {
        let scratch = deployment();
        let current = scratch.path().join("current");
        let found = birth(&scratch, "./rusmd", |traces| traces.believed = Some(current.clone().into()));
        assert_eq!(found, Birth { program: current.join("./rusmd"), directory: current });
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_not_believed() {
        let scratch = deployment();
        fs::write(scratch.path().join("other"), "").expect("it is writable");
        let known = Birth { program: scratch.path().join("release/rusmd"), directory: scratch.path().join("release") };
        for word in ["rusmd", "../other", "/no/such/rusmd", ""] {
            let found = birth(&scratch, word, |traces| {
                traces.search = Some("/no/such".into());
                traces.believed = Some(scratch.path().into());
            });
            assert_eq!(found, known, "{word:?}");
        }
    }
}

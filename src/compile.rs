//! Has `rusmd-worker compile` bring the compiled form of every component into the cache. The supervisor itself contains no compiler.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::sys;

/// Most bytes that the compiler may say.
const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// For each source, where its compiled form is, or why there is none.
pub type Outcomes = Vec<Result<PathBuf, String>>;

/// Compiles what is not in the cache, and waits for it.
///
/// # Errors
///
/// The compiler could not be run, or did not say what became of the sources.
pub fn compile(worker_binary: &Path, cache_dir: &Path, sources: Vec<PathBuf>) -> Result<Outcomes, CompileError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    Compiler::start(worker_binary, cache_dir, sources)?.wait()
}

/// A compiler at work. Killed when it is dropped before its end.
#[derive(Debug)]
pub struct Compiler {
    binary: PathBuf,
    sources: Vec<PathBuf>,
    child: Child,
    output: ChildStdout,
    said: Vec<u8>,
}

impl Compiler {
    /// Starts it, for these sources.
    pub fn start(worker_binary: &Path, cache_dir: &Path, sources: Vec<PathBuf>) -> Result<Compiler, CompileError> {
        let blame = |source| CompileError::NotRun { binary: worker_binary.to_owned(), source };
        let mut child = Command::new(worker_binary)
            .arg("compile")
            .arg("--cache")
            .arg(cache_dir)
            .args(&sources)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(blame)?;
        let output = child.stdout.take().ok_or_else(|| blame(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Compiler { binary: worker_binary.to_owned(), sources, child, output, said: Vec::new() })
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it says: to be waited for.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Takes what it has said, without waiting for more. `None` while it goes on.
    pub fn handle_readable(&mut self) -> Option<Result<Outcomes, CompileError>> {
        if let Err(source) = sys::set_nonblocking(&self.output) {
            return Some(Err(CompileError::NotRun { binary: self.binary.clone(), source }));
        }
        let mut piece = [0; 16 * 1024];
        loop {
            match self.output.read(&mut piece) {
                Ok(0) => return Some(self.conclude()),
                Ok(count) if self.said.len() + count <= OUTPUT_BYTES_MAX => {
                    self.said.extend_from_slice(&piece[..count])
                }
                Ok(_) => return Some(self.conclude()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(self.conclude()),
            }
        }
    }

    fn wait(mut self) -> Result<Outcomes, CompileError> {
        // What cannot be read is missed in the outcomes.
        let _ = self.output.by_ref().take(OUTPUT_BYTES_MAX as u64).read_to_end(&mut self.said);
        self.conclude()
    }

    /// It has said everything.
    fn conclude(&mut self) -> Result<Outcomes, CompileError> {
        let status =
            self.child.wait().map_err(|source| CompileError::NotRun { binary: self.binary.clone(), source })?;
        let outcomes = read_outcomes(&String::from_utf8_lossy(&self.said));
        if outcomes.is_empty() && !self.sources.is_empty() {
            return Err(CompileError::Failed { binary: self.binary.clone(), status: status.to_string() });
        }
        let outcome_of = |source: &PathBuf| match outcomes.get(&*source.to_string_lossy()) {
            Some(Outcome::Compiled { artifact, milliseconds }) => {
                log::info!("compiled {} in {milliseconds} ms", source.display());
                Ok(artifact.clone())
            }
            Some(Outcome::Cached { artifact }) => Ok(artifact.clone()),
            Some(Outcome::Error { reason }) => Err(reason.clone()),
            None => Err(format!("the compiler ended with {status} before it came to this component")),
        };
        Ok(self.sources.iter().map(outcome_of).collect())
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // One that has ended is not there to be killed; the wait reaps it in either case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

enum Outcome {
    Compiled { artifact: PathBuf, milliseconds: String },
    Cached { artifact: PathBuf },
    Error { reason: String },
}

/// Lines of `ok`, source, artifact, `cached` or `compiled`, milliseconds; or of `error`, source, two empty fields, reason.
fn read_outcomes(text: &str) -> HashMap<String, Outcome> {
    let read_line = |line: &str| {
        let fields: Vec<&str> = line.splitn(5, '\t').collect();
        match fields.as_slice() {
            ["ok", source, artifact, "compiled", milliseconds] => {
                let milliseconds = (*milliseconds).to_owned();
                Some(((*source).to_owned(), Outcome::Compiled { artifact: PathBuf::from(artifact), milliseconds }))
            }
            ["ok", source, artifact, "cached", _] => {
                Some(((*source).to_owned(), Outcome::Cached { artifact: PathBuf::from(artifact) }))
            }
            ["error", source, .., reason] => {
                Some(((*source).to_owned(), Outcome::Error { reason: (*reason).to_owned() }))
            }
            _ => None,
        }
    };
    text.lines().filter_map(read_line).collect()
}

/// No component could be compiled, for a reason that is none of theirs.
#[derive(Debug)]
pub enum CompileError {
    NotRun { binary: PathBuf, source: io::Error },
    Failed { binary: PathBuf, status: String },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::NotRun { binary, .. } => write!(f, "cannot run {}", binary.display()),
            CompileError::Failed { binary, status } => {
                write!(f, "{} compile ended with {status} and compiled nothing", binary.display())
            }
        }
    }
}

impl std::error::Error for CompileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CompileError::NotRun { source, .. } => Some(source),
            CompileError::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_compiler_are_read_and_others_are_passed_over() {
        let text = "ok\ta.wasm\t/c/a\tcompiled\t12\nok\tb.wasm\t/c/b\tcached\t0\nerror\tc.wasm\t\t\tnot a component\n\nnoise\n";
        let outcomes = read_outcomes(text);
        assert_eq!(outcomes.len(), 3);
        assert!(matches!(&outcomes["a.wasm"], Outcome::Compiled { milliseconds, .. } if milliseconds == "12"));
        assert!(matches!(&outcomes["b.wasm"], Outcome::Cached { artifact } if artifact == Path::new("/c/b")));
        assert!(matches!(&outcomes["c.wasm"], Outcome::Error { reason } if reason == "not a component"));
    }
}

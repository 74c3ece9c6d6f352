//! Has `rusmd-worker compile` bring the compiled form of every component into the cache. The supervisor itself contains no compiler.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles what is not in the cache. The result has, for each source, where its compiled form is, or why there is none.
///
/// # Errors
///
/// The compiler could not be run, or did not say what became of the sources.
pub fn compile(
    worker_binary: &Path,
    cache_dir: &Path,
    sources: &[&Path],
) -> Result<Vec<Result<PathBuf, String>>, CompileError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let output = Command::new(worker_binary)
        .arg("compile")
        .arg("--cache")
        .arg(cache_dir)
        .args(sources)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| CompileError::NotRun { binary: worker_binary.to_owned(), source })?;
    let outcomes = read_outcomes(&String::from_utf8_lossy(&output.stdout));
    if outcomes.is_empty() {
        return Err(CompileError::Failed { binary: worker_binary.to_owned(), status: output.status.to_string() });
    }
    let outcome_of = |source: &&Path| match outcomes.get(&*source.to_string_lossy()) {
        Some(Outcome::Compiled { artifact, milliseconds }) => {
            log::info!("compiled {} in {milliseconds} ms", source.display());
            Ok(artifact.clone())
        }
        Some(Outcome::Cached { artifact }) => Ok(artifact.clone()),
        Some(Outcome::Error { reason }) => Err(reason.clone()),
        None => Err(format!("the compiler ended with {} before it came to this component", output.status)),
    };
    Ok(sources.iter().map(outcome_of).collect())
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

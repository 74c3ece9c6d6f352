//! Owns what the parent of a start with `--daemon` learns: that requests are served, or what it has to exit with instead. Until then the daemon
//! speaks on its parent's standard error. Driven by the start and by the reactor.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use crate::cli::Failure;
use crate::sys::{self, Side, Standard};

/// What the pipe says when requests are served; failures have their exit code.
const SERVES: u8 = 0;

/// The daemon's end: it owes its parent a verdict.
#[derive(Debug)]
pub struct Verdict {
    pipe: PipeWriter,
    /// The parent's standard error.
    console: File,
}

/// The parent's end.
#[derive(Debug)]
pub struct Starter {
    pipe: PipeReader,
}

/// Which of the two processes this is now.
#[derive(Debug)]
pub enum Detached {
    Starter(Starter),
    Daemon(Verdict),
}

/// Leaves the session; see [`sys::leave_session`].
pub fn detach() -> io::Result<Detached> {
    Ok(match sys::leave_session()? {
        Side::Starter(pipe) => Detached::Starter(Starter { pipe }),
        Side::Daemon(pipe) => Detached::Daemon(Verdict { pipe, console: File::from(sys::keep(Standard::Error)?) }),
    })
}

impl Starter {
    /// Waits until the daemon serves, which is `None`, or has failed.
    pub fn wait(mut self) -> Option<Failure> {
        let mut verdict = [0];
        match self.pipe.read_exact(&mut verdict) {
            Ok(()) => match verdict[0] {
                SERVES => None,
                code => Some(Failure::from_code(code)),
            },
            Err(_) => {
                // A closed standard error leaves the exit code.
                let _ = writeln!(io::stderr(), "error: rusmd ended before it served");
                Some(Failure::Runtime)
            }
        }
    }
}

impl Verdict {
    /// Requests are served. `trouble` is what whoever sees the parent's standard error should know all the same.
    ///
    /// # Errors
    ///
    /// The parent is gone: whoever started this has given it up meanwhile.
    pub fn serves(mut self, trouble: Option<&str>) -> io::Result<()> {
        if let Some(trouble) = trouble {
            // Told or not, it serves.
            let _ = writeln!(self.console, "rusmd: {trouble}");
        }
        self.pipe.write_all(&[SERVES])
    }

    /// They will not be. `reason` goes to whoever sees the parent's standard error.
    pub fn failed(mut self, reason: &str, failure: Failure) {
        // If the parent is gone there is nobody to tell.
        let _ = self.console.write_all(reason.as_bytes());
        let _ = self.pipe.write_all(&[failure as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Starter, Verdict, PipeReader) {
        let (reader, writer) = io::pipe().expect("descriptors are not exhausted");
        let (console, stderr) = io::pipe().expect("descriptors are not exhausted");
        let stderr = File::from(std::os::fd::OwnedFd::from(stderr));
        (Starter { pipe: reader }, Verdict { pipe: writer, console: stderr }, console)
    }

    #[test]
    fn the_parent_exits_as_the_daemon_says() {
        let (starter, verdict, mut console) = pair();
        verdict.serves(Some("the log is full")).expect("the parent is there");
        let mut shown = String::new();
        console.read_to_string(&mut shown).expect("it is text");
        assert_eq!((starter.wait(), shown.as_str()), (None, "rusmd: the log is full\n"));
        let (starter, verdict, _console) = pair();
        verdict.serves(None).expect("the parent is there");
        assert_eq!(starter.wait(), None);
        for failure in [Failure::Runtime, Failure::Usage, Failure::Config] {
            let (starter, verdict, mut console) = pair();
            verdict.failed("error: no\n", failure);
            assert_eq!(starter.wait(), Some(failure));
            let mut shown = String::new();
            console.read_to_string(&mut shown).expect("it is text");
            assert_eq!(shown, "error: no\n");
        }
    }

    #[test]
    fn a_daemon_that_dies_is_a_failure_and_a_parent_that_dies_is_an_error() {
        let (starter, verdict, _) = pair();
        drop(verdict);
        assert_eq!(starter.wait(), Some(Failure::Runtime));
        let (starter, verdict, _) = pair();
        drop(starter);
        assert!(verdict.serves(None).is_err());
    }
}

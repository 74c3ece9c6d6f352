//! The manners of a daemon: what whoever started this process expects of it, be it a person, an init script or a service manager.
//!
//! Owns the verdict about the start, the pidfile, the notifications and inherited sockets. Knows nothing of requests. The start makes a
//! [`Daemon`], the reactor tells it what is so.

mod inherited;
mod notify;
mod pidfile;
mod verdict;

use std::io;

use crate::cli::Failure;
use crate::logs::Logs;

pub use inherited::{INHERITED_MAX, Inherited, InheritedError};
pub use notify::Notify;
pub use pidfile::{Pidfile, PidfileError, read_pid};
pub use verdict::{Detached, Starter, Verdict, detach};

/// All that this process owes to whoever started it.
#[derive(Debug)]
pub struct Daemon {
    /// Until it is given.
    verdict: Option<Verdict>,
    /// It runs in the background, as whoever takes over from a daemon does without a verdict to give.
    is_detached: bool,
    pidfile: Option<Pidfile>,
    notify: Notify,
}

impl Daemon {
    /// With a verdict to give when it was started by `--daemon`.
    pub fn new(verdict: Option<Verdict>, is_detached: bool, notify: Notify) -> Daemon {
        Daemon { verdict, is_detached, pidfile: None, notify }
    }

    /// Keeps a pidfile until the end.
    pub fn set_pidfile(&mut self, pidfile: Pidfile) {
        self.pidfile = Some(pidfile);
    }

    pub fn pidfile(&self) -> Option<&Pidfile> {
        self.pidfile.as_ref()
    }

    pub fn notify(&self) -> &Notify {
        &self.notify
    }

    /// To be called before the first worker is started: workers must not keep the standard error of a parent that will go.
    pub fn before_workers(&self, logs: &mut Logs) -> io::Result<()> {
        if self.is_detached { logs.detach_error() } else { Ok(()) }
    }

    /// Requests are served from now on.
    ///
    /// # Errors
    ///
    /// Whoever started this has given it up meanwhile, and believes that it does not run.
    pub fn handle_serving(&mut self, logs: &mut Logs) -> io::Result<()> {
        let pid = std::process::id();
        if let Some(pidfile) = &self.pidfile
            && let Err(error) = pidfile.write(pid)
        {
            // It is locked, which is what keeps others away.
            log::error!("cannot write the pid to {}: {error}", pidfile.path().display());
        }
        self.notify.ready(pid);
        match self.verdict.take() {
            Some(verdict) => {
                logs.detach()?;
                verdict.serves()
            }
            None => Ok(()),
        }
    }

    /// It has come to nothing: tells the parent of the start, if that still waits; false if there is nobody to tell.
    pub fn handle_failure(&mut self, reason: &str, failure: Failure) -> bool {
        match self.verdict.take() {
            Some(verdict) => {
                verdict.failed(reason, failure);
                true
            }
            None => false,
        }
    }

    pub fn handle_reload(&self) {
        self.notify.reloading();
    }

    /// A reload is over, whether it came to something or not.
    pub fn handle_reloaded(&self) {
        self.notify.ready(std::process::id());
    }

    pub fn handle_stop(&self) {
        self.notify.stopping();
    }
}

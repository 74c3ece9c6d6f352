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
    told: Told,
}

/// What a service manager knows of this process. Only the one that serves has anything to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Ready,
    Reloading,
    /// It stops, or another process serves in its place.
    Over,
}

impl Daemon {
    /// With a verdict to give when it was started by `--daemon`.
    pub fn new(verdict: Option<Verdict>, is_detached: bool, notify: Notify) -> Daemon {
        Daemon { verdict, is_detached, pidfile: None, notify, told: Told::Nothing }
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

    /// Writes this process's pid into the pidfile: the last of what can keep it from serving.
    ///
    /// # Errors
    ///
    /// It cannot be written: nobody could stop this process, or tell it anything.
    pub fn write_pid(&self) -> Result<(), PidfileError> {
        self.pidfile.as_ref().map_or(Ok(()), |pidfile| pidfile.write(std::process::id()))
    }

    /// A successor has failed, and may have written its pid before that.
    pub fn handle_failed_successor(&self) {
        if let Some(pidfile) = &self.pidfile
            && let Err(error) = pidfile.reclaim(std::process::id())
        {
            log::error!("{}", crate::reactor::chain(&error));
        }
    }

    /// Requests are served from now on.
    ///
    /// # Errors
    ///
    /// Whoever started this has given it up meanwhile, and believes that it does not run.
    pub fn handle_serving(&mut self, logs: &mut Logs) -> io::Result<()> {
        self.told = Told::Ready;
        self.notify.ready(std::process::id());
        match self.verdict.take() {
            Some(verdict) => {
                let trouble = logs.trouble();
                logs.detach()?;
                verdict.serves(trouble.as_deref())
            }
            None => Ok(()),
        }
    }

    /// Another process serves in place of this one. The pidfile is that one's alone, or it would still be locked when that one is gone.
    pub fn handle_succession(&mut self) {
        self.told = Told::Over;
        self.pidfile = None;
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

    /// A reload begins.
    pub fn handle_reload(&mut self) {
        match self.told {
            Told::Ready | Told::Reloading => {
                self.told = Told::Reloading;
                self.notify.reloading();
            }
            Told::Nothing | Told::Over => {}
        }
    }

    /// A reload is over, whether it came to something or not, or was refused.
    pub fn handle_reloaded(&mut self) {
        match self.told {
            Told::Reloading => {
                self.told = Told::Ready;
                self.notify.ready(std::process::id());
            }
            Told::Nothing | Told::Ready | Told::Over => {}
        }
    }

    pub fn handle_stop(&mut self) {
        match self.told {
            Told::Nothing | Told::Ready | Told::Reloading => {
                self.told = Told::Over;
                self.notify.stopping();
            }
            Told::Over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn only_who_serves_tells_a_service_manager_anything() {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("the directory is writable");
        manager.set_nonblocking(true).expect("a socket can be set so");
        let told = || -> Vec<String> {
            let mut message = [0; 256];
            let next =
                || manager.recv(&mut message).ok().map(|count| String::from_utf8_lossy(&message[..count]).into());
            std::iter::from_fn(next).map(|text: String| text.lines().next().unwrap_or_default().to_owned()).collect()
        };
        let daemon = || Daemon::new(None, false, Notify::to(Some(path.clone().into_os_string())));
        let mut logs = Logs::start(&crate::config::Log::default(), None).expect("the standard error is open");

        let mut starting = daemon();
        starting.handle_reload();
        starting.handle_reloaded();
        assert_eq!(told(), [""; 0], "a reload before the server serves");
        starting.handle_stop();
        starting.handle_reloaded();
        assert_eq!(told(), ["STOPPING=1"]);

        let mut serving = daemon();
        serving.handle_serving(&mut logs).expect("nobody waits for a verdict");
        serving.handle_reloaded();
        assert_eq!(told(), ["READY=1"], "a reload that was refused before it began");
        serving.handle_reload();
        serving.handle_reloaded();
        serving.handle_reload();
        serving.handle_stop();
        serving.handle_reloaded();
        assert_eq!(told(), ["RELOADING=1", "READY=1", "RELOADING=1", "STOPPING=1"], "a stop ends a reload");

        let mut predecessor = daemon();
        predecessor.handle_serving(&mut logs).expect("nobody waits for a verdict");
        predecessor.handle_succession();
        predecessor.handle_reload();
        predecessor.handle_reloaded();
        predecessor.handle_stop();
        assert_eq!(told(), ["READY=1"], "another process serves");
    }
}

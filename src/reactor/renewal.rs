//! Reload and upgrade are done one at a time. What is asked for while one is in progress follows it, once however often it is asked for.

use std::time::Instant;

use crate::control::Reply;

use super::{Phase, Reactor};

/// What makes a server anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Renewal {
    Reload,
    Upgrade,
}

/// What follows the one that is in progress: at most one of each.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Queued {
    reload: bool,
    upgrade: bool,
}

impl Reactor<'_> {
    /// A reload or an upgrade is in progress: another has to wait.
    pub(super) fn is_renewing(&self) -> bool {
        self.phase == Phase::Serving && (self.reload.is_some() || self.upgrade.is_some())
    }

    /// Has this follow what is in progress.
    pub(super) fn queue(&mut self, renewal: Renewal) {
        let queued = match renewal {
            Renewal::Reload => &mut self.queued.reload,
            Renewal::Upgrade => &mut self.queued.upgrade,
        };
        *queued = true;
        let in_progress = match &self.upgrade {
            Some(upgrade) => format!("the upgrade to process {}", upgrade.pid()),
            None => "the reload".to_owned(),
        };
        match renewal {
            Renewal::Reload => log::info!("reload: {in_progress} is in progress; this one follows it"),
            Renewal::Upgrade => log::info!("upgrade: {in_progress} is in progress; this one follows it"),
        }
    }

    /// What was in progress is over, and this process serves on: begins what was to follow.
    pub(super) fn begin_queued(&mut self, now: Instant) {
        // The reload first: an upgrade may be the last thing that this process does.
        if !self.is_renewing() && std::mem::take(&mut self.queued.reload) {
            self.control.promote(Renewal::Reload);
            self.begin_reload(now);
        }
        if !self.is_renewing() && std::mem::take(&mut self.queued.upgrade) {
            self.control.promote(Renewal::Upgrade);
            self.begin_upgrade(now);
        }
    }

    /// This server stops, and so nothing follows.
    pub(super) fn refuse_queued(&mut self, now: Instant) {
        self.queued = Queued::default();
        self.control.settle_queued(&Reply::failed("the server stops"), now);
    }

    /// A successor serves. A reload that was to follow is its business: it may have read the manifest before that was changed.
    pub(super) fn pass_on_queued(&mut self, successor: i32, now: Instant) {
        let queued = std::mem::take(&mut self.queued);
        if queued.reload {
            log::info!("reload: left to process {successor}");
            self.signal_successor(libc::SIGHUP);
        }
        // A second upgrade has what it was asked for.
        self.control.promote(Renewal::Upgrade);
        let reason = format!("process {successor} has taken over meanwhile, and was told to reload");
        self.control.settle_queued(&Reply::failed(reason), now);
    }
}

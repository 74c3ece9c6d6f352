//! One slot of the pool: the states that its worker goes through, and why it has to go.

use std::fmt;
use std::time::Instant;

use rusmd_proto::RequestId;

/// The place of one worker, counted from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum State {
    /// No worker.
    #[default]
    Vacant,
    /// The template has been told to fork it.
    Forking { deadline: Instant },
    /// Forked, not ready yet.
    Starting { deadline: Instant },
    /// Ready, without a request.
    Idle,
    /// Has this request, and perhaps has been sent another.
    Leased { request: RequestId, offer: Offer },
    /// Has nothing but a withdrawn request, and is about to say that it has thrown it away.
    Discarding { request: RequestId },
    /// Told to stop or killed; only its end is awaited, and not for longer than this.
    Ending { request: Option<RequestId>, offer: Offer, deadline: Option<Instant> },
}

/// What a worker has been sent beside the request that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    None,
    /// It will go on with this one.
    Open(RequestId),
    /// It will throw this one away. Until it has said so it gets nothing new: it could not tell this copy from another.
    Withdrawn(RequestId),
}

/// Why a worker that has done nothing wrong has to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retirement {
    /// It has begun as many requests as it may serve.
    Requests,
    /// It is as old as it may become.
    Age,
    /// A guest has trapped in it, and `on-trap` is `exit`.
    Trap,
    /// Fewer workers are wanted.
    ScaledDown,
    /// Its generation has been replaced.
    Replaced,
}

impl Retirement {
    /// It must not serve again, whether there is a replacement or not.
    pub const fn is_pressing(self) -> bool {
        match self {
            Retirement::Requests | Retirement::Trap | Retirement::ScaledDown | Retirement::Replaced => true,
            Retirement::Age => false,
        }
    }

    /// The word for the log and the status.
    pub const fn name(self) -> &'static str {
        match self {
            Retirement::Requests => "max-requests",
            Retirement::Age => "max-age",
            Retirement::Trap => "trap",
            Retirement::ScaledDown => "scaled-down",
            Retirement::Replaced => "reload",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Requests begun by the present worker.
    pub(super) served: u64,
    pub(super) served_max: u64,
    pub(super) retire_at: Option<Instant>,
    pub(super) outgoing: Option<Retirement>,
}

impl Slot {
    /// There is a worker, or will be, and it has not been told to end.
    pub(super) fn is_live(&self) -> bool {
        match self.state {
            State::Forking { .. }
            | State::Starting { .. }
            | State::Idle
            | State::Leased { .. }
            | State::Discarding { .. } => true,
            State::Vacant | State::Ending { .. } => false,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        match self.state {
            State::Idle | State::Leased { .. } | State::Discarding { .. } => true,
            State::Vacant | State::Forking { .. } | State::Starting { .. } | State::Ending { .. } => false,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Forking { deadline } | State::Starting { deadline } => Some(deadline),
            State::Ending { deadline, .. } => deadline,
            State::Idle | State::Leased { .. } | State::Discarding { .. } => {
                self.retire_at.filter(|_| self.outgoing.is_none())
            }
            State::Vacant => None,
        }
    }

    pub(super) fn occupant(&self) -> Option<Occupant> {
        let state = match self.state {
            State::Vacant => return None,
            State::Forking { .. } | State::Starting { .. } => "starting",
            State::Ending { .. } => "retiring",
            State::Idle => "idle",
            State::Leased { .. } => "busy",
            State::Discarding { .. } => "discarding",
        };
        Some(Occupant { state, served: self.served, outgoing: self.outgoing })
    }
}

/// A worker as it is shown to an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Occupant {
    pub state: &'static str,
    pub served: u64,
    pub outgoing: Option<Retirement>,
}

//! The probe: a child of the template, confined as a worker is, in which components are asked for their actions.
//!
//! Owns the child, its deadline and what it may answer. A component's own code runs here and never in the template, whose memory every
//! worker inherits. A component at which a probe dies or hangs is given up, and the next probe goes on behind it. The first probe also
//! shows that the sandbox can be entered here, so that no worker is promised that will never begin.

use std::fmt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rusmd_proto::limits::{HANDSHAKE_BYTES_MAX, PROTOCOL_VERSION};
use rusmd_proto::{
    BUILD, CodecError, ComponentInfo, ComponentKind, Ready, Refused, RequestId, SandboxLevel, ToSupervisor,
};

use crate::error::ServeError;
use crate::link::{Link, LinkError, Outbox, Received};
use crate::sandbox::{Sandbox, SandboxError};
use crate::service::{Answer, Service};
use crate::sys::fork::{Child, Side, exit_now, fork};
use crate::sys::{self, MappedStatus};

/// How long a component may take to tell its actions. It is interrupted then.
pub const ACTIONS_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the template waits for one answer: longer than that, for components that cannot be interrupted.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

/// Most bytes that all probes together may answer: all of it is to fit into one `Ready`.
const ANSWERS_BYTES_MAX: usize = HANDSHAKE_BYTES_MAX / 2;

/// Asks every component that has to be asked. `link` and `status` are the template's, which the children let go of.
pub fn ask_all<S: Service>(
    service: &mut S,
    sandbox: &mut Sandbox,
    link: &mut Link,
    status: &mut MappedStatus,
) -> Result<(), ServeError> {
    let mut bytes_left = ANSWERS_BYTES_MAX;
    let mut is_tried = !sandbox.confines();
    loop {
        let asked = service.unasked();
        if asked.is_empty() && is_tried {
            return Ok(());
        }
        let (ours, theirs) = UnixStream::pair().map_err(ServeError::Probe)?;
        match fork().map_err(ServeError::Probe)? {
            Side::Parent(child) => {
                drop(theirs);
                let mut hearing = Hearing { child, answers: Link::new(ours.into()), bytes_left };
                hearing.confined().map_err(|reason| ServeError::Sandbox(SandboxError::Trial(reason)))?;
                is_tried = true;
                for component in asked {
                    let heard = hearing.answer(link.outbox());
                    link.flush()?;
                    let is_over = heard.is_err();
                    service.learn(component, heard.unwrap_or_else(|silence| Err(hearing.reason(&silence))));
                    if is_over {
                        break;
                    }
                }
                bytes_left = hearing.bytes_left;
            }
            Side::Child => {
                drop(ours);
                *link = Link::new(theirs.into());
                let answered = answer_all(service, sandbox, &asked, link, status);
                if let Err(error) = &answered {
                    eprintln!("rusmd-worker: {error}");
                }
                exit_now(i32::from(answered.is_err()));
            }
        }
    }
}

/// The child: asks one component after the other.
fn answer_all<S: Service>(
    service: &mut S,
    sandbox: &mut Sandbox,
    asked: &[usize],
    link: &mut Link,
    status: &mut MappedStatus,
) -> Result<(), ServeError> {
    sys::die_with_parent()?;
    *status = MappedStatus::private()?;
    let page = MappedStatus::private()?.leak();
    service.open()?;
    if let Err(error) = sandbox.confine() {
        let message = error.to_string();
        link.outbox().push(&ToSupervisor::Refused(Refused { protocol: PROTOCOL_VERSION, message: &message }))?;
        return Ok(link.flush()?);
    }
    link.outbox().push(&ToSupervisor::Begun)?;
    link.flush()?;
    for &component in asked {
        let answer = service.ask(component, page, link.outbox());
        push(link.outbox(), &answer)?;
        link.flush()?;
    }
    Ok(())
}

/// An answer travels as a `Ready` of one component, so that the limits of the wire hold for it.
fn push(outbox: &Outbox, answer: &Answer) -> Result<(), CodecError> {
    let kind = match answer {
        Ok(actions) => ComponentKind::Handlers(actions.iter().map(String::as_str).collect()),
        Err(reason) => ComponentKind::Unloadable(reason),
    };
    outbox.push(&ToSupervisor::Ready(Ready {
        protocol: PROTOCOL_VERSION,
        build: BUILD,
        sandbox: SandboxLevel::Off,
        sandbox_missing: Vec::new(),
        components: vec![ComponentInfo { kind }],
    }))
}

/// The template's side of one probe.
struct Hearing {
    child: Child,
    answers: Link,
    bytes_left: usize,
}

/// Why no answer comes any more.
enum Silence {
    Ended,
    TimedOut,
    TooMuch,
    Nonsense(String),
}

impl From<LinkError> for Silence {
    fn from(error: LinkError) -> Self {
        Silence::Nonsense(error.to_string())
    }
}

/// What a probe says.
enum Heard {
    Confined,
    Refused(String),
    Answer(Answer),
}

impl Hearing {
    /// Waits until the probe has confined itself.
    fn confined(&mut self) -> Result<(), String> {
        match self.next(&Outbox::default()) {
            Ok(Heard::Confined) => Ok(()),
            Ok(Heard::Refused(reason)) => Err(reason),
            Ok(Heard::Answer(_)) => Err(self.ended(&Silence::Nonsense("an answer at this point".to_owned()))),
            Err(silence) => Err(self.ended(&silence)),
        }
    }

    /// The next answer. Lines for the log that come before it are passed on.
    fn answer(&mut self, outbox: &Outbox) -> Result<Answer, Silence> {
        match self.next(outbox)? {
            Heard::Answer(answer) => Ok(answer),
            Heard::Confined | Heard::Refused(_) => Err(Silence::Nonsense("no answer at this point".to_owned())),
        }
    }

    fn next(&mut self, outbox: &Outbox) -> Result<Heard, Silence> {
        let deadline = sys::now() + ANSWER_TIMEOUT;
        loop {
            let bytes_left = &mut self.bytes_left;
            let heard = self.answers.next_frame(|frame| {
                *bytes_left = bytes_left.checked_sub(frame.payload.len()).ok_or(Silence::TooMuch)?;
                let message = ToSupervisor::decode(frame).map_err(|error| Silence::Nonsense(error.to_string()))?;
                match &message {
                    ToSupervisor::Begun => Ok(Some(Heard::Confined)),
                    ToSupervisor::Refused(refused) => Ok(Some(Heard::Refused(refused.message.to_owned()))),
                    ToSupervisor::Ready(ready) => one(ready).map(|answer| Some(Heard::Answer(answer))),
                    ToSupervisor::Log { id: RequestId::NONE, .. } => {
                        outbox.push(&message).map_err(|error| Silence::Nonsense(error.to_string()))?;
                        Ok(None)
                    }
                    _ => Err(Silence::Nonsense(format!("a {:?}", frame.header.kind))),
                }
            })?;
            match heard {
                Some(Some(heard)) => return Ok(heard),
                Some(None) => continue,
                None => {}
            }
            let left = deadline.saturating_duration_since(sys::now());
            if left.is_zero() {
                return Err(Silence::TimedOut);
            }
            if self.answers.is_readable_within(left)? && self.answers.receive()? == Received::Ended {
                return Err(Silence::Ended);
            }
        }
    }

    /// What to say of the component at which the probe was. The probe is over.
    fn reason(&mut self, silence: &Silence) -> String {
        format!("cannot learn its actions: {}", self.ended(silence))
    }

    /// Ends the probe, and says how it ended.
    fn ended(&mut self, silence: &Silence) -> String {
        if !matches!(silence, Silence::Ended) {
            self.child.kill();
        }
        let ended = self.child.wait().map_or_else(|error| error.to_string(), |ended| ended.to_string());
        Reason { silence, ended: &ended }.to_string()
    }
}

fn one(ready: &Ready<'_>) -> Result<Answer, Silence> {
    match ready.components.as_slice() {
        [ComponentInfo { kind: ComponentKind::Handlers(actions) }] => {
            Ok(Ok(actions.iter().map(|action| (*action).to_owned()).collect()))
        }
        [ComponentInfo { kind: ComponentKind::Unloadable(reason) }] => Ok(Err((*reason).to_owned())),
        _ => Err(Silence::Nonsense("another kind of component".to_owned())),
    }
}

struct Reason<'a> {
    silence: &'a Silence,
    ended: &'a str,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.silence {
            Silence::Ended => write!(f, "the process that asks ended with {}", self.ended),
            Silence::TimedOut => {
                write!(f, "no answer within {ANSWER_TIMEOUT:?}, and no interruption possible")
            }
            Silence::TooMuch => write!(f, "the actions of all components have more than {ANSWERS_BYTES_MAX} bytes"),
            Silence::Nonsense(what) => write!(f, "the process that asks said what makes no sense: {what}"),
        }
    }
}

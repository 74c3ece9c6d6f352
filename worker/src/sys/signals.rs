//! Signals of a template and of its workers: which are ignored, which make guests look up, which end the process.
//!
//! Owns the handlers and the one timer. Handlers are set in the template and inherited by what is forked from it.
#![allow(unsafe_code, reason = "signal handlers have no safe interface")]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Duration;

use wasmtime::Engine;

use super::SysError;

/// What the handlers increment: one engine for each flavor that is in use, in slots that are set once.
static ENGINES: [AtomicPtr<Engine>; 2] = [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];

/// Whether an alarm is set, and whether one has come that nobody has taken note of.
static ALARM_SET: AtomicBool = AtomicBool::new(false);
static ALARM_CAME: AtomicBool = AtomicBool::new(false);

/// From now on SIGUSR1 and the alarm make guests of this engine look up at their next loop or call. The engine lives as long as the
/// process; there are no more engines than flavors, and one more would not be heeded.
pub fn watch_engine(engine: Engine) -> Result<(), SysError> {
    let engine = Box::into_raw(Box::new(engine));
    for slot in &ENGINES {
        if slot.compare_exchange(ptr::null_mut(), engine, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            break;
        }
    }
    set_handler(libc::SIGUSR1, on_interrupt as *const () as libc::sighandler_t)?;
    set_handler(libc::SIGALRM, on_alarm as *const () as libc::sighandler_t)
}

/// How long after a signal of the supervisor's guests are made to look up once more.
const SECOND_LOOK_AFTER: Duration = Duration::from_millis(5);

extern "C" fn on_interrupt(_: libc::c_int) {
    raise_epochs();
    // A guest that is making way just now counts from the epoch at which it goes on, and would never look.
    set_alarm(SECOND_LOOK_AFTER);
}

extern "C" fn on_alarm(_: libc::c_int) {
    ALARM_SET.store(false, Ordering::SeqCst);
    ALARM_CAME.store(true, Ordering::SeqCst);
    raise_epochs();
}

fn raise_epochs() {
    for slot in &ENGINES {
        // SAFETY: the pointer is null or came from `Box::into_raw` in `watch_engine` and is never freed. `increment_epoch` is one
        // atomic addition, which wasmtime documents as safe in signal handlers; it touches no errno.
        if let Some(engine) = unsafe { slot.load(Ordering::Acquire).as_ref() } {
            engine.increment_epoch();
        }
    }
}

/// Makes running guests look up after this time. With an alarm set already, that one stands: one that comes for nothing costs less than
/// taking it back.
pub fn set_alarm(after: Duration) {
    if !ALARM_SET.swap(true, Ordering::SeqCst) {
        set_timer(after);
    }
}

/// Takes the alarm back.
pub fn cancel_alarm() {
    set_timer(Duration::ZERO);
    ALARM_SET.store(false, Ordering::SeqCst);
    ALARM_CAME.store(false, Ordering::SeqCst);
}

/// setitimer(2); zero stops it.
fn set_timer(after: Duration) {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let value = libc::timeval {
        tv_sec: after.as_secs() as libc::time_t,
        tv_usec: libc::suseconds_t::from(after.subsec_micros()),
    };
    let timer = libc::itimerval { it_interval: zero, it_value: value };
    // SAFETY: setitimer reads one structure, which lives until it returns, and is not asked for the old one.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    debug_assert_eq!(set, 0, "the timer exists and the time is valid");
}

/// Whether an alarm has come since the last call.
pub fn take_alarm() -> bool {
    ALARM_CAME.load(Ordering::Relaxed) && ALARM_CAME.swap(false, Ordering::SeqCst)
}

/// A fault that no guest caused ends the process, as it would without wasmtime. wasmtime's own handlers, which are installed later,
/// pass on what is not theirs; without this a SIGSEGV that somebody sends would be taken for handled, and the process would go on.
fn end_on_faults() -> Result<(), SysError> {
    extern "C" fn on_fault(signal: libc::c_int) {
        // SAFETY: signal(2) and raise(3) are async-signal-safe. The signal is blocked while its handler runs: it is delivered, with its
        // default action, on return. So is a real fault, by the instruction that is run again.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE] {
        set_handler(signal, on_fault as *const () as libc::sighandler_t)?;
    }
    Ok(())
}

/// Decides by the link when to end rather than by the signals of a terminal.
pub fn settle() -> Result<(), SysError> {
    end_on_faults()?;
    for signal in
        [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE]
    {
        set_handler(signal, libc::SIG_IGN)?;
    }
    // Whatever the parent of the supervisor had ignored: children that have ended are asked for.
    set_handler(libc::SIGCHLD, libc::SIG_DFL)
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> Result<(), SysError> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // On the alternate stack that wasmtime installs when there is one: a guest may have used up the ordinary one.
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler is SIG_IGN or one of this module's, which do only what is safe in a signal handler.
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(SysError::Settle(io::Error::last_os_error())),
    }
}

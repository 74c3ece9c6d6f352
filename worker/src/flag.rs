//! A waker that remembers.
//!
//! A guest that is woken while it is being polled is polled again at once, with no trip to the reactor and no system call;
//! only when nothing has woken it does the wake-up go to whoever waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

#[derive(Default, Debug)]
pub struct Flag {
    woken: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

impl Flag {
    /// Whether there was a wake-up since the last call.
    pub fn take(&self) -> bool {
        self.woken.swap(false, Ordering::SeqCst)
    }

    /// Whether there was a wake-up since the last [`Flag::take`].
    pub fn is_set(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }

    /// Passes the next wake-up on to `waiter`. `true` when one has come already.
    pub fn arm(&self, waiter: &Waker) -> bool {
        *self.lock() = Some(waiter.clone());
        self.is_set()
    }

    /// Passes no more wake-ups on.
    pub fn disarm(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        let waiter = self.lock().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_is_remembered_once() {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        assert!(!flag.take());
        waker.wake_by_ref();
        assert!(flag.arm(Waker::noop()));
        assert!(flag.take() && !flag.take());
    }

    #[test]
    fn a_wake_up_reaches_whoever_waits() {
        let (inner, outer) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        assert!(!inner.arm(&Waker::from(outer.clone())));
        Waker::from(inner.clone()).wake();
        assert!(outer.take());
        Waker::from(inner).wake();
        assert!(!outer.take());
    }
}

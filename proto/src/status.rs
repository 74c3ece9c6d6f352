//! The status page: 4 KiB of memory that one worker and the supervisor share, and no other process.
//!
//! It answers the one question that a socket cannot answer after a death: had this request started? A worker stores the
//! request's id before it gives control to the guest, with no system call. The second word goes the other way: which request
//! the supervisor wants interrupted. There are no locks in it, and what the worker writes is compared with what the
//! supervisor knows, never followed. The third word is the request that the worker may take up next, which the supervisor
//! can take back until then: one compare-and-exchange decides who has it. The fourth is the request whose guest the supervisor
//! would like to see the stack of. A further word says when the last request started, for the access log. The fifth is of use in the page of a template alone: which component it is loading.
//!
//! Mapping the page is the business of each process's own `sys` module; this type only says what is where.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::RequestId;

/// Size of the shared memory file.
pub const STATUS_PAGE_BYTES: usize = 4096;

/// The words of the page. `#[repr(C)]`, and each word on a cache line of its own, because each has another writer.
#[repr(C)]
#[derive(Debug, Default)]
pub struct StatusPage {
    started: Line,
    interrupt: Line,
    offer: Line,
    inspect: Line,
    loading: Line,
    started_at: Line,
}

#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Line(AtomicU64);

impl StatusPage {
    /// Worker: the guest is about to run for this request. From here on the request is never given to another worker. `at_ns` is the
    /// time by `CLOCK_MONOTONIC` in nanoseconds.
    pub fn store_started(&self, request: RequestId, at_ns: u64) {
        self.started_at.0.store(at_ns, Ordering::Relaxed);
        self.started.0.store(request.0, Ordering::SeqCst);
    }

    /// Supervisor: when the last request started, as the worker says: to be brought into bounds before it is believed.
    pub fn started_at_ns(&self) -> u64 {
        self.started_at.0.load(Ordering::Relaxed)
    }

    /// Supervisor: the last request that this worker has started.
    pub fn started(&self) -> RequestId {
        RequestId(self.started.0.load(Ordering::SeqCst))
    }

    /// Supervisor: this request is about to be sent. Nothing else may be on offer. Every request is offered before it is sent, so
    /// that it can be withdrawn as long as the worker is busy with the one before.
    pub fn store_offer(&self, request: RequestId) {
        self.offer.0.store(request.0, Ordering::SeqCst);
    }

    /// Supervisor: whether the last offer has been accepted or withdrawn.
    pub fn is_offer_settled(&self) -> bool {
        self.offer.0.load(Ordering::SeqCst) == 0
    }

    /// Supervisor: whether this request is on offer, neither accepted nor withdrawn.
    pub fn is_on_offer(&self, request: RequestId) -> bool {
        self.offer.0.load(Ordering::SeqCst) == request.0
    }

    /// Worker: takes up a request that it has been sent. False if it was withdrawn: then all that is answered
    /// is `Done`.
    pub fn accept_offer(&self, request: RequestId) -> bool {
        self.settle_offer(request)
    }

    /// Supervisor: takes a request back that the worker has not taken up. False if it has.
    pub fn withdraw_offer(&self, request: RequestId) -> bool {
        self.settle_offer(request)
    }

    fn settle_offer(&self, request: RequestId) -> bool {
        self.offer.0.compare_exchange(request.0, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Supervisor: this request is to be interrupted. The signal that makes the worker look comes after the store.
    pub fn store_interrupt(&self, request: RequestId) {
        self.interrupt.0.store(request.0, Ordering::SeqCst);
    }

    /// Worker: the request to be interrupted, which may be one that has already ended.
    pub fn interrupt(&self) -> RequestId {
        RequestId(self.interrupt.0.load(Ordering::SeqCst))
    }

    /// Supervisor: the stack of this request's guest is wanted. The signal that makes the worker look comes after the store.
    pub fn store_inspect(&self, request: RequestId) {
        self.inspect.0.store(request.0, Ordering::SeqCst);
    }

    /// Worker: the request whose stack is wanted.
    pub fn inspect(&self) -> RequestId {
        RequestId(self.inspect.0.load(Ordering::SeqCst))
    }

    /// Template: this component of the `Hello` is being loaded; `None` when none is.
    pub fn store_loading(&self, component: Option<u16>) {
        self.loading.0.store(component.map_or(0, |component| u64::from(component) + 1), Ordering::SeqCst);
    }

    /// Supervisor: the component that a template was loading when it died. Whatever else stands there is nothing.
    pub fn loading(&self) -> Option<u16> {
        self.loading.0.load(Ordering::SeqCst).checked_sub(1).and_then(|component| u16::try_from(component).ok())
    }
}

const _: () = assert!(size_of::<StatusPage>() <= STATUS_PAGE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_words_are_where_the_other_process_looks_for_them() {
        let offsets = [
            offset_of!(StatusPage, started),
            offset_of!(StatusPage, interrupt),
            offset_of!(StatusPage, offer),
            offset_of!(StatusPage, inspect),
            offset_of!(StatusPage, loading),
            offset_of!(StatusPage, started_at),
        ];
        assert_eq!(offsets, [0, 64, 128, 192, 256, 320]);
    }

    #[test]
    fn each_word_is_read_as_it_was_stored_and_alone() {
        let page = StatusPage::default();
        assert_eq!((page.started(), page.interrupt()), (RequestId::NONE, RequestId::NONE));
        page.store_started(RequestId(1), 5);
        assert_eq!(page.started_at_ns(), 5);
        page.store_interrupt(RequestId(2));
        page.store_inspect(RequestId(3));
        assert_eq!((page.started(), page.interrupt(), page.inspect()), (RequestId(1), RequestId(2), RequestId(3)));
    }

    #[test]
    fn the_component_that_is_being_loaded_is_told_and_nonsense_is_nothing() {
        let page = StatusPage::default();
        assert_eq!(page.loading(), None);
        for component in [0, 7, u16::MAX] {
            page.store_loading(Some(component));
            assert_eq!(page.loading(), Some(component));
        }
        page.loading.0.store(u64::MAX, Ordering::SeqCst);
        assert_eq!(page.loading(), None);
        page.store_loading(None);
        assert_eq!(page.loading(), None);
    }

    #[test]
    fn an_offer_is_had_by_one_side_only() {
        let page = StatusPage::default();
        assert!(page.is_offer_settled());
        page.store_offer(RequestId(7));
        assert!(!page.is_offer_settled() && page.is_on_offer(RequestId(7)) && !page.is_on_offer(RequestId(8)));
        assert!(!page.accept_offer(RequestId(8)));
        assert!(page.accept_offer(RequestId(7)));
        assert!(!page.withdraw_offer(RequestId(7)));
        page.store_offer(RequestId(9));
        assert!(page.withdraw_offer(RequestId(9)));
        assert!(!page.accept_offer(RequestId(9)));
    }
}

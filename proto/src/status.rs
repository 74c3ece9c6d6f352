//! The status page: 4 KiB of memory that one worker and the supervisor share, and no other process.
//!
//! It answers the one question that a socket cannot answer after a death: had this request started? A worker stores the
//! request's id before it gives control to the guest, with no system call. The other word goes the other way: which request
//! the supervisor wants interrupted. There are no locks in it, and what the worker writes is compared with what the
//! supervisor knows, never followed.
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
}

#[repr(C, align(64))]
#[derive(Debug, Default)]
struct Line(AtomicU64);

impl StatusPage {
    /// Worker: the guest is about to run for this request. From here on the request is never given to another worker.
    pub fn store_started(&self, request: RequestId) {
        self.started.0.store(request.0, Ordering::SeqCst);
    }

    /// Supervisor: the last request that this worker has started.
    pub fn started(&self) -> RequestId {
        RequestId(self.started.0.load(Ordering::SeqCst))
    }

    /// Supervisor: this request is to be interrupted. The signal that makes the worker look comes after the store.
    pub fn store_interrupt(&self, request: RequestId) {
        self.interrupt.0.store(request.0, Ordering::SeqCst);
    }

    /// Worker: the request to be interrupted, which may be one that has already ended.
    pub fn interrupt(&self) -> RequestId {
        RequestId(self.interrupt.0.load(Ordering::SeqCst))
    }
}

const _: () = assert!(size_of::<StatusPage>() <= STATUS_PAGE_BYTES);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_words_are_where_the_other_process_looks_for_them() {
        assert_eq!((offset_of!(StatusPage, started), offset_of!(StatusPage, interrupt)), (0, 64));
    }

    #[test]
    fn each_word_is_read_as_it_was_stored_and_alone() {
        let page = StatusPage::default();
        assert_eq!((page.started(), page.interrupt()), (RequestId::NONE, RequestId::NONE));
        page.store_started(RequestId(1));
        page.store_interrupt(RequestId(2));
        assert_eq!((page.started(), page.interrupt()), (RequestId(1), RequestId(2)));
    }
}

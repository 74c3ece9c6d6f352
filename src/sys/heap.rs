//! The C library's heap: what a burst of uploads has used goes back to the system.

/// Blocks from this size on are mapped on their own, and unmapped when they are freed (mallopt(3)). Left to itself glibc raises this
/// threshold with the first large block that is freed; after that, a thousand uploads at once would stay in the heap for ever.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 64 * 1024;

/// To be called once, before the heap is used much. Does nothing where the C library has no such setting.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two integers, and there is one thread yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
    }
}

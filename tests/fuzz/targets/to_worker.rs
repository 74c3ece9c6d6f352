//! Any bytes that the supervisor might send: the worker refuses them, or reads messages that mean the same after a second
//! journey, and never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rusmd_proto::{Frame, ToWorker};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(Some((frame, after))) = Frame::split(rest) {
        if let Ok(message) = ToWorker::decode(&frame) {
            let mut again = Vec::new();
            message.encode(&mut again).expect("what was decoded is within the limits");
            let (frame, left) = Frame::split(&again).expect("a legal header").expect("a whole frame");
            assert!(left.is_empty());
            assert_eq!(ToWorker::decode(&frame), Ok(message));
        }
        rest = after;
    }
});

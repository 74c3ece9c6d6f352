//! Any bytes as a header of the PROXY protocol: a verdict that more bytes do not change, and a header that is where it says it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rusmd::proxy_protocol::{HEADER_BYTES_MAX, parse};

fuzz_target!(|data: &[u8]| {
    let whole = parse(data);
    if let Ok(Some(header)) = whole {
        assert!(header.bytes <= data.len() && header.bytes <= HEADER_BYTES_MAX);
        // Exactly these bytes are one, and none fewer.
        assert_eq!(parse(&data[..header.bytes]), whole);
        assert_eq!(parse(&data[..header.bytes - 1]), Ok(None));
    }
    if whole == Ok(None) {
        assert!(data.len() < HEADER_BYTES_MAX);
    }
    // A refusal stands whatever follows.
    for end in 0..data.len().min(256) {
        if let Err(malformed) = parse(&data[..end]) {
            assert!(whole.is_err(), "{malformed:?} was taken back");
        }
    }
});

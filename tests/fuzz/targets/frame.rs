//! A stream of any bytes, cut in any places: the frames found in it are the same, in whatever pieces it arrives, and a
//! header that is accepted is the only one of its meaning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rusmd_proto::{Frame, FrameBuffer, FrameError};

fuzz_target!(|data: &[u8]| {
    let Some((step, stream)) = data.split_first() else { return };
    let (whole, whole_end) = split_at_once(stream);
    let (pieces, pieces_end) = split_in_pieces(stream, usize::from(*step).max(1));
    assert_eq!(pieces, whole);
    assert_eq!(pieces_end, whole_end);
});

fn split_at_once(stream: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut rest, mut frames) = (stream, Vec::new());
    loop {
        match Frame::split(rest) {
            Ok(Some((frame, after))) => {
                let used = &rest[..rest.len() - after.len()];
                let again = [&frame.header.to_bytes(), frame.payload].concat();
                assert_eq!(again, used, "two headers of one meaning");
                frames.push(again);
                rest = after;
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn split_in_pieces(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut buffer, mut frames) = (FrameBuffer::default(), Vec::new());
    for piece in stream.chunks(step) {
        buffer.extend(piece);
        loop {
            match buffer.peek() {
                Ok(Some(frame)) => {
                    let header = frame.header;
                    frames.push([&header.to_bytes(), frame.payload].concat());
                    buffer.consume(header);
                }
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

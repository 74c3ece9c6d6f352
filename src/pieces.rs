//! Pieces of a request's body as frames: small ones that follow each other become one, so that a body that comes byte by byte does not become
//! sixteen bytes of frame for each.
//!
//! Owns when a frame that was encoded already may still grow; knows no socket. `request` keeps such frames, and `link` sends them.

use rusmd_proto::limits::FRAME_HEADER_BYTES;
use rusmd_proto::message::encode_body;
use rusmd_proto::{FrameHeader, Kind, RequestId};

/// Appends a piece of a body to `frames`. `last` is where the piece before it begins, if that is still there and may grow, and afterwards where this
/// one does.
pub fn append(frames: &mut Vec<u8>, last: &mut Option<usize>, id: RequestId, mut bytes: &[u8]) {
    if let Some(at) = *last
        && let Some(mut header) = growing(frames, at, id)
    {
        let room = header.kind.payload_bytes_max() - header.payload_bytes;
        let (more, rest) = bytes.split_at(room.min(bytes.len()));
        frames.extend_from_slice(more);
        header.payload_bytes += more.len();
        frames[at..at + FRAME_HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes = rest;
    }
    for piece in bytes.chunks(Kind::RequestBody.payload_bytes_max()) {
        *last = Some(frames.len());
        let encoded = encode_body(frames, Kind::RequestBody, id, piece, false);
        debug_assert!(encoded.is_ok(), "a piece is cut to the size of a frame");
    }
}

/// The header of the frame at `at`, while it is a piece of this body and nothing is behind it.
fn growing(frames: &[u8], at: usize, id: RequestId) -> Option<FrameHeader> {
    let frame = frames.get(at..)?;
    let header = FrameHeader::parse(frame).ok()??;
    let is_last = frame.len() == FRAME_HEADER_BYTES + header.payload_bytes;
    (is_last && header.kind == Kind::RequestBody && header.request == id && !header.end).then_some(header)
}

#[cfg(test)]
mod tests {
    use rusmd_proto::limits::BODY_CHUNK_BYTES_MAX;
    use rusmd_proto::{Frame, ToWorker};

    use super::*;

    const ID: RequestId = RequestId(7);

    /// The payloads of the frames, and how long all of them are.
    fn payloads(mut frames: &[u8]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let Some((frame, rest)) = Frame::split(frames).expect("well formed") {
            payloads.push(frame.payload.to_vec());
            frames = rest;
        }
        assert!(frames.is_empty(), "nothing but whole frames");
        payloads
    }

    #[test]
    fn a_body_that_comes_byte_by_byte_is_one_frame() {
        let (mut frames, mut last) = (Vec::new(), None);
        for n in 0..=255 {
            append(&mut frames, &mut last, ID, &[n]);
        }
        assert_eq!(payloads(&frames), [(0..=255).collect::<Vec<u8>>()]);
    }

    #[test]
    fn a_frame_grows_to_its_limit_and_not_past_it() {
        for (first, second, expected) in [
            (BODY_CHUNK_BYTES_MAX - 1, 1, vec![BODY_CHUNK_BYTES_MAX]),
            (BODY_CHUNK_BYTES_MAX - 1, 2, vec![BODY_CHUNK_BYTES_MAX, 1]),
            (BODY_CHUNK_BYTES_MAX, 1, vec![BODY_CHUNK_BYTES_MAX, 1]),
            (1, 2 * BODY_CHUNK_BYTES_MAX, vec![BODY_CHUNK_BYTES_MAX, BODY_CHUNK_BYTES_MAX, 1]),
        ] {
            let (mut frames, mut last) = (Vec::new(), None);
            append(&mut frames, &mut last, ID, &vec![1; first]);
            append(&mut frames, &mut last, ID, &vec![2; second]);
            let lengths: Vec<usize> = payloads(&frames).iter().map(Vec::len).collect();
            assert_eq!(lengths, expected, "{first} and {second}");
            assert_eq!(payloads(&frames).concat(), [vec![1; first], vec![2; second]].concat());
        }
    }

    #[test]
    fn nothing_is_added_to_a_frame_that_has_another_behind_it_or_is_of_another_request() {
        let (mut frames, mut last) = (Vec::new(), None);
        append(&mut frames, &mut last, ID, b"a");
        ToWorker::Drain.encode(&mut frames).expect("it fits");
        append(&mut frames, &mut last, ID, b"b");
        append(&mut frames, &mut last, RequestId(8), b"c");
        assert_eq!(payloads(&frames), [b"a".to_vec(), Vec::new(), b"b".to_vec(), b"c".to_vec()]);
    }

    #[test]
    fn no_bytes_are_no_frame() {
        let (mut frames, mut last) = (Vec::new(), None);
        append(&mut frames, &mut last, ID, b"");
        assert_eq!((frames.len(), last), (0, None));
    }
}

//! What crosses the link may be damaged in any way: it is refused or read as another message, and nothing ever panics.

mod samples;

use rusmd_proto::{CodecError, Frame, FrameBuffer, Kind, ToSupervisor, ToWorker};
use samples::Message;

/// SplitMix64: enough chance for a test, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Reads a stream as a peer does, until it is exhausted or refused; the number of messages.
fn read_all(stream: &[u8]) -> usize {
    let mut buffer = FrameBuffer::default();
    buffer.extend(stream);
    let mut messages = 0;
    while let Ok(Some(frame)) = buffer.peek() {
        let _ = ToWorker::decode(&frame);
        let _ = ToSupervisor::decode(&frame);
        if let Ok(message) = Message::decode(&frame) {
            check_that_it_survives_a_second_journey(&message);
        }
        messages += 1;
        let header = frame.header;
        buffer.consume(header);
    }
    messages
}

fn check_that_it_survives_a_second_journey(message: &Message<'_>) {
    let bytes = message.encode();
    let (frame, _) = Frame::split(&bytes).expect("what we encode has a legal header").expect("and is whole");
    assert_eq!(Message::decode(&frame).as_ref(), Ok(message));
}

#[test]
fn a_frame_cut_off_anywhere_is_awaited() {
    for (name, message) in samples::all() {
        let bytes = message.encode();
        for length in 0..bytes.len() {
            assert_eq!(Frame::split(&bytes[..length]), Ok(None), "{name} cut to {length} bytes");
        }
    }
}

#[test]
fn a_payload_cut_off_anywhere_is_refused() {
    for (name, message) in samples::all() {
        let bytes = message.encode();
        let (frame, _) = Frame::split(&bytes).expect("well formed").expect("whole");
        let is_raw = matches!(frame.header.kind, Kind::RequestBody | Kind::ResponseBody | Kind::Backtrace);
        for length in (0..frame.payload.len()).filter(|_| !is_raw) {
            let mut header = frame.header;
            header.payload_bytes = length;
            let cut = Frame { header, payload: &frame.payload[..length] };
            assert!(Message::decode(&cut).is_err(), "{name} with a payload of {length} bytes");
        }
    }
}

#[test]
fn bytes_left_over_after_a_message_are_refused() {
    for (name, message) in samples::all() {
        let bytes = message.encode();
        let (frame, _) = Frame::split(&bytes).expect("well formed").expect("whole");
        let is_encoded = !matches!(
            frame.header.kind,
            Kind::RequestBody
                | Kind::ResponseBody
                | Kind::RequestCredit
                | Kind::ResponseCredit
                | Kind::Backtrace
                | Kind::Fork
                | Kind::Begin
                | Kind::Forked
        );
        if is_encoded && frame.header.kind.payload_bytes_max() > 0 {
            let payload = [frame.payload, &[0]].concat();
            let mut header = frame.header;
            header.payload_bytes = payload.len();
            let longer = Frame { header, payload: &payload };
            let error = CodecError::LeftOver { kind: header.kind, bytes: 1 };
            assert_eq!(Message::decode(&longer), Err(error), "{name} with a byte too many");
        }
    }
}

#[test]
fn every_single_flipped_bit_is_survived() {
    for (_, message) in samples::all() {
        let bytes = message.encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            read_all(&damaged);
        }
    }
}

#[test]
fn a_stream_damaged_in_several_places_is_survived() {
    let stream: Vec<u8> = samples::all().into_iter().flat_map(|(_, message)| message.encode()).collect();
    assert_eq!(read_all(&stream), samples::all().len());
    let mut random = Random(1);
    for _ in 0..5_000 {
        let mut damaged = stream.clone();
        for _ in 0..=random.below(8) {
            let at = random.below(damaged.len());
            damaged[at] = random.next() as u8;
        }
        damaged.truncate(random.below(damaged.len() + 1));
        read_all(&damaged);
    }
}

#[test]
fn a_random_payload_of_every_kind_is_survived() {
    let mut random = Random(2);
    for kind in Kind::ALL {
        for _ in 0..2_000 {
            let payload_bytes = random.below(kind.payload_bytes_max().min(200) + 1);
            let payload: Vec<u8> = (0..payload_bytes).map(|_| random.next() as u8 >> random.below(8)).collect();
            let mut stream = (payload_bytes as u32).to_le_bytes().to_vec();
            stream.extend_from_slice(&[kind as u8, u8::from(kind.may_end()), 0, 0]);
            stream.extend_from_slice(&[0; 8]);
            stream.extend_from_slice(&payload);
            assert_eq!(read_all(&stream), 1);
        }
    }
}

#[test]
fn a_message_in_the_wrong_direction_is_refused() {
    for (name, message) in samples::all() {
        let bytes = message.encode();
        let (frame, _) = Frame::split(&bytes).expect("well formed").expect("whole");
        let error = Err(CodecError::WrongDirection(frame.header.kind));
        match message {
            Message::ToWorker(_) => assert_eq!(ToSupervisor::decode(&frame).map(drop), error, "{name}"),
            Message::ToSupervisor(_) => assert_eq!(ToWorker::decode(&frame).map(drop), error, "{name}"),
        }
    }
}

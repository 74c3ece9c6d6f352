//! Compressed bodies are read by the other half of each library; heads by eye.

use std::io::Read as _;

use super::encoder::ENCODERS_MAX;
use super::{Coding, Encoder, Plan, Policy, Room, rewritten, weakened};
use crate::http::{Header, ResponseError, ResponseHead};

fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        Coding::Zstd => zstd::stream::read::Decoder::new(bytes).expect("a decoder").read_to_end(&mut plain),
    };
    read.unwrap_or_else(|error| panic!("{coding:?} {error}"));
    plain
}

fn encoder(coding: Coding, promised: Option<u64>) -> Encoder {
    Room::default().encoder(coding, promised).expect("there is room")
}

#[test]
fn whatever_the_pieces_the_body_is_the_same_at_the_other_end() {
    let body: Vec<u8> = (0..200_000_u32).flat_map(|number| (number % 977).to_string().into_bytes()).collect();
    for coding in Coding::ALL {
        for (piece, promised) in [(1 << 16, Some(body.len() as u64)), (1 << 16, None), (777, None), (body.len(), None)]
        {
            let mut encoder = encoder(coding, promised);
            let mut sent = Vec::new();
            for part in body.chunks(piece) {
                sent.extend(encoder.encode(part).expect("it goes in"));
            }
            sent.extend(encoder.finish().expect("it ends"));
            assert!(sent.len() < body.len() / 2, "{coding:?}: {} of {}", sent.len(), body.len());
            assert_eq!(decoded(coding, &sent), body, "{coding:?}, {piece}");
        }
    }
}

#[test]
fn an_empty_body_is_one_too() {
    for coding in Coding::ALL {
        let sent = encoder(coding, None).finish().expect("it ends");
        assert_eq!(decoded(coding, &sent), b"", "{coding:?}");
    }
}

#[test]
fn what_a_guest_says_of_itself_can_be_read_at_once() {
    let mut encoder = encoder(Coding::Gzip, None);
    let sent = encoder.encode(b"one\n").expect("it goes in");
    let mut reader = flate2::read::GzDecoder::new(sent);
    let mut line = [0; 4];
    reader.read_exact(&mut line).expect("the first line is whole");
    assert_eq!(&line, b"one\n");
}

#[test]
fn a_promised_length_is_kept_to_the_byte() {
    let mut at = encoder(Coding::Zstd, Some(3));
    at.encode(b"abc").expect("as promised");
    at.finish().expect("whole");
    let mut over = encoder(Coding::Zstd, Some(3));
    assert_eq!(over.encode(b"abcd"), Err(ResponseError::BodyTooLong));
    let mut under = encoder(Coding::Zstd, Some(3));
    under.encode(b"ab").expect("less");
    assert_eq!(under.finish(), Err(ResponseError::BodyTooShort));
}

#[test]
fn there_are_so_many_encoders_and_not_one_more() {
    let room = Room::default();
    let mut all: Vec<Encoder> = (0..ENCODERS_MAX).filter_map(|_| room.encoder(Coding::Gzip, None)).collect();
    assert_eq!(all.len(), ENCODERS_MAX);
    assert!(room.encoder(Coding::Gzip, None).is_none());
    all.pop();
    assert!(room.encoder(Coding::Gzip, None).is_some());
}

fn policy() -> Policy {
    Policy { codings: Coding::ALL.to_vec(), min_bytes: 10, ..Policy::default() }
}

fn plan(status: u16, headers: &[Header<'_>], body_length: Option<u64>) -> Plan {
    let head = ResponseHead { status, headers, request_id: "", body_length };
    Plan::of(&policy(), &head, [&b"gzip"[..]].into_iter())
}

#[test]
fn what_is_compressed_is_decided_by_status_type_length_and_what_the_guest_says() {
    let html: Header<'_> = ("Content-Type", b"Text/HTML; charset=utf-8");
    let encode = Plan::Encode(Coding::Gzip);
    let table: &[(u16, &[Header<'_>], Option<u64>, Plan)] = &[
        (200, &[html], Some(10), encode),
        (200, &[html], Some(9), Plan::Vary),
        (200, &[html, ("content-length", b"9")], None, Plan::Vary),
        (200, &[html], None, encode),
        (404, &[html], None, encode),
        (200, &[], None, Plan::Unchanged),
        (200, &[("content-type", b"image/png")], None, Plan::Unchanged),
        (200, &[("content-type", b"text/event-stream")], None, Plan::Unchanged),
        (200, &[html, ("content-encoding", b"br")], None, Plan::Unchanged),
        (200, &[html, ("Content-Digest", b"sha-256=:AA==:")], None, Plan::Unchanged),
        (200, &[html, ("cache-control", b"private, no-transform")], None, Plan::Unchanged),
        (204, &[html], None, Plan::Unchanged),
        (206, &[html], None, Plan::Unchanged),
        (304, &[html], None, Plan::Unchanged),
    ];
    for (status, headers, length, expected) in table {
        assert_eq!(plan(*status, headers, *length), *expected, "{status} {headers:?} {length:?}");
    }
    let head = ResponseHead { status: 200, headers: &[html], request_id: "", body_length: None };
    assert_eq!(Plan::of(&policy(), &head, [].into_iter()), Plan::Vary);
}

#[test]
fn a_family_of_types_is_one_with_a_star() {
    let policy = Policy { types: vec!["text/*".to_owned()], ..policy() };
    for (content_type, covered) in
        [("text/csv", true), ("TEXT/x; a=b", true), ("text", false), ("texts/a", false), ("a/text/", false)]
    {
        assert_eq!(policy.covers(content_type.as_bytes()), covered, "{content_type}");
    }
}

#[test]
fn the_fields_tell_of_the_coding_and_of_nothing_that_is_no_longer_true() {
    let headers: &[Header<'_>] =
        &[("content-length", b"100"), ("ETag", b"\"a\""), ("accept-ranges", b"bytes"), ("x-a", b"1")];
    let etag = weakened(headers);
    let expected: &[Header<'_>] =
        &[("ETag", b"W/\"a\""), ("x-a", b"1"), ("content-encoding", b"br"), ("vary", b"accept-encoding")];
    assert_eq!(rewritten(headers, Some(Coding::Brotli), etag.as_deref()), expected);
    let said: &[Header<'_>] = &[("vary", b"Origin, Accept-Encoding"), ("etag", b"W/\"b\"")];
    assert_eq!((rewritten(said, None, None), weakened(said)), (said.to_vec(), None));
    assert_eq!(rewritten(&[], None, None), [("vary", &b"accept-encoding"[..])]);
}

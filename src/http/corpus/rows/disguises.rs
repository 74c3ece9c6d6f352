//! Rows of published attacks on framing: two framings, lengths, chunks and trailers that are read in two ways. See `rows` for how
//! to read them.

use super::Row;

pub const ALL: &[&[Row]] = &[CODINGS, LENGTHS, CHUNKS, TRAILERS];

/// CL.TE, TE.CL and TE.TE: two framings, and one of them in disguise.
const CODINGS: &[Row] = &[
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\nG",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 4\nTransfer-Encoding: chunked\n\n5c\nGET /x HTTP/1.1\n\n",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nContent-Length: 3\n\n8\nSMUGGLED\n0\n\n",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding:\tchunked\n\n0\n\nG",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding: chunked \t\n\n0\n\nG",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\ntRANSFER-eNCODING: cHuNkEd\n\n0\n\nG",
        "400 LengthAndCoding",
    ),
    ("9112-6.3", "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding: x\n\n0\n\nG", "400 LengthAndCoding"),
    (
        "9112-6.1",
        "POST / HTTP/1.0\nHost: h\nContent-Length: 6\nTransfer-Encoding: chunked\n\n0\n\nG",
        "400 LengthAndCoding",
    ),
    (
        "9112-6.1",
        "POST / HTTP/1.0\nHost: h\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n0\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "400 CodingInHttp10",
    ),
    (
        "9112-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding : chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding\t: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\n Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\n\tTransfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding\n : chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding:\n\tchunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-5.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nX: y\n Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9112-2.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nX: y␊Transfer-Encoding: chunked\n\n0\n\nG",
        "400 BareLineFeed",
    ),
    (
        "9112-2.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nX: y␍Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderValue",
    ),
    (
        "9112-2.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding: chunked␍X: y\n\n0\n\nG",
        "400 HeaderValue",
    ),
    (
        "9112-2.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nX: y\n␍Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderValue",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding\0: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer\0-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\n\0Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\n\u{b}Transfer-Encoding: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding\u{c}: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding\u{a0}: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    (
        "9110-5.1",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding;: chunked\n\n0\n\nG",
        "400 HeaderName",
    ),
    ("9110-5.1", "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding=chunked\n\n0\n\nG", "400 HeaderName"),
    ("9110-5.1", "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding chunked\n\n0\n\nG", "400 HeaderName"),
    (
        "9110-5.5",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 6\nTransfer-Encoding: chunked\0\n\n0\n\nG",
        "400 HeaderValue",
    ),
    ("9110-5.5", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\u{b}\n\n0\n\n", "400 HeaderValue"),
    ("9110-5.5", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: \u{c}chunked\n\n0\n\n", "400 HeaderValue"),
    ("9110-5.5", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: \u{1f}chunked\n\n0\n\n", "400 HeaderValue"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: \u{a0}chunked\n\n0\n\n", "400 CodingInvalid"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: \u{f7ff}chunked\n\n0\n\n", "400 CodingInvalid"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunk\n\n0\n\n", "501 CodingUnsupported"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunkedchunked\n\n0\n\n", "501 CodingUnsupported"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked chunked\n\n0\n\n", "400 CodingInvalid"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: 'chunked'\n\n0\n\n", "501 CodingUnsupported"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked; a=b\n\n0\n\n", "400 CodingInvalid"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked;\n\n0\n\n", "400 CodingInvalid"),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: : chunked\n\n0\n\n", "400 CodingInvalid"),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: Transfer-Encoding: chunked\n\n0\n\n",
        "400 CodingInvalid",
    ),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: cow\nTransfer-Encoding: chunked\n\n0\n\n",
        "501 CodingUnsupported",
    ),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: identity, chunked\n\n0\n\n", "501 CodingUnsupported"),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: deflate, gzip, chunked\n\n0\n\n",
        "501 CodingUnsupported",
    ),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n",
        "400 CodingInvalid",
    ),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked, gzip, chunked\n\n0\n\n", "400 CodingInvalid"),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nTransfer-Encoding:\n\n0\n\n",
        "400 CodingInvalid",
    ),
    (
        "9112-6.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding:\nTransfer-Encoding: chunked\n\n0\n\n",
        "400 CodingInvalid",
    ),
    ("9112-6.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding:  \tchunked\t \n\n0\n\n", "POST / | open"),
    ("9112-6.1", "GET / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n", "GET / =hello | open"),
    (
        "9112-6.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nTransfer_Encoding: chunked\n\nhello",
        "POST / ⟨transfer_encoding: chunked⟩ =hello | open",
    ),
    (
        "9112-6.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nTransferEncoding: chunked\n\nhello",
        "POST / =hello | open",
    ),
    (
        "9112-6.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nX-Transfer-Encoding: chunked\n\nhello",
        "POST / =hello | open",
    ),
    (
        "9112-6.2",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Encoding: chunked\n\nhello",
        "POST / ⟨content-encoding: chunked⟩ =hello | open",
    ),
    (
        "9110-7.6.1",
        "POST / HTTP/1.1\nHost: h\nConnection: Transfer-Encoding\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n",
        "POST / ⟨⟩ =hello | open",
    ),
];

/// Lengths that two readers take for different numbers, and bodies that look like requests (0.CL, CL.0).
const LENGTHS: &[Row] = &[
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 18446744073709551621\n\nhello", "400 ContentLengthInvalid"),
    (
        "9110-8.6",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 000000000000000000005\n\nhello",
        "400 ContentLengthInvalid",
    ),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5;\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5,\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: ,5\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5\u{a0}\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: ²\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: ٥\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5e0\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 1_0\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 0b11\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 0x\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: NaN\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: --5\n\nhello", "400 ContentLengthInvalid"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5\u{b}\n\nhello", "400 HeaderValue"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5\0\n\nhello", "400 HeaderValue"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 5␍\n\nhello", "400 HeaderValue"),
    ("9112-5.2", "POST / HTTP/1.1\nHost: h\nContent-Length: 5\n 6\n\nhello", "400 HeaderName"),
    ("9112-5.2", "POST / HTTP/1.1\nHost: h\nContent-Length:\n 5\n\nhello", "400 HeaderName"),
    ("9112-5.1", "POST / HTTP/1.1\nHost: h\nContent-Length\t: 5\n\nhello", "400 HeaderName"),
    ("9112-5.1", "POST / HTTP/1.1\nHost: h\nContent-Length : 0\nContent-Length: 5\n\nhello", "400 HeaderName"),
    ("9110-5.1", "POST / HTTP/1.1\nHost: h\nContent-Length\0: 5\n\nhello", "400 HeaderName"),
    ("9112-2.2", "POST / HTTP/1.1\nHost: h\nX: y␊Content-Length: 5\n\nhello", "400 BareLineFeed"),
    ("9112-2.2", "POST / HTTP/1.1\nHost: h\nX: y␍Content-Length: 5\n\nhello", "400 HeaderValue"),
    (
        "9110-8.6",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nContent-Length: 0\n\nhello",
        "400 ContentLengthRepeated",
    ),
    (
        "9110-8.6",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nX: y\nCONTENT-LENGTH: 05\n\nhello",
        "400 ContentLengthRepeated",
    ),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length:5\n\nhello", "POST / =hello | open"),
    ("9110-8.6", "POST / HTTP/1.1\nHost: h\nContent-Length: 00000000000000000005\n\nhello", "POST / =hello | open"),
    (
        "9110-8.6",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 5\nContent_Length: 0\n\nhello",
        "POST / ⟨content_length: 0⟩ =hello | open",
    ),
    (
        "9110-7.6.1",
        "POST / HTTP/1.1\nHost: h\nConnection: Content-Length\nContent-Length: 5\n\nhello",
        "POST / =hello | open",
    ),
    (
        "9112-6.3",
        "GET / HTTP/1.1\nHost: h\nContent-Length: 30\n\nGET /x HTTP/1.1\nHost: hhh\n\n",
        "GET / =GET /x HTTP/1.1\r\nHost: hhh\r\n\r\n | open",
    ),
    (
        "9112-6.3",
        "HEAD / HTTP/1.1\nHost: h\nContent-Length: 28\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "HEAD / =GET /x HTTP/1.1\r\nHost: h\r\n\r\n | open",
    ),
    (
        "9112-6.3",
        "DELETE / HTTP/1.1\nHost: h\nContent-Length: 28\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "DELETE / =GET /x HTTP/1.1\r\nHost: h\r\n\r\n | open",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 0\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "POST / | GET /x | open",
    ),
    ("9112-6.3", "POST / HTTP/1.1\nHost: h\n\nGET /x HTTP/1.1\nHost: h\n\n", "POST / | GET /x | open"),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 3\n\nabcdGET /x HTTP/1.1\nHost: h\n\n",
        "POST / =abc | dGET /x | open",
    ),
    (
        "9112-6.3",
        "POST / HTTP/1.1\nHost: h\nContent-Length: 27\n\nGET /x HTTP/1.1\nHost: h\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "POST / =GET /x HTTP/1.1\r\nHost: h\r\n\r | 400 BareLineFeed",
    ),
    ("9112-6.3", "POST / HTTP/1.0\nHost: h\n\nhelloGET /x HTTP/1.1\nHost: h\n\n", "POST / | close"),
    (
        "9112-6.3",
        "POST / HTTP/1.0\nHost: h\nConnection: keep-alive\nContent-Length: 5\n\nhelloGET /x HTTP/1.1\nHost: h\n\n",
        "POST / =hello | GET /x | open",
    ),
];

/// Chunks that end elsewhere for another reader.
const CHUNKS: &[Row] = &[
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n1\nZ\nQ\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n3\nabc\nX\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\n\nhello\n0\n\n", "400 ChunkEnd"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5␍\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5␊␍hello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\u{b}\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\u{a0}\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n٥\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n\u{feff}5\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0x0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n-0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5.0\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5h\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n\"5\"\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n;a\nhello\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n100000000\n", "wait"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n10000000000000000\n", "400 ChunkSize"),
    (
        "9112-7.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n00000000000000000000000000000000\n",
        "400 ChunkSize",
    ),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n8000000000000000\n", "413 BodyTooLarge"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\nfffffffffffffffe\n", "413 BodyTooLarge"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n\n0\n\n", "400 ChunkSize"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello␍␍0\n\n", "400 ChunkEnd"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello␊␊0\n\n", "400 ChunkEnd"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello;\n0\n\n", "400 ChunkEnd"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhell␊\n0\n\n", "POST / =hell\n | open"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n0", "wait"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\nhello\n", "wait"),
    (
        "9112-7.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n1c\nGET /x HTTP/1.1\nHost: h\n\n\n0\n\n",
        "POST / =GET /x HTTP/1.1\r\nHost: h\r\n\r\n | open",
    ),
    (
        "9112-7.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "POST / | GET /x | open",
    ),
    (
        "9112-7.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n\nXGET /x HTTP/1.1\nHost: h\n\n",
        "POST / | XGET /x | open",
    ),
    (
        "9112-7.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n\n0\n\n",
        "POST / | 400 RequestLineInvalid",
    ),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0␍␊␊", "400 BareLineFeed"),
    ("9112-7.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n␍X\n\n", "400 TrailerInvalid"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;␊hello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n2;␊xx\n4c\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0;␊\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a␊b\nhello\n0\n\n", "400 ChunkExtension"),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a\u{1}\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a\u{7f}\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\"b␊c\"\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\"b\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\"b\\\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\"b\"c\nhello\n0\n\n",
        "400 ChunkExtension",
    ),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\nhello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a b\nhello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a \nhello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;ä\nhello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;;a\nhello\n0\n\n", "400 ChunkExtension"),
    ("9112-7.1.1", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5\t;a\nhello\n0\n\n", "400 ChunkSize"),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a;b=c;d=\"e \\\" f\";g\nhello\n0;h\n\n",
        "POST / =hello | open",
    ),
    (
        "9112-7.1.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n5;a=\"ä\"\nhello\n0\n\n",
        "POST / =hello | open",
    ),
];

/// What hides behind the last chunk.
const TRAILERS: &[Row] = &[
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX: y\n\n", "POST / ⟨⟩ «x: y» | open"),
    (
        "9112-7.1.2",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n1\na\n0\nX-A: 1\nX-A: 2\n\n",
        "POST / ⟨⟩ «x-a: 1 ¦ x-a: 2» =a | open",
    ),
    (
        "9110-6.5.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\nX-A: head\n\n0\nX-A: trailer\n\n",
        "POST / ⟨x-a: head⟩ «x-a: trailer» | open",
    ),
    (
        "9110-6.5.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nTransfer-Encoding: chunked\nHost: i\nConnection: close\nX: y\n\n",
        "POST / ⟨⟩ «x: y» | open",
    ),
    (
        "9110-6.5.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nContent-Length: 28\n\nGET /x HTTP/1.1\nHost: h\n\n",
        "POST / «» | GET /x | open",
    ),
    (
        "9110-6.5.1",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nAuthorization: a\nCookie: b\nExpect: c\nIf-Match: d\nX-Forwarded-For: e\n\n",
        "POST / «» | open",
    ),
    (
        "9112-7.1.2",
        "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nGET /x HTTP/1.1\nHost: h\n\n",
        "400 TrailerInvalid",
    ),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n: y\n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX\0: y\n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX: y␍z\n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX: y␍\n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\n X: y\n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX: y\n \n\n", "400 TrailerInvalid"),
    ("9112-7.1.2", "POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nX: y\n␊", "400 BareLineFeed"),
];

//! Why a request is refused, and why a response cannot be sent.
//!
//! Owns the mapping from cause to status and text; decides nothing. `RequestError` blames the client, `ResponseError` the guest
//! (or, where it says so, us). `reason` is written for the person at the client: it names the fault, never anything of ours.

use std::fmt;

/// A request that is refused before any guest sees it, or whose body breaks off the guest's reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    TlsOnPlainPort,
    MethodInvalid,
    MethodTooLong,
    RequestLineInvalid,
    TargetInvalid,
    TargetFragment,
    TargetUserinfo,
    TargetForm,
    TargetScheme,
    PlainOnTlsPort,
    TargetTooLong,
    VersionInvalid,
    VersionUnsupported,
    Connect,
    BlankLines,
    BareLineFeed,
    HeadTooLarge,
    TooManyHeaders,
    HeaderName,
    HeaderValue,
    ConnectionOptions,
    ConnectionField,
    HostMissing,
    HostRepeated,
    HostInvalid,
    HostDisagrees,
    ContentLengthInvalid,
    ContentLengthRepeated,
    LengthAndCoding,
    CodingInHttp10,
    CodingInvalid,
    CodingUnsupported,
    Expectation,
    BodyTooLarge,
    ChunkSize,
    ChunkExtension,
    ChunkExtensionsTooLarge,
    ChunkEnd,
    TrailerInvalid,
    TrailersTooLarge,
    HeadIncomplete,
    BodyIncomplete,
    HeadTooSlow,
    BodyTooSlow,
}

impl RequestError {
    /// The status of the response (RFC 9110 §15.5 and §15.6, RFC 6585 §5).
    pub const fn status(self) -> u16 {
        match self {
            Self::TlsOnPlainPort
            | Self::PlainOnTlsPort
            | Self::MethodInvalid
            | Self::MethodTooLong
            | Self::RequestLineInvalid
            | Self::TargetInvalid
            | Self::TargetFragment
            | Self::TargetUserinfo
            | Self::TargetForm
            | Self::TargetScheme
            | Self::VersionInvalid
            | Self::BlankLines
            | Self::BareLineFeed
            | Self::HeaderName
            | Self::HeaderValue
            | Self::ConnectionOptions
            | Self::ConnectionField
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::HostDisagrees
            | Self::ContentLengthInvalid
            | Self::ContentLengthRepeated
            | Self::LengthAndCoding
            | Self::CodingInHttp10
            | Self::CodingInvalid
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkExtensionsTooLarge
            | Self::ChunkEnd
            | Self::TrailerInvalid
            | Self::HeadIncomplete
            | Self::BodyIncomplete => 400,
            Self::HeadTooSlow | Self::BodyTooSlow => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders | Self::TrailersTooLarge => 431,
            Self::Connect | Self::CodingUnsupported => 501,
            Self::VersionUnsupported => 505,
        }
    }

    /// One line for the client and the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::PlainOnTlsPort => "this port speaks HTTPS, not plain HTTP",
            Self::TlsOnPlainPort => "this port speaks plain HTTP, not TLS",
            Self::MethodInvalid => "the method is not a token",
            Self::MethodTooLong => "the method is too long",
            Self::RequestLineInvalid => "the request line is not `method target version`",
            Self::TargetInvalid => "the target has bytes that must be percent-encoded",
            Self::TargetFragment => "the target has a fragment",
            Self::TargetUserinfo => "the target has a user name",
            Self::TargetForm => "the target is neither a path nor a URL",
            Self::TargetScheme => "the target's scheme is neither http nor https",
            Self::TargetTooLong => "the target is too long",
            Self::VersionInvalid => "the HTTP version is malformed",
            Self::VersionUnsupported => "this port speaks HTTP/1.1 and HTTP/1.0 only",
            Self::Connect => "this server is not a proxy",
            Self::BlankLines => "too many empty lines before the request",
            Self::BareLineFeed => "a line ends in a line feed without a carriage return",
            Self::HeadTooLarge => "the request head is too large",
            Self::TooManyHeaders => "too many header fields",
            Self::HeaderName => "a header line does not begin with a field name and a colon",
            Self::HeaderValue => "a header value has control bytes",
            Self::ConnectionOptions => "too many connection options",
            Self::ConnectionField => "HTTP/2 has no fields of the connection",
            Self::HostMissing => "the host field is missing",
            Self::HostRepeated => "there is more than one host field",
            Self::HostInvalid => "the host field is not a valid host",
            Self::HostDisagrees => "the host field differs from the target's host",
            Self::ContentLengthInvalid => "the content-length is not a number",
            Self::ContentLengthRepeated => "there is more than one content-length",
            Self::LengthAndCoding => "there is both a content-length and a transfer-encoding",
            Self::CodingInHttp10 => "HTTP/1.0 has no transfer-encoding",
            Self::CodingInvalid => "the transfer-encoding does not end in one chunked",
            Self::CodingUnsupported => "the only transfer coding known here is chunked",
            Self::Expectation => "the only expectation known here is 100-continue",
            Self::BodyTooLarge => "the body is too large",
            Self::ChunkSize => "a chunk size is malformed",
            Self::ChunkExtension => "a chunk extension is malformed",
            Self::ChunkExtensionsTooLarge => "the chunk extensions are too large",
            Self::ChunkEnd => "a chunk does not end where its size says",
            Self::TrailerInvalid => "a trailer field is malformed",
            Self::TrailersTooLarge => "the trailer section is too large",
            Self::HeadIncomplete => "the connection ended inside the request head",
            Self::BodyIncomplete => "the connection ended inside the request body",
            Self::HeadTooSlow => "the request head took too long",
            Self::BodyTooSlow => "the request body took too long",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}

/// A response that cannot be sent as asked. All but `OutOfOrder` are the guest's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// Not 200 to 599.
    Status(u16),
    /// A header or trailer name that is not a token.
    HeaderName,
    /// A header or trailer value with CR, LF, NUL or another control byte.
    HeaderValue,
    /// More than one `content-length`, one that is not a number, or one that contradicts the known length of the body.
    ContentLength,
    /// More body bytes than the length that the head has promised.
    BodyTooLong,
    /// The body ended before the length that the head has promised.
    BodyTooShort,
    /// The body could not be compressed.
    Encoding,
    /// More fields than a header list of HTTP/2 has room for.
    TooManyFields,
    /// No response of this kind is owed in the present state: a mistake of the caller.
    OutOfOrder,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status} is not between 200 and 599"),
            Self::HeaderName => f.write_str("a header name is not a token"),
            Self::HeaderValue => f.write_str("a header value has control bytes"),
            Self::ContentLength => f.write_str("the content-length is malformed, repeated, or not that of the body"),
            Self::BodyTooLong => f.write_str("the body is longer than its content-length"),
            Self::BodyTooShort => f.write_str("the body is shorter than its content-length"),
            Self::Encoding => f.write_str("the body could not be compressed"),
            Self::TooManyFields => f.write_str("there are too many fields"),
            Self::OutOfOrder => f.write_str("no such part of a response is due now"),
        }
    }
}

impl std::error::Error for ResponseError {}

#[cfg(test)]
pub(super) const ALL_REQUEST_ERRORS: &[RequestError] = {
    use RequestError::*;
    &[
        TlsOnPlainPort,
        MethodInvalid,
        MethodTooLong,
        RequestLineInvalid,
        TargetInvalid,
        TargetFragment,
        TargetUserinfo,
        TargetForm,
        TargetScheme,
        TargetTooLong,
        VersionInvalid,
        VersionUnsupported,
        Connect,
        BlankLines,
        BareLineFeed,
        HeadTooLarge,
        TooManyHeaders,
        HeaderName,
        HeaderValue,
        ConnectionOptions,
        ConnectionField,
        HostMissing,
        HostRepeated,
        HostInvalid,
        HostDisagrees,
        ContentLengthInvalid,
        ContentLengthRepeated,
        LengthAndCoding,
        CodingInHttp10,
        CodingInvalid,
        CodingUnsupported,
        Expectation,
        BodyTooLarge,
        ChunkSize,
        ChunkExtension,
        ChunkExtensionsTooLarge,
        ChunkEnd,
        TrailerInvalid,
        TrailersTooLarge,
        HeadIncomplete,
        BodyIncomplete,
        HeadTooSlow,
        BodyTooSlow,
    ]
};

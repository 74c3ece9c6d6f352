//! Finds the lines of a head or of a trailer section as they arrive, each byte looked at once.
//!
//! Owns the rule that a line ends in CRLF and in nothing else (RFC 9112 §2.2, decided strictly). Knows nothing of what stands in
//! a line; `head` and `body` drive it.

use super::error::RequestError;
use super::target::Span;

/// How far a section has been searched. Offsets are relative to the section's first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    scanned: u32,
    line_start: u32,
    /// Lines found so far, the empty one that ends the section not counted.
    pub count: u32,
}

impl Lines {
    /// The next complete line without its CRLF, or `None` when there is none yet. The empty line is not counted.
    pub fn next(&mut self, section: &[u8]) -> Result<Option<Span>, RequestError> {
        let from = self.scanned as usize;
        let Some(feed) = section.get(from..).and_then(find_line_feed).map(|at| from + at) else {
            self.scanned = section.len() as u32;
            return Ok(None);
        };
        let start = self.line_start as usize;
        if feed == start || section[feed - 1] != b'\r' {
            return Err(RequestError::BareLineFeed);
        }
        let line = Span::new(start, feed - 1);
        self.scanned = feed as u32 + 1;
        self.line_start = self.scanned;
        self.count += u32::from(line.start != line.end);
        Ok(Some(line))
    }

    /// The bytes up to and including the line that `next` returned last.
    pub const fn consumed(&self) -> usize {
        self.line_start as usize
    }

    /// Whether all of `length` bytes have been searched.
    pub const fn has_scanned(&self, length: usize) -> bool {
        self.scanned as usize >= length
    }
}

/// Eight bytes at a time: a byte that is a line feed becomes zero, and the borrow of a subtraction marks the first zero.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let (blocks, tail) = bytes.as_chunks::<8>();
    for (index, block) in blocks.iter().enumerate() {
        let zeroed = u64::from_le_bytes(*block) ^ (ONES * b'\n' as u64);
        let marks = zeroed.wrapping_sub(ONES) & !zeroed & HIGH;
        if marks != 0 {
            return Some(index * 8 + marks.trailing_zeros() as usize / 8);
        }
    }
    tail.iter().position(|&byte| byte == b'\n').map(|at| blocks.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds_are_found_at_every_offset() {
        for length in 0..70 {
            for at in 0..length {
                let mut bytes = vec![b'x'; length];
                bytes[at] = b'\n';
                assert_eq!(find_line_feed(&bytes), Some(at));
            }
            assert_eq!(find_line_feed(&vec![b'x'; length]), None);
        }
    }

    #[test]
    fn bytes_like_a_line_feed_are_none() {
        for byte in (0..=255).filter(|&byte| byte != b'\n') {
            assert_eq!(find_line_feed(&[byte; 19]), None, "{byte:#x}");
            let mut bytes = [byte; 19];
            bytes[13] = b'\n';
            assert_eq!(find_line_feed(&bytes), Some(13), "{byte:#x}");
        }
    }

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let section = b"one\r\ntwo\r\n\r\nrest";
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for end in 0..=section.len() {
            while let Some(line) = lines.next(&section[..end]).expect("only CRLF") {
                found.push(line.of(section));
            }
        }
        assert_eq!(found, [&b"one"[..], b"two", b""]);
        assert_eq!(lines.count, 2);
        assert_eq!(lines.consumed(), 12);
    }

    #[test]
    fn a_line_feed_alone_is_refused() {
        for section in [&b"\n"[..], b"a\n", b"a\r\n\n", b"a\r\nb\n"] {
            let mut lines = Lines::default();
            let result = std::iter::repeat_with(|| lines.next(section)).find(|next| !matches!(next, Ok(Some(_))));
            assert_eq!(result, Some(Err(RequestError::BareLineFeed)));
        }
    }
}

//! Owns how one thing is written in a terminal: durations, sizes, counts, text from outside, a table. Pure.

use std::fmt::Write as _;

/// What a piece of text wants to say beside its words. Nothing, where there are no colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Warn,
    Bad,
}

/// A piece of text of one tone, without control characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Span {
    text: String,
    tone: Tone,
}

impl Span {
    /// Text from anywhere: control characters, and those that would turn the direction of what follows, are shown and not obeyed.
    pub(super) fn new(text: &str, tone: Tone) -> Span {
        Span { text: printable(text), tone }
    }

    pub(super) fn plain(text: impl AsRef<str>) -> Span {
        Span::new(text.as_ref(), Tone::Plain)
    }

    /// How many columns it takes.
    pub(super) fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// Cut at its end, so that it takes no more than this.
    pub(super) fn cut(mut self, width: usize) -> Span {
        if self.width() > width {
            self.text = self.text.chars().take(width.saturating_sub(1)).chain((width > 0).then_some('…')).collect();
        }
        self
    }

    pub(super) fn write(&self, colour: bool, out: &mut String) {
        let code = match self.tone {
            Tone::Plain => None,
            Tone::Strong => Some("1"),
            Tone::Dim => Some("2"),
            Tone::Good => Some("32"),
            Tone::Warn => Some("33"),
            Tone::Bad => Some("1;31"),
        };
        match code.filter(|_| colour) {
            Some(code) => {
                let _ = write!(out, "\u{1b}[{code}m{}\u{1b}[0m", self.text);
            }
            None => out.push_str(&self.text),
        }
    }
}

/// Breaks text at its blanks, so that no line but one with a longer word has more columns than this.
pub(super) fn wrap(text: &str, columns_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable(text).split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns_max => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || turns { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// As much as is of interest: `999ms`, `9.9s`, `59s`, `3m12s`, `5h03m`, `3d04h`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The bound of a bucket: `0.1ms`, `25ms`, `2.5s`.
pub(super) fn bound(us: u64) -> String {
    match us {
        0..1_000_000 if us.is_multiple_of(1000) => format!("{}ms", us / 1000),
        0..1_000_000 => {
            let text = format!("{}.{:03}", us / 1000, us % 1000);
            format!("{}ms", text.trim_end_matches('0'))
        }
        1_000_000.. => duration(us / 1000),
    }
}

/// `812 KiB`, `14.8 MiB`, `1.2 GiB`.
pub fn size(kib: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", kib / unit, kib % unit * 10 / unit);
    match kib {
        0..1024 => format!("{kib} KiB"),
        1024..1_048_576 => format!("{} MiB", tenths(1024)),
        1_048_576.. => format!("{} GiB", tenths(1_048_576)),
    }
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Which side of its column a cell stands at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows under titles. The last column gets what is left of the width.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Span>),
    /// A line of its own that belongs to the row above.
    Note(Span),
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Table {
        let titles = columns.iter().map(|(title, _)| Span::new(title, Tone::Dim)).collect();
        Table { columns: columns.to_vec(), rows: vec![Row::Cells(titles)] }
    }

    pub(super) fn push(&mut self, row: Vec<Span>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(Row::Cells(row));
    }

    pub(super) fn push_note(&mut self, note: Span) {
        self.rows.push(Row::Note(note));
    }

    pub(super) fn write(self, columns_max: usize, colour: bool, out: &mut String) {
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| self.width(at)).collect();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.write_cells(cells, &widths, columns_max, colour, out),
                Row::Note(note) => {
                    out.push_str(NOTE);
                    note.clone().cut(columns_max.saturating_sub(NOTE.chars().count())).write(colour, out);
                }
            }
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| match row {
            Row::Cells(cells) => cells.get(column),
            Row::Note(_) => None,
        });
        cells.map(Span::width).max().unwrap_or(0)
    }

    fn write_cells(&self, cells: &[Span], widths: &[usize], columns_max: usize, colour: bool, out: &mut String) {
        let mut left = columns_max;
        for (at, ((cell, (_, side)), width)) in cells.iter().zip(&self.columns).zip(widths).enumerate() {
            let is_last = at + 1 == cells.len();
            let cell = if is_last { cell.clone().cut(left) } else { cell.clone() };
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            match side {
                Side::Left if is_last => cell.write(colour, out),
                Side::Left => {
                    cell.write(colour, out);
                    out.push_str(&padding);
                }
                Side::Right => {
                    out.push_str(&padding);
                    cell.write(colour, out);
                }
            }
            if !is_last {
                out.push_str(GAP);
            }
            left = left.saturating_sub(width + GAP.len());
        }
    }
}

/// Between two columns.
const GAP: &str = "  ";

/// Before a note.
const NOTE: &str = "      └ ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_figures_of_interest() {
        let table = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (59_999, "59s"),
            (60_000, "1m00s"),
            (3_599_999, "59m59s"),
            (3_600_000, "1h00m"),
            (86_399_999, "23h59m"),
            (86_400_000, "1d00h"),
            (100 * 86_400_000, "100d00h"),
        ];
        for (ms, expected) in table {
            assert_eq!(duration(ms), expected);
        }
        assert!(!duration(u64::MAX).is_empty());
    }

    #[test]
    fn bounds_sizes_and_counts_are_short() {
        assert_eq!([100, 250, 1000, 2500, 999_999].map(bound), ["0.1ms", "0.25ms", "1ms", "2.5ms", "999.999ms"]);
        assert_eq!([1_000_000, 2_500_000, 60_000_000].map(bound), ["1.0s", "2.5s", "1m00s"]);
        assert_eq!(
            [0, 1023, 1024, 15_155, 1_048_575, 1_048_576].map(size),
            ["0 KiB", "1023 KiB", "1.0 MiB", "14.7 MiB", "1023.9 MiB", "1.0 GiB"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor_or_turn_the_line() {
        let span = Span::new("a\u{1b}[2J\r\n\u{9b}\u{202e}ü", Tone::Plain);
        assert_eq!(span.text, "a\\u{1b}[2J\\r\\n\\u{9b}\\u{202e}ü");
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        assert_eq!(Span::plain("abcd").cut(4).text, "abcd");
        assert_eq!(Span::plain("abcde").cut(4).text, "abc…");
        assert_eq!(Span::plain("abcde").cut(1).text, "…");
        assert_eq!(Span::plain("abcde").cut(0).text, "");
    }

    #[test]
    fn text_is_wrapped_at_its_blanks() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one two three", 6), ["one", "two", "three"]);
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("\u{7} a", 6), ["\\u{7}", "a"], "as it is shown");
    }

    #[test]
    fn a_table_is_aligned_and_its_last_column_fits() {
        let mut table = Table::new(&[("N", Side::Right), ("NAME", Side::Left), ("REST", Side::Left)]);
        table.push(vec![Span::plain("1"), Span::plain("a"), Span::plain("long enough")]);
        table.push_note(Span::plain("a note that is too long"));
        table.push(vec![Span::plain("123"), Span::new("bcdefg", Tone::Bad), Span::plain("")]);
        let mut out = String::new();
        table.write(20, false, &mut out);
        assert_eq!(out, "  N  NAME    REST\n  1  a       long e…\n      └ a note that…\n123  bcdefg\n");
    }

    #[test]
    fn colours_take_no_columns() {
        let mut table = Table::new(&[("A", Side::Left), ("B", Side::Left)]);
        table.push(vec![Span::new("x", Tone::Bad), Span::plain("y")]);
        let mut out = String::new();
        table.write(20, true, &mut out);
        assert_eq!(out, "\u{1b}[2mA\u{1b}[0m  \u{1b}[2mB\u{1b}[0m\n\u{1b}[1;31mx\u{1b}[0m  y\n");
    }
}

//! Owns the lines of one log on their way out: a bounded buffer before a file, a pipe or a terminal that may be full. Never waits and never
//! tries in vain more often than its pause allows; what it cannot keep it counts. Reads no clock. Driven by the two logs beside it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::sys::{Output, Standard};

/// Most bytes of lines that wait for room in their file.
pub const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// How long a log that has no room is left alone: at first, and at most. The pause doubles each time that nothing could be written.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where a log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Standard(Standard),
    File(PathBuf),
}

/// What there is to tell about a log, which the log itself may not be able to take.
#[derive(Debug)]
pub enum Report {
    /// Lines cannot be written. Told once, until they can again.
    Failing(io::Error),
    /// They can again; this many were lost.
    Recovered { lost: u64 },
}

/// One log's way out.
#[derive(Debug)]
pub struct Sink {
    place: Place,
    output: Output,
    buffer: Vec<u8>,
    /// Part of the buffer's first line has been written.
    torn: bool,
    state: State,
    /// Lines that were lost since it was last told how many.
    lost: u64,
    report: Option<Report>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Working,
    /// There was no room, or an error; nothing is tried before `until`. `None`: not until somebody who knows the time has been told.
    Pausing {
        pause: Duration,
        until: Option<Instant>,
        told: bool,
    },
}

impl Sink {
    pub fn open(place: Place) -> io::Result<Sink> {
        let output = open(&place)?;
        Ok(Sink { place, output, buffer: Vec::new(), torn: false, state: State::Working, lost: 0, report: None })
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn output(&self) -> &Output {
        &self.output
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Nothing stands in the way of a write, as far as is known.
    pub fn is_working(&self) -> bool {
        self.state == State::Working
    }

    /// Appends whole lines, or counts them as lost when there is no room for all of them.
    pub fn put(&mut self, lines: &[u8]) {
        if self.buffer.len() + lines.len() > BUFFER_BYTES_MAX {
            self.lose(count_lines(lines));
            self.tell_failing(io::Error::from(io::ErrorKind::WouldBlock));
        } else {
            self.buffer.extend_from_slice(lines);
        }
    }

    /// The buffer, to append one line to. Whoever uses it calls [`Sink::end_line`] after that.
    pub fn line_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Keeps what has been appended since the buffer had `start` bytes, or takes it back when that is too much.
    pub fn end_line(&mut self, start: usize) {
        if self.buffer.len() > BUFFER_BYTES_MAX {
            self.buffer.truncate(start);
            self.lose(1);
            self.tell_failing(io::Error::from(io::ErrorKind::WouldBlock));
        }
    }

    /// Writes what there is room for. `now` sets the pause after a failure; without it only [`Sink::write_after_pause`] tries again.
    pub fn write(&mut self, now: Option<Instant>) {
        while !self.buffer.is_empty() {
            match self.output.write(&self.buffer) {
                Ok(0) => return self.handle_error(io::ErrorKind::WriteZero.into(), now),
                Ok(count) => self.handle_written(count),
                Err(error) => return self.handle_error(error, now),
            }
        }
        self.handle_all_written();
    }

    /// As [`Sink::write`], when there was a failure and its pause is over.
    pub fn write_after_pause(&mut self, now: Instant) {
        match self.state {
            State::Working => {}
            State::Pausing { until: Some(until), .. } if now < until => {}
            State::Pausing { until: Some(_) | None, .. } => self.write(Some(now)),
        }
    }

    /// When the next attempt is due.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Working => None,
            State::Pausing { until, .. } => Some(until.unwrap_or(now)),
        }
    }

    /// What there is to tell, once.
    pub fn take_report(&mut self) -> Option<Report> {
        self.report.take()
    }

    /// Opens the place anew, for its file may have been renamed. What is in the buffer goes to the old file as far as it takes it.
    ///
    /// # Errors
    ///
    /// It cannot be opened, and everything stays as it was.
    pub fn reopen(&mut self, place: Place) -> io::Result<()> {
        let output = open(&place)?;
        self.write(None);
        if std::mem::take(&mut self.torn) {
            // The rest of this line would begin the new file with a piece that nobody can read.
            let end = self.buffer.iter().position(|byte| *byte == b'\n').map_or(self.buffer.len(), |at| at + 1);
            self.buffer.drain(..end);
            self.lose(1);
        }
        (self.place, self.output) = (place, output);
        self.write(None);
        Ok(())
    }

    fn handle_written(&mut self, count: usize) {
        self.torn = self.buffer.get(count - 1).is_some_and(|last| *last != b'\n');
        self.buffer.drain(..count);
        if let State::Pausing { pause, .. } = &mut self.state {
            *pause = PAUSE_MIN;
        }
    }

    fn handle_all_written(&mut self) {
        let told = matches!(self.state, State::Pausing { told: true, .. });
        self.state = State::Working;
        self.buffer.shrink_to(BUFFER_BYTES_MAX / 8);
        if told || self.lost > 0 {
            self.report = Some(Report::Recovered { lost: std::mem::take(&mut self.lost) });
        }
    }

    fn handle_error(&mut self, error: io::Error, now: Option<Instant>) {
        let (pause, told) = match self.state {
            State::Working => (PAUSE_MIN, false),
            State::Pausing { pause, told, .. } => ((pause * 2).min(PAUSE_MAX), told),
        };
        self.state = State::Pausing { pause, until: now.map(|now| now + pause), told };
        // A reader that is slow is none of the operator's business until it costs lines.
        if error.kind() != io::ErrorKind::WouldBlock {
            self.tell_failing(error);
        }
    }

    fn tell_failing(&mut self, error: io::Error) {
        match &mut self.state {
            State::Pausing { told: true, .. } => {}
            State::Pausing { told, .. } => {
                *told = true;
                self.report = Some(Report::Failing(error));
            }
            // The buffer is full before the first attempt to write it, and will be empty after it.
            State::Working => {}
        }
    }

    fn lose(&mut self, lines: u64) {
        self.lost = self.lost.saturating_add(lines);
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Standard(Standard::Output) => f.write_str("standard output"),
            Place::Standard(Standard::Error) => f.write_str("standard error"),
            Place::File(path) => path.display().fmt(f),
        }
    }
}

impl Report {
    /// One sentence for the operator.
    pub fn describe(&self, log: &str, place: &Place) -> String {
        match self {
            Report::Failing(error) if error.kind() == io::ErrorKind::WouldBlock => {
                format!("{log} ({place}) is read too slowly: its lines are being lost")
            }
            Report::Failing(error) => format!(
                "cannot write {log} ({place}): {error}; serving goes on, and lines are lost once {} KiB of them wait",
                BUFFER_BYTES_MAX / 1024
            ),
            Report::Recovered { lost } => format!("{log} ({place}) can be written again; {lost} lines were lost"),
        }
    }
}

fn open(place: &Place) -> io::Result<Output> {
    match place {
        Place::Standard(which) => Output::standard(*which),
        Place::File(path) => Output::open(path),
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use super::*;
    use crate::testing::Scratch;

    const LINE: &[u8] = b"0123456789abcde\n";

    fn full() -> Sink {
        Sink::open(Place::File("/dev/full".into())).expect("/dev/full is there")
    }

    fn fifo(scratch: &Scratch) -> (Sink, std::fs::File) {
        let path = scratch.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO can be made here");
        let sink = Sink::open(Place::File(path.clone())).expect("it is open for both ends");
        (sink, std::fs::File::open(path).expect("the writer is there"))
    }

    #[expect(clippy::disallowed_methods, reason = "any time will do as the beginning of a test's")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_full_disk_is_told_once_tried_ever_more_seldom_and_its_lines_are_kept() {
        let mut sink = full();
        let begun = start();
        sink.put(LINE);
        sink.write(Some(begun));
        assert!(
            matches!(sink.take_report(), Some(Report::Failing(error)) if error.raw_os_error() == Some(libc::ENOSPC))
        );
        let (mut now, mut attempts) = (begun, 0);
        while now < begun + Duration::from_secs(60) {
            now = sink.next_deadline(now).expect("another attempt is due");
            sink.write_after_pause(now);
            attempts += 1;
        }
        assert!(attempts < 80, "{attempts} attempts in a minute");
        assert!(sink.take_report().is_none(), "told again");
        assert_eq!(sink.len(), LINE.len());
    }

    #[test]
    fn the_buffer_is_full_at_its_limit_and_lines_after_that_are_counted() {
        let mut sink = full();
        sink.put(LINE);
        sink.write(None);
        while sink.len() < BUFFER_BYTES_MAX {
            sink.put(LINE);
        }
        assert_eq!((sink.len(), sink.lost), (BUFFER_BYTES_MAX, 0));
        sink.put(b"a\nb\n");
        let at = sink.len();
        sink.line_buffer().extend_from_slice(LINE);
        sink.end_line(at);
        assert_eq!((sink.len(), sink.lost), (BUFFER_BYTES_MAX, 3));
    }

    #[test]
    fn when_writing_works_again_everything_that_was_kept_is_written_and_the_loss_is_told() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let mut sink = full();
        sink.put(LINE);
        sink.write(None);
        sink.lose(7);
        sink.take_report();
        sink.reopen(Place::File(path.clone())).expect("the directory is writable");
        assert!(matches!(sink.take_report(), Some(Report::Recovered { lost: 7 })));
        assert_eq!(std::fs::read(path).expect("the file is there"), LINE);
        assert!(sink.is_working());
    }

    #[test]
    fn a_reader_that_is_slow_loses_nothing_before_the_buffer_is_full_and_then_whole_lines() {
        let scratch = Scratch::new();
        let (mut sink, mut reader) = fifo(&scratch);
        let mut now = start();
        let lines = 2 * BUFFER_BYTES_MAX / LINE.len();
        for _ in 0..lines {
            sink.put(LINE);
            if sink.is_working() {
                sink.write(Some(now));
                assert!(sink.take_report().is_none());
            }
        }
        assert!(
            matches!(sink.take_report(), Some(Report::Failing(error)) if error.kind() == io::ErrorKind::WouldBlock)
        );
        let (mut read, mut block) = (Vec::new(), [0; 4096]);
        while !sink.is_empty() {
            let count = reader.read(&mut block).expect("there is something to read");
            read.extend_from_slice(&block[..count]);
            now = sink.next_deadline(now).unwrap_or(now);
            sink.write_after_pause(now);
        }
        let Some(Report::Recovered { lost }) = sink.take_report() else { panic!("nothing was lost?") };
        let mut rest = vec![0; (lines - lost as usize) * LINE.len() - read.len()];
        reader.read_exact(&mut rest).expect("what was not lost was written");
        read.extend_from_slice(&rest);
        assert!(read.chunks(LINE.len()).all(|line| line == LINE));
    }

    #[test]
    fn a_line_that_the_old_file_has_a_part_of_does_not_spoil_the_new_one() {
        let scratch = Scratch::new();
        let (mut sink, _reader) = fifo(&scratch);
        let long = [&vec![b'x'; 500_000][..], b"\n"].concat();
        sink.put(&long);
        sink.put(LINE);
        sink.write(None);
        assert!(sink.torn);
        let path = scratch.path().join("new");
        sink.reopen(Place::File(path.clone())).expect("the directory is writable");
        assert_eq!(std::fs::read(path).expect("the file is there"), LINE);
        assert!(matches!(sink.take_report(), Some(Report::Recovered { lost: 1 })));
    }

    #[test]
    fn a_place_that_cannot_be_opened_leaves_the_old_one() {
        let scratch = Scratch::new();
        let path = scratch.path().join("log");
        let mut sink = Sink::open(Place::File(path.clone())).expect("the directory is writable");
        assert!(sink.reopen(Place::File("/no/such/directory/log".into())).is_err());
        sink.put(LINE);
        sink.write(None);
        assert_eq!(sink.place(), &Place::File(path.clone()));
        assert_eq!(std::fs::read(Path::new(&path)).expect("the file is there"), LINE);
    }
}

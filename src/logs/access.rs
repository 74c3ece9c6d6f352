//! Owns the access log: one line for each request, in the combined format or as JSON, gathered in a buffer and written in large pieces. Reads no
//! clock and never waits. Driven by the reactor: an entry when a request is over, a look each turn.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::sink::{Place, Report, Sink};
use super::stamp::Stamp;
use super::text::{push_json_string, push_number, push_padded, push_quoted, push_word};
use crate::config::AccessFormat;
use crate::control::counters::Outcome;

/// Bytes of lines that are worth a write.
const FLUSH_BYTES: usize = 32 * 1024;

/// How long a line waits for others at the most.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// One request that is over.
#[derive(Clone, Copy, Debug)]
pub struct AccessEntry<'a> {
    /// When its head was there.
    pub time: SystemTime,
    /// None when it came through a Unix socket. The port is 0 where it is not known.
    pub peer: Option<SocketAddr>,
    /// Of bytes that may stand in a line and in a JSON string as they are.
    pub id: &'a str,
    /// Empty when the head could not be read that far, as is the target.
    pub method: &'a [u8],
    /// The path with its query.
    pub target: &'a [u8],
    /// `HTTP/1.1`
    pub version: &'a str,
    /// What was sent. 0: nothing was.
    pub status: u16,
    /// Of the response's body.
    pub bytes: u64,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// From the head to the end of the response.
    pub total: Duration,
    /// How long it waited for a worker.
    pub queue: Duration,
    /// From there to the start of the guest.
    pub dispatch: Duration,
    /// How long the guest had control.
    pub run: Duration,
    pub worker: Option<i32>,
    pub generation: u64,
    pub component: Option<&'a str>,
    pub action: Option<&'a str>,
    /// The guest was given control.
    pub started: bool,
    pub outcome: Outcome,
}

/// The access log, which may be off.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    sink: Option<Sink>,
    /// When the oldest line in the buffer is due.
    due: Option<Instant>,
}

impl AccessLog {
    /// `None` is off.
    pub fn open(place: Option<Place>, format: AccessFormat) -> io::Result<AccessLog> {
        Ok(AccessLog { format, sink: place.map(Sink::open).transpose()?, due: None })
    }

    /// Whether entries are of any use.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a line, which is written with others.
    pub fn push(&mut self, entry: &AccessEntry<'_>) {
        let Some(sink) = &mut self.sink else { return };
        let start = sink.len();
        match self.format {
            AccessFormat::Combined => entry.push_combined(sink.line_buffer()),
            AccessFormat::Json => entry.push_json(sink.line_buffer()),
        }
        sink.end_line(start);
    }

    /// To be called once a turn: writes what is there when it is worth a write, or a second old.
    pub fn flush(&mut self, now: Instant) {
        let Some(sink) = &mut self.sink else { return };
        if sink.is_empty() {
            self.due = None;
        } else if !sink.is_working() {
            self.due = None;
            sink.write_after_pause(now);
        } else if sink.len() >= FLUSH_BYTES || self.due.is_some_and(|due| due <= now) {
            self.due = None;
            sink.write(Some(now));
        } else if self.due.is_none() {
            self.due = Some(now + FLUSH_AFTER);
        }
    }

    /// Writes what is there.
    pub fn flush_all(&mut self, now: Instant) {
        if let Some(sink) = &mut self.sink {
            self.due = None;
            sink.write(Some(now));
        }
    }

    /// When [`AccessLog::flush`] has something to do without a new line.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let sink = self.sink.as_ref()?;
        sink.next_deadline(now).or(self.due)
    }

    pub fn place(&self) -> Option<&Place> {
        self.sink.as_ref().map(Sink::place)
    }

    /// Goes on at another place, or at the same under its name now; see [`Sink::reopen`].
    pub fn reopen(&mut self, place: Option<Place>, format: AccessFormat) -> io::Result<()> {
        match (&mut self.sink, place) {
            (Some(sink), Some(place)) => sink.reopen(place)?,
            (sink @ None, Some(place)) => *sink = Some(Sink::open(place)?),
            (Some(sink), None) => {
                sink.write(None);
                self.sink = None;
            }
            (None, None) => {}
        }
        self.format = format;
        Ok(())
    }

    pub fn format(&self) -> AccessFormat {
        self.format
    }

    /// What there is to tell about this log in another, once.
    pub fn take_report(&mut self) -> Option<(Report, String)> {
        let sink = self.sink.as_mut()?;
        let report = sink.take_report()?;
        let text = report.describe("the access log", sink.place());
        Some((report, text))
    }
}

impl AccessEntry<'_> {
    /// The fields of the combined format, then `key=value` pairs: times in seconds.
    fn push_combined(&self, line: &mut Vec<u8>) {
        self.push_peer(line);
        line.extend_from_slice(b" - - [");
        Stamp::new(self.time).push_common(line);
        line.extend_from_slice(b"] \"");
        if self.method.is_empty() && self.target.is_empty() {
            line.push(b'-');
        } else {
            push_quoted(line, self.method);
            line.push(b' ');
            push_quoted(line, self.target);
            line.push(b' ');
            push_quoted(line, self.version.as_bytes());
        }
        line.extend_from_slice(b"\" ");
        push_padded(line, self.status.into(), 3);
        line.push(b' ');
        push_number(line, self.bytes);
        for field in [self.referer, self.user_agent] {
            line.extend_from_slice(b" \"");
            push_quoted(line, field.filter(|value| !value.is_empty()).unwrap_or(b"-"));
            line.push(b'"');
        }
        let times = [(" rt=", self.total), (" qt=", self.queue), (" dt=", self.dispatch), (" ut=", self.run)];
        for (key, time) in times {
            line.extend_from_slice(key.as_bytes());
            push_number(line, time.as_secs());
            line.push(b'.');
            push_padded(line, time.subsec_micros().into(), 6);
        }
        line.extend_from_slice(b" pid=");
        match self.worker {
            Some(pid) => push_number(line, pid.unsigned_abs().into()),
            None => line.push(b'-'),
        }
        line.extend_from_slice(b" gen=");
        push_number(line, self.generation);
        line.extend_from_slice(b" id=");
        line.extend_from_slice(self.id.as_bytes());
        for (key, value) in [(" component=", self.component), (" action=", self.action)] {
            line.extend_from_slice(key.as_bytes());
            push_word(line, value.unwrap_or("-").as_bytes());
        }
        line.extend_from_slice(if self.started { b" started=1" } else { b" started=0" });
        line.extend_from_slice(b" outcome=");
        line.extend_from_slice(self.outcome.name().as_bytes());
        line.push(b'\n');
    }

    fn push_peer(&self, line: &mut Vec<u8>) {
        match self.peer {
            Some(peer) => push_display(line, &peer.ip().to_canonical()),
            None => line.extend_from_slice(b"unix"),
        }
    }

    /// One object, always with the same keys in the same order; what is not known is null. Times are in microseconds.
    fn push_json(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"time\":\"");
        Stamp::new(self.time).push_rfc3339(line);
        line.extend_from_slice(b"\",\"peer\":\"");
        self.push_peer(line);
        line.extend_from_slice(b"\",\"port\":");
        // A proxy may tell an address without a port.
        match self.peer.filter(|peer| peer.port() != 0) {
            Some(peer) => push_number(line, peer.port().into()),
            None => line.extend_from_slice(b"null"),
        }
        line.extend_from_slice(b",\"id\":\"");
        line.extend_from_slice(self.id.as_bytes());
        line.push(b'"');
        let strings: [(&str, Option<&[u8]>); 5] = [
            (",\"method\":", Some(self.method).filter(|method| !method.is_empty())),
            (",\"target\":", Some(self.target).filter(|target| !target.is_empty())),
            (",\"version\":", Some(self.version.as_bytes()).filter(|version| !version.is_empty())),
            (",\"referer\":", self.referer),
            (",\"user_agent\":", self.user_agent),
        ];
        strings.into_iter().for_each(|(key, value)| push_json_field(line, key, value));
        let numbers = [
            (",\"status\":", u64::from(self.status)),
            (",\"bytes\":", self.bytes),
            (",\"total_us\":", micros(self.total)),
            (",\"queue_us\":", micros(self.queue)),
            (",\"dispatch_us\":", micros(self.dispatch)),
            (",\"run_us\":", micros(self.run)),
            (",\"generation\":", self.generation),
        ];
        for (key, number) in numbers {
            line.extend_from_slice(key.as_bytes());
            push_number(line, number);
        }
        line.extend_from_slice(b",\"pid\":");
        match self.worker {
            Some(pid) => push_number(line, pid.unsigned_abs().into()),
            None => line.extend_from_slice(b"null"),
        }
        push_json_field(line, ",\"component\":", self.component.map(str::as_bytes));
        push_json_field(line, ",\"action\":", self.action.map(str::as_bytes));
        line.extend_from_slice(if self.started { b",\"started\":true" } else { b",\"started\":false" });
        line.extend_from_slice(b",\"outcome\":\"");
        line.extend_from_slice(self.outcome.name().as_bytes());
        line.extend_from_slice(b"\"}\n");
    }
}

fn push_json_field(line: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    line.extend_from_slice(key.as_bytes());
    match value {
        Some(value) => push_json_string(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

fn push_display(line: &mut Vec<u8>, value: &dyn std::fmt::Display) {
    // Writing to a vector cannot fail.
    let _ = io::Write::write_fmt(line, format_args!("{value}"));
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;

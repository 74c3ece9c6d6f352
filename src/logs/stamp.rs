//! Owns the two ways in which the access log writes a time, both in UTC. Pure; the access log drives it.

use std::time::{Duration, SystemTime};

use super::text::push_padded;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment as the calendar has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    year: u64,
    month: u64,
    day: u64,
    second_of_day: u64,
    microsecond: u64,
}

impl Stamp {
    /// Times before 1970 are taken for its beginning: the clock is not set.
    pub fn new(time: SystemTime) -> Stamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second_of_day) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        Stamp { year, month, day, second_of_day, microsecond: u64::from(since.subsec_micros()) }
    }

    /// `25/Nov/2026:18:04:05 +0000`
    pub fn push_common(&self, line: &mut Vec<u8>) {
        push_padded(line, self.day, 2);
        line.push(b'/');
        line.extend_from_slice(MONTHS[(self.month - 1) as usize % MONTHS.len()].as_bytes());
        line.push(b'/');
        push_padded(line, self.year, 4);
        line.push(b':');
        self.push_clock(line);
        line.extend_from_slice(b" +0000");
    }

    /// `2026-11-25T18:04:05.123456Z`
    pub fn push_rfc3339(&self, line: &mut Vec<u8>) {
        push_padded(line, self.year, 4);
        line.push(b'-');
        push_padded(line, self.month, 2);
        line.push(b'-');
        push_padded(line, self.day, 2);
        line.push(b'T');
        self.push_clock(line);
        line.push(b'.');
        push_padded(line, self.microsecond, 6);
        line.push(b'Z');
    }

    fn push_clock(&self, line: &mut Vec<u8>) {
        push_padded(line, self.second_of_day / 3600, 2);
        line.push(b':');
        push_padded(line, self.second_of_day / 60 % 60, 2);
        line.push(b':');
        push_padded(line, self.second_of_day % 60, 2);
    }
}

/// Year, month and day of a number of days after 1970-01-01, in the Gregorian calendar. The year is counted from March, so that the leap day
/// is its last, and in cycles of 400 years, each of 146097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_BEFORE_1970: u64 = 719_468;
    let days = days + DAYS_BEFORE_1970;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_until_2110_is_the_one_that_httpdate_finds() {
        for day in 0..51_200 {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_723);
            let mut line = Vec::new();
            Stamp::new(time).push_common(&mut line);
            let line = String::from_utf8(line).expect("digits");
            // Sun, 06 Nov 1994 08:49:37 GMT
            let expected = httpdate::fmt_http_date(time);
            let expected =
                format!("{}/{}/{}:{} +0000", &expected[5..7], &expected[8..11], &expected[12..16], &expected[17..25]);
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn the_precise_form_has_microseconds() {
        let mut line = Vec::new();
        Stamp::new(SystemTime::UNIX_EPOCH + Duration::from_micros(951_782_399_000_042)).push_rfc3339(&mut line);
        assert_eq!(line, b"2000-02-28T23:59:59.000042Z");
    }
}

//! The head of an answer: RFC 9112, section 4.

use std::{fmt::Display, time::SystemTime};

use crate::status::Status;

/// The head of an answer, field by field.
#[derive(Debug)]
pub struct AnswerHead(Vec<u8>);

impl AnswerHead {
    /// The line that it begins with.
    pub fn new(status: Status) -> Self {
        Self(format!("HTTP/1.1 {status}\r\n").into_bytes())
    }

    /// A field. Bytes of the value that would end its line, or that nobody may send, become spaces: what a stranger has
    /// said is often part of an answer, and must not become a field of its own.
    #[must_use]
    pub fn field(mut self, name: &'static str, value: impl Display) -> Self {
        let value = value.to_string().into_bytes();
        let clean =
            value.into_iter().map(|byte| if byte.is_ascii_control() && byte != b'\t' { b' ' } else { byte });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend(clean);
        self.0.extend_from_slice(b"\r\n");
        self
    }

    /// When it was made. Nothing of a clock that is set to a time for which there is no date (RFC 9110, section 6.6.1).
    #[must_use]
    pub fn date(self, wall: SystemTime) -> Self {
        match date(wall) {
            Some(date) => self.field("Date", date),
            None => self,
        }
    }

    /// The whole of it, behind which the body begins.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"\r\n");
        self.0
    }
}

/// A time as HTTP writes it, in seconds (RFC 9110, section 5.6.7). None outside the years 1970 to 9999.
pub fn date(time: SystemTime) -> Option<String> {
    /// The first second of the year 10000.
    const TOO_LATE: u64 = 253_402_300_800;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since.as_secs() < TOO_LATE).then(|| httpdate::fmt_http_date(time))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_begins_with_its_status_and_each_field_is_one_line() {
        let head = AnswerHead::new(Status::NOT_FOUND).field("A", 5).field("B", "x\r\nC: y\0\tz\u{fc}");
        assert_eq!(
            head.finish(),
            "HTTP/1.1 404 Not Found\r\nA: 5\r\nB: x  C: y \tz\u{fc}\r\n\r\n".as_bytes()
        );
    }

    #[test]
    fn a_date_is_of_greenwich_and_there_is_none_for_every_time() {
        assert_eq!(date(at(784_111_777)).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(date(at(253_402_300_799)).as_deref(), Some("Fri, 31 Dec 9999 23:59:59 GMT"));
        let none = [at(253_402_300_800), SystemTime::UNIX_EPOCH - Duration::from_secs(1)];
        assert_eq!(none.map(date), [None, None]);
        let dated = |time| AnswerHead::new(Status::OK).date(time).finish();
        assert_eq!(dated(at(0)), b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n");
        assert_eq!(dated(none[0]), b"HTTP/1.1 200 OK\r\n\r\n");
    }
}

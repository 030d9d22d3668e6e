//! Where the body behind a head ends: RFC 9112, section 6.

use crate::{fields::Fields, status::Status};

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// It is so many bytes long; none if the head says nothing of a body.
    Length(u64),
    /// It comes in chunks, the last of which is empty.
    Chunked,
}

impl Framing {
    /// Of a request with these fields.
    ///
    /// # Errors
    /// [`Status`] if they can be understood in two ways, or not at all. Nobody knows then where the next request begins.
    pub(crate) fn of(fields: Fields<'_>, is_1_1: bool) -> Result<Self, Status> {
        let (mut codings, mut lengths) = (fields.all("transfer-encoding"), fields.all("content-length"));
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Self::Length(0)),
            (None, Some(length)) if lengths.next().is_none() => {
                number(length).map(Self::Length).ok_or(Status::BAD_REQUEST)
            }
            // Of the older version nobody knows whether all on the way have understood it.
            (Some(_), None) if !is_1_1 => Err(Status::BAD_REQUEST),
            (Some(coding), None) if codings.next().is_none() => match coding {
                _ if coding.eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
                _ => Err(Status::NOT_IMPLEMENTED),
            },
            _ => Err(Status::BAD_REQUEST),
        }
    }
}

/// Digits, and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use httparse::Header;

    use super::*;

    fn of(fields: &[(&str, &str)], is_1_1: bool) -> Result<Framing, Status> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        Framing::of(Fields(&fields), is_1_1)
    }

    #[test]
    fn a_length_is_digits_and_is_said_once() {
        let length = |value| of(&[("Content-Length", value)], true);
        assert_eq!(of(&[], true), Ok(Framing::Length(0)));
        for (value, is) in [("0", 0), ("00", 0), (" 17\t", 17), ("18446744073709551615", u64::MAX)] {
            assert_eq!(length(value), Ok(Framing::Length(is)), "{value:?}");
        }
        for value in ["", "x", "-1", "+1", "0x1", "1 1", "1,1", "1_0", "18446744073709551616", "\u{661}"] {
            assert_eq!(length(value), Err(Status::BAD_REQUEST), "{value:?}");
        }
        let twice = [("Content-Length", "5"), ("content-length", "5")];
        assert_eq!(of(&twice, true), Err(Status::BAD_REQUEST));
    }

    #[test]
    fn chunked_is_the_only_coding_and_stands_alone() {
        let coding = |value| of(&[("Transfer-Encoding", value)], true);
        assert_eq!((coding("chunked"), coding(" CHUNKED ")), (Ok(Framing::Chunked), Ok(Framing::Chunked)));
        for value in ["", "gzip", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;a"] {
            assert_eq!(coding(value), Err(Status::NOT_IMPLEMENTED), "{value:?}");
        }
        let (chunked, length) = (("Transfer-Encoding", "chunked"), ("Content-Length", "5"));
        for fields in [&[chunked, length][..], &[length, chunked], &[chunked, chunked]] {
            assert_eq!(of(fields, true), Err(Status::BAD_REQUEST), "{fields:?}");
        }
        assert_eq!(of(&[chunked], false), Err(Status::BAD_REQUEST));
    }
}

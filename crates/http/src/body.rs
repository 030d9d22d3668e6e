//! The bytes of a body, out of its frame: RFC 9112, sections 6 and 7.

use crate::{framing::Framing, status::Status};

/// The longest line between two chunks, its end counted: a size, and extensions, which nobody here understands.
pub const LONGEST_LINE: usize = 256;
/// The most bytes of all fields behind the last chunk, the ends of their lines counted. They are read over.
pub const LONGEST_TRAILER: usize = 4 << 10;

/// How far a body has been read. It keeps no bytes: what it cannot do anything with yet is left unread, and that is never
/// more than one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(State);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// So many bytes of the body are still to come.
    Plain(u64),
    /// The line with the size of the next chunk is to come.
    Size,
    /// So many bytes of this chunk are.
    Chunk(u64),
    /// The end of its line is.
    Behind,
    /// Lines until an empty one are, with so many bytes at the most.
    Trailer(usize),
    Over,
}

/// What was done with the first of the unread bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken<'a> {
    /// So many are not unread any more. None: more have to come, unless the body [is over](Body::is_over).
    pub used: usize,
    /// What they say of the body: the last of them, perhaps none.
    pub data: &'a [u8],
}

impl Body {
    /// A body of which nothing has been read.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Over,
            Framing::Length(length) => State::Plain(length),
            Framing::Chunked => State::Size,
        })
    }

    /// Whether the next unread byte is behind it.
    pub fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    /// How many bytes are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            State::Plain(left) => Some(left),
            State::Over => Some(0),
            _ => None,
        }
    }

    /// Reads what the first of the unread bytes say: up to the end of what is there, or of a chunk.
    ///
    /// # Errors
    /// [`Status`] if they are no body. Nobody knows then where the next request begins.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<Taken<'a>, Status> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            match &mut self.0 {
                State::Over => return Ok(Taken { used, data: &[] }),
                State::Plain(left) | State::Chunk(left) => {
                    let data = &rest[..usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len())];
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.0 = if matches!(self.0, State::Plain(_)) { State::Over } else { State::Behind };
                    }
                    return Ok(Taken { used: used + data.len(), data });
                }
                State::Size => {
                    let Some(line) = line(rest, LONGEST_LINE)? else { break };
                    used += line.len() + 2;
                    self.0 = match size(line).ok_or(Status::BAD_REQUEST)? {
                        0 => State::Trailer(LONGEST_TRAILER),
                        size => State::Chunk(size),
                    };
                }
                State::Behind => {
                    let Some(line) = line(rest, 2)? else { break };
                    used += line.len() + 2;
                    self.0 = State::Size;
                }
                State::Trailer(most) => {
                    let Some(line) = line(rest, *most)? else { break };
                    used += line.len() + 2;
                    *most -= line.len() + 2;
                    if line.is_empty() {
                        self.0 = State::Over;
                    }
                }
            }
        }
        Ok(Taken { used, data: &[] })
    }
}

/// The first line without its end, which is CR LF. None: the end has not come.
fn line(bytes: &[u8], longest: usize) -> Result<Option<&[u8]>, Status> {
    let bytes = &bytes[..bytes.len().min(longest)];
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(at) => {
            let line = bytes[..at].strip_suffix(b"\r").ok_or(Status::BAD_REQUEST)?;
            if line.contains(&b'\r') { Err(Status::BAD_REQUEST) } else { Ok(Some(line)) }
        }
        None if bytes.len() < longest => Ok(None),
        None => Err(Status::BAD_REQUEST),
    }
}

/// The size that a line begins with: at most sixteen hexadecimal digits, then nothing or an extension.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, behind) = line.split_at(digits);
    // Space is one only before an extension.
    let extension = behind.iter().find(|byte| !b" \t".contains(byte));
    let ends = behind.is_empty() || extension == Some(&b';');
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() <= 16 && ends)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The body that `bytes` begin with when they come in pieces of such lengths, and what is left behind it. None: its
    /// end has not come.
    fn read(framing: Framing, bytes: &[u8], pieces: &[usize]) -> Result<Option<(Vec<u8>, usize)>, Status> {
        let (mut body, mut whole, mut start, mut end) = (Body::new(framing), Vec::new(), 0, 0);
        let mut pieces = pieces.iter().cycle();
        loop {
            while !body.is_over() {
                let Taken { used, data } = body.take(&bytes[start..end])?;
                whole.extend_from_slice(data);
                start += used;
                if used == 0 {
                    break;
                }
            }
            if body.is_over() {
                return Ok(Some((whole, bytes.len() - start)));
            }
            if end == bytes.len() {
                return Ok(None);
            }
            end = bytes.len().min(end + pieces.next().copied().unwrap_or(usize::MAX).max(1));
        }
    }

    fn chunked(bytes: &str) -> Result<Option<(Vec<u8>, usize)>, Status> {
        read(Framing::Chunked, bytes.as_bytes(), &[usize::MAX])
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_in_whatever_chunks_and_pieces_it_comes(
            chunks in vec(vec(any::<u8>(), 1..40), 0..6),
            extension in "(|;a|;a=\"b\"| ;a)",
            trailer in vec("[a-z]{1,5}: [a-z]{0,5}", 0..3),
            pieces in vec(1..30usize, 1..8),
            behind in vec(any::<u8>(), 0..20),
        ) {
            let mut sent = Vec::new();
            for chunk in &chunks {
                sent.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(format!("000{extension}\r\n").as_bytes());
            trailer.iter().for_each(|line| sent.extend_from_slice(format!("{line}\r\n").as_bytes()));
            sent.extend_from_slice(b"\r\n");
            let length = sent.len();
            sent.extend_from_slice(&behind);
            let whole = chunks.concat();
            prop_assert_eq!(read(Framing::Chunked, &sent, &pieces), Ok(Some((whole.clone(), behind.len()))));
            for cut in 0..length {
                prop_assert_eq!(read(Framing::Chunked, &sent[..cut], &pieces), Ok(None), "cut at {}", cut);
            }
            let plain = [&whole[..], &behind].concat();
            let framing = Framing::Length(whole.len() as u64);
            prop_assert_eq!(read(framing, &plain, &pieces), Ok(Some((whole, behind.len()))));
        }

        #[test]
        fn whatever_comes_is_refused_or_not_in_the_same_way_in_whatever_pieces(
            bytes in vec(prop::sample::select(&b"01aFg;\r\n \t:\"x"[..]), 0..60),
            pieces in vec(1..9usize, 1..5),
        ) {
            let whole = read(Framing::Chunked, &bytes, &[usize::MAX]);
            prop_assert_eq!(read(Framing::Chunked, &bytes, &pieces), whole);
        }
    }

    #[test]
    fn a_size_is_sixteen_digits_at_most_and_an_extension_may_follow() {
        for (line, is) in [
            ("0", Some(0)),
            ("0000000000000010", Some(16)),
            ("fFfFfFfFfFfFfFfF", Some(u64::MAX)),
            ("5;a=b", Some(5)),
            ("5 \t;a", Some(5)),
            ("00000000000000010", None),
            ("", None),
            (";a", None),
            ("5 ", None),
            ("5\u{c};a", None),
            (" 5", None),
            ("5 5", None),
            ("5x", None),
            ("+5", None),
            ("0x5", None),
        ] {
            assert_eq!(size(line.as_bytes()), is, "{line:?}");
        }
    }

    #[test]
    fn a_line_in_a_chunked_body_ends_in_both_bytes_and_a_chunk_where_it_said() {
        assert_eq!(chunked("1\r\na\r\n0\r\n\r\n"), Ok(Some((b"a".to_vec(), 0))));
        for wrong in [
            "1\na\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "2\r\na\r\n0\r\n\r\n",
            "1\r\na\r\n0\n\r\n",
            "1\r\na\r\n0\r\n\n",
            "1\r\na\r\n0\r\nx: y\n\r\n",
            "1;a\rb\r\na\r\n0\r\n\r\n",
            "-1\r\n\r\n",
        ] {
            assert_eq!(chunked(wrong), Err(Status::BAD_REQUEST), "{wrong:?}");
        }
    }

    #[test]
    fn lines_between_chunks_and_behind_them_are_as_long_as_they_may_be_and_no_longer() {
        let extended = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - "1;\r\n".len()));
        assert_eq!(chunked(&extended(LONGEST_LINE)), Ok(Some((b"a".to_vec(), 0))));
        assert_eq!(chunked(&extended(LONGEST_LINE + 1)), Err(Status::BAD_REQUEST));
        assert_eq!(chunked(&"1".repeat(LONGEST_LINE - 1)), Ok(None));
        assert_eq!(chunked(&"1".repeat(LONGEST_LINE)), Err(Status::BAD_REQUEST));
        // All lines behind the last chunk together, with the empty one.
        let trailed = |length: usize| {
            format!("0\r\na: {}\r\nb:\r\n\r\n", "x".repeat(length - "a: \r\nb:\r\n\r\n".len()))
        };
        assert_eq!(chunked(&trailed(LONGEST_TRAILER)), Ok(Some((Vec::new(), 0))));
        assert_eq!(chunked(&trailed(LONGEST_TRAILER + 1)), Err(Status::BAD_REQUEST));
    }

    #[test]
    fn how_much_is_left_is_known_of_a_length_and_no_more_is_taken() {
        let mut body = Body::new(Framing::Length(5));
        assert_eq!(body.take(b"abc"), Ok(Taken { used: 3, data: b"abc" }));
        assert_eq!((body.left(), body.is_over()), (Some(2), false));
        assert_eq!(body.take(b"defg"), Ok(Taken { used: 2, data: b"de" }));
        assert_eq!((body.left(), body.is_over()), (Some(0), true));
        assert_eq!(body.take(b"fg"), Ok(Taken { used: 0, data: b"" }));
        assert_eq!(
            (Body::new(Framing::Chunked).left(), Body::new(Framing::Length(0)).is_over()),
            (None, true)
        );
    }
}

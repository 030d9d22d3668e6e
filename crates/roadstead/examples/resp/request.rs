//! Requests: an array of bulk strings, or an inline line of words, as the RESP2 specification has them.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

/// The longest request in bytes, and with it the longest key and value.
pub(crate) const REQUEST: usize = 256 << 10;
/// The most arguments of a request, its command among them.
pub(crate) const ARGUMENTS: usize = 64;
/// The longest inline request in bytes, its line end included.
pub(crate) const INLINE: usize = 1024;

/// The digits that a count or a length may have.
const DIGITS: usize = 7;
/// The shortest argument there is: `$0`, its line end, and that of no bytes.
const SHORTEST: usize = 6;

/// What some bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A part of a request, which has at least so many bytes.
    Need(usize),
    /// A whole request.
    Request(Request<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    /// The command and its arguments; none in an empty line, which wants no answer.
    pub(crate) arguments: Vec<&'a [u8]>,
    /// How many bytes the request has.
    pub(crate) len: usize,
}

/// What no more bytes can make a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a request is larger than {REQUEST} bytes")]
    TooLarge,
    #[error("a request has more than {ARGUMENTS} arguments")]
    TooMany,
    #[error("an inline request is longer than {INLINE} bytes")]
    LongLine,
    #[error("expected `{}` before a length", char::from(*.0))]
    NoType(u8),
    #[error("a length is not a number of at most {DIGITS} digits and a line end")]
    NoLength,
    #[error("an argument does not end where it says")]
    NoEnd,
}

/// Reads the request that `bytes` begin with. What it says of them does not depend on how many more have come.
///
/// # Errors
/// [`Malformed`] if they begin with none.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    match bytes.first() {
        None => Ok(Parsed::Need(1)),
        Some(b'*') => array(bytes),
        Some(_) => inline(bytes),
    }
}

fn array(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some((count, mut at)) = length(bytes, 0, b'*')? else { return Ok(Parsed::Need(bytes.len() + 1)) };
    if count > ARGUMENTS {
        return Err(Malformed::TooMany);
    }
    let mut arguments = Vec::with_capacity(count);
    for left in (0..count).rev() {
        // What must follow even if all is empty: nobody is called for less.
        let Some((len, start)) = length(bytes, at, b'$')? else {
            return Ok(Parsed::Need((at + (left + 1) * SHORTEST).max(bytes.len() + 1)));
        };
        let end = start + len;
        let least = end + 2 + left * SHORTEST;
        if least > REQUEST {
            return Err(Malformed::TooLarge);
        }
        if !b"\r\n".starts_with(&bytes[end.min(bytes.len())..(end + 2).min(bytes.len())]) {
            return Err(Malformed::NoEnd);
        }
        if bytes.len() < end + 2 {
            return Ok(Parsed::Need(least));
        }
        arguments.push(&bytes[start..end]);
        at = end + 2;
    }
    Ok(Parsed::Request(Request { arguments, len: at }))
}

/// The number in the line that begins at `at` with the type `kind`, and where the next line begins; `None` if the line
/// has not come to its end.
fn length(bytes: &[u8], at: usize, kind: u8) -> Result<Option<(usize, usize)>, Malformed> {
    let Some((&first, rest)) = bytes[at..].split_first() else { return Ok(None) };
    if first != kind {
        return Err(Malformed::NoType(kind));
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let end = &rest[digits..];
    if digits > DIGITS || (digits == 0 && !end.is_empty()) || !end.starts_with(&b"\r\n"[..end.len().min(2)]) {
        return Err(Malformed::NoLength);
    }
    let number = rest[..digits].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    Ok((end.len() >= 2).then_some((number, at + 1 + digits + 2)))
}

fn inline(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let Some(end) = bytes.iter().take(INLINE).position(|&byte| byte == b'\n') else {
        return if bytes.len() < INLINE {
            Ok(Parsed::Need(bytes.len() + 1))
        } else {
            Err(Malformed::LongLine)
        };
    };
    let words = bytes[..end].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let arguments: Vec<_> = words.take(ARGUMENTS + 1).collect();
    if arguments.len() > ARGUMENTS {
        return Err(Malformed::TooMany);
    }
    Ok(Parsed::Request(Request { arguments, len: end + 1 }))
}

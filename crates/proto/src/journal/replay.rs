//! Reading a journal from its beginning: which records it has, and where it ends.
#![forbid(unsafe_code)]

use std::io;

use super::{
    record::{BATCH, HEAD, Head, Limits, START},
    window::Window,
};

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// How many records.
    pub(crate) records: u64,
    /// Where the last of them ends.
    pub(crate) end: u64,
    /// Where its batch begins: what is before was durable when that was written.
    pub(crate) batch: u64,
}

/// Why it cannot be read to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The record there was durable and cannot be read.
    Damaged(u64),
    /// There is a record of so many bytes, more than are accepted.
    TooLarge(usize),
    /// The record there was not understood.
    Refused(u64, String),
    /// The disk's fault.
    Disk(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// What is at some place of a journal.
enum Found<'a> {
    Record(Head, &'a [u8]),
    /// A record of so many bytes, more than are accepted.
    TooLarge(usize),
    Nothing,
}

/// Gives each record to `each`, up to the end or to one that is torn.
pub(crate) fn replay(
    window: &mut Window<'_>,
    salt: u64,
    limits: Limits,
    each: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<Ending, Broken> {
    let mut ending = Ending { records: 0, end: START, batch: START };
    while ending.end < window.size() {
        let at = ending.end;
        match look(window, at, salt, limits)? {
            Found::Record(head, payload) => {
                each(payload).map_err(|why| Broken::Refused(at, why))?;
                ending.records += 1;
                ending.end = at + (HEAD + payload.len()) as u64;
                ending.batch = at - u64::from(head.back);
            }
            Found::TooLarge(length) => return Err(Broken::TooLarge(length)),
            Found::Nothing => return torn_or_damaged(window, ending, salt),
        }
    }
    Ok(ending)
}

fn look<'a>(window: &'a mut Window<'_>, at: u64, salt: u64, limits: Limits) -> io::Result<Found<'a>> {
    let Some(head) = head(window, at, salt)? else { return Ok(Found::Nothing) };
    let length = head.length as usize;
    // Before there is memory for it.
    if at + HEAD as u64 + u64::from(head.length) > window.size() {
        return Ok(Found::Nothing);
    }
    if length > limits.record {
        return Ok(Found::TooLarge(length));
    }
    let whole = window.get(at, HEAD + length)?;
    let payload = whole.and_then(|whole| whole.get(HEAD..)).filter(|payload| head.fits(payload));
    Ok(payload.map_or(Found::Nothing, |payload| Found::Record(head, payload)))
}

fn head(window: &mut Window<'_>, at: u64, salt: u64) -> io::Result<Option<Head>> {
    let bytes = window.get(at, HEAD)?.and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.and_then(|bytes| Head::parse(bytes, at, salt)))
}

/// What cannot be read behind `ending` was torn, unless it was durable once: so much is behind it that it cannot all be
/// one batch, or a record that was written later says so.
fn torn_or_damaged(window: &mut Window<'_>, ending: Ending, salt: u64) -> Result<Ending, Broken> {
    let broken = ending.end;
    if window.size() - broken > BATCH as u64 {
        return Err(Broken::Damaged(broken));
    }
    // A head says so by itself, whatever became of its payload.
    for at in broken + 1..window.size() {
        if let Some(head) = head(window, at, salt)?
            && at - u64::from(head.back) > broken
        {
            return Err(Broken::Damaged(broken));
        }
    }
    Ok(ending)
}

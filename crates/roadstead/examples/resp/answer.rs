//! Answers, as they go over the wire.

use std::fmt::{self, Write};

use bytes::Bytes;
use roadstead::Output;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A word that is the same for everybody.
    Simple(&'static str),
    /// What was wrong with the request, in one line.
    Error(String),
    Integer(i64),
    Bulk(Bytes),
    /// There is no such thing.
    Null,
    Array(Vec<Answer>),
}

impl Answer {
    /// An error of no particular kind.
    pub(crate) fn error(what: impl fmt::Display) -> Self {
        Answer::Error(format!("ERR {what}"))
    }

    /// About how many bytes it has on the wire.
    pub(crate) fn size(&self) -> usize {
        const LINE: usize = 8;
        match self {
            Answer::Simple(_) | Answer::Integer(_) | Answer::Null => LINE,
            Answer::Error(what) => LINE + what.len(),
            Answer::Bulk(bytes) => LINE + bytes.len(),
            Answer::Array(answers) => LINE + answers.iter().map(Answer::size).sum::<usize>(),
        }
    }

    /// Writes it behind what is already there.
    pub(crate) fn write(self, output: &mut Output) {
        match self {
            Answer::Simple(word) => line(output, '+', word),
            Answer::Error(what) => line(output, '-', what),
            Answer::Integer(number) => line(output, ':', number),
            Answer::Null => line(output, '$', -1),
            Answer::Bulk(bytes) => {
                line(output, '$', bytes.len());
                output.send(bytes);
                output.write(b"\r\n");
            }
            Answer::Array(answers) => {
                line(output, '*', answers.len());
                answers.into_iter().for_each(|answer| answer.write(output));
            }
        }
    }
}

fn line(output: &mut Output, kind: char, rest: impl fmt::Display) {
    // It never fails: what does not fit ends the connection.
    let _ = write!(output, "{kind}{rest}\r\n");
}

//! The requests that have come together, and their answers.
//!
//! They are done in one go: whoever asks for the store once for each of them pays for that each time.

use super::{
    answer::Answer,
    command::Command,
    request::{self, Malformed, Parsed},
    store::Store,
};

/// The most requests of a batch: nobody has the store for longer.
const REQUESTS: usize = 64;
/// The bytes of answers after which no more requests of a batch are done. There may be as much once more, and one value,
/// without that a connection has more unsent than it may.
const ANSWERED: usize = 64 << 10;

/// Requests, and where each ends.
#[derive(Default)]
pub(crate) struct Batch {
    commands: Vec<(Option<Command>, usize)>,
    size: usize,
}

/// The answers to the first requests of a batch, and where the last of these ends.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    pub(crate) used: usize,
}

impl Batch {
    /// The requests that `bytes` begin with. There are none if they begin with a part of one, which has at least as many
    /// bytes as is answered then.
    ///
    /// # Errors
    /// [`Malformed`] if they begin with no request.
    pub(crate) fn read(bytes: &[u8]) -> Result<Result<Self, usize>, Malformed> {
        let (mut batch, mut end) = (Self::default(), 0);
        while batch.commands.len() < REQUESTS && end < bytes.len() {
            match request::parse(&bytes[end..]) {
                Ok(Parsed::Request(request)) => {
                    end += request.len;
                    let command = Command::read(&request.arguments);
                    batch.size += command.as_ref().map_or(0, Command::size);
                    batch.commands.push((command, end));
                }
                Ok(Parsed::Need(count)) if end == 0 => return Ok(Err(count)),
                Err(error) if end == 0 => return Err(error),
                // What is before it is answered first.
                Ok(Parsed::Need(_)) | Err(_) => break,
            }
        }
        Ok(Ok(batch))
    }

    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Does the first of the requests, and more while the answers are small.
    pub(crate) fn run(self, store: &mut Store) -> Answers {
        self.run_each(|command| command.run(store))
    }

    /// The same, with `run` to do each.
    pub(crate) fn run_each(self, mut run: impl FnMut(Command) -> Answer) -> Answers {
        let (mut answers, mut used, mut size) = (Vec::with_capacity(self.commands.len()), 0, 0);
        for (command, end) in self.commands {
            let answer = command.map(&mut run);
            size += answer.as_ref().map_or(0, Answer::size);
            answers.extend(answer);
            used = end;
            if size >= ANSWERED {
                break;
            }
        }
        Answers { answers, used }
    }
}

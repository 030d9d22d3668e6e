//! What each command does.

use bytes::Bytes;

use super::{
    answer::Answer,
    store::{Store, Unchanged},
};

/// As much of an unknown command as an error repeats.
const REPEATED: usize = 32;

/// The longest name of a command.
const NAME: usize = 7;

/// What a client asks for. It has copies of its own, so that it can be done by whoever has the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Nothing that the store would have to be asked.
    Say(Answer),
    Get(Bytes),
    Set(Bytes, Bytes),
    Increment(Bytes),
    Remove(Vec<Bytes>),
}

impl Command {
    /// Reads what `arguments` ask for; `None` if they ask for nothing.
    pub(crate) fn read(arguments: &[&[u8]]) -> Option<Self> {
        let (name, rest) = arguments.split_first()?;
        let mut upper = [0; NAME];
        let upper = match upper.get_mut(..name.len()) {
            Some(upper) => {
                upper.copy_from_slice(name);
                upper.make_ascii_uppercase();
                &*upper
            }
            None => &[],
        };
        let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        Some(match (upper, rest) {
            (b"PING", []) => Self::Say(Answer::Simple("PONG")),
            (b"PING" | b"ECHO", [text]) => Self::Say(Answer::Bulk(copy(text))),
            (b"GET", [key]) => Self::Get(copy(key)),
            (b"SET", [key, value]) => Self::Set(copy(key), copy(value)),
            (b"INCR", [key]) => Self::Increment(copy(key)),
            (b"DEL", keys @ [_, ..]) => Self::Remove(keys.iter().map(|key| copy(key)).collect()),
            // Clients ask what there is before they begin. They take nothing for an answer.
            (b"COMMAND", _) => Self::Say(Answer::Array(Vec::new())),
            (b"CONFIG", [get, name]) if get.eq_ignore_ascii_case(b"GET") => Self::Say(configured(name)),
            (b"PING" | b"ECHO" | b"GET" | b"SET" | b"INCR" | b"DEL" | b"CONFIG", _) => {
                Self::Say(Answer::error(format!("wrong arguments for '{}'", name.escape_ascii())))
            }
            _ => {
                let known = &name[..name.len().min(REPEATED)];
                Self::Say(Answer::error(format!("there is no command '{}'", known.escape_ascii())))
            }
        })
    }

    /// Does it.
    pub(crate) fn run(self, store: &mut Store) -> Answer {
        match self {
            Self::Say(answer) => answer,
            Self::Get(key) => store.get(&key).map_or(Answer::Null, Answer::Bulk),
            Self::Set(key, value) => store.set(key, value).map_or_else(unchanged, |()| Answer::Simple("OK")),
            Self::Increment(key) => store.increment(key).map_or_else(unchanged, Answer::Integer),
            Self::Remove(keys) => Answer::Integer(keys.iter().filter(|key| store.remove(key)).count() as i64),
        }
    }

    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Say(answer) => answer.size(),
            Self::Get(key) | Self::Increment(key) => key.len(),
            Self::Set(key, value) => key.len() + value.len(),
            Self::Remove(keys) => keys.iter().map(Bytes::len).sum(),
        }
    }
}

fn unchanged(why: Unchanged) -> Answer {
    match why {
        Unchanged::Full(_) => Answer::Error(format!("OOM {why}")),
        Unchanged::NoInteger => Answer::error(why),
    }
}

/// The settings that load generators look at, to print them: nothing is written to disk.
fn configured(name: &[u8]) -> Answer {
    let value = match name {
        b"save" => "",
        b"appendonly" => "no",
        _ => return Answer::Array(Vec::new()),
    };
    Answer::Array(vec![Answer::Bulk(Bytes::copy_from_slice(name)), Answer::Bulk(value.into())])
}

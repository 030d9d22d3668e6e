//! What each command does.

use bytes::Bytes;

use super::{
    answer::Answer,
    store::{Store, Unchanged},
};

/// As much of an unknown command as an error repeats.
const REPEATED: usize = 32;

/// Does what `arguments` ask for; `None` if they ask for nothing.
pub(crate) fn run(arguments: &[&[u8]], store: &Store) -> Option<Answer> {
    let (name, rest) = arguments.split_first()?;
    Some(match (name.to_ascii_uppercase().as_slice(), rest) {
        (b"PING", []) => Answer::Simple("PONG"),
        (b"PING" | b"ECHO", [text]) => Answer::Bulk(Bytes::copy_from_slice(text)),
        (b"GET", [key]) => store.get(key).map_or(Answer::Null, Answer::Bulk),
        (b"SET", [key, value]) => store.set(key, value).map_or_else(unchanged, |()| Answer::Simple("OK")),
        (b"INCR", [key]) => store.increment(key).map_or_else(unchanged, Answer::Integer),
        (b"DEL", keys @ [_, ..]) => {
            Answer::Integer(keys.iter().filter(|key| store.remove(key)).count() as i64)
        }
        // Clients ask what there is before they begin. They take nothing for an answer.
        (b"COMMAND", _) => Answer::Array(Vec::new()),
        (b"CONFIG", [get, name]) if get.eq_ignore_ascii_case(b"GET") => configured(name),
        (b"PING" | b"ECHO" | b"GET" | b"SET" | b"INCR" | b"DEL" | b"CONFIG", _) => {
            Answer::error(format!("wrong arguments for '{}'", name.escape_ascii()))
        }
        _ => {
            let known = &name[..name.len().min(REPEATED)];
            Answer::error(format!("there is no command '{}'", known.escape_ascii()))
        }
    })
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

//! A moment: what was done, which states are to be seen then, and which were.

use std::{
    collections::BTreeMap,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::sockets::{End, Sockets, State};
use crate::outcome::Result;

/// How long the system is given until it shows what is expected.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many ends of connections that are to be in a state, and what that means.
pub(super) type Expected = (End, State, usize, &'static str);

/// What was done, and what was to be seen then.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    done: &'static str,
    ends: Vec<Ends>,
}

/// The ends of connections that are in one state.
#[derive(Debug, Serialize)]
struct Ends {
    end: End,
    state: State,
    count: usize,
    expected: usize,
    /// Of a server that listens: connections that nobody has accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    meaning: &'static str,
}

/// Who looks at the sockets of a server after each thing that is done.
pub(super) struct Witness {
    server: SocketAddrV4,
    /// What was seen, in order.
    pub(super) saw: Vec<Moment>,
}

impl Witness {
    pub(super) fn at(server: SocketAddrV4) -> Self {
        Self { server, saw: Vec::new() }
    }

    /// Waits until the system shows what is expected, and no longer than it may take. `waiting` is how many are to wait
    /// to be accepted, if anybody listens.
    pub(super) fn see(
        &mut self,
        done: &'static str,
        waiting: Option<usize>,
        expected: &[Expected],
    ) -> Result<()> {
        let ends = expected.iter().map(|&(end, state, count, _)| ((end, state), count)).collect();
        let whole = Sockets { ends, waiting };
        let begun = Instant::now();
        let mut seen = Sockets::of(self.server)?;
        while seen != whole && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
            seen = Sockets::of(self.server)?;
        }
        self.saw.push(Moment::of(done, seen, expected));
        Ok(())
    }
}

impl Moment {
    fn of(done: &'static str, seen: Sockets, expected: &[Expected]) -> Self {
        let Sockets { ends: mut left, waiting } = seen;
        let listens = |state| waiting.filter(|_| state == State::Listen);
        let mut ends: Vec<Ends> = Vec::new();
        for &(end, state, expected, meaning) in expected {
            let count = left.remove(&(end, state)).unwrap_or_default();
            ends.push(Ends { end, state, count, expected, waiting: listens(state), meaning });
        }
        ends.extend(unexpected(left));
        Self { done, ends }
    }

    /// Whether what was seen is what was expected.
    pub(super) fn is_as_expected(&self) -> bool {
        self.ends.iter().all(|ends| ends.count == ends.expected)
    }

    /// For people: what was done, and below it a line for each state.
    pub(super) fn text(&self) -> String {
        let mut text = format!("  {}", self.done);
        for Ends { end, state, count, expected, waiting, meaning } in &self.ends {
            let end = if *end == End::Server { "server" } else { "client" };
            let waiting = waiting.map(|waiting| format!("{waiting} wait to be accepted"));
            let wrong = if count == expected { String::new() } else { format!(" ({expected} expected)") };
            let said = waiting.into_iter().chain([(*meaning).to_owned()]).filter(|said| !said.is_empty());
            let said = said.collect::<Vec<_>>().join("; ");
            let line = format!("    {end}  {:<11}  {count:>2}{wrong}  {said}", state.name());
            text.push_str(&format!("\n{}", line.trim_end()));
        }
        text
    }
}

fn unexpected(left: BTreeMap<(End, State), usize>) -> impl Iterator<Item = Ends> {
    let meaning = "nobody knows why";
    left.into_iter().map(move |((end, state), count)| Ends {
        end,
        state,
        count,
        expected: 0,
        waiting: None,
        meaning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: [Expected; 2] = [
        (End::Server, State::Listen, 1, "it is there"),
        (End::Client, State::SynSent, 3, "they are not answered"),
    ];

    fn seen(client: &[(State, usize)]) -> Moment {
        let listens = ((End::Server, State::Listen), 1);
        let ends = client.iter().map(|&(state, count)| ((End::Client, state), count)).chain([listens]);
        Moment::of("five connect", Sockets { ends: ends.collect(), waiting: Some(2) }, &EXPECTED)
    }

    #[test]
    fn what_was_seen_is_told_state_by_state() {
        let moment = seen(&[(State::SynSent, 3)]);
        assert!(moment.is_as_expected());
        assert_eq!(
            moment.text(),
            "  five connect\n    server  LISTEN        1  2 wait to be accepted; it is there\n    \
             client  SYN_SENT      3  they are not answered"
        );
    }

    #[test]
    fn what_was_not_seen_and_what_nobody_expected_is_told_too() {
        let moment = seen(&[(State::SynSent, 2), (State::Established, 1)]);
        assert!(!moment.is_as_expected());
        let text = moment.text();
        assert!(text.contains("client  SYN_SENT      2 (3 expected)  they are not answered"), "{text}");
        assert!(text.ends_with("client  ESTABLISHED   1 (0 expected)  nobody knows why"), "{text}");
        assert!(!seen(&[]).is_as_expected());
    }
}

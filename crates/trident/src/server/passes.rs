//! Requests that wait, and the passes over the rows that answer them.

use std::{sync::Arc, time::Duration};

use roadstead_proto::{Job, Step, Ticket, frame::Limits};

use super::{
    answers::{Allowance, Answers, Reply},
    batch::Batch,
    questions::{FetchQuery, SearchQuery, SharedQuery},
    resharing::{Resharing, Seed},
    store::{Store, StoreError},
};
use crate::agreed::{
    refusal::CODE_STORE,
    wire::{Kind, Refusal},
};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
    pub(crate) answers: Arc<Answers>,
    pub(crate) fetches: Batch<Waiting<FetchQuery>>,
    pub(crate) searches: Batch<Waiting<SearchQuery>>,
    pub(crate) shared: Batch<Waiting<(SharedQuery, Seed)>>,
    pub(crate) resharing: Option<Resharing>,
}

/// A request that waits for its pass.
#[derive(Debug)]
pub(crate) struct Waiting<Q> {
    pub(crate) query: Q,
    pub(crate) ticket: Ticket<Reply>,
    pub(crate) allowance: Allowance,
}

/// Passes over the rows until nothing waits, one at a time: between two passes it is the turn of others.
pub(crate) struct Passes {
    pub(crate) shared: Arc<Shared>,
    pub(crate) answer: fn(&Shared) -> Step<()>,
}

impl Job for Passes {
    type Reply = ();

    fn run(&mut self, _: Duration) -> Step<()> {
        (self.answer)(&self.shared)
    }
}

pub(crate) fn answer_fetches(shared: &Shared) -> Step<()> {
    shared.fetches.pass(|waiting| {
        let (queries, answers) = living(waiting);
        for (body, (ticket, allowance)) in shared.store.fetch(&queries).into_iter().zip(answers) {
            ticket.finish(Reply { kind: Kind::Fetched, body, allowance });
        }
    })
}

pub(crate) fn answer_searches(shared: &Shared) -> Step<()> {
    shared.searches.pass(|waiting| {
        let (queries, answers) = living(waiting);
        match shared.store.search(&queries) {
            Ok(bodies) => {
                for (body, (ticket, allowance)) in bodies.into_iter().zip(answers) {
                    ticket.finish(Reply { kind: Kind::Searched, body, allowance });
                }
            }
            Err(error) => refuse_all(&error, queries.iter().map(SearchQuery::counter), answers),
        }
    })
}

/// Computes for the requests that wait and begins to share what came of it. Their tickets are finished when the others
/// have sent their parts, so the next pass does not wait for the network.
pub(crate) fn answer_shared(shared: &Shared) -> Step<()> {
    shared.shared.pass(|waiting| {
        let (seeded, answers) = living(waiting);
        let Some(resharing) = &shared.resharing else { return };
        let server = (shared.store.party(), shared.store.manifest());
        let queries = || seeded.iter().map(|(query, _)| query);
        match shared.store.combine(queries()) {
            Ok(all) => {
                for ((query, sums), answer) in seeded.iter().zip(&all).zip(answers) {
                    resharing.begin(server, query, sums, answer);
                }
            }
            Err(error) => refuse_all(&error, queries().map(SharedQuery::counter), answers),
        }
    })
}

/// The requests whose clients are still there, and what it takes to answer them.
fn living<Q>(waiting: Vec<Waiting<Q>>) -> (Vec<Q>, Vec<(Ticket<Reply>, Allowance)>) {
    let living = waiting.into_iter().filter(|waiting| !waiting.ticket.is_cancelled());
    living.map(|Waiting { query, ticket, allowance }| (query, (ticket, allowance))).unzip()
}

/// Refuses requests because the server's own shares cannot be read.
fn refuse_all(
    error: &StoreError,
    counters: impl Iterator<Item = u64>,
    answers: Vec<(Ticket<Reply>, Allowance)>,
) {
    tracing::error!(%error, "the search shares cannot be read");
    for (counter, (ticket, allowance)) in counters.zip(answers) {
        let text = "the server cannot read its search shares".into();
        let body = Refusal { counter, code: CODE_STORE, text }.encode();
        ticket.finish(Reply { kind: Kind::Refusal, body, allowance });
    }
}

#[cfg(test)]
mod tests {
    use std::{iter, sync::Mutex};

    use roadstead_proto::{
        Budget, Context, Done, Input, Ready, Session, connection::Connection, connection::Endpoint,
        connection::Event, host::Host, host::Shared, ticket::Token,
    };

    use super::*;

    type Tickets = Arc<Mutex<Vec<Ticket<Reply>>>>;

    /// Takes a ticket as soon as it is open.
    struct Asks(Tickets);

    impl Session for Asks {
        type Reply = Reply;

        fn ready(&mut self, _: Ready, cx: &mut Context<'_, Self>) -> Done {
            self.0.lock().unwrap().push(cx.ticket().unwrap());
            Ok(())
        }

        fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_computed_for_clients_that_have_left_and_their_memory_is_free() {
        let (tickets, answers) = (Tickets::default(), Answers::new(1 << 20));
        let mut connections: Vec<_> = (1..4)
            .map(|name| {
                let shared = Shared::new(Budget::default());
                let mut host = Host::alone(Arc::clone(&shared), 1);
                let permit = shared.gate.admit(None).unwrap();
                let session = Asks(Arc::clone(&tickets));
                let address = ([192, 0, 2, 1], 7).into();
                let (mut connection, _) = Connection::outgoing(session, address, shared, permit);
                connection.place(Token(name), host.wake_queue(), Duration::ZERO);
                connection.handle(Duration::ZERO, Event::Opened, &mut host);
                assert!(iter::from_fn(|| connection.next()).count() > 0);
                (connection, host)
            })
            .collect();
        let tickets = tickets.lock().unwrap().drain(..).collect::<Vec<_>>();
        let waiting: Vec<_> = (1..)
            .zip(tickets)
            .map(|(query, ticket)| {
                let allowance = answers.reserve(1 << 18, || panic!("there is room")).unwrap();
                Waiting { query, ticket, allowance }
            })
            .collect();
        drop(connections.remove(1));
        let (queries, served) = living(waiting);
        assert_eq!((queries, served.len()), (vec![1, 3], 2));
        drop(answers.reserve(1 << 19, || panic!("what was for the second is free")).unwrap());
    }
}

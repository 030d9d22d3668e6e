//! Any messages in any order are answered or refused; after a refusal nothing is answered; counters rise; and an answer
//! has the length that the protocol says.
//!
//! The bytes are messages: kind, length as two little-endian bytes, body.

use roadstead_trident::{
    admission::{Admission, Admitted},
    field::P,
    reshare::query_id,
    wire::{self, Kind},
};

use crate::sharing::{NONCES, sharing};

pub(crate) fn check(data: &[u8]) {
    let store = &sharing().stores[0];
    let mut connection = Admission::new(NONCES[0]);
    let (mut refused, mut last) = (false, 0);
    for (kind, body) in Messages(data) {
        let Ok(kind) = Kind::try_from(kind) else { return };
        let Ok(admitted) = connection.receive(store, kind, body) else {
            refused = true;
            continue;
        };
        assert!(!refused, "{kind:?} is answered after a refusal");
        let counter = match admitted {
            Admitted::Welcome(welcome) => {
                assert!(wire::Welcome::parse(&welcome).is_ok_and(|welcome| welcome.nonce == NONCES[0]));
                continue;
            }
            Admitted::Ready => continue,
            Admitted::Fetch(query) => {
                let counter = query.counter();
                assert_eq!(store.fetch(&[query])[0].len(), wire::fetched_len(store.manifest()));
                counter
            }
            Admitted::FetchShare(query) => {
                let (counter, id) = (query.counter(), query.id());
                assert_eq!(id, query_id(&store.digest(), &NONCES, counter));
                let sums = store.combine(&[query]).expect("search shares are in memory");
                assert!(sums[0].len() == 3 * store.manifest().dim && sums[0].iter().all(|&sum| sum < P));
                counter
            }
            Admitted::Search(query) => {
                let (counter, checked) = (query.counter(), query.checked());
                let answers = store.search(&[query]).expect("search shares are in memory");
                assert_eq!(answers[0].len(), wire::searched_len(store.manifest(), checked));
                counter
            }
        };
        assert!(counter > last, "counter {counter} after {last}");
        last = counter;
    }
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, low, high], rest) = self.0.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let (body, rest) = rest.split_at(length.min(rest.len()));
        self.0 = rest;
        Some((kind, body))
    }
}

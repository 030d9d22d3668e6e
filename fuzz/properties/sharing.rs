//! One small sharing, the same in every run: what a server and a client need before they can be told anything.

use std::sync::OnceLock;

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use roadstead_trident::{
    data::{DataError, Rows},
    mask::Nonce,
    party::Party,
    query::Collection,
    share::{CLIENT_DIR, Options, server_dir, share_with},
    store::Store,
};

/// Two leaves of a selection key, so that it has a level.
pub(crate) const ROWS: usize = 130;
pub(crate) const DIM: usize = 2;

/// What the three servers issue to a client's connections; the first of them is under test.
pub(crate) const NONCES: [Nonce; 3] = [[1; 16], [2; 16], [3; 16]];

#[allow(dead_code, reason = "a target needs the servers or the client")]
pub(crate) struct Sharing {
    pub(crate) stores: [Store; 3],
    pub(crate) client: Collection,
}

pub(crate) fn sharing() -> &'static Sharing {
    static SHARING: OnceLock<Sharing> = OnceLock::new();
    SHARING.get_or_init(|| {
        let dir = tempfile::tempdir().expect("there is room for a temporary directory");
        let options = Options { search: true, ..Options::default() };
        share_with(&mut Table, dir.path(), options, &mut rng(), |_, _| {}).expect("the rows can be shared");
        let open = |party| Store::open(&server_dir(dir.path(), party), party, u64::MAX);
        Sharing {
            stores: Party::ALL.map(|party| open(party).expect("what was shared is read")),
            client: Collection::open(&dir.path().join(CLIENT_DIR)).expect("what was shared is read"),
        }
    })
}

/// The randomness of everything that is made for a corpus.
pub(crate) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([7; 32])
}

/// Element `column` of row `row`.
pub(crate) fn element(row: usize, column: usize) -> u8 {
    (row * 31 + column * 97) as u8
}

struct Table;

impl Rows for Table {
    fn rows(&self) -> usize {
        ROWS
    }

    fn dim(&self) -> usize {
        DIM
    }

    fn read(&mut self, first: usize, out: &mut [f32]) -> Result<(), DataError> {
        for (at, value) in out.iter_mut().enumerate() {
            *value = f32::from(element(first + at / DIM, at % DIM));
        }
        Ok(())
    }
}

//! Shares that do not belong together, and servers in the wrong places.

use roadstead_trident::{client::ClientError, party::Party};

use super::{
    common::byte_rows,
    harness::{Shares, WAYS, addresses, client, guarded, names},
};

#[test]
fn shares_of_two_runs_are_refused_at_hello_with_both_digests() {
    guarded(|| {
        let rows = byte_rows(60, 8, 1);
        let (ours, theirs) = (Shares::of(&rows, 2), Shares::of(&rows, 3));
        let (mine, other) = (ours.serve(WAYS[0]), theirs.serve(WAYS[0]));
        for stranger in Party::ALL {
            let mut mixed = addresses(&mine);
            mixed[stranger.index()] = addresses(&other)[stranger.index()];
            let client = client(&ours, mixed);
            for _ in 0..3 {
                let error = client.fetch(0).unwrap_err();
                assert!(matches!(error, ClientError::Refused { .. }), "{error}");
                names(&error, stranger, mixed[stranger.index()]);
                let words = error.to_string();
                for digest in [ours.collection().digest(), theirs.collection().digest()] {
                    assert!(words.contains(&digest.to_string()), "{words}");
                }
                assert!(words.contains("both must come from one run of share"), "{words}");
            }
        }
        let error = client(&ours, addresses(&other)).fetch(0).unwrap_err().to_string();
        assert!(error.contains(&theirs.collection().digest().to_string()), "{error}");
        assert_eq!(client(&theirs, addresses(&other)).fetch(0).unwrap().values(), rows[0]);
    });
}

#[test]
fn servers_in_the_wrong_order_are_refused_with_what_to_do() {
    guarded(|| {
        let rows = byte_rows(60, 8, 4);
        let shares = Shares::of(&rows, 5);
        let servers = shares.serve(WAYS[0]);
        let [a, b, c] = addresses(&servers);
        for wrong in [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a], [a, a, a], [a, b, b]] {
            let client = client(&shares, wrong);
            let error = client.fetch(0).unwrap_err();
            let ClientError::Refused { party, ref address, .. } = error else { panic!("{error}") };
            let address = address.socket().unwrap();
            let place = wrong.iter().position(|other| *other == address).unwrap();
            assert!(wrong[party.index()] == address && place <= party.index());
            let is = addresses(&servers).iter().position(|other| *other == address).unwrap() + 1;
            let words = error.to_string();
            let expected =
                format!("the client wants {party}, this is server {is}; check the order of the addresses");
            assert!(words.contains(&expected), "{words}");
        }
        assert_eq!(client(&shares, [a, b, c]).fetch(1).unwrap().values(), rows[1]);
    });
}

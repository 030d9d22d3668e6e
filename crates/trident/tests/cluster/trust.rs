//! Keys: who has the wrong ones, or none, gets no answer and a reason; and no sharing is served otherwise than its
//! manifest says.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    slice,
    sync::mpsc,
    time::Duration,
};

use roadstead::{
    Address, Budget, Closed, Context, Dialer, Done, Frame, Input, Ready, Running, Server, Session,
    frame::Fields,
    tls::{Acceptor, Clients, Connector, Expect, Keys, Pin},
};
use roadstead_keys::{Authority, Role};
use roadstead_trident::{
    client::{Client, ClientError, Options, StartError},
    party::Party,
    server::Trident,
    store::Store,
    trust::{Pins, PinsError, TrustError, acceptor, connectors},
    wire::{Hello, Kind, VERSION},
};

use super::{
    common::byte_rows,
    harness::{Ring, Shares, WAYS, addresses, any_port, client, guarded, issued, names},
    raw::Raw,
    setting::SECOND,
};

/// Three servers with keys, and their rows.
fn secured() -> (Vec<Vec<f32>>, Shares, [Running; 3]) {
    let rows = byte_rows(60, 8, 1);
    let shares = Shares::over_tls(&rows, 2);
    let servers = shares.serve(WAYS[0]);
    (rows, shares, servers)
}

fn ring(shares: &Shares) -> &Ring {
    shares.ring.as_ref().unwrap()
}

/// A client whose keys are not those of the cluster.
fn with_keys(shares: &Shares, servers: [SocketAddr; 3], keys: &Keys) -> Client {
    Client::new(shares.collection(), servers, Some(keys), Options::default(), Dialer::start).unwrap()
}

#[test]
fn a_server_with_another_key_is_refused_by_name_with_both_pins() {
    guarded(|| {
        let (rows, shares, servers) = secured();
        let other = issued(&ring(&shares).authority, "server-2", Role::Server);
        // The check at the start is gone round, as a thief of the shares would.
        let tls = Acceptor::new(&other, Clients::Known).unwrap();
        let impostor =
            Server::new(shares.trident(SECOND)).bind(any_port()).model(WAYS[0].model).layer(tls).start();
        let impostor = impostor.unwrap();
        let [first, _, third] = addresses(&servers);
        let address = impostor.addresses()[0];
        let error = client(&shares, [first, address, third]).fetch(0).unwrap_err();
        names(&error, SECOND, address);
        let (pinned, found) = (ring(&shares).pins().of(SECOND).to_string(), other.pin().to_string());
        let words = error.to_string();
        assert!(words.contains(&pinned) && words.contains(&found), "{words}");
        assert_eq!(client(&shares, addresses(&servers)).fetch(0).unwrap().values(), rows[0]);
    });
}

#[test]
fn servers_in_the_wrong_order_are_not_talked_to() {
    guarded(|| {
        let (_, shares, servers) = secured();
        let [a, b, c] = addresses(&servers);
        for wrong in [[a, c, b], [b, a, c], [b, c, a]] {
            let error = client(&shares, wrong).fetch(0).unwrap_err();
            let ClientError::Unavailable { party, address, why } = &error else { panic!("{error}") };
            assert!(
                Address::from(wrong[party.index()]) == *address && why.contains("not the pinned one"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_client_of_another_authority_is_refused_and_others_go_on() {
    guarded(|| {
        let (rows, shares, servers) = secured();
        let honest = client(&shares, addresses(&servers));
        let stranger = issued(&Authority::new("cluster").unwrap(), "client", Role::Client);
        let stranger = with_keys(&shares, addresses(&servers), &stranger);
        for (index, row) in rows.iter().enumerate().take(20) {
            let error = stranger.fetch(index).unwrap_err();
            assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
            assert!(error.to_string().contains("refuses"), "{error}");
            assert_eq!(&honest.fetch(index).unwrap().values(), row);
        }
    });
}

/// Its certificate is of the same authority as the clients', and two other servers are all it would need.
#[test]
fn a_server_may_not_ask_as_a_client() {
    guarded(|| {
        let (_, shares, servers) = secured();
        for party in Party::ALL {
            let curious = with_keys(&shares, addresses(&servers), &ring(&shares).servers[party.index()]);
            let error = curious.fetch(0).unwrap_err();
            assert!(matches!(error, ClientError::Refused { .. }), "{error}");
            assert!(error.to_string().contains(&format!("the certificate is that of {party}")), "{error}");
        }
    });
}

/// Says hello and tells what came back and how it ended.
struct Stranger {
    hello: Vec<u8>,
    heard: Vec<u8>,
    tell: mpsc::Sender<(Vec<u8>, String)>,
}

impl Session for Stranger {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.hello);
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        Ok(())
    }

    fn closed(self, why: &Closed) {
        let _ = self.tell.send((self.heard, why.to_string()));
    }
}

fn hello(shares: &Shares, party: Party) -> Vec<u8> {
    let hello = Hello { version: VERSION, party, digest: shares.collection().digest() };
    let mut wire = Vec::new();
    Frame::encode(&mut wire, Kind::Hello as u8, &Fields::new(), &hello.encode());
    wire
}

#[test]
fn a_client_without_a_certificate_hears_nothing_but_that() {
    guarded(|| {
        let (_, shares, servers) = secured();
        let dialer = Dialer::start(Budget::default()).unwrap();
        for party in Party::ALL {
            let connector = Connector::new(None, Expect::Pin(ring(&shares).pins().of(party))).unwrap();
            let (tell, told) = mpsc::channel();
            let stranger = Stranger { hello: hello(&shares, party), heard: Vec::new(), tell };
            let address = addresses(&servers)[party.index()];
            let _waker = dialer.connect_through(address, &connector, stranger).unwrap();
            let (heard, why) = told.recv().unwrap();
            assert!(heard.is_empty() && why.contains("certificate"), "{why}");
        }
    });
}

#[test]
fn who_speaks_without_tls_and_who_speaks_it_to_no_purpose_both_hear_why() {
    guarded(|| {
        let (rows, shares, servers) = secured();
        let plain = Shares::of(&rows, 3);
        let unsecured = plain.serve(WAYS[0]);
        let error = client(&plain, addresses(&servers)).fetch(0).unwrap_err();
        assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");
        let error = client(&shares, addresses(&unsecured)).fetch(0).unwrap_err();
        assert!(matches!(error, ClientError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("TLS"), "{error}");

        let mut raw = TcpStream::connect(addresses(&servers)[0]).unwrap();
        raw.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        raw.write_all(&hello(&plain, Party::ALL[0])).unwrap();
        let mut heard = Vec::new();
        // It ends; whether with a reset does not matter.
        let _ = raw.read_to_end(&mut heard);
        assert_eq!(heard.first().copied().unwrap_or(21), 21, "an alert, or nothing");
        assert_eq!(client(&shares, addresses(&servers)).fetch(0).unwrap().values(), rows[0]);
        assert_eq!(client(&plain, addresses(&unsecured)).fetch(0).unwrap().values(), rows[0]);
    });
}

/// A program that forgets the layer serves nobody.
#[test]
fn a_sharing_with_pins_is_not_served_without_tls() {
    guarded(|| {
        let rows = byte_rows(60, 8, 1);
        let shares = Shares::over_tls(&rows, 2);
        let trident: Trident = shares.trident(Party::ALL[0]);
        let server = Server::new(trident).bind(any_port()).model(WAYS[0].model).start().unwrap();
        let mut raw = Raw::connect(server.addresses()[0]);
        raw.stream.write_all(&hello(&shares, Party::ALL[0])).unwrap();
        let refusal = raw.refused();
        assert!(refusal.code == 10 && refusal.text.contains("over TLS only"), "{}", refusal.text);
    });
}

#[test]
fn the_manifest_decides_whether_keys_are_needed_and_which_addresses_are_served() {
    let rows = byte_rows(60, 8, 1);
    let (plain, shares) = (Shares::of(&rows, 2), Shares::over_tls(&rows, 2));
    let keys = ring(&shares);
    let here =
        ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"].map(|address| address.parse::<Address>().unwrap());
    let unix = "unix:/run/trident".parse::<Address>().unwrap();
    let open = ["0.0.0.0:0", "[::]:0", "192.0.2.1:7101", "[::ffff:192.0.2.1]:7101"]
        .map(|address| address.parse::<SocketAddr>().unwrap());
    for party in Party::ALL {
        let (store, bare) = (shares.store(party), plain.store(party));
        let own = &keys.servers[party.index()];
        let acceptor =
            |store: &Store, keys, addresses: &[Address]| acceptor(store.manifest(), party, keys, addresses);
        assert!(
            acceptor(&store, Some(own), &[&here[..], &open.map(Address::from)].concat()).unwrap().is_some()
        );
        assert!(acceptor(&bare, None, &here).unwrap().is_none());
        assert!(acceptor(&bare, None, slice::from_ref(&unix)).unwrap().is_none(), "it is on this machine");
        assert!(matches!(acceptor(&store, None, &here), Err(TrustError::NoKeys)));
        assert!(matches!(acceptor(&bare, Some(own), &here), Err(TrustError::NoPins)));
        for address in open {
            let refused = acceptor(&bare, None, &[here[0].clone(), address.into()]);
            assert!(matches!(refused, Err(TrustError::Open(found)) if found == address));
        }
        let other = &keys.servers[party.next().index()];
        let error = acceptor(&store, Some(other), &here).unwrap_err().to_string();
        assert!(
            error.contains(&own.pin().to_string()) && error.contains(&other.pin().to_string()),
            "{error}"
        );
    }
    let (manifest, bare) = (shares.manifest(), plain.manifest());
    let servers = [here[0].clone(), unix, open[2].into()];
    assert!(connectors(manifest, Some(&keys.client), &servers).unwrap().is_some());
    assert!(connectors(bare, None, &here).unwrap().is_none());
    assert!(matches!(connectors(bare, None, &servers), Err(TrustError::Open(found)) if found == open[2]));
    let start = |shares: &Shares, keys| {
        Client::new(shares.collection(), servers.clone(), keys, Options::default(), Dialer::start)
    };
    assert!(matches!(start(&shares, None), Err(StartError::Trust(TrustError::NoKeys))));
    assert!(matches!(start(&plain, Some(&keys.client)), Err(StartError::Trust(TrustError::NoPins))));
}

#[test]
fn pins_are_read_from_certificates_alone_and_no_two_may_be_alike() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("cluster").unwrap();
    let error = Pins::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("server-1/cert.pem"), "{error}");
    let mut pins = Vec::new();
    for party in Party::ALL {
        let place = dir.path().join(format!("server-{}", party.number()));
        authority.issue("server", Role::Server).unwrap().write(&place).unwrap();
        pins.push(Keys::load(&place).unwrap().pin());
        std::fs::remove_file(place.join("key.pem")).unwrap();
    }
    let found = Pins::read(dir.path()).unwrap();
    assert_eq!(Party::ALL.map(|party| found.of(party)).as_slice(), pins);
    for (twice, again) in [(0, 1), (1, 2), (2, 0)] {
        let mut alike: [Pin; 3] = pins.clone().try_into().unwrap();
        alike[twice] = alike[again];
        let (one, other) = (Party::ALL[twice], Party::ALL[again]);
        assert!(matches!(Pins::new(alike), Err(PinsError::Alike(a, b)) if (a, b) == (one, other)));
    }
    let third = dir.path().join("server-3/cert.pem");
    std::fs::write(&third, "nothing").unwrap();
    let error = Pins::read(dir.path()).unwrap_err().to_string();
    assert!(error.contains("server-3/cert.pem"), "{error}");
    std::fs::copy(dir.path().join("server-1/cert.pem"), &third).unwrap();
    assert!(matches!(Pins::read(dir.path()), Err(PinsError::Alike(..))));
}

//! Every byte of the messages with which a connection begins, changed on its way: there is no row, and who is at fault
//! is named where it can be known.

use roadstead::frame::HEAD;
use roadstead_trident::{
    check::Check,
    client::ClientError,
    query::AnswerError,
    wire::{Hello, Kind, Welcome},
};

use super::{
    harness::guarded,
    relay::{Fate, KIND, To},
    setting::{LONG, Setting},
};

#[test]
fn every_byte_of_a_greeting_counts() {
    guarded(|| {
        let setting = Setting::new();
        let greetings = [
            (To::Server, Kind::Hello, Hello::LEN),
            (To::Client, Kind::Welcome, Welcome::LEN),
            (To::Server, Kind::Nonces, 48),
        ];
        for (to, kind, length) in greetings {
            for at in 0..HEAD + length {
                setting.relay.rule(move |way, frame| {
                    if way == to && frame[KIND] == kind as u8 {
                        frame[at] ^= 1 << (at % 8);
                    }
                    Fate::Pass
                });
                let error = setting.client(LONG).fetch(3).unwrap_err();
                let own = HEAD + 16..HEAD + 32;
                if kind == Kind::Nonces && at >= HEAD && !own.contains(&at) {
                    // A server knows its own nonce. Another makes it other masks, and nobody knows whose are wrong.
                    assert!(matches!(error, ClientError::Answer(AnswerError::Refused(Check::RowDigest))));
                } else {
                    setting.names_second(&error);
                }
            }
        }
        setting.relay.rule(|_, _| Fate::Pass);
        setting.right(&setting.client(LONG), 4);
    });
}

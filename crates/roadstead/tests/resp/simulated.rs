//! Pipelined requests through simulated networks: the answers are those of the commands, one by one, in their order.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use roadstead::{
    Budget, Closed, Context, Done, Input, Ready, Session,
    sim::{Sim, seeds},
};

use crate::{resp::encode, service::Resp};

/// Sends all at once, and finishes when it has heard as much as it should.
struct Pipeline {
    requests: Vec<u8>,
    heard: Vec<u8>,
    expected: usize,
    tell: mpsc::Sender<Vec<u8>>,
}

impl Session for Pipeline {
    type Reply = ();

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(&self.requests);
            // Some end at once, and are answered all the same.
            if self.requests.len().is_multiple_of(2) {
                cx.finish_sending();
            }
        }
        Ok(())
    }

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(usize::MAX);
        if self.heard.len() >= self.expected {
            cx.finish();
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        self.tell.send(self.heard).unwrap();
    }
}

/// Requests and their answers, written down by hand: whatever the seed, a hundred and more commands over ten keys.
fn conversation(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    let mut say = |request: &[&str], answer: String| {
        requests.extend(encode(request));
        answers.extend(answer.into_bytes());
    };
    for key in (0..10).map(|key| format!("{key}")) {
        let value = "v".repeat((seed % 7_000) as usize);
        say(&["set", &key, &value], "+OK\r\n".into());
        say(&["GET", &key], format!("${}\r\n{value}\r\n", value.len()));
        say(&["del", &key, &key, "none"], ":1\r\n".into());
        say(&["GET", &key], "$-1\r\n".into());
        for count in 1..=seed % 20 {
            say(&["INCR", &key], format!(":{count}\r\n"));
        }
        say(&["PING"], "+PONG\r\n".into());
        say(&["nonsense"], "-ERR there is no command 'nonsense'\r\n".into());
    }
    (requests, answers)
}

#[test]
fn no_network_changes_an_answer() {
    let server = SocketAddr::from(([10, 0, 0, 1], 6380));
    Sim::check(seeds(500), |sim| {
        let (requests, expected) = conversation(sim.seed());
        let (tell, told) = mpsc::channel();
        let client = Pipeline { requests, heard: Vec::new(), expected: expected.len(), tell };
        // Where nobody may wait for the store, whoever finds it busy tries again.
        let budget = Budget::default().jobs(if sim.seed().is_multiple_of(3) { 0 } else { 100 });
        let sim = sim.budget(budget).serve(server, Resp::new(1 << 20)).client(server, client);
        let report = sim.run(Duration::from_secs(600))?;
        let heard = told.recv().unwrap();
        assert!(expected.starts_with(&heard), "{}", heard.escape_ascii());
        assert!(heard.len() == expected.len() || report.connections[0].cut.is_some(), "an answer is missing");
        Ok(())
    });
}

#[test]
fn large_answers_to_many_requests_that_come_together_fit() {
    let server = SocketAddr::from(([10, 0, 0, 1], 6380));
    Sim::check(seeds(10), |sim| {
        let value = "v".repeat(100_000);
        let (mut requests, mut expected) = (encode(&["SET", "k", &value]), b"+OK\r\n".to_vec());
        for _ in 0..60 {
            requests.extend(encode(&["GET", "k"]));
            expected.extend(format!("$100000\r\n{value}\r\n").into_bytes());
        }
        let (tell, told) = mpsc::channel();
        let client = Pipeline { requests, heard: Vec::new(), expected: expected.len(), tell };
        let sim = sim.serve(server, Resp::new(1 << 20)).client(server, client);
        let report = sim.run(Duration::from_secs(3600))?;
        let heard = told.recv().unwrap();
        assert!(expected.starts_with(&heard));
        assert!(heard.len() == expected.len() || report.connections[0].cut.is_some(), "an answer is missing");
        Ok(())
    });
}

#[test]
fn what_is_no_request_is_told_so_and_ends_the_connection() {
    let server = SocketAddr::from(([10, 0, 0, 1], 6380));
    Sim::check(seeds(100), |sim| {
        let expected = b"+PONG\r\n-ERR Protocol error: an argument does not end where it says\r\n";
        let requests = b"PING\r\n*1\r\n$4\r\nPINGS\r\nPING\r\n".to_vec();
        let (tell, told) = mpsc::channel();
        let client = Pipeline { requests, heard: Vec::new(), expected: usize::MAX, tell };
        let report =
            sim.serve(server, Resp::new(1 << 20)).client(server, client).run(Duration::from_secs(600))?;
        let heard = told.recv().unwrap();
        assert!(expected.starts_with(&heard), "{}", heard.escape_ascii());
        assert!(
            heard.len() == expected.len() || report.connections[0].cut.is_some(),
            "the last word is missing"
        );
        Ok(())
    });
}

//! The example service that speaks RESP2, with `redis-cli` and `redis-benchmark`, on every model that can run it; and
//! why the others cannot.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../roadstead/examples/resp/answer.rs"]
mod answer;
#[path = "../../roadstead/examples/resp/batch.rs"]
mod batch;
#[path = "../../roadstead/examples/resp/command.rs"]
mod command;
#[path = "../../roadstead/examples/resp/request.rs"]
mod request;
#[path = "../../roadstead/examples/resp/service.rs"]
mod service;
#[path = "../../roadstead/examples/resp/store.rs"]
mod store;

use std::time::Duration;

use roadstead::{Model, Running, Server};
use roadstead_conformance::{PATIENCE, foreign::Foreign};

use service::Resp;

fn every_model(test: impl Fn(Model)) {
    Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks()).for_each(test);
}

fn start(model: Model) -> Running {
    Server::new(Resp::new(8 << 20)).bind("127.0.0.1:0").model(model).start().unwrap()
}

/// What a client of Redis prints when it meets `server`. `None` if it is not here.
fn redis(name: &str, server: &Running, arguments: &[&str], typed: &str) -> Option<String> {
    let address = server.addresses()[0];
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = [&["-h", &ip, "-p", &port], arguments].concat();
    let client = Foreign::start(name, &arguments, "redis-tools")?;
    Some(String::from_utf8(client.talk(&[typed.as_bytes()], Duration::ZERO)).unwrap())
}

#[test]
fn redis_cli_hears_every_answer() {
    let typed = "PING\nPING ahoy\nECHO \"two words\"\nGET port\nSET port Reede\nget port\nINCR ships\nINCR ships\n\
                 INCR port\nDEL port ships none\nGET port\nSET port\nFLY\nCOMMAND\nCONFIG GET appendonly\n";
    let expected = "PONG\n\"ahoy\"\n\"two words\"\n(nil)\nOK\n\"Reede\"\n(integer) 1\n(integer) 2\n\
                    (error) ERR the value is no integer of 64 bits, or the greatest\n(integer) 2\n(nil)\n\
                    (error) ERR wrong arguments for 'SET'\n(error) ERR there is no command 'FLY'\n(empty array)\n\
                    1) \"appendonly\"\n2) \"no\"\n";
    every_model(|model| {
        let server = start(model);
        let Some(said) = redis("redis-cli", &server, &["--no-raw"], typed) else { return };
        let said: String =
            said.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
        assert_eq!(said, expected, "{model}");
    });
}

#[test]
fn redis_benchmark_is_answered_however_deep_its_pipeline() {
    const TESTS: &str = "ping_inline,ping_mbulk,set,get,incr";
    every_model(|model| {
        let crowd = if model == Model::Iterative { "1" } else { "50" };
        for (connections, depth, requests) in
            [("1", "16", 1_600), (crowd, "1", 2_000), (crowd, "16", 8_000), (crowd, "100", 10_000)]
        {
            let server = start(model);
            let arguments =
                ["-c", connections, "-P", depth, "-n", &requests.to_string(), "-t", TESTS, "--csv"];
            let Some(said) = redis("redis-benchmark", &server, &arguments, "") else { return };
            let lines = said.lines().count();
            assert_eq!(lines, 1 + TESTS.split(',').count(), "{model}, {arguments:?}: {said}");
            let Some(counted) = redis("redis-cli", &server, &["GET", "counter:__rand_int__"], "") else {
                return;
            };
            assert_eq!(counted.trim(), requests.to_string(), "{model}, {arguments:?}");
            assert_eq!(server.drain(PATIENCE).unwrap().failed, 0, "{model}, {arguments:?}");
        }
    });
}

#[test]
fn models_that_fork_refuse_what_clients_share() {
    for model in [Model::Process, Model::Prefork] {
        let error =
            Server::new(Resp::new(0)).bind("127.0.0.1:0").model(model).start().unwrap_err().to_string();
        assert!(error.contains(model.name()) && error.contains("share state"), "{error}");
    }
}

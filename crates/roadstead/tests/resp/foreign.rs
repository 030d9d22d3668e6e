//! `redis-cli` and `redis-benchmark` against the service, on every model that can run it; and why the others cannot.
//!
//! Where the programs are missing the tests are skipped, and say so; under `CI` a missing program is a failure.

use std::{
    env,
    io::{ErrorKind, Read, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use roadstead::{Model, Running, Server};

use crate::service::Resp;

/// Longer than any run takes that ends at all.
const PATIENCE: Duration = Duration::from_secs(60);

fn every_model(test: impl Fn(Model)) {
    Model::ALL.into_iter().filter(|model| model.obstacle().is_none() && !model.forks()).for_each(test);
}

fn start(model: Model) -> Running {
    Server::new(Resp::new(8 << 20)).bind("127.0.0.1:0").model(model).start().unwrap()
}

/// Runs a client of Redis against `server`, and answers what it printed. `None` if it is not here.
fn redis(name: &str, server: &Running, arguments: &[&str], typed: &str) -> Option<String> {
    let address = server.addresses()[0];
    let mut command = Command::new(name);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]).args(arguments);
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound && env::var_os("CI").is_none() => {
            eprintln!("skipped: `{name}` is not installed (package redis-tools)");
            return None;
        }
        Err(error) => panic!("`{name}` cannot be started: {error}"),
    };
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let mut said = String::new();
        stdout.read_to_string(&mut said).and_then(|_| stderr.read_to_string(&mut said)).map(|_| said)
    });
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(2));
    }
    // It has ended, or has to.
    let _ = child.kill();
    let ended = child.wait().unwrap();
    let said = reader.join().unwrap().unwrap();
    assert!(ended.success(), "{}: {name} {arguments:?}: {ended}: {said}", server.model());
    Some(said)
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

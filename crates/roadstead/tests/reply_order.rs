//! The order in which replies come, as `Context::defer` promises it: inline, on one worker and on several, under every
//! discipline.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Condvar, Mutex},
    time::Duration,
};

use roadstead::{
    Context, Done, Input, Job, JobId, Lost, Model, Peer, Queue, Scope, Server, Service, Session, Step,
};

/// What the jobs cost, as their session guesses.
const COSTS: [u64; 5] = [0, 9, 1, 5, 1];
const MODELS: [Model; 5] = [Model::Threads, Model::Pool, Model::Epoll, Model::Poll, Model::Emulated];

/// Counts up; who needs a number waits for it.
#[derive(Default)]
struct Count(Mutex<usize>, Condvar);

impl Count {
    fn up(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, number: usize) {
        let patience = Duration::from_secs(60);
        let count = self.1.wait_timeout_while(self.0.lock().unwrap(), patience, |count| *count < number);
        assert!(!count.unwrap().1.timed_out());
    }
}

/// Defers the jobs of [`COSTS`] at one byte, says `!` at once, and then the number of each as its reply comes.
struct Five {
    /// How many slices each job takes.
    slices: [usize; 5],
    /// How many other jobs must have run before each.
    after: [usize; 5],
}

struct FiveSession {
    slices: [usize; 5],
    after: [usize; 5],
    ran: std::sync::Arc<Count>,
    deferred: std::sync::Arc<Count>,
    jobs: Vec<JobId>,
}

struct OneOfFive {
    slices: usize,
    after: usize,
    ran: std::sync::Arc<Count>,
    deferred: std::sync::Arc<Count>,
}

impl Job for OneOfFive {
    type Reply = ();
    fn run(&mut self, _: Duration) -> Step<()> {
        // A worker may begin before all are in the queue.
        self.deferred.wait_for(1);
        self.ran.wait_for(self.after);
        self.slices -= 1;
        if self.slices > 0 {
            return Step::More;
        }
        self.ran.up();
        Step::Done(())
    }
}

impl Service for Five {
    type Session = FiveSession;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> FiveSession {
        let (ran, deferred, jobs) = Default::default();
        FiveSession { slices: self.slices, after: self.after, ran, deferred, jobs }
    }
}

impl Session for FiveSession {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        input.consume(1);
        for (number, cost) in COSTS.into_iter().enumerate() {
            let job = OneOfFive {
                slices: self.slices[number],
                after: self.after[number],
                ran: self.ran.clone(),
                deferred: self.deferred.clone(),
            };
            self.jobs.push(cx.defer(cost, job).unwrap());
        }
        self.deferred.up();
        cx.output().write(b"!");
        Ok(())
    }

    fn reply(&mut self, id: JobId, reply: Result<(), Lost>, cx: &mut Context<'_, Self>) -> Done {
        reply.unwrap();
        let number = self.jobs.iter().position(|job| *job == id).unwrap();
        cx.output().write(number.to_string().as_bytes());
        Ok(())
    }
}

/// What a client hears.
fn hear(model: Model, queue: Queue, workers: usize, service: Five) -> String {
    let server = Server::new(service).bind("127.0.0.1:0").model(model).queue(queue);
    // For `pool` the number is that of its threads, which run their jobs themselves.
    let workers = if model == Model::Pool { 1 } else { workers };
    let server = server.workers(workers).start().unwrap();
    let mut client = TcpStream::connect(server.addresses()[0]).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    client.write_all(b"?").unwrap();
    let mut heard = [0; 1 + COSTS.len()];
    client.read_exact(&mut heard).unwrap();
    drop(client);
    server.drain(Duration::from_secs(60)).unwrap();
    String::from_utf8(heard.into()).unwrap()
}

#[test]
fn whole_jobs_are_answered_in_the_order_in_which_the_queue_takes_them() {
    for model in MODELS {
        for (queue, order) in
            [(Queue::Fcfs, "!01234"), (Queue::Sjf, "!02431"), (Queue::Rr, "!01234"), (Queue::Mlfq, "!01234")]
        {
            for workers in [0, 1] {
                let heard = hear(model, queue, workers, Five { slices: [1; 5], after: [0; 5] });
                assert_eq!(heard, order, "{model}, {queue}, {workers} workers");
            }
        }
    }
}

#[test]
fn a_job_that_has_more_to_do_is_overtaken_by_those_that_wait() {
    for model in MODELS {
        for (queue, order) in [
            (Queue::Fcfs, "!02341"),
            // It is still the shortest of them.
            (Queue::Sjf, "!02431"),
            (Queue::Rr, "!02341"),
            (Queue::Mlfq, "!02341"),
        ] {
            for workers in [0, 1] {
                let heard = hear(model, queue, workers, Five { slices: [1, 2, 1, 1, 1], after: [0; 5] });
                assert_eq!(heard, order, "{model}, {queue}, {workers} workers");
            }
        }
    }
}

#[test]
fn of_several_workers_whoever_is_done_first_is_heard_first() {
    for model in [Model::Threads, Model::Epoll, Model::Emulated] {
        // The first is begun first, and goes on when the others have run; which of it and the last is done first is
        // open.
        let heard = hear(model, Queue::Fcfs, 2, Five { slices: [1; 5], after: [4, 0, 0, 0, 0] });
        assert!(["!12304", "!12340"].contains(&heard.as_str()), "{model}: {heard}");
    }
}

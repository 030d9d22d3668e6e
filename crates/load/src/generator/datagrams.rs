//! A load of datagrams: many peers, each a socket, ask a server that sends back what it gets.
//!
//! One thread, one epoll loop, a call for each datagram. What is not answered within the timeout is given up and lost,
//! and the closed loop goes on with the next; what comes after that is late. Every datagram has a number, so that one
//! that comes twice, or in another order, is told from one that was never asked for.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    datagram_load::{DatagramLoad, DatagramReport},
    descriptors::allow_connections,
    figures::{CPU_SHARE_MAX, CPU_SHARE_TIME, Progress, per_second},
    load::LoadError,
    pattern::Pattern,
    plan::Plan,
    questions::{Answer, Questions},
    waiting::{EVENTS, Waiting, nanoseconds, tick},
};
use crate::{machine, measure::Recorder, process::thread_cpu_time};

impl DatagramLoad {
    /// Runs the load on the calling thread. `progress` is called a few times a second; when it answers
    /// [`ControlFlow::Break`] nothing more is asked, and the report is of what was.
    ///
    /// # Errors
    /// [`LoadError`], if it could not be run at all.
    pub fn run(
        &self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<DatagramReport, LoadError> {
        self.check()?;
        let pin = |core| machine::pin(core).map_err(|source| LoadError::Core { core, source });
        let _pinned = self.core.map(pin).transpose()?;
        Run::new(self)?.run(progress)
    }
}

/// A socket and what it has asked.
struct Peer {
    socket: UdpSocket,
    questions: Questions,
}

/// A running load. All times are nanoseconds since it was started.
struct Run<'l> {
    load: &'l DatagramLoad,
    plan: Plan,
    pattern: Pattern,
    waiting: Waiting,
    peers: Vec<Peer>,
    /// Messages of the open loop that have become due.
    released: u64,
    said: Box<[u8]>,
    heard: Box<[u8]>,
    count: DatagramReport,
    recorder: Recorder,
    in_flight: u64,
    last_answer: u64,
    stopped: Option<u64>,
}

fn open(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv6() { ([0; 8], 0).into() } else { ([0; 4], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl<'l> Run<'l> {
    fn new(load: &'l DatagramLoad) -> Result<Self, LoadError> {
        allow_connections(load.peers as u64)?;
        let waiting = Waiting::new()?;
        let mut peers = Vec::with_capacity(load.peers);
        for token in 0..load.peers as u64 {
            let unreachable = |source| LoadError::Unreachable { target: load.target.into(), source };
            let socket = open(load.target).map_err(unreachable)?;
            waiting.watch(&socket, token)?;
            peers.push(Peer { socket, questions: Questions::new(load.size) });
        }
        Ok(Self {
            load,
            plan: Plan::new(load.mode, load.peers),
            pattern: Pattern::new(),
            waiting,
            peers,
            released: 0,
            said: vec![0; load.size].into(),
            // One byte more than an answer has: one that is longer is seen to be.
            heard: vec![0; load.size + 1].into(),
            count: DatagramReport::empty(load),
            recorder: Recorder::new(),
            in_flight: 0,
            last_answer: 0,
            stopped: None,
        })
    }

    fn run(
        mut self,
        progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<DatagramReport, LoadError> {
        let mut events = Vec::with_capacity(EVENTS);
        let tick = tick(self.load.timeout);
        let cpu = thread_cpu_time();
        self.waiting.started = Instant::now();
        let mut next_tick = 0;
        loop {
            let now = self.waiting.now();
            if now >= next_tick {
                next_tick = now + tick;
                self.look_at_all(now);
                if progress(&self.progress(now)).is_break() {
                    self.stopped.get_or_insert(now);
                }
            }
            self.release(now)?;
            let all_sent = self.stopped.is_some() || self.plan.is_over(now);
            if all_sent && self.in_flight == 0 {
                break;
            }
            self.waiting.wait(&mut events, next_tick.saturating_sub(now))?;
            for event in events.drain(..) {
                // Copied out: the system's structure is packed.
                let token = event.data.u64();
                self.hear(token as usize);
            }
        }
        let elapsed = self.waiting.now();
        let cpu = thread_cpu_time().saturating_sub(cpu);
        let _ = progress(&self.progress(elapsed));
        Ok(self.report(elapsed, cpu))
    }

    /// Gives up what nobody waits for any more, and has everybody ask who may.
    fn look_at_all(&mut self, now: u64) {
        for peer in 0..self.peers.len() {
            let lost = self.peers[peer].questions.give_up(now);
            self.count.lost += lost;
            self.in_flight -= lost;
            self.ask(peer, now);
        }
    }

    /// Asks what has become due in the open loop, and sets the timer to the next.
    fn release(&mut self, now: u64) -> Result<(), LoadError> {
        // One visit serves all that is due of a peer.
        let mut visits = 0;
        while let Some(due) = self.plan.due(self.released) {
            if due > now {
                return self.waiting.set_timer(due, now);
            }
            if visits < self.peers.len() {
                self.ask((self.released % self.peers.len() as u64) as usize, now);
                visits += 1;
            }
            self.released += 1;
        }
        Ok(())
    }

    fn ask(&mut self, peer: usize, now: u64) {
        let Peer { socket, questions } = &mut self.peers[peer];
        while self.stopped.is_none()
            && questions.in_flight() < self.load.depth
            && let Some(since) = self.plan.take(peer, questions.issued(), now)
        {
            questions.write_next(&self.pattern, &mut self.said);
            // What the system has no room for is lost, as it may be anywhere on the way. An error is an earlier one's.
            if let Err(error) = socket.send(&self.said)
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                self.count.unreachable += 1;
                let _ = socket.send(&self.said);
            }
            questions.issue(since, now.saturating_add(nanoseconds(self.load.timeout)));
            self.count.sent += 1;
            self.in_flight += 1;
        }
    }

    fn hear(&mut self, peer: usize) {
        let Some(Peer { socket, questions }) = self.peers.get_mut(peer) else { return };
        let now = self.waiting.now();
        // No more than may be in flight, so that nobody keeps the others waiting.
        for _ in 0..=self.load.depth {
            let heard = match socket.recv(&mut self.heard) {
                Ok(length) => &self.heard[..length],
                Err(error) => {
                    self.count.unreachable += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                    break;
                }
            };
            let answer = questions.take(&self.pattern, heard, &mut self.said);
            let count = &mut self.count;
            match answer {
                Answer::Right(since) => {
                    count.right += 1;
                    self.recorder.record_ns(now.saturating_sub(since));
                    self.last_answer = now;
                }
                Answer::Wrong => count.wrong += 1,
                Answer::Late => {
                    count.late += 1;
                    count.lost -= 1;
                }
                Answer::Duplicate => count.duplicate += 1,
                Answer::Unasked => count.unasked += 1,
            }
            self.in_flight -= u64::from(matches!(answer, Answer::Right(_) | Answer::Wrong));
        }
        self.ask(peer, now);
    }

    fn progress(&self, now: u64) -> Progress {
        let DatagramReport { right, wrong, lost, late, .. } = self.count;
        let fraction = self.plan.fraction(now);
        Progress { elapsed: Duration::from_nanos(now), fraction, right, wrong, failed: lost + late }
    }

    fn report(self, elapsed: u64, cpu: Duration) -> DatagramReport {
        // Waiting for those that never answer is no part of what the others needed.
        let planned = self.stopped.or_else(|| self.plan.end()).unwrap_or(self.last_answer);
        let wall = Duration::from_nanos(elapsed.min(planned.max(self.last_answer)));
        let client_cpu_share = cpu.as_secs_f64() / Duration::from_nanos(elapsed).as_secs_f64();
        DatagramReport {
            seconds: wall.as_secs_f64(),
            messages_per_second: per_second(self.count.right, wall),
            latency: self.recorder.latency(),
            client_cpu_share,
            client_is_limit: client_cpu_share >= CPU_SHARE_MAX && wall >= CPU_SHARE_TIME,
            ..self.count
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::generator::{DATAGRAM_MAX, DATAGRAM_MIN, Mode, waiting::TICK};

    /// What a server does with the datagrams that come, numbered from zero; and its address. It ends when nothing has
    /// come for a while.
    fn server(act: impl Fn(usize, &UdpSocket, &[u8], SocketAddr) + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            for number in 0.. {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { return };
                act(number, &socket, &bytes[..length], from);
            }
        });
        address
    }

    fn load(target: SocketAddr, peers: usize, messages: u64) -> DatagramLoad {
        let (mode, timeout) = (Mode::ClosedCount(messages), Duration::from_millis(300));
        DatagramLoad { peers, mode, timeout, ..DatagramLoad::new(target) }
    }

    fn run(load: &DatagramLoad) -> DatagramReport {
        load.run(&mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn counts(report: &DatagramReport) -> [u64; 7] {
        let DatagramReport { sent, right, wrong, late, lost, duplicate, unasked, .. } = *report;
        assert_eq!(sent, right + wrong + late + lost);
        [sent, right, wrong, late, lost, duplicate, unasked]
    }

    #[test]
    fn an_echo_of_every_length_is_right_for_every_peer() {
        let echo = server(|_, socket, bytes, to| drop(socket.send_to(bytes, to)));
        for (size, peers, depth) in [(DATAGRAM_MIN, 1, 1), (1_200, 20, 3), (DATAGRAM_MAX, 2, 1)] {
            let report = run(&DatagramLoad { size, depth, timeout: TICK * 100, ..load(echo, peers, 200) });
            assert_eq!(counts(&report), [200, 200, 0, 0, 0, 0, 0], "{size} bytes");
            assert!(report.is_clean() && report.latency.p50_ms > 0.0);
        }
        let mode = Mode::Open { per_second: 1_000.0, duration: Duration::from_millis(300) };
        let report = run(&DatagramLoad { mode, timeout: TICK * 100, ..load(echo, 7, 1) });
        assert_eq!((counts(&report), report.kind), ([300, 300, 0, 0, 0, 0, 0], "open"));
    }

    #[test]
    fn what_is_lost_late_doubled_changed_or_never_asked_is_counted_as_such() {
        let (tell, kept) = mpsc::channel::<Vec<u8>>();
        let odd = server(move |number, socket, bytes, to| {
            let send = |bytes: &[u8]| _ = socket.send_to(bytes, to);
            match number {
                0 => {}
                1 => [bytes, bytes].into_iter().for_each(send),
                2 => send(&bytes[..bytes.len() - 1]),
                3 => send(&[bytes, b"more"].concat()),
                4 => send(&[&bytes[..100], &[!bytes[100]], &bytes[101..]].concat()),
                5 => [&[0xff; 128][..], bytes].into_iter().for_each(send),
                6 => tell.send(bytes.to_vec()).unwrap(),
                // The one before was given up.
                7 => [&kept.recv().unwrap()[..], bytes].into_iter().for_each(send),
                _ => send(bytes),
            }
        });
        let report = run(&load(odd, 1, 10));
        assert_eq!(counts(&report), [10, 5, 3, 1, 1, 1, 1]);
        assert!(!report.is_clean());
    }

    #[test]
    fn nobody_who_is_there_is_told_and_a_load_that_is_stopped_ends() {
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let report = run(&load(nobody, 3, 9));
        assert_eq!(counts(&report), [9, 0, 0, 0, 9, 0, 0]);
        assert!(report.unreachable > 0 && report.latency.p50_ms.is_nan());
        let forever = DatagramLoad { mode: Mode::ClosedFor(TICK * 100_000), ..load(nobody, 1, 1) };
        assert_eq!(forever.run(&mut |_| ControlFlow::Break(())).unwrap().right, 0);
    }
}

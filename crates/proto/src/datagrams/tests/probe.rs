//! A session that does what a script says, and a socket of it that no loop drives.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    budget::Budget,
    datagrams::{
        Arrival, Arrivals, Batch, DatagramContext, DatagramEndpoint, DatagramEvent, DatagramService,
        DatagramSession, Datagrams, Ecn, Path, Unsent,
    },
    host::{Host, Shared},
    peer::Scope,
    session::Ready,
    ticket::{JobId, Lost, Ticket, Token},
};

/// What the session does with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// Sends so many bytes back.
    Answer(usize),
    /// The same, to a peer that has proven itself.
    Validated(usize),
    /// Remembers the peer, with so many bytes.
    Keep(usize),
    /// Finds it genuine, and sends so many bytes to the peer as it is remembered.
    Hear(usize),
    /// What it remembers of the peer holds so many bytes.
    Hold(usize),
    Forget,
    /// Takes a ticket to answer by.
    Defer,
    /// Wants to be called after so many milliseconds.
    Timer(u64),
    Finish,
    Panic,
}

/// What it is given a ticket's worth of: a path, and how much to send back on it.
pub(super) type Reply = (Path, usize);

/// Where a new session panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    Open,
    Begin,
}

/// What script and session share.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) acts: VecDeque<Act>,
    pub(super) tickets: VecDeque<(Ticket<Reply>, Path)>,
    pub(super) heard: Vec<Heard>,
    pub(super) sent: Vec<Result<(), Unsent>>,
    /// Drains by itself.
    pub(super) stays: bool,
    /// Its service cannot open another, or another cannot begin.
    pub(super) broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Opened,
    Datagram(SocketAddr, usize),
    Reply(bool),
    Ready(Ready),
    Forgotten(SocketAddr),
    Unreachable(SocketAddr),
    Closed,
}

#[derive(Clone, Default)]
pub(super) struct Probe(Arc<Mutex<Desk>>);

impl Probe {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn broken(&self) -> Option<Broken> {
        self.desk().broken
    }

    fn hear(&self, heard: Heard) {
        self.desk().heard.push(heard);
    }

    fn act(&self, mut path: Path, cx: &mut DatagramContext<'_, Self>) {
        let act = self.desk().acts.pop_front().unwrap_or(Act::Nothing);
        let peer = path.peer();
        let sent = match act {
            Act::Nothing => return,
            Act::Answer(length) => cx.send(&mut path, &vec![7; length]),
            Act::Validated(length) => {
                path.validate();
                cx.send(&mut path, &vec![7; length])
            }
            Act::Keep(bytes) => return drop(cx.peers().keep(path, (), bytes)),
            Act::Hear(length) => match cx.peers().heard(path) {
                Ok(_) => cx.send_to(peer, &vec![7; length]),
                Err(_) => Err(Unsent::Unknown),
            },
            Act::Hold(bytes) => return cx.peers().holds(peer, bytes).unwrap_or_default(),
            Act::Forget => return cx.peers().forget(peer).unwrap_or_default(),
            Act::Defer => {
                let Ok(ticket) = cx.ticket() else { return };
                return self.desk().tickets.push_back((ticket, path));
            }
            Act::Timer(after) => return cx.wake_at(Some(cx.now() + Duration::from_millis(after))),
            Act::Finish => return cx.finish(),
            Act::Panic => panic!("as the script says"),
        };
        self.desk().sent.push(sent);
    }
}

impl DatagramService for Probe {
    type Session = Self;
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: SocketAddr) -> Self {
        self.hear(Heard::Opened);
        assert_ne!(self.broken(), Some(Broken::Open));
        self.clone()
    }
}

impl DatagramSession for Probe {
    type Reply = Reply;
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut DatagramContext<'_, Self>) {
        for datagram in batch {
            self.hear(Heard::Datagram(datagram.path.peer(), datagram.bytes.len()));
            self.act(datagram.path, cx);
        }
    }

    fn reply(&mut self, _: JobId, reply: Result<Reply, Lost>, cx: &mut DatagramContext<'_, Self>) {
        self.hear(Heard::Reply(reply.is_ok()));
        if let Ok((mut path, length)) = reply {
            let sent = cx.send(&mut path, &vec![7; length]);
            self.desk().sent.push(sent);
        }
    }

    fn ready(&mut self, why: Ready, cx: &mut DatagramContext<'_, Self>) {
        self.hear(Heard::Ready(why));
        assert_ne!(self.broken(), Some(Broken::Begin));
        if why == Ready::Draining && !self.desk().stays {
            cx.finish();
        }
        let defers = why == Ready::Timer && self.desk().acts.front() == Some(&Act::Defer);
        if defers {
            self.act(Path::to(peer(1)), cx);
        }
    }

    fn forgotten(&mut self, who: SocketAddr, (): (), _: &mut DatagramContext<'_, Self>) {
        self.hear(Heard::Forgotten(who));
    }

    fn unreachable(&mut self, who: SocketAddr, _: &mut DatagramContext<'_, Self>) {
        self.hear(Heard::Unreachable(who));
    }

    fn closed(self) {
        self.hear(Heard::Closed);
    }
}

/// A socket that no loop drives.
pub(super) struct Alone {
    pub(super) probe: Probe,
    pub(super) shared: Arc<Shared>,
    pub(super) host: Host,
    pub(super) socket: Datagrams<Probe>,
    pub(super) now: Duration,
}

/// One of a few peers.
pub(super) fn peer(number: usize) -> SocketAddr {
    ([192, 0, 2, number as u8], 7).into()
}

impl Alone {
    pub(super) fn open(budget: Budget) -> Self {
        let (probe, shared) = (Probe::default(), Shared::new(budget));
        let host = Host::alone(Arc::clone(&shared), 1);
        let socket = Datagrams::new(Arc::new(probe.clone()), peer(0), &shared);
        let mut alone = Self { probe, shared, host, socket, now: Duration::ZERO };
        let wake_queue = Arc::clone(&alone.host.wake_queue);
        alone.socket.place(Token(1), &wake_queue, alone.now);
        alone.happen(DatagramEvent::Opened);
        alone
    }

    pub(super) fn happen(&mut self, event: DatagramEvent<'_>) {
        self.socket.handle(self.now, event, &mut self.host);
    }

    /// Datagrams of these peers and lengths come together, each with ten hops left, and the session does this.
    pub(super) fn come(&mut self, datagrams: &[(usize, usize, Act)]) {
        let mut batch = Batch::new(datagrams.len(), 2_000);
        for (place, &(number, length, act)) in datagrams.iter().enumerate() {
            let arrival = Arrival {
                from: peer(number),
                to: None,
                local: None,
                at: None,
                ecn: Ecn::default(),
                hops: Some(10),
                truncated: false,
            };
            batch.came(place, length, None, arrival);
            self.probe.desk().acts.push_back(act);
        }
        self.happen(DatagramEvent::Came(&batch));
        self.probe.desk().acts.clear();
    }

    /// Whoever was woken is told.
    pub(super) fn wake(&mut self) {
        let mut woken = Vec::new();
        self.host.wake_queue.take(&mut woken);
        if !woken.is_empty() {
            self.happen(DatagramEvent::Woken);
        }
    }

    pub(super) fn leave(&mut self) {
        self.socket.settle(self.now, &mut self.host);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.socket.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.happen(DatagramEvent::Tick);
        }
    }

    pub(super) fn heard(&self) -> Vec<Heard> {
        std::mem::take(&mut self.probe.desk().heard)
    }

    /// To whom what waits is sent, and how much.
    pub(super) fn waits(&self) -> Vec<(SocketAddr, usize)> {
        self.socket.outbox().iter().map(|one| (one.to, one.bytes.len())).collect()
    }
}

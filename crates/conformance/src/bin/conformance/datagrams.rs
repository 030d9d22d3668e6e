//! A desk for datagrams, which does what each asks of it: see [`roadstead_conformance::udp`].

use std::{net::SocketAddr, thread, time::Duration};

use roadstead::{
    Busy, DatagramContext, DatagramService, DatagramSession, JobId, Lost, Ready, Scope, Ticket,
    datagrams::{Arrivals, Datagram, Path, Unsent},
};
use roadstead_conformance::udp::{
    ANSWER, FINISH, FORGET, HEAR, HOLD, JOB, KEEP, LATER, PANIC, SEGMENTS, SEND, STAY, TELL, TIMER, VALIDATED,
};

use crate::say::say;

/// Each socket has a desk of its own.
pub(crate) struct DatagramDesk;

/// The way back of what was asked, and the byte that it was asked with.
type Late = (Path, u8);

#[derive(Default)]
pub(crate) struct Desk {
    held: Vec<(Ticket<Late>, Late)>,
    timed: Option<Late>,
    stays: bool,
}

type Cx<'a> = DatagramContext<'a, Desk>;

impl DatagramService for DatagramDesk {
    type Session = Desk;
    const SCOPE: Scope = Scope::Connection;
    const STAMPED: bool = true;

    fn open(&self, _: SocketAddr) -> Desk {
        Desk::default()
    }
}

/// Sends an answer; says why if that cannot be.
fn answer(path: &mut Path, kind: u8, rest: &[u8], cx: &mut Cx<'_>) {
    if let Err(why) = cx.send(path, &[&[kind], rest].concat()) {
        unsent(path, kind, why, cx);
    }
}

fn unsent(path: &mut Path, kind: u8, why: Unsent, cx: &mut Cx<'_>) {
    say(&format!("unsent {why}"));
    let _ = cx.send(path, &[kind]);
}

impl Desk {
    fn serve(&mut self, datagram: Datagram<'_>, cx: &mut Cx<'_>) {
        let Datagram { bytes, mut path, .. } = datagram;
        let (Some(&kind), Some(n)) = (bytes.first(), bytes.get(1..5).and_then(|n| n.try_into().ok())) else {
            return echo(&mut path, bytes, cx);
        };
        let (n, rest) = (u32::from_le_bytes(n), &bytes[5..]);
        match kind {
            TELL => {
                let Datagram { to, ecn, truncated, at, .. } = datagram;
                let to = to.map_or("nobody".into(), |to| to.to_string());
                let how = format!("{to} {ecn:?} {} {truncated} {}", bytes.len(), at.is_some());
                answer(&mut path, kind, how.as_bytes(), cx);
            }
            ANSWER => answer(&mut path, kind, &vec![b'a'; (n as usize).saturating_sub(1)], cx),
            VALIDATED => {
                path.validate();
                answer(&mut path, kind, &vec![b'v'; (n as usize).saturating_sub(1)], cx);
            }
            SEGMENTS => {
                path.validate();
                if let Err(why) = cx.send_segments(&mut path, n as usize, rest) {
                    unsent(&mut path, kind, why, cx);
                }
            }
            SEND => send(&mut path, rest, cx),
            PANIC => panic!("a datagram session that is meant to panic"),
            _ => self.remember(path, kind, n, bytes, cx),
        }
    }

    fn remember(&mut self, mut path: Path, kind: u8, n: u32, bytes: &[u8], cx: &mut Cx<'_>) {
        let peer = path.peer();
        match kind {
            KEEP => match cx.peers().keep(path, (), n as usize) {
                Ok(()) => {
                    let _ = cx.send_to(peer, &[&[kind][..], b"kept"].concat());
                }
                Err((why, mut path, ())) => answer(&mut path, kind, why.to_string().as_bytes(), cx),
            },
            HEAR => match cx.peers().heard(path) {
                Ok(()) => {
                    let _ = cx.send_to(peer, &[&[kind][..], b"known"].concat());
                }
                Err(mut path) => answer(&mut path, kind, b"unknown", cx),
            },
            FORGET => {
                cx.peers().forget(peer);
                let left = cx.peers().len().to_string();
                answer(&mut path, kind, left.as_bytes(), cx);
            }
            STAY => {
                if self.stays {
                    cx.finish();
                }
                self.stays = true;
                answer(&mut path, kind, b"", cx);
            }
            FINISH => self.held.drain(..).for_each(|(ticket, late)| ticket.finish(late)),
            TIMER => {
                self.timed = Some((path, kind));
                cx.wake_at(Some(cx.now() + Duration::from_millis(n.into())));
            }
            JOB | LATER | HOLD => self.defer(path, kind, n, cx),
            _ => echo(&mut path, bytes, cx),
        }
    }

    fn defer(&mut self, mut path: Path, kind: u8, n: u32, cx: &mut Cx<'_>) {
        match cx.ticket() {
            Err(Busy) => answer(&mut path, kind, b"busy", cx),
            Ok(ticket) if kind == HOLD => self.held.push((ticket, (path, kind))),
            Ok(ticket) => {
                let work = move || {
                    thread::sleep(Duration::from_millis(n.into()));
                    ticket.finish((path, kind));
                };
                match kind {
                    JOB => cx.submit(n.into(), Work(Some(work))),
                    _ => drop(thread::spawn(work)),
                }
            }
        }
    }
}

/// What comes back as it is.
fn echo(path: &mut Path, bytes: &[u8], cx: &mut Cx<'_>) {
    if let Err(why) = cx.send(path, bytes) {
        say(&format!("unsent {why}"));
    }
}

/// To an address that somebody else has chosen.
fn send(path: &mut Path, rest: &[u8], cx: &mut Cx<'_>) {
    let text = String::from_utf8_lossy(rest);
    let Some((Ok(to), what)) = text.split_once(' ').map(|(to, what)| (to.parse(), what)) else { return };
    if let Err(why) = cx.send(&mut Path::to(to), what.as_bytes()) {
        unsent(path, SEND, why, cx);
    }
}

/// Is done once.
struct Work<F>(Option<F>);

impl<F: FnOnce() + Send + 'static> roadstead::Job for Work<F> {
    type Reply = ();

    fn run(&mut self, _: Duration) -> roadstead::Step<()> {
        self.0.take().into_iter().for_each(|work| work());
        roadstead::Step::Done(())
    }
}

impl DatagramSession for Desk {
    type Reply = Late;
    type Peer = ();

    fn receive(&mut self, batch: Arrivals<'_>, cx: &mut Cx<'_>) {
        batch.for_each(|datagram| self.serve(datagram, cx));
    }

    fn reply(&mut self, _: JobId, reply: Result<Late, Lost>, cx: &mut Cx<'_>) {
        match reply {
            Ok((mut path, kind)) => answer(&mut path, kind, b"", cx),
            Err(Lost) => say("lost"),
        }
    }

    fn ready(&mut self, why: Ready, cx: &mut Cx<'_>) {
        match why {
            Ready::Draining => {
                say("drains");
                if !self.stays {
                    cx.finish();
                }
            }
            Ready::Timer => {
                if let Some((mut path, kind)) = self.timed.take() {
                    answer(&mut path, kind, b"", cx);
                }
            }
            _ => {}
        }
    }

    fn forgotten(&mut self, who: SocketAddr, (): (), _: &mut Cx<'_>) {
        say(&format!("forgotten {who}"));
    }

    fn unreachable(&mut self, who: SocketAddr, _: &mut Cx<'_>) {
        say(&format!("unreachable {who}"));
    }

    fn closed(self) {
        say("closed datagrams");
    }
}

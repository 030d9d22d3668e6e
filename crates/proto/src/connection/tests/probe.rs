//! A session that does what its input says, and keeps a log.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use super::{EACH, HIGH_WATER};
use crate::{
    input::{Chunk, Input},
    service::{Close, Closed, Done, JobId, Lost, Ready, Session},
    session::Context,
    ticket::{Ticket, Waker},
};

/// What the session has seen and done, as its rig reads it.
#[derive(Default)]
pub(crate) struct Log {
    pub(super) consumed: Vec<u8>,
    pub(crate) written: Vec<u8>,
    pub(crate) heard: Vec<Ready>,
    pub(super) replies: Vec<(JobId, Result<u8, Lost>)>,
    pub(crate) taken: usize,
    pub(crate) tickets: Vec<Ticket<u8>>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) chunks: Vec<Chunk>,
    pub(super) timer: Option<Duration>,
    pub(super) flooded: bool,
    pub(crate) overflowed: bool,
    /// How many tickets had been taken when it finished sending; and whether all of them are back.
    pub(super) last_words: Option<usize>,
    pub(super) silent: bool,
    /// It has written all the same.
    pub(super) babbles: bool,
    pub(crate) finished: bool,
    pub(super) yields: bool,
    pub(super) violated: bool,
    pub(crate) ended: bool,
    pub(crate) panicked: bool,
    pub(crate) closed: Vec<String>,
}

/// A session that does what its input says: a letter, for most followed by a count.
pub(super) struct Probe {
    pub(crate) log: Arc<Mutex<Log>>,
}

impl Probe {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn write(&self, bytes: &[u8], cx: &mut Context<'_, Self>) {
        let fits = cx.output().room() >= bytes.len();
        let mut log = self.log();
        if log.silent {
            assert_eq!(cx.output().room(), 0);
            log.babbles |= !bytes.is_empty();
            return cx.output().write(bytes);
        }
        log.overflowed |= !fits;
        if fits && !log.overflowed {
            log.written.extend_from_slice(bytes);
        }
        cx.output().write(bytes);
    }

    /// At the end of every call: has the output passed its mark?
    fn leave(&self, cx: &mut Context<'_, Self>) -> Done {
        let over = cx.output().buffered() > HIGH_WATER || cx.output().has_file();
        let mut log = self.log();
        log.flooded |= over;
        let back = |last| log.replies.iter().filter(|(id, _)| id.0 < last as u64).count() == last;
        log.silent = log.last_words.is_some_and(back);
        Ok(())
    }

    /// Obeys one command whose argument is there. Answers how many bytes it took up.
    fn obey(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Result<usize, Close> {
        let (command, count) = (input.bytes()[0], usize::from(input.bytes()[1]));
        match command {
            b'e' if input.len() < 2 + count => {
                input.need(2 + count);
                return Ok(0);
            }
            b'e' => {
                self.write(&input.bytes()[2..2 + count], cx);
                return Ok(2 + count);
            }
            b'w' => self.write(&vec![b'w'; count * 4], cx),
            b'f' => {
                cx.output().file(Arc::new(Vec::new()), 0, count as u64);
                let mut log = self.log();
                log.babbles |= log.silent && count > 0;
                if !log.silent {
                    log.written.extend(std::iter::repeat_n(b'F', count));
                }
            }
            b't' => match cx.ticket() {
                Ok(ticket) => {
                    self.log().taken += 1;
                    self.log().tickets.push(ticket);
                }
                Err(_) => assert_eq!(self.log().tickets.len(), 3, "busy only at the limit"),
            },
            b'k' => {
                let waker = cx.waker();
                self.log().wakers.push(waker);
            }
            b'm' => {
                let when = (count > 0).then(|| cx.now() + Duration::from_millis(count as u64 * 100));
                self.log().timer = when;
                cx.wake_at(when);
            }
            b'n' => {
                input.need(EACH - 100 + count);
                return Ok(0);
            }
            b'q' if !self.log().tickets.is_empty() => return Ok(0),
            b'x' => {
                self.log().finished = true;
                cx.finish();
            }
            b'h' => {
                let mut log = self.log();
                log.last_words = log.last_words.or(Some(log.taken));
                cx.finish_sending();
            }
            b'y' => {
                let yields = self.log().last_words.is_none();
                (self.log().finished, self.log().yields) = (true, yields);
                cx.finish_after_peer();
            }
            b'v' => {
                self.write(b"last words", cx);
                self.log().violated = true;
                return Err(Close::violation("the test said so"));
            }
            b'a' => return Err(Close::abort("the test said so")),
            b'p' => {
                self.log().panicked = true;
                panic!("a session of the test that is meant to panic");
            }
            _ => {}
        }
        Ok(2)
    }
}

impl Session for Probe {
    type Reply = u8;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert!(!self.log().flooded, "input is delivered while the output is flooded");
        assert!(!self.log().finished && !self.log().violated, "input is delivered after the end");
        if input.len() < 2 {
            input.need(2);
            return Ok(());
        }
        let count = usize::from(input.bytes()[1]);
        if input.bytes()[0] == b'c' && input.len() >= 2 + count {
            self.log().consumed.extend_from_slice(&input.bytes()[..2 + count]);
            input.consume(2);
            let Some(chunk) = input.take(count) else { return Err(Close::abort("no memory")) };
            if count % 2 == 0 {
                if self.log().silent {
                    self.log().babbles |= count > 0;
                } else {
                    self.log().written.extend_from_slice(&chunk);
                }
                cx.output().forward(chunk);
            } else {
                self.log().chunks.push(chunk);
            }
            return self.leave(cx);
        }
        let done = self.obey(input, cx);
        let used = done.as_ref().map_or(2, |used| *used);
        self.log().consumed.extend_from_slice(&input.bytes()[..used]);
        input.consume(used);
        self.leave(cx)?;
        done.map(drop)
    }

    fn reply(&mut self, id: JobId, reply: Result<u8, Lost>, cx: &mut Context<'_, Self>) -> Done {
        self.log().replies.push((id, reply));
        self.write(&vec![b'r'; usize::from(reply.unwrap_or(0))], cx);
        self.leave(cx)
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        self.log().heard.push(why);
        match why {
            Ready::Room => {
                let gone = cx.output().buffered() <= HIGH_WATER / 2 && !cx.output().has_file();
                assert!(gone, "it is told of room that there is not");
                self.log().flooded = false;
            }
            Ready::Timer => self.log().timer = None,
            Ready::Draining => {
                (self.log().finished, self.log().yields) = (true, false);
                cx.finish();
            }
            Ready::Woken => self.write(b"woken", cx),
            Ready::Opened => {}
        }
        self.leave(cx)
    }

    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        assert!(!self.log().ended, "the peer's end is told twice");
        self.log().ended = true;
        (self.log().finished, self.log().yields) = (true, false);
        cx.finish();
        self.leave(cx)
    }

    fn closed(self, why: &Closed) {
        self.log().closed.push(why.to_string());
    }
}

/// Who has panicked is broken, and may do so again.
impl Drop for Probe {
    fn drop(&mut self) {
        let panicked = self.log.lock().is_ok_and(|log| log.panicked);
        // Twice at once would end all tests.
        if panicked && !thread::panicking() {
            panic!("a session of the test that is meant to panic once more");
        }
    }
}

//! Sessions whose bytes are one stream: echo, upload, file.

use std::{io, sync::Arc, sync::mpsc, time::Duration};

use roadstead_proto::{Blob, Closed, Context, Done, Input, Peer, Ready, Scope, Service, Session};

use super::noise;

/// The byte at `position` of the stream that `salt` names.
fn byte(salt: u64, position: u64) -> u8 {
    (noise(salt, position / 8) >> (position % 8 * 8)) as u8
}

pub(crate) fn bytes(salt: u64, from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|position| byte(salt, position)).collect()
}

pub(crate) fn check(salt: u64, from: u64, heard: &[u8]) {
    for (index, &heard) in heard.iter().enumerate() {
        assert_eq!(heard, byte(salt, from + index as u64), "byte {}", from + index as u64);
    }
}

/// Sends back what comes.
pub(crate) struct Echo;

impl Service for Echo {
    type Session = EchoSession;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> EchoSession {
        EchoSession
    }
}

pub(crate) struct EchoSession;

impl Session for EchoSession {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let count = input.len().min(cx.output().room());
        cx.output().write(&input.bytes()[..count]);
        input.consume(count);
        Ok(())
    }
}

/// What a talker tells when its connection is gone.
pub(crate) struct Heard {
    pub(crate) got: u64,
    pub(crate) total: u64,
    pub(crate) opened: bool,
    pub(crate) why: String,
}

/// Sends `total` bytes, at most `window` ahead of what came back, and checks every byte that comes back.
pub(crate) struct Talker {
    salt: u64,
    total: u64,
    window: u64,
    sent: u64,
    got: u64,
    opened: bool,
    tell: mpsc::Sender<Heard>,
}

impl Talker {
    pub(crate) fn new(salt: u64, total: u64, window: u64, tell: mpsc::Sender<Heard>) -> Self {
        Self { salt, total, window, sent: 0, got: 0, opened: false, tell }
    }

    fn talk(&mut self, cx: &mut Context<'_, Self>) {
        let end = self.total.min(self.got + self.window);
        cx.output().write(&bytes(self.salt, self.sent, end));
        self.sent = end;
        if self.got == self.total {
            cx.finish();
        }
    }
}

impl Session for Talker {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            self.opened = true;
            self.talk(cx);
        }
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        assert!(self.got + input.len() as u64 <= self.sent, "more comes back than was sent");
        check(self.salt, self.got, input.bytes());
        self.got += input.len() as u64;
        input.consume(input.len());
        self.talk(cx);
        Ok(())
    }
    fn closed(self, why: &Closed) {
        let _ = self.tell.send(Heard {
            got: self.got,
            total: self.total,
            opened: self.opened,
            why: why.to_string(),
        });
    }
}

/// Sends `total` bytes as fast as it may, and finishes.
pub(crate) struct Pusher {
    salt: u64,
    total: u64,
    sent: u64,
}

impl Pusher {
    pub(crate) fn new(salt: u64, total: u64) -> Self {
        Self { salt, total, sent: 0 }
    }
}

impl Session for Pusher {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened || why == Ready::Room {
            let end = self.total.min(self.sent + cx.output().room() as u64);
            cx.output().send(bytes(self.salt, self.sent, end));
            self.sent = end;
            if end == self.total {
                cx.finish();
            }
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        panic!("a sink says nothing");
    }
}

/// Checks what a pusher sends, and tells how much had come when the peer finished.
pub(crate) struct Sink {
    salt: u64,
    total: u64,
    pause: Option<Duration>,
    tell: mpsc::Sender<u64>,
}

impl Sink {
    pub(crate) fn new(salt: u64, total: u64, tell: mpsc::Sender<u64>) -> Self {
        Self { salt, total, pause: None, tell }
    }

    /// Reads a part, and then nothing for this long.
    pub(crate) fn slowly(self, pause: Duration) -> Self {
        Self { pause: Some(pause), ..self }
    }
}

impl Service for Sink {
    type Session = SinkSession;
    const SCOPE: Scope = Scope::Process;
    fn open(&self, _: &Peer) -> SinkSession {
        let Self { salt, total, pause, .. } = *self;
        SinkSession { salt, total, pause, until: Duration::ZERO, got: 0, tell: self.tell.clone() }
    }
}

pub(crate) struct SinkSession {
    salt: u64,
    total: u64,
    pause: Option<Duration>,
    until: Duration,
    got: u64,
    tell: mpsc::Sender<u64>,
}

impl SinkSession {
    fn hear(&mut self, some: &[u8]) {
        check(self.salt, self.got, some);
        self.got += some.len() as u64;
        assert!(self.got <= self.total);
    }
}

impl Session for SinkSession {
    type Reply = ();
    fn ready(&mut self, _: Ready, _: &mut Context<'_, Self>) -> Done {
        // A server that drains waits for the whole upload.
        Ok(())
    }
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        if let Some(pause) = self.pause {
            if self.until > cx.now() {
                return Ok(());
            }
            self.until = cx.now() + pause;
            cx.wake_at(Some(self.until));
            let count = input.len().min(700);
            self.hear(&input.bytes()[..count]);
            input.consume(count);
        } else {
            // Kept pieces come out of the input by another way than bytes that are looked at.
            self.hear(&input.take(input.len().div_ceil(2)).expect("the budget has room"));
        }
        Ok(())
    }
    fn end(&mut self, cx: &mut Context<'_, Self>) -> Done {
        self.tell.send(self.got).unwrap();
        cx.finish();
        Ok(())
    }
}

/// A file in memory.
struct Memory(Vec<u8>);

impl Blob for Memory {
    fn read_at(&self, part: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = &self.0[offset as usize..];
        let count = rest.len().min(part.len());
        part[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Says a file with a word before and behind it, and finishes.
pub(crate) struct FileService {
    file: Arc<dyn Blob>,
    length: u64,
}

impl FileService {
    pub(crate) fn new(length: u64) -> Self {
        Self { file: Arc::new(Memory(bytes(9, 0, length + 10))), length }
    }

    pub(crate) fn answer(length: u64) -> Vec<u8> {
        [b"begin", &bytes(9, 5, length + 5)[..], b"end"].concat()
    }
}

impl Service for FileService {
    type Session = FileSession;
    const SCOPE: Scope = Scope::Connection;
    fn open(&self, _: &Peer) -> FileSession {
        FileSession { file: Arc::clone(&self.file), length: self.length }
    }
}

pub(crate) struct FileSession {
    file: Arc<dyn Blob>,
    length: u64,
}

impl Session for FileSession {
    type Reply = ();
    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        if why == Ready::Opened {
            cx.output().write(b"begin");
            cx.output().file(Arc::clone(&self.file), 5, self.length);
            cx.output().write(b"end");
            cx.finish();
        }
        Ok(())
    }
    fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        Ok(())
    }
}

/// Reads to the end.
pub(crate) struct Reader {
    pub(crate) heard: Vec<u8>,
    pub(crate) tell: mpsc::Sender<Vec<u8>>,
}

impl Session for Reader {
    type Reply = ();
    fn receive(&mut self, input: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(input.len());
        Ok(())
    }
    fn closed(self, _: &Closed) {
        self.tell.send(self.heard).unwrap();
    }
}

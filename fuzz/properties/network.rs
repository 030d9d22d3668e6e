//! However the network tears a stream, a session reads the same frames out of it, answers up to the first byte that is
//! none, and the connection ends and leaves nothing on the budget.
//!
//! The first eight bytes are the seed of the simulated network, the rest is what the client sends.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use roadstead::{Budget, Closed, Context, Done, Input, Ready, Session, sim::Sim};

use crate::mirror::{BUFFER, Mirror, frames};

/// Longer than any fault delays a byte, and shorter than the budget's patience with idle peers.
const QUIET: Duration = Duration::from_secs(30);
/// Between two looks at whether more can be sent.
const PACE: Duration = Duration::from_millis(100);
/// What a connection may have unsent and still be read from. Two ends that both wait for the other to read would
/// wait for ever, so this one always reads.
const UNSENT: usize = BUFFER / 4;
/// Virtual time that no run needs.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) fn check(data: &[u8]) {
    let Some((seed, stream)) = data.split_first_chunk() else { return };
    let server = SocketAddr::from(([10, 0, 0, 1], 7007));
    let (tell, told) = mpsc::channel();
    let talker = Talker { stream: stream.to_vec(), sent: 0, heard: Vec::new(), last: Duration::ZERO, tell };
    let run = Sim::new(u64::from_le_bytes(*seed))
        .budget(Budget::default().buffer_each(BUFFER))
        .serve(server, Mirror)
        .client(server, talker)
        .run(LIMIT);
    let report = run.unwrap_or_else(|failure| panic!("{failure}"));
    let (heard, expected) = (told.recv().unwrap_or_default(), frames(stream));
    assert!(expected.starts_with(&heard), "an answer that was never asked for");
    assert!(heard.len() == expected.len() || report.connections[0].cut.is_some(), "an answer is missing");
}

/// Sends the stream little by little, and listens until nothing more comes.
struct Talker {
    stream: Vec<u8>,
    sent: usize,
    heard: Vec<u8>,
    /// When something was last heard.
    last: Duration,
    tell: mpsc::Sender<Vec<u8>>,
}

impl Talker {
    fn talk(&mut self, cx: &mut Context<'_, Self>) {
        let more = UNSENT.saturating_sub(cx.output().buffered()).min(self.stream.len() - self.sent);
        cx.output().write(&self.stream[self.sent..self.sent + more]);
        self.sent += more;
        if self.sent < self.stream.len() {
            cx.wake_at(Some(cx.now() + PACE));
        } else if cx.now() < self.last + QUIET {
            cx.wake_at(Some(self.last + QUIET));
        } else {
            cx.finish();
        }
    }
}

impl Session for Talker {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(input.len());
        self.last = cx.now();
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened => self.last = cx.now(),
            Ready::Draining => cx.finish(),
            Ready::Timer | Ready::Room | Ready::Woken => {}
        }
        self.talk(cx);
        Ok(())
    }

    fn closed(self, _: &Closed) {
        // Nobody listens any more if the run has failed already.
        let _ = self.tell.send(self.heard);
    }
}

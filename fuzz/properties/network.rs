//! However the network tears a stream, a session reads the same frames out of it, answers up to the first byte that is
//! none, and the connection ends and leaves nothing on the budget.
//!
//! The first eight bytes are the seed of the simulated network, the rest is what the client sends.

use std::{net::SocketAddr, sync::mpsc, time::Duration};

use roadstead::{Budget, Closed, Context, Done, Input, Ready, Session, sim::Sim};

use crate::mirror::{BUFFER, Mirror, frames};

/// Longer than any fault delays a byte, and shorter than the budget's patience with idle peers.
const QUIET: Duration = Duration::from_secs(30);
/// Virtual time that no run needs.
const LIMIT: Duration = Duration::from_secs(3600);

pub(crate) fn check(data: &[u8]) {
    let Some((seed, stream)) = data.split_first_chunk() else { return };
    let server = SocketAddr::from(([10, 0, 0, 1], 7007));
    let (tell, told) = mpsc::channel();
    let talker = Talker { stream: stream.to_vec(), sent: 0, heard: Vec::new(), tell };
    let run = Sim::new(u64::from_le_bytes(*seed))
        .budget(Budget::default().buffer_each(BUFFER))
        .serve(server, Mirror)
        .client(server, talker)
        .run(LIMIT);
    let report = run.unwrap_or_else(|failure| panic!("{failure}"));
    let (heard, expected) = (told.recv().unwrap_or_default(), frames(stream));
    assert!(expected.starts_with(&heard), "an answer that was never asked for");
    assert!(heard.len() == expected.len() || report.links[0].cut.is_some(), "an answer is missing");
}

/// Sends the stream as there is room for it, and listens until nothing more comes.
struct Talker {
    stream: Vec<u8>,
    sent: usize,
    heard: Vec<u8>,
    tell: mpsc::Sender<Vec<u8>>,
}

impl Session for Talker {
    type Reply = ();

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        self.heard.extend_from_slice(input.bytes());
        input.consume(input.len());
        cx.wake_at(Some(cx.now() + QUIET));
        Ok(())
    }

    fn ready(&mut self, why: Ready, cx: &mut Context<'_, Self>) -> Done {
        match why {
            Ready::Opened | Ready::Room => {
                let end = self.stream.len().min(self.sent + cx.output().room());
                cx.output().write(&self.stream[self.sent..end]);
                self.sent = end;
                cx.wake_at(Some(cx.now() + QUIET));
            }
            Ready::Timer | Ready::Draining => cx.finish(),
            Ready::Woken => {}
        }
        Ok(())
    }

    fn closed(self, _: &Closed) {
        // Nobody listens any more if the run has failed already.
        let _ = self.tell.send(self.heard);
    }
}

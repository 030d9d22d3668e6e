//! The service: what it keeps, and a session that answers for a line only when that is durable.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use roadstead::{
    Busy, Close, Context, Done, Input, JobId, Lost, Peer, Scope, Service, Session,
    disk::{Disk, Name},
    journal::{Journal, JournalError, Limits, Replayed, SharedJournal},
};

/// The longest line, in bytes.
const LINE: usize = 1 << 10;
/// How long to wait when too many lines do.
const PAUSE: Duration = Duration::from_millis(10);

/// All lines that ever came.
#[derive(Clone)]
pub(crate) struct Notebook {
    journal: SharedJournal,
    /// How many lines are durable.
    count: Arc<AtomicU64>,
}

impl Notebook {
    /// Opens the notebook on `disk`, or begins one.
    pub(crate) fn open(disk: Arc<dyn Disk>, salt: u64) -> Result<(Self, Replayed), JournalError> {
        let limits = Limits { record: LINE, ..Limits::default() };
        let (journal, replayed) = Journal::open(disk, Name::new("lines.log")?, limits, salt, |_| Ok(()))?;
        let count = Arc::new(AtomicU64::new(replayed.records));
        Ok((Self { journal: SharedJournal::new(journal), count }, replayed))
    }
}

impl Service for Notebook {
    type Session = Notebook;

    /// The log belongs to one process.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> Notebook {
        self.clone()
    }
}

impl Session for Notebook {
    /// The number of a line that is durable.
    type Reply = Result<u64, JournalError>;

    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let bytes = input.bytes();
        let Some(length) = bytes.iter().take(LINE + 1).position(|byte| *byte == b'\n') else {
            if bytes.len() > LINE {
                return Err(Close::violation(format!("a line of more than {LINE} bytes")));
            }
            input.need(bytes.len() + 1);
            return Ok(());
        };
        // Answers are made in the order of the log, one after the other.
        let count = Arc::clone(&self.count);
        let number = move |noted: Result<(), JournalError>| noted.map(|()| count.fetch_add(1, Relaxed) + 1);
        match self.journal.append(cx, bytes[..length].to_vec(), number) {
            Ok(_) => input.consume(length + 1),
            // What is left unread is given to us again.
            Err(Busy) => cx.wake_at(Some(cx.now() + PAUSE)),
        }
        Ok(())
    }

    fn reply(&mut self, _: JobId, noted: Result<Self::Reply, Lost>, cx: &mut Context<'_, Self>) -> Done {
        let number = noted.map_err(|lost| Close::abort(lost.to_string()))?;
        let number = number.map_err(|error| Close::abort(error.to_string()))?;
        cx.output().write(format!("{number}\n").as_bytes());
        Ok(())
    }
}

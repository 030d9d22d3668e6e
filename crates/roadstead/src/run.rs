//! Running a server in the foreground until a signal ends it.
#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};

use crate::{
    accept::opener,
    blocking::{child, family::Family},
    host::Shared,
    model::{Begin, Model},
    server::{RunError, Running, Server, StartError},
    service::Service,
    signals::{Interrupts, Signals},
    stats::Snapshot,
    wait::{FOR_EVER, wait_for},
};

impl<S: Service> Server<S> {
    /// Serves until SIGINT or SIGTERM, then drains for at most `patience`; a second signal ends all at once.
    /// `listening` is told where it listens as soon as it does. Blocks all the while.
    ///
    /// On [`Model::Process`] and [`Model::Prefork`], which fork, this process may have no thread but the one that asks,
    /// and all its children are taken to be the server's. On the others the two signals have no other effect in this
    /// process from then on, also when this has returned.
    ///
    /// ```no_run
    /// # use roadstead::{Context, Done, Input, Peer, Scope, Server, Service, Session};
    /// # struct Shout;
    /// # struct Line;
    /// # impl Service for Shout {
    /// #     type Session = Line;
    /// #     const SCOPE: Scope = Scope::Connection;
    /// #     fn open(&self, _: &Peer) -> Line { Line }
    /// # }
    /// # impl Session for Line {
    /// #     type Reply = ();
    /// #     fn receive(&mut self, _: &mut Input<'_>, _: &mut Context<'_, Self>) -> Done { Ok(()) }
    /// # }
    /// let patience = std::time::Duration::from_secs(10);
    /// let counted = Server::new(Shout).bind("127.0.0.1:7007").run(patience, |addresses| {
    ///     println!("listening on {}", addresses[0]);
    ///     Ok(())
    /// })?;
    /// println!("{} connections served", counted.accepted);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError`]. Nothing listens any more then, and no child is left.
    pub fn run(
        self,
        patience: Duration,
        listening: impl FnOnce(&[SocketAddr]) -> io::Result<()>,
    ) -> Result<Snapshot, RunError> {
        let model = self.model.unwrap_or_else(Model::best);
        match model.entry().begin {
            Begin::Forking { size, strategy } => {
                let size = size(&self.budget, self.workers);
                let (family, signals) = self.family(model, size)?;
                let addresses = family.addresses().map_err(StartError::System)?;
                listening(&addresses).map_err(RunError::Listening)?;
                family.run(strategy(size), &signals, patience)
            }
            Begin::Here(_) | Begin::Not(_) => {
                let interrupts = Interrupts::watch().map_err(StartError::System)?;
                let running = self.start()?;
                listening(running.addresses()).map_err(RunError::Listening)?;
                running.until_interrupted(&interrupts, patience)
            }
        }
    }

    /// The parent of processes that are to serve, with nothing begun but that it listens.
    fn family(self, model: Model, size: usize) -> Result<(Family, Signals), StartError> {
        let impossible = |why| Err(StartError::Model { model, why });
        if let Some(why) = Self::unforkable().or_else(|| self.io.obstacle(model, self.trigger)) {
            return impossible(why);
        }
        if !child::is_alone()? {
            return impossible("it forks, and this process has other threads");
        }
        let listeners = self.listen()?;
        let signals = Signals::watch()?;
        let Self { budget, tuning, queue, layers, service, .. } = self;
        let service = Arc::new(service);
        let open = Box::new(move |shared: Arc<Shared>| opener(Arc::clone(&service), shared, layers.clone()));
        Ok((Family::new(budget, tuning, queue, listeners, open, size)?, signals))
    }
}

impl Running {
    fn until_interrupted(self, interrupts: &Interrupts, patience: Duration) -> Result<Snapshot, RunError> {
        let mut until = None;
        loop {
            let ended = self.ended();
            let mut fds = [PollFd::new(interrupts, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
            wait_for(&mut fds, until)?;
            let ended = !fds[1].revents().is_empty();
            if ended && until.is_none() {
                return Err(io::Error::other("one of its loops has ended, and the log says why").into());
            }
            if ended || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(self.finish(ended)?);
            }
            while interrupts.next() {
                if until.is_some() {
                    self.abandon();
                    return Err(RunError::Interrupted);
                }
                until = Some(Instant::now() + patience.min(FOR_EVER));
                tracing::info!(open = self.open(), "draining");
                self.begin_drain();
            }
        }
    }
}

//! Running a server in the foreground until a signal ends it.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};

use roadstead_drivers::accept::opener;
use roadstead_os::{
    audit::Audit,
    descriptors,
    processes::{child, parent::ParentProcess, plan::Plan},
    signals::{SIGHUP, SIGINT, SIGTERM, SignalQueue},
    wait::{FOR_EVER, wait_for},
};
use roadstead_proto::{
    address::Address,
    host::Shared,
    layer::{self, Layers},
    observer::Observer,
    service::Service,
    stats::Snapshot,
};

use crate::{
    model::Model,
    models::Begin,
    place::Listening,
    running::Running,
    server::{RunError, Server, StartError},
};

impl<S: Service> Server<S> {
    /// Serves until SIGINT or SIGTERM, then drains for at most `patience`; a second signal ends all at once.
    /// `listening` is told where it listens as soon as it does, be it for connections, or, after those, for
    /// [datagrams](Server::bind_datagrams). Blocks all the while.
    ///
    /// SIGHUP has the [layer](Server::layer) read its files anew, such as the keys of TLS, for the connections that
    /// come from then on: see [`Layers::reload`]. Where there is nothing to read, or what is there cannot be used, all
    /// stays as it was, and a line in the log says so.
    ///
    /// The three are heard whatever the process has inherited: they are unblocked in the thread that asks and in those
    /// that the server starts, and it is no matter whether they were ignored. That goes for a SIGINT that a shell has
    /// its background jobs ignore, too: one that is sent to a server is meant for it, and costs nobody more than a
    /// drain. They have no other effect in this process from then on, also when this has returned. Programs that a
    /// session starts have none of them blocked or ignored.
    ///
    /// Where more connections are allowed than the process may have descriptors, the soft limit is raised, up to the
    /// hard one. On the models that fork it is left alone: each child has descriptors of its own.
    ///
    /// On [`Model::Process`] and [`Model::Prefork`], which fork, this process may have no thread but the one that asks. The
    /// server's children end with this process, after at most `patience`, also where it is killed. Each has a name in
    /// the system's table, `worker-N` or `client-N`, and how many there were is in the [`Snapshot`]. Other
    /// [children](crate::process) of this process are left to whoever has begun them.
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
    /// let counted = Server::new(Shout).bind("127.0.0.1:7007").run(patience, |places| {
    ///     println!("listening on {}", places[0]);
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
        listening: impl FnOnce(&[Address]) -> io::Result<()>,
    ) -> Result<Snapshot, RunError> {
        self.run_watched(patience, |places, _| listening(places))
    }

    /// The same, and `listening` is given through what the server can be watched as well: see [`Observer`]. There is
    /// none on the models that fork, whose parent may have no thread beside the one that is in here.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_watched(
        self,
        patience: Duration,
        listening: impl FnOnce(&[Address], Option<Observer>) -> io::Result<()>,
    ) -> Result<Snapshot, RunError> {
        let model = self.model.unwrap_or_else(Model::best);
        match model.entry().begin {
            Begin::Forking { size, strategy } => {
                let size = size(&self.budget, self.workers);
                let (mut parent, mut strategy) = (self.parent(model, size, patience)?, strategy(size));
                let places = parent.places().map_err(StartError::System)?;
                strategy.start(&mut parent).map_err(StartError::TooFew)?;
                listening(&places, None).map_err(RunError::Listening)?;
                Ok(parent.run(strategy)?)
            }
            Begin::Here(_) | Begin::Asking { .. } | Begin::Not(_) => {
                let (layers, audit) = (self.layers.clone(), self.audit);
                // Before the threads that are to inherit that they hear them.
                let signals = Audit::watch(audit, &[SIGHUP, SIGINT, SIGTERM]).map_err(StartError::System)?;
                let loops = self.loops.on(model, self.io);
                let beside = self.loops.descriptors(loops, self.places.len(), self.udp.len());
                descriptors::make_room(self.budget.connections.saturating_add(beside));
                let running = self.begin()?;
                listening(&running.all_places(), Some(running.observer())).map_err(RunError::Listening)?;
                // Only now, since whoever is told of it may have begun to watch it, and that takes some too.
                running.check_descriptors();
                running.until_interrupted(signals, layers.as_deref(), audit, patience)
            }
        }
    }

    /// The parent of processes that are to serve, with nothing begun but that it listens.
    fn parent(mut self, model: Model, size: usize, patience: Duration) -> Result<ParentProcess, StartError> {
        let impossible = |why| Err(StartError::Model { model, why });
        if let Some(why) = Self::unforkable().or_else(|| self.obstacle(model)) {
            return impossible(why);
        }
        if !child::is_alone_soon()? {
            return impossible("it forks, and this process has other threads");
        }
        let Listening { sockets, files } = self.listen(1)?;
        let listeners = sockets.into_iter().flatten().collect();
        let Self { budget, tuning, queue, layers, audit, service, .. } = self;
        let (service, common) = (Arc::new(service), layers.clone());
        let open = Box::new(move |shared: Arc<Shared>| opener(Arc::clone(&service), shared, common.clone()));
        Ok(ParentProcess::new(
            Plan { budget, tuning, queue, layers, audit, open, patience },
            listeners,
            files,
            size,
        )?)
    }
}

impl Running {
    /// Through what it can be watched, by a thread of its own and for as long as one likes.
    pub fn observer(&self) -> Observer {
        Observer::new(&self.shared)
    }

    fn until_interrupted(
        self,
        mut signals: SignalQueue,
        layers: Option<&dyn Layers>,
        audit: Option<Audit>,
        patience: Duration,
    ) -> Result<Snapshot, RunError> {
        let mut until = None;
        loop {
            let mut fds = [PollFd::new(&signals, PollFlags::IN), PollFd::new(self.threads(), PollFlags::IN)];
            wait_for(&mut fds, until)?;
            let ended = !fds[1].revents().is_empty();
            if ended || until.is_some_and(|until| until <= Instant::now()) {
                return Ok(self.finish()?);
            }
            while let Some(signal) = signals.take() {
                if Audit::answers(audit, signal, || self.stats()) {
                    continue;
                }
                if signal == SIGHUP {
                    // Who drains has no use for new files, and they may have gone with whoever ends it.
                    if until.is_none() {
                        layer::reload(layers);
                    }
                    continue;
                }
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

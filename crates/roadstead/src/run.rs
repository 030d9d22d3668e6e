//! Running a server in the foreground, in a process that has nothing else to do.
#![forbid(unsafe_code)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    accept::opener,
    blocking::{child, family::Family},
    host::Shared,
    model::{Begin, Model},
    server::{RunError, Server, StartError, Trigger},
    service::Service,
    signals::Signals,
    stats::Snapshot,
};

impl<S: Service> Server<S> {
    /// Serves in this process until SIGINT or SIGTERM, then drains for at most `patience`; a second signal ends all at
    /// once. `listening` is told where it listens as soon as it does. Blocks all the while.
    ///
    /// For [`Model::Process`] and [`Model::Prefork`], which fork, so this process may have no thread but the one that
    /// asks; and all its children are taken to be the server's.
    ///
    /// # Errors
    /// [`RunError`]. Nothing listens any more then, and no child is left.
    pub fn run(
        self,
        patience: Duration,
        listening: impl FnOnce(&[SocketAddr]) -> std::io::Result<()>,
    ) -> Result<Snapshot, RunError> {
        let model = self.model.unwrap_or_else(Model::best);
        let impossible = |why| Err(StartError::Model { model, why }.into());
        let Begin::Forking { size, strategy } = model.entry().begin else {
            return impossible("it does not fork: use `Server::start`");
        };
        if let Some(why) = Self::unforkable().or_else(|| self.io.obstacle(model, Trigger::default())) {
            return impossible(why);
        }
        if !child::is_alone().map_err(StartError::System)? {
            return impossible("it forks, and this process has other threads");
        }
        let listeners = self.listen()?;
        let signals = Signals::watch().map_err(StartError::System)?;
        let Self { budget, tuning, workers, queue, layers, service, .. } = self;
        let service = Arc::new(service);
        let open = Box::new(move |shared: Arc<Shared>| opener(Arc::clone(&service), shared, layers.clone()));
        let size = size(&budget, workers);
        let family = Family::new(budget, tuning, queue, listeners, open, size).map_err(StartError::System)?;
        family.addresses().and_then(|addresses| listening(&addresses)).map_err(StartError::System)?;
        family.run(strategy(size), &signals, patience)
    }
}

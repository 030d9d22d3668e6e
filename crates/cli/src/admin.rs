//! `--admin`: a small server beside another, through which that one is watched.
//!
//! It has one loop and a budget of its own: a server that is full still answers, and whoever asks takes none of its
//! places. It outlives the drain of the one it shows, and says meanwhile that it is not ready.

use std::{io, time::Duration};

use roadstead::{Address, Budget, Model, Observer, Running, Server, log::Dropped, server::StartError};
use roadstead_services::admin::{About, Admin, Exposition, Kind};

use crate::{
    addresses::{Place, place},
    log,
    outcome::Result,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Answer /metrics (for Prometheus and `roadstead top`), /healthz and /readyz here, by HTTP: an address of this
    /// machine alone, or unix:PATH. Not for models that fork
    #[arg(long, value_name = "ADDR", value_parser = place)]
    admin: Option<Place>,
    /// Let --admin be an address that others can reach: it asks nobody who they are
    #[arg(long, requires = "admin")]
    admin_anywhere: bool,
}

/// Connections that may ask at once.
const CONNECTIONS: usize = 16;
/// How long those who ask have to finish when the server has.
const PATIENCE: Duration = Duration::from_millis(500);

impl Options {
    /// Refuses what would show a server to strangers, and what cannot be watched.
    pub(crate) fn watch(&self, model: Model) -> Result<Watch> {
        let Some(place) = &self.admin else { return Ok(Watch::default()) };
        if model.forks() {
            let why =
                "it forks, and may have no thread that could answer; choose another, or leave --admin out";
            return Err(format!("the model `{model}` cannot be watched: {why}").into());
        }
        let wanted = place.all()?;
        let far = |address: &Address| address.ip().is_some_and(|ip| !ip.to_canonical().is_loopback());
        if !self.admin_anywhere && wanted.iter().any(far) {
            let way = "give a loopback address or unix:PATH, or add --admin-anywhere";
            return Err(
                format!("others could reach --admin {place}, which asks nobody who they are: {way}").into()
            );
        }
        Ok(Watch { wanted, ..Watch::default() })
    }
}

/// Where a server is watched, if it is.
#[derive(Default)]
pub(crate) struct Watch {
    wanted: Vec<Address>,
    running: Option<Running>,
    failed: Option<StartError>,
}

impl Watch {
    /// Shows what is seen through `observer`, which is a server of `service`.
    pub(crate) fn begin(
        &mut self,
        observer: Option<Observer>,
        model: Model,
        service: &str,
    ) -> io::Result<()> {
        let Some(observer) = observer.filter(|_| !self.wanted.is_empty()) else { return Ok(()) };
        let version = env!("CARGO_PKG_VERSION").into();
        let about = About { version, model: model.to_string(), service: service.into() };
        let budget = Budget::default().connections(CONNECTIONS).buffer_all(8 << 20).jobs(0);
        let server = Server::new(Admin::new(observer, about, dropped)).budget(budget).loops(1);
        match self.wanted.drain(..).fold(server, Server::bind).start() {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                self.failed = Some(error);
                return Err(io::Error::other("it could not be watched"));
            }
        }
        Ok(())
    }

    /// Where it is watched.
    pub(crate) fn places(&self) -> &[Address] {
        self.running.as_ref().map_or(&[], Running::places)
    }

    /// The server has ended.
    ///
    /// # Errors
    /// If that was because it could not be watched.
    pub(crate) fn end(self) -> Result<(), StartError> {
        // Whoever asks on and on is not waited for.
        let _ = self.running.map(|running| running.drain(PATIENCE));
        self.failed.map_or(Ok(()), Err)
    }
}

/// What the log has lost, for `/metrics`.
fn dropped(text: &mut Exposition) {
    let Dropped { lost, held_back } = log::dropped();
    text.family(Kind::Counter, "roadstead_log_lines_dropped", "Lines of the log that were not written.")
        .sample(&[("reason", "lost")], lost)
        .sample(&[("reason", "held_back")], held_back);
}

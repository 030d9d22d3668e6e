//! What a scenario runs on: a model, its loops, worker threads or none, a queue discipline, TLS or none; and the keys
//! for it.

use std::{
    env, fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::Path,
    sync::{Arc, LazyLock},
};

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};

use roadstead::{
    Model, Queue,
    model::Core,
    server::{Io, Trigger},
};
use roadstead_keys::{Authority, Issued, Role};

use crate::wire::Wire;

/// How many loops a server has, unless its setting says otherwise.
static LOOPS: LazyLock<usize> = LazyLock::new(|| match env::var("ROADSTEAD_LOOPS") {
    Ok(loops) => loops.parse().expect("ROADSTEAD_LOOPS is a number"),
    Err(_) => 2,
});

/// The name of every server.
const SERVER: &str = "server";

/// A way to run a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The I/O model.
    pub model: Model,
    /// When epoll tells of a connection.
    pub trigger: Trigger,
    /// Who receives and sends.
    pub io: Io,
    /// How many loops drive its connections; one where the model has no loops.
    pub loops: usize,
    /// Threads for deferred jobs, or that receive and send.
    pub workers: usize,
    /// Which of the jobs is next.
    pub queue: Queue,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Setting {
    /// A model and nothing else. Where it has loops there are two, or as many as the environment asks for.
    pub fn of(model: Model) -> Self {
        let loops = if model.core() == Core::Blocking { 1 } else { *LOOPS };
        Self {
            model,
            trigger: Trigger::Edge,
            io: Io::Loop,
            loops,
            workers: 0,
            queue: Queue::Fcfs,
            tls: false,
        }
    }

    /// All settings of every model that this machine runs.
    pub fn all() -> Vec<Self> {
        let models = Model::ALL.into_iter().filter(|model| model.obstacle().is_none()).map(Self::of);
        let mut all: Vec<_> = models.flat_map(|plain| [plain, Self { tls: true, ..plain }]).collect();
        let with_workers = |plain: &Self| Self { workers: 2, ..*plain };
        all.push(Self { trigger: Trigger::Level, ..Self::of(Model::Epoll) });
        let queues = [
            (Model::Epoll, Queue::Sjf),
            (Model::Epoll, Queue::Rr),
            (Model::Epoll, Queue::Mlfq),
            (Model::Threads, Queue::Rr),
            (Model::Threads, Queue::Mlfq),
            (Model::Emulated, Queue::Mlfq),
        ];
        // Without workers each loop has a queue of its own.
        all.extend(queues.map(|(model, queue)| Self { queue, loops: 1, ..Self::of(model) }));
        // For `pool` and `prefork` the number has another meaning, and the children of `process` work for themselves.
        let fixed = [Model::Pool, Model::Prefork, Model::Process];
        let more = all.iter().filter(|setting| !setting.tls && !fixed.contains(&setting.model));
        let more: Vec<_> =
            more.filter(|setting| setting.trigger == Trigger::Edge).map(with_workers).collect();
        all.extend(more);
        let receiving = Self { io: Io::Workers, loops: 1, workers: 2, ..Self::of(Model::Epoll) };
        all.extend([receiving, Self { tls: true, ..receiving }, Self { queue: Queue::Mlfq, ..receiving }]);
        all
    }

    /// The name of it in the names of tests, such as `epoll::tls`.
    pub fn name(&self) -> String {
        let mut words = Vec::new();
        if self.trigger == Trigger::Level {
            words.push("levels".into());
        }
        if self.queue != Queue::Fcfs {
            words.push(self.queue.to_string());
        }
        if self.io == Io::Workers {
            words.push("io".into());
        }
        if self.workers > 0 {
            words.push("workers".into());
        }
        if self.tls {
            words.push("tls".into());
        }
        if words.is_empty() {
            words.push("plain".into());
        }
        format!("{}::{}", self.model, words.join("_"))
    }

    /// Options for as many workers as connections, for the models whose workers serve one at a time.
    pub fn room_for(&self, connections: usize) -> String {
        match self.model {
            Model::Pool | Model::Prefork => format!("--workers {connections}"),
            _ => String::new(),
        }
    }

    /// The program's options for it. `keys` is where its keys are.
    pub(crate) fn options(&self, keys: &Path) -> Vec<String> {
        let mut options =
            vec!["--model".into(), self.model.to_string(), "--queue".into(), self.queue.to_string()];
        if self.loops > 1 {
            options.extend(["--loops".into(), self.loops.to_string()]);
        }
        if self.workers > 0 {
            options.extend(["--workers".into(), self.workers.to_string()]);
        }
        if self.trigger == Trigger::Level {
            options.push("--level-triggered".into());
        }
        if self.io == Io::Workers {
            options.push("--io-workers".into());
        }
        if self.tls {
            write(&RING.server, keys);
            options.extend(["--keys".into(), keys.display().to_string()]);
        }
        options
    }

    /// Speaks as a client of such a server over `socket`, with a bound on every wait.
    pub fn speak(&self, socket: impl Into<OwnedFd>) -> Wire {
        Wire::new(socket, self.tls.then(|| (Arc::clone(&RING.client), SERVER)))
    }
}

/// New keys of the same authority for the server that has its keys there.
pub(crate) fn renew(keys: &Path) {
    write(&RING.authority.issue(SERVER, Role::Server).unwrap(), keys);
}

fn write(issued: &Issued, keys: &Path) {
    for (name, text) in [("cert.pem", &issued.cert), ("key.pem", &issued.key), ("ca.pem", &issued.ca)] {
        fs::write(keys.join(name), text.as_bytes()).unwrap();
    }
    fs::set_permissions(keys.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The keys of all servers and all clients.
struct Ring {
    authority: Authority,
    server: Issued,
    client: Arc<ClientConfig>,
}

static RING: LazyLock<Ring> = LazyLock::new(|| {
    let authority = Authority::new("conformance").unwrap();
    let [server, client] = [(SERVER, Role::Server), ("client", Role::Client)]
        .map(|(name, role)| authority.issue(name, role).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(PemObject::from_pem_slice(client.ca.as_bytes()).unwrap()).unwrap();
    let foreign = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![PemObject::from_pem_slice(client.cert.as_bytes()).unwrap()],
            PemObject::from_pem_slice(client.key.as_bytes()).unwrap(),
        )
        .unwrap();
    Ring { authority, server, client: Arc::new(foreign) }
});

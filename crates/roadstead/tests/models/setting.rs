//! What a scenario runs on: a model, worker threads or none, a queue discipline, TLS or none; and the keys for it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Arc, LazyLock},
};

use roadstead::{
    Budget, Model, Queue, Running, Server, Service,
    server::Trigger,
    tls::{Acceptor, Clients, Connector, Expect, Keys},
};
use roadstead_keys::{Authority, Role};
use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject};

use crate::wire::Wire;

/// The name of every server.
const SERVER: &str = "server";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) model: Model,
    pub(crate) trigger: Trigger,
    pub(crate) workers: usize,
    pub(crate) queue: Queue,
    pub(crate) tls: bool,
}

impl Setting {
    /// A model and nothing else.
    pub(crate) fn of(model: Model) -> Self {
        Self { model, trigger: Trigger::Edge, workers: 0, queue: Queue::Fcfs, tls: false }
    }

    /// A server that still has to be bound.
    pub(crate) fn server<S: Service>(self, service: S) -> Server<S> {
        let server = Server::new(service)
            .model(self.model)
            .trigger(self.trigger)
            .workers(self.workers)
            .queue(self.queue);
        if self.tls { server.layer(RING.acceptor.clone()) } else { server }
    }

    /// Starts `service` on a free port.
    pub(crate) fn start<S: Service>(self, service: S, budget: Budget) -> Running {
        self.server(service).bind("127.0.0.1:0").budget(budget).start().unwrap()
    }

    /// Connects as a client, with a bound on every wait.
    pub(crate) fn connect(self, address: SocketAddr) -> Wire {
        self.speak(TcpStream::connect(address).unwrap())
    }

    /// Speaks as a client over `socket`, with a bound on every wait.
    pub(crate) fn speak(self, socket: TcpStream) -> Wire {
        Wire::new(socket, self.tls.then(|| (Arc::clone(&RING.client), SERVER)))
    }

    /// What a server of this setting connects to another of it through.
    pub(crate) fn connector(self) -> Option<Connector> {
        self.tls.then(|| RING.connector.clone())
    }
}

/// The keys of all servers and all clients.
struct Ring {
    acceptor: Acceptor,
    connector: Connector,
    client: Arc<ClientConfig>,
}

static RING: LazyLock<Ring> = LazyLock::new(|| {
    let authority = Authority::new("models").unwrap();
    let [server, client] = [(SERVER, Role::Server), ("client", Role::Client)]
        .map(|(name, role)| authority.issue(name, role).unwrap());
    let keys = |issued: &roadstead_keys::Issued| {
        Keys::from_pem(issued.cert.as_bytes(), issued.key.as_bytes(), issued.ca.as_bytes()).unwrap()
    };
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
    Ring {
        acceptor: Acceptor::new(&keys(&server), Clients::Known).unwrap(),
        connector: Connector::new(Some(&keys(&client)), Expect::Name(SERVER.into())).unwrap(),
        client: Arc::new(foreign),
    }
});

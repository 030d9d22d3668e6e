//! An echo server (RFC 862) through TLS 1.3 as one writes it with tokio-rustls: a task per connection, all on one
//! thread.
//!
//! `tokio-tls-echo KEYS [IP:PORT]`: `KEYS` is a directory with `cert.pem` and `key.pem`, the address is by default
//! `127.0.0.1:0`; prints `listening on IP:PORT` first.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Bytes that a connection reads at once: the most in a record.
const BUFFER: usize = 16 * 1024;

/// What Roadstead's servers speak: TLS 1.3 only, and no resumption.
fn config(keys: &Path) -> Result<ServerConfig> {
    let chain =
        CertificateDer::pem_file_iter(keys.join("cert.pem"))?.collect::<std::result::Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(keys.join("key.pem"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

async fn echo(acceptor: TlsAcceptor, socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut stream = acceptor.accept(socket).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            count => stream.write_all(&buffer[..count]).await?,
        }
        stream.flush().await?;
    }
}

async fn serve(acceptor: TlsAcceptor, address: String) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tokio::spawn(echo(acceptor.clone(), socket))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let keys = arguments.next().ok_or("usage: tokio-tls-echo KEYS [IP:PORT]")?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let acceptor = TlsAcceptor::from(Arc::new(config(Path::new(&keys))?));
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(acceptor, address))
}

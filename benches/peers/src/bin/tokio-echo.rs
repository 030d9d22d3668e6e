//! An echo server (RFC 862) as one writes it with tokio: a task per connection.
//!
//! `tokio-echo [IP:PORT [WORKERS]]`, by default `127.0.0.1:0` and all on one thread; with several workers, tokio's
//! multi-thread runtime. Prints `listening on IP:PORT` first.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

/// Bytes that a connection reads at once.
const BUFFER: usize = 16 * 1024;

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match socket.read(&mut buffer).await? {
            0 => return Ok(()),
            count => socket.write_all(&buffer[..count]).await?,
        }
    }
}

async fn serve(address: String) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(tokio::spawn(echo(socket))),
            Err(error) => eprintln!("accept: {error}"),
        }
    }
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let workers = arguments.next().map_or(Ok(1), |count| count.parse().map_err(io::Error::other))?;
    let mut runtime = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    // A task of its own, so that no worker is left out.
    let runtime = runtime.worker_threads(workers).enable_io().build()?;
    runtime.block_on(async { tokio::spawn(serve(address)).await? })
}

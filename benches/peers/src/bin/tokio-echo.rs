//! An echo server (RFC 862) as one writes it with tokio: a task per connection, all on one thread.
//!
//! `tokio-echo [IP:PORT]`, by default `127.0.0.1:0`; prints `listening on IP:PORT` first.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

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
    let address = std::env::args().nth(1);
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(serve(address.unwrap_or_else(|| "127.0.0.1:0".to_owned())))
}

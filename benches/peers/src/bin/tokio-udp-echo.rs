//! An echo server over UDP as one writes it with tokio.
//!
//! `tokio-udp-echo [IP:PORT]`, by default `127.0.0.1:0`, on tokio's current-thread runtime. Prints `listening for
//! datagrams on IP:PORT` first.

use std::io;

use tokio::{net::UdpSocket, runtime::Builder};

async fn serve(address: String) -> io::Result<()> {
    let socket = UdpSocket::bind(address).await?;
    println!("listening for datagrams on {}", socket.local_addr()?);
    let mut bytes = vec![0; 65_535];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await?;
        socket.send_to(&bytes[..length], from).await?;
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::spawn(serve(address)).await? })
}

//! `iterative`: one client at a time; the others wait in the backlog.
//!
//! The thread that accepts serves. Nothing can go wrong between two connections, because there never are two; but a
//! client that says nothing keeps all others waiting until its time for the first byte, or its idle time, is over.
#![forbid(unsafe_code)]

use std::io;

use super::{
    server::{LiveConnection, Spawner},
    wait::WaitingNet,
};

/// Serves on the thread that accepts.
pub struct Iterative;

impl<N: WaitingNet> Spawner<N> for Iterative {
    fn serve(&self, connection: LiveConnection<N>) -> io::Result<()> {
        connection.run();
        Ok(())
    }
}

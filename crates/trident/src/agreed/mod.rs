//! What the owner, the servers and the clients agree on: the files of all directories, the messages, and who is who.

pub mod files;
pub mod integrity;
pub mod layout;
pub mod manifest;
pub mod reading;
pub mod refusal;
pub mod reshare;
pub mod scales;
pub mod trust;
pub mod wire;

//! roadstead

//! trident

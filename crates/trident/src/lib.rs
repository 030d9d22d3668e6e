//! trident

pub mod dpf;
pub mod field;
pub mod kernels;
pub mod lines;
pub mod prg;

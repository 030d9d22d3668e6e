//! What a socket does, case by case, and against a model.

mod caps;
mod cases;
mod model;
mod probe;
mod reference;

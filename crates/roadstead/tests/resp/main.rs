//! The example service that speaks RESP2: its parsers, its limits, and its answers in any network.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../examples/resp/answer.rs"]
mod answer;
#[path = "../../examples/resp/options.rs"]
mod asked;
#[path = "../../examples/resp/batch.rs"]
mod batch;
#[path = "../../examples/resp/command.rs"]
mod command;
#[path = "../../examples/resp/request.rs"]
mod request;
#[path = "../../../../fuzz/properties/resp.rs"]
mod resp;
#[path = "../../examples/resp/service.rs"]
mod service;
#[path = "../../examples/resp/store.rs"]
mod store;

mod limits;
mod options;
mod simulated;

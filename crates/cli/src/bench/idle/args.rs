//! The arguments of `roadstead bench idle`.

use std::time::Duration;

use roadstead::Model;

use crate::{
    numbers::{length, within},
    output::Output,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// I/O model of the server, one that is a single process: see `roadstead models`
    #[arg(long, value_name = "M", default_value = "epoll", value_parser = single)]
    pub(super) model: Model,
    /// Connections that have 16 KiB echoed once and then say nothing
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = within(1..=25_000_u16))]
    pub(super) idle: u16,
    /// Connections that send 128 bytes, wait for them, and send again
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(1..=1_000_u16))]
    pub(super) active: u16,
    /// How long is measured: half of it alone, half beside the idle ones, in five rounds
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = length(1.0..=600.0))]
    pub(super) seconds: Duration,
    #[command(flatten)]
    pub(super) output: Output,
}

fn single(text: &str) -> Result<Model, String> {
    let model: Model = text.parse().map_err(|error| format!("{error}"))?;
    let fits = !model.forks() && model.obstacle().is_none();
    fits.then_some(model).ok_or_else(|| match model.obstacle() {
        Some(why) => format!("{model} does not run here: {why}"),
        None => format!("{model} is many processes, and this measures one"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_one_process_that_runs_here_or_is_told_why_it_does_not_fit() {
        assert_eq!(single("poll"), Ok(Model::Poll));
        for many in ["process", "prefork"] {
            assert_eq!(single(many).unwrap_err(), format!("{many} is many processes, and this measures one"));
        }
        let said = single("iocp").unwrap_err();
        assert!(said.starts_with("iocp does not run here: "), "{said}");
        let said = single("fork").unwrap_err();
        assert!(said.contains("`fork`"), "{said}");
    }
}

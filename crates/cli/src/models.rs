//! `roadstead models`.

use std::ffi::OsString;

use serde::Serialize;

use roadstead::Model;
use roadstead_load::report::{Column, Destination, Stream, Table};

use crate::outcome::{Outcome, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the list as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    core: String,
    runs: bool,
    why: Option<&'static str>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let json = args.json.clone().map(Destination::from);
    let best = Model::best();
    let mut table = Table::new(&[
        Column::Text("model"),
        Column::Text("core"),
        Column::Text("runs here"),
        Column::Text("what it does"),
    ])
    .known_by(1);
    let mut rows = Vec::new();
    for model in Model::ALL {
        let why = model.obstacle();
        let runs = match why {
            Some(why) => format!("no: {why}"),
            None if model == best => "yes (best)".into(),
            None => "yes".into(),
        };
        table.row([model.name().into(), model.core().to_string(), runs, model.about().into()]);
        rows.push(Row { name: model.name(), core: model.core().to_string(), runs: why.is_none(), why });
    }
    table.print(Stream::beside(json.as_ref()))?;
    if let Some(json) = json {
        json.write_json(&rows)?;
    }
    Ok(Outcome::Done)
}

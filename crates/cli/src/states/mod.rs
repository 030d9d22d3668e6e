//! `roadstead states`: the states of a TCP connection, each brought about on this machine and read from the system.
//!
//! A command and no example of the library: who has only the book and the program sees them too, and two of the scenes
//! need a server in a process of its own, which the program is.

mod moment;
mod scenes;
mod sockets;

use std::ffi::OsString;

use serde::Serialize;

use roadstead_load::report::{Destination, Stream};

use crate::outcome::{Outcome, Result};
use moment::Moment;
use scenes::SCENES;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write what was seen as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
}

#[derive(Serialize)]
struct Scene {
    title: &'static str,
    moments: Vec<Moment>,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let json = args.json.clone().map(Destination::from);
    json.as_ref().map(Destination::check).transpose()?;
    let stream = Stream::beside(json.as_ref());
    let mut scenes = Vec::new();
    for (title, play) in SCENES {
        let moments = play()?;
        stream.print(title)?;
        moments.iter().try_for_each(|moment| stream.print(&moment.text()))?;
        scenes.push(Scene { title, moments });
    }
    if let Some(json) = json {
        json.write_json(&scenes)?;
    }
    let as_expected = scenes.iter().flat_map(|scene| &scene.moments).all(Moment::is_as_expected);
    Ok(if as_expected { Outcome::Done } else { Outcome::Wrong })
}

//! What a load by connection and one by datagram show alike: how far they are, latencies, and a client that is the limit.

use std::ops::ControlFlow;

use roadstead_load::{
    chart::{Chart, Line, Panel, Scale, Series},
    generator::{LoadError, Progress},
    measure::Latency,
};

use crate::{outcome::Result, progress, signals};

/// Has `run` load a server, and shows how far it is.
pub(super) fn with_bar<R>(
    run: impl FnOnce(&mut dyn FnMut(&Progress) -> ControlFlow<()>) -> std::result::Result<R, LoadError>,
) -> Result<R> {
    let bar = progress::bar(100, "loading");
    let loaded = run(&mut |progress| {
        bar.set_position((progress.fraction * 100.0) as u64);
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    if loaded.is_err() {
        signals::check()?;
    }
    Ok(loaded?)
}

/// Says so if the client was the limit, which used this share of its core.
pub(super) fn warn_of_limit(is_limit: bool, share: f64) {
    if is_limit {
        tracing::warn!(
            "this client used {:.0} % of its core: it is the client that was measured",
            share * 100.0
        );
    }
}

/// The latency by how many of `what` are faster.
pub(super) fn latencies(title: String, subtitle: String, what: &str, latency: &Latency) -> Chart {
    let points = latency.percentiles();
    let series = Series { name: "latency".into(), subject: 0, line: Line::Solid, points };
    Chart {
        title,
        subtitle,
        x_axis: format!("percentile of the {what}"),
        panels: vec![Panel { y_axis: "latency, ms".into(), scale: Scale::Logarithmic, series: vec![series] }],
    }
}

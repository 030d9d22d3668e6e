//! The load generator alone: `load ADDR [--connections C] [--depth D] [--size S] [--seconds T] [--json FILE]`.

use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use roadstead::Address;
use roadstead_load::{
    generator::{Load, Mode},
    report::{Column, Destination, Stream, Table, count, millis, number},
};

const USAGE: &str = "usage: load ADDR [--connections C] [--depth D] [--size S] [--seconds T] [--json FILE]";

fn parse() -> Result<(Load, Option<Destination>), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut load = Load::new(arguments.next().ok_or(USAGE)?.parse::<Address>()?);
    let mut json = None;
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        match flag.as_str() {
            "--connections" => load.connections = value.parse()?,
            "--depth" => load.depth = value.parse()?,
            "--size" => load.size = value.parse()?,
            "--seconds" => {
                load.mode = Mode::ClosedFor(Duration::try_from_secs_f64(value.parse()?)?);
            }
            "--json" => json = Some(Destination::from(value.as_str())),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((load, json))
}

fn run(load: &Load, json: Option<&Destination>) -> Result<bool, Box<dyn Error>> {
    let report = load.run(&mut |_| ControlFlow::Continue(()))?;
    let mut table = Table::new(&[
        Column::Number("connections"),
        Column::Number("right"),
        Column::Number("wrong"),
        Column::Number("failed"),
        Column::Number("messages/s"),
        Column::Number("p50 ms"),
        Column::Number("p99 ms"),
        Column::Number("client CPU %"),
    ]);
    table.row([
        count(report.connections as u64),
        count(report.right),
        count(report.wrong),
        count(report.failed),
        number(report.messages_per_second, 0),
        millis(report.latency.p50_ms),
        millis(report.latency.p99_ms),
        number(report.client_cpu_share * 100.0, 0),
    ]);
    table.print(Stream::beside(json))?;
    if report.client_is_limit {
        let warning = "warning: the load generator used its whole core: it was measured, not the server";
        Stream::Stderr.print(warning)?;
    }
    if let Some(json) = json {
        json.write_json(&report)?;
    }
    Ok(report.is_clean())
}

fn main() -> ExitCode {
    let (load, json) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = Stream::Stderr.print(&error.to_string());
            return ExitCode::from(2);
        }
    };
    match run(&load, json.as_ref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = Stream::Stderr.print(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

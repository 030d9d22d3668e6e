//! A server seen from outside: `/metrics`, `/healthz` and `/readyz` over HTTP/1.1.
//!
//! It is a service like any other, for a server of its own beside the one that it shows: who is asked has places of its
//! own then, so a server that is full still answers, and however many ask, they take no place from those who are served.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | what the server counts and holds: OpenMetrics for who names it in `Accept`, else the text format of Prometheus |
//! | `/healthz` | 200 for as long as the process answers |
//! | `/readyz` | 200 while those who come are let in, 503 before and after that |
//!
//! GET and HEAD, no body, a head of 8 KiB at most; requests may be sent one behind another, and the connection stays
//! open unless one says otherwise. What is no request is answered too, and ends the connection.
#![forbid(unsafe_code)]

mod exposition;
mod metrics;
mod request;
mod status;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use roadstead_proto::{Close, Context, Done, Input, Observer, Peer, Scope, Service, Session};

pub use exposition::{Exposition, Family, Format, Kind};
pub use metrics::About;
use request::{Head, Request};
use status::Status;

/// Shows a server.
#[derive(Clone)]
pub struct Admin(Arc<Shown>);

struct Shown {
    observer: Observer,
    about: About,
    also: Box<dyn Fn(&mut Exposition) + Send + Sync>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { observer, about, .. } = &*self.0;
        f.debug_struct("Admin").field("observer", observer).field("about", about).finish_non_exhaustive()
    }
}

impl Admin {
    /// Shows what `observer` sees, and what `also` adds to it in `/metrics`.
    pub fn new(
        observer: Observer,
        about: About,
        also: impl Fn(&mut Exposition) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shown { observer, about, also: Box::new(also) }))
    }

    /// What is shown at `/metrics` when the server has served for so long.
    pub fn metrics(&self, format: Format, uptime: Duration) -> String {
        let mut text = Exposition::new(format);
        let Shown { observer, about, also } = &*self.0;
        metrics::write(&mut text, observer, about, uptime);
        also(&mut text);
        text.finish()
    }

    /// What is at a path.
    fn at(&self, path: &str, format: Format, uptime: Duration) -> Answer {
        let plain = |status, body: &str| Answer { status, media_type: PLAIN, body: body.into() };
        match path {
            "/metrics" => {
                let (media_type, body) = (format.media_type(), self.metrics(format, uptime));
                Answer { status: Status::Ok, media_type, body }
            }
            "/healthz" => plain(Status::Ok, "live\n"),
            "/readyz" if self.0.observer.lets_in() => plain(Status::Ok, "ready\n"),
            "/readyz" => plain(Status::NotReady, "nobody is let in\n"),
            _ => plain(Status::NotFound, "there are /metrics, /healthz and /readyz\n"),
        }
    }
}

/// Of what is not metrics.
const PLAIN: &str = "text/plain; charset=utf-8";

struct Answer {
    status: Status,
    media_type: &'static str,
    body: String,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, media_type: PLAIN, body: format!("{}\n", status.line()) }
    }
}

impl Answer {
    /// As it goes out; its head alone, if no more is asked for.
    fn write(&self, wall: SystemTime, stays: bool, head_only: bool) -> Vec<u8> {
        let Self { status, media_type, body } = self;
        let mut text = format!("HTTP/1.1 {}\r\n", status.line());
        let mut field = |name, value: &str| [name, ": ", value, "\r\n"].map(|part| text.push_str(part));
        if let Some(date) = date(wall) {
            field("Date", &date);
        }
        field("Content-Type", media_type);
        field("Content-Length", &body.len().to_string());
        field("Cache-Control", "no-store");
        field("Vary", "Accept");
        if *status == Status::Method {
            field("Allow", "GET, HEAD");
        }
        if !stays {
            field("Connection", "close");
        }
        text.push_str("\r\n");
        if !head_only {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

/// None of a clock that is set to a time for which there is no date.
fn date(wall: SystemTime) -> Option<String> {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    /// The first second of the year 10000.
    const TOO_LATE: u64 = 253_402_300_800;
    (since.as_secs() < TOO_LATE).then(|| httpdate::fmt_http_date(wall))
}

impl Service for Admin {
    type Session = AdminSession;
    /// What it shows is of one process.
    const SCOPE: Scope = Scope::Process;

    fn open(&self, _: &Peer) -> AdminSession {
        AdminSession(self.clone())
    }
}

/// Somebody who asks.
#[derive(Debug)]
pub struct AdminSession(Admin);

impl AdminSession {
    fn answer(&self, request: &Request<'_>, now: Duration) -> Answer {
        let format = if request.openmetrics { Format::OpenMetrics } else { Format::Prometheus };
        match request.path {
            Ok(path) => self.0.at(path, format, now),
            Err(status) => status.into(),
        }
    }
}

impl Session for AdminSession {
    type Reply = ();

    /// One request: with more behind it, this is called again.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        match request::read(input.bytes()) {
            Head::Partial => Ok(()),
            Head::Whole(length, request) => {
                let answer = self.answer(&request, cx.now());
                let (stays, head_only) = (request.stays, request.head_only);
                input.consume(length);
                let wall = cx.wall();
                cx.output().send(answer.write(wall, stays, head_only));
                if !stays {
                    cx.finish();
                }
                Ok(())
            }
            Head::Wrong(status) => {
                let wall = cx.wall();
                cx.output().send(Answer::from(status).write(wall, false, false));
                Err(Close::violation(status.line()))
            }
        }
    }
}

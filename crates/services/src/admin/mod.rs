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

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use roadstead_http::{AnswerHead, Head, Room, Status, read};
use roadstead_proto::{Close, Context, Done, Input, Observer, Peer, Scope, Service, Session};

pub use exposition::{Exposition, Family, Format, Kind};
pub use metrics::About;
use request::Asked;

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
                Answer { status: Status::OK, media_type, body }
            }
            "/healthz" => plain(Status::OK, "live\n"),
            "/readyz" if self.0.observer.lets_in() => plain(Status::OK, "ready\n"),
            "/readyz" => plain(Status::UNAVAILABLE, "nobody is let in\n"),
            _ => plain(Status::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
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
        Self { status, media_type: PLAIN, body: format!("{status}\n") }
    }
}

impl Answer {
    /// As it goes out; its head alone, if no more is asked for.
    fn write(&self, wall: SystemTime, stays: bool, head_only: bool) -> Vec<u8> {
        let Self { status, media_type, body } = self;
        let head = AnswerHead::new(*status).date(wall).field("Content-Type", media_type);
        let mut head = head.field("Content-Length", body.len()).field("Cache-Control", "no-store");
        head = head.field("Vary", "Accept");
        if *status == Status::METHOD_NOT_ALLOWED {
            head = head.field("Allow", "GET, HEAD");
        }
        if !stays {
            head = head.field("Connection", "close");
        }
        let mut bytes = head.finish();
        if !head_only {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
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
    fn answer(&self, asked: &Asked<'_>, now: Duration) -> Answer {
        let format = if asked.openmetrics { Format::OpenMetrics } else { Format::Prometheus };
        match asked.path {
            Ok(path) => self.0.at(path, format, now),
            Err(status) => status.into(),
        }
    }

    /// The last word to whoever has sent what nothing can follow.
    fn refuse(status: Status, cx: &mut Context<'_, Self>) -> Done {
        let wall = cx.wall();
        cx.output().send(Answer::from(status).write(wall, false, false));
        Err(Close::violation(status.to_string()))
    }
}

impl Session for AdminSession {
    type Reply = ();

    /// One request: with more behind it, this is called again.
    fn receive(&mut self, input: &mut Input<'_>, cx: &mut Context<'_, Self>) -> Done {
        let mut room = Room::new();
        let (length, asked) = match read(input.bytes(), &mut room) {
            Head::Partial => return Ok(()),
            Head::Whole(length, request) => (length, Asked::by(&request)),
            Head::Wrong(status) => return Self::refuse(status, cx),
        };
        let asked = match asked {
            Ok(asked) => asked,
            Err(status) => return Self::refuse(status, cx),
        };
        let (answer, wall) = (self.answer(&asked, cx.now()), cx.wall());
        cx.output().send(answer.write(wall, asked.stays, asked.head_only));
        if !asked.stays {
            cx.finish();
        }
        input.consume(length);
        Ok(())
    }
}

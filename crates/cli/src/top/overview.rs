//! What two looks at a server come to: numbers, and how fast they grow.

use std::{
    collections::HashMap,
    fmt::{self, Display, Write},
};

use serde::Serialize;

use super::figures::Figures;

/// All that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Overview {
    pub(super) version: String,
    pub(super) model: String,
    pub(super) service: String,
    pub(super) uptime_seconds: f64,
    pub(super) ready: bool,
    pub(super) sections: Vec<Section>,
}

/// Rows that belong together.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) rows: Vec<Row>,
}

/// One number.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) value: f64,
    /// The most that it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<f64>,
    /// How fast it grows, if it only does that; not known of a server that was started anew in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) per_second: Option<f64>,
    #[serde(skip)]
    pub(super) bytes: bool,
}

/// Where the numbers of a section are.
enum From {
    /// One of this name, called so.
    Gauge(&'static str, &'static str, Option<&'static str>),
    Counter(&'static str, &'static str),
    /// All of this name, called by this label.
    Counters(&'static str, &'static str),
}

use From::{Counter, Counters, Gauge};

const SECTIONS: [(&str, &[From]); 11] = [
    (
        "connections",
        &[
            Gauge("open", "roadstead_connections", Some("roadstead_connections_limit")),
            Gauge("addresses", "roadstead_addresses", None),
            Counter("accepted", "roadstead_connections_accepted_total"),
            Counter("connected", "roadstead_connections_connected_total"),
        ],
    ),
    (
        "bytes",
        &[
            Counter("received", "roadstead_received_bytes_total"),
            Counter("sent", "roadstead_sent_bytes_total"),
            Gauge("buffered", "roadstead_buffered_bytes", Some("roadstead_buffered_limit_bytes")),
        ],
    ),
    (
        "queue",
        &[
            Gauge("waiting", "roadstead_jobs_waiting", None),
            Gauge("running", "roadstead_jobs_running", None),
            Gauge("blocked", "roadstead_jobs_blocked", None),
            Gauge("tickets", "roadstead_tickets", Some("roadstead_tickets_limit")),
            Counter("jobs", "roadstead_jobs_total"),
        ],
    ),
    ("sleeps of loops", &[Counters("roadstead_loop_sleeps_total", "loop")]),
    ("turns of loops", &[Counters("roadstead_loop_turns_total", "loop")]),
    ("refused", &[Counters("roadstead_connections_refused_total", "reason")]),
    ("ended", &[Counters("roadstead_connections_ended_total", "reason")]),
    ("deadlines", &[Counters("roadstead_deadlines_passed_total", "deadline")]),
    (
        "datagrams",
        &[
            Counter("received", "roadstead_datagrams_received_total"),
            Counter("truncated", "roadstead_datagrams_truncated_total"),
            Counter("sent", "roadstead_datagrams_sent_total"),
            Counter("panics", "roadstead_datagram_panics_total"),
        ],
    ),
    ("datagrams unsent", &[Counters("roadstead_datagrams_unsent_total", "reason")]),
    ("log lines dropped", &[Counters("roadstead_log_lines_dropped_total", "reason")]),
];

impl Overview {
    /// Of what was told `now`, and at a moment before.
    pub(super) fn new(now: &Figures, before: Option<&Figures>) -> Self {
        let uptime = |figures: &Figures| figures.one("roadstead_uptime_seconds").unwrap_or(0.0);
        let before = before.filter(|before| uptime(before) <= uptime(now));
        let text = |label| now.build(label).to_owned();
        Self {
            version: text("version"),
            model: text("model"),
            service: text("service"),
            uptime_seconds: uptime(now),
            ready: now.one("roadstead_ready") == Some(1.0),
            sections: SECTIONS
                .iter()
                .map(|(title, from)| Section {
                    title,
                    rows: from.iter().flat_map(|from| from.rows(now, before)).collect(),
                })
                .collect(),
        }
    }
}

impl From {
    fn rows(&self, now: &Figures, before: Option<&Figures>) -> Vec<Row> {
        let per_second = |value: f64, before: Option<(&Figures, f64)>| {
            let (figures, earlier) = before?;
            let seconds = now.at.saturating_duration_since(figures.at).as_secs_f64();
            (seconds > 0.0).then(|| ((value - earlier) / seconds).max(0.0))
        };
        let row = |name: &str, sample: &str, value, limit, per_second| Row {
            name: name.into(),
            value,
            limit,
            per_second,
            bytes: sample.contains("_bytes"),
        };
        match *self {
            Gauge(name, sample, limit) => {
                let value = now.one(sample).into_iter();
                let limit = limit.and_then(|limit| now.one(limit));
                value.map(|value| row(name, sample, value, limit, None)).collect()
            }
            Counter(name, sample) => {
                let earlier = before.and_then(|before| Some((before, before.one(sample)?)));
                let value = now.one(sample).into_iter();
                value.map(|value| row(name, sample, value, None, per_second(value, earlier))).collect()
            }
            Counters(sample, label) => {
                let known: HashMap<_, _> =
                    before.into_iter().flat_map(|before| before.each(sample, label)).collect();
                let earlier = |name: &str| Some((before?, *known.get(name)?));
                let mut each = now.each(sample, label);
                each.sort_by_key(|(name, _)| name.parse::<usize>().unwrap_or(usize::MAX));
                let rows = each.into_iter();
                rows.map(|(name, value)| row(name, sample, value, None, per_second(value, earlier(name))))
                    .collect()
            }
        }
    }
}

impl Section {
    /// Whether there is anything to be shown of it; of datagrams only where there were any.
    pub(super) fn is_shown(&self) -> bool {
        let always = !self.title.starts_with("datagrams");
        self.rows.iter().any(|row| always || row.value > 0.0)
    }
}

impl Row {
    /// The number, and of what it may be at most; or how fast it grows.
    pub(super) fn cells(&self) -> (String, String) {
        let show = |number| if self.bytes { bytes(number) } else { count(number) };
        let beside = match (self.limit, self.per_second) {
            (Some(limit), _) => format!("of {}", show(limit)),
            (_, Some(per_second)) => format!("{}/s", show(per_second)),
            _ => String::new(),
        };
        (show(self.value), beside)
    }
}

/// A whole number with its thousands apart; a small one with a tenth, if it has any.
fn count(number: f64) -> String {
    if number < 10.0 && number.fract() != 0.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: f64) -> String {
    let (mut number, mut units) = (number, ["B", "KiB", "MiB", "GiB", "TiB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if number < 1024.0 {
            break;
        }
        (number, unit) = (number / 1024.0, next);
    }
    if unit == "B" || number >= 100.0 { format!("{number:.0} {unit}") } else { format!("{number:.1} {unit}") }
}

/// What a line says of the server itself.
impl Overview {
    pub(super) fn headline(&self) -> String {
        let Self { version, model, service, .. } = self;
        let seconds = self.uptime_seconds as u64;
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let up = match days {
            0 => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
            _ => format!("{days} d {hours:02}:{minutes:02}"),
        };
        let state = if self.ready { "serving" } else { "letting nobody in" };
        format!("roadstead {version}  {service} on {model}  up {up}  {state}")
    }
}

impl Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.headline())?;
        for Section { title, rows } in self.sections.iter().filter(|section| section.is_shown()) {
            writeln!(f, "\n{title}")?;
            for row in rows {
                let (value, beside) = row.cells();
                let mut line = String::new();
                write!(line, "  {:<14}{value:>14}  {beside}", row.name)?;
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::top::figures::tests::figures;

    #[test]
    fn a_rate_is_what_was_added_over_the_time_between_and_none_of_a_server_that_was_started_anew() {
        let begin = Instant::now();
        let told = |uptime: u32, accepted: u32, full: u32, seconds| {
            let text = format!(
                "roadstead_uptime_seconds {uptime}\nroadstead_connections_accepted_total {accepted}\n\
                 roadstead_connections_refused_total{{reason=\"connections\"}} {full}\n"
            );
            figures(&text, begin + Duration::from_secs(seconds))
        };
        let rates = |now: &Figures, before: Option<&Figures>| {
            let sections = Overview::new(now, before).sections;
            let rows = sections.into_iter().flat_map(|section| section.rows);
            rows.map(|row| (row.name, row.value, row.per_second)).collect::<Vec<_>>()
        };
        let (first, second) = (told(10, 100, 5, 0), told(12, 150, 6, 2));
        let row = |name: &str, value, per_second| (name.to_owned(), value, per_second);
        assert_eq!(
            rates(&second, Some(&first)),
            [row("accepted", 150.0, Some(25.0)), row("connections", 6.0, Some(0.5))]
        );
        let anew = told(1, 3, 0, 4);
        for before in [Some(&second), None] {
            assert_eq!(rates(&anew, before), [row("accepted", 3.0, None), row("connections", 0.0, None)]);
        }
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        for (number, text) in [(0.0, "0"), (0.25, "0.2"), (12.5, "12"), (999.0, "999"), (1e6, "1,000,000")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1536.0, "1.5 KiB"),
            (104_857_600.0, "100 MiB"),
            (2e18, "1818989 TiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn loops_are_in_the_order_of_their_numbers() {
        let text: String =
            (0..12).map(|number| format!("roadstead_loop_sleeps_total{{loop=\"{number}\"}} 1\n")).collect();
        let overview = Overview::new(&figures(&text, Instant::now()), None);
        let names: Vec<_> =
            overview.sections[3].rows.iter().map(|row| row.name.parse::<usize>().unwrap()).collect();
        assert_eq!(names, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn datagrams_are_shown_where_there_were_any() {
        let shown = |count: u32| {
            let text = format!(
                "roadstead_datagrams_received_total {count}\nroadstead_datagrams_unsent_total{{reason=\"dropped\"}} 0\n"
            );
            Overview::new(&figures(&text, Instant::now()), None).to_string()
        };
        assert!(!shown(0).contains("datagrams"));
        assert!(shown(3).ends_with("\ndatagrams\n  received                   3\n"), "{}", shown(3));
    }

    #[test]
    fn what_is_printed_names_the_server_and_has_a_line_for_each_number() {
        let text = "roadstead_uptime_seconds 93784\nroadstead_ready 0\nroadstead_connections 3\n\
                    roadstead_connections_limit 10000\nroadstead_sent_bytes_total 2048\n";
        let printed = Overview::new(&figures(text, Instant::now()), None).to_string();
        let expected = "roadstead 1  echo on epoll  up 1 d 02:03  letting nobody in\n\nconnections\n  \
                        open                       3  of 10,000\n\nbytes\n  sent                 2.0 KiB\n";
        assert_eq!(printed, expected);
    }
}

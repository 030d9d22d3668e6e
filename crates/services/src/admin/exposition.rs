//! Numbers as text that Prometheus reads: OpenMetrics 1.0, or the format before it.
//!
//! Both have families of samples. They differ in what a family is called (a counter without its `_total`, or with it),
//! and OpenMetrics says units and where the text ends.
#![forbid(unsafe_code)]

use std::fmt::{self, Display, Write};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Prometheus,
}

impl Format {
    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What the numbers of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow.
    Counter,
    /// They are what is there now.
    Gauge,
    /// There is nothing to them but their labels.
    Info,
}

/// The text of some families.
#[derive(Debug)]
pub struct Exposition {
    text: String,
    format: Format,
}

/// One family, to which samples are added.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
}

impl Exposition {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        Self { text: String::with_capacity(8 << 10), format }
    }

    /// Begins a family. The name has no `_total`; its last part is its unit, if that is `bytes` or `seconds`.
    pub fn family<'a>(&'a mut self, kind: Kind, name: &'a str, help: &str) -> Family<'a> {
        let Self { text, format } = self;
        let named = match (*format, kind) {
            (Format::OpenMetrics, _) | (_, Kind::Gauge) => "",
            (Format::Prometheus, _) => kind.suffix(),
        };
        let called = match (*format, kind) {
            (_, Kind::Counter) => "counter",
            (Format::OpenMetrics, Kind::Info) => "info",
            (_, Kind::Gauge | Kind::Info) => "gauge",
        };
        put(text, format_args!("# TYPE {name}{named} {called}\n"));
        let unit = ["bytes", "seconds"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        if let (Format::OpenMetrics, Some(unit)) = (*format, unit) {
            put(text, format_args!("# UNIT {name} {unit}\n"));
        }
        put(text, format_args!("# HELP {name}{named} {}\n", Escaped(help)));
        Family { text, name, kind }
    }

    /// A family of one number.
    pub fn one(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&[], value);
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        }
    }
}

impl Family<'_> {
    /// One more of its numbers, told from the others by these labels.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        put(self.text, format_args!("{}{}", self.name, self.kind.suffix()));
        for (number, (label, value)) in labels.iter().enumerate() {
            let mark = if number == 0 { '{' } else { ',' };
            put(self.text, format_args!("{mark}{label}=\"{}\"", Escaped(value)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        put(self.text, format_args!("{end} {value}\n"));
        self
    }
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    // A string takes all that it is given.
    let _ = text.write_fmt(what);
}

/// Text that cannot end the line, or the quotes, that it is in.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut text = Exposition::new(format);
        text.one(Kind::Counter, "a_received_bytes", "Bytes \\ received.\nAll.", 7);
        text.family(Kind::Gauge, "a_open", "Open.").sample(&[("x", "1")], 2).sample(&[("x", "2")], 0.5);
        text.family(Kind::Info, "a_build", "Built.").sample(&[("v", "\"\\\n"), ("w", "ü")], 1);
        text.finish()
    }

    #[test]
    fn openmetrics_says_units_and_its_end_and_names_families_without_their_suffix() {
        let expected = "\
# TYPE a_received_bytes counter
# UNIT a_received_bytes bytes
# HELP a_received_bytes Bytes \\\\ received.\\nAll.
a_received_bytes_total 7
# TYPE a_open gauge
# HELP a_open Open.
a_open{x=\"1\"} 2
a_open{x=\"2\"} 0.5
# TYPE a_build info
# HELP a_build Built.
a_build_info{v=\"\\\"\\\\\\n\",w=\"ü\"} 1
# EOF
";
        assert_eq!(text(Format::OpenMetrics), expected);
    }

    #[test]
    fn the_format_before_it_names_families_as_their_samples_and_has_gauges_for_infos() {
        let expected = "\
# TYPE a_received_bytes_total counter
# HELP a_received_bytes_total Bytes \\\\ received.\\nAll.
a_received_bytes_total 7
# TYPE a_open gauge
# HELP a_open Open.
a_open{x=\"1\"} 2
a_open{x=\"2\"} 0.5
# TYPE a_build_info gauge
# HELP a_build_info Built.
a_build_info{v=\"\\\"\\\\\\n\",w=\"ü\"} 1
";
        assert_eq!(text(Format::Prometheus), expected);
    }
}

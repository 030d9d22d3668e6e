//! The numbers that a server told at one moment.

use std::{collections::BTreeMap, time::Instant};

use roadstead::log::clean;

/// What was read of `/metrics`.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// When.
    pub(super) at: Instant,
    /// Each with its labels, as it was written.
    samples: BTreeMap<String, f64>,
}

impl Figures {
    /// Of the text format of Prometheus. `None` if it is not of a server of ours.
    pub(super) fn read(text: &str, at: Instant) -> Option<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            // Whoever answers may be a stranger, and this goes to a terminal.
            Some((clean(name).into_owned(), value.parse().ok()?))
        };
        let samples = lines.map(sample).collect::<Option<BTreeMap<String, f64>>>()?;
        samples.keys().any(|name| name.starts_with("roadstead_build_info{")).then_some(Self { at, samples })
    }

    /// The number of this name, without labels.
    pub(super) fn one(&self, name: &str) -> Option<f64> {
        self.samples.get(name).copied()
    }

    /// Those of this name that differ in a label: each with its value.
    pub(super) fn each<'a>(&'a self, name: &str, label: &str) -> Vec<(&'a str, f64)> {
        let before = format!("{name}{{{label}=\"");
        let of = |(sample, value): (&'a String, &f64)| {
            Some((sample.strip_prefix(&before)?.strip_suffix("\"}")?, *value))
        };
        self.samples.iter().filter_map(of).collect()
    }

    /// What is said of the build in this label.
    pub(super) fn build(&self, label: &str) -> &str {
        let named = self.samples.keys().find(|name| name.starts_with("roadstead_build_info{"));
        let mark = format!("{label}=\"");
        let value = named.and_then(|name| name.split_once(&mark)).map(|(_, rest)| rest);
        value.and_then(|rest| rest.split('"').next()).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::top) fn figures(more: &str, at: Instant) -> Figures {
        let text = format!(
            "# HELP x\nroadstead_build_info{{version=\"1\",model=\"epoll\",service=\"echo\"}} 1\n{more}"
        );
        Figures::read(&text, at).unwrap()
    }

    #[test]
    fn samples_are_found_by_name_and_by_label() {
        let text = "a_total 7\na_total_more 8\nb{x=\"1\"} 0.5\nb{x=\"two words\"} 2\nb{y=\"1\"} 3\n";
        let figures = figures(text, Instant::now());
        assert_eq!((figures.one("a_total"), figures.one("a"), figures.one("b")), (Some(7.0), None, None));
        assert_eq!(figures.each("b", "x"), [("1", 0.5), ("two words", 2.0)]);
        assert_eq!(
            ["version", "model", "service", "colour"].map(|it| figures.build(it)),
            ["1", "epoll", "echo", ""]
        );
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        let figures = figures("b{x=\"\u{1b}]0;a\u{9b}1m\"} 1\n", Instant::now());
        assert_eq!(figures.each("b", "x"), [("\\u{1b}]0;a\\u{9b}1m", 1.0)]);
    }

    #[test]
    fn what_is_not_of_a_server_of_ours_is_nothing() {
        let read = |text| Figures::read(text, Instant::now()).is_some();
        assert!(!read("") && !read("go_info 1\n") && !read("<html>\n"));
        assert!(!read("roadstead_build_info{} 1\nx y\n"));
    }
}

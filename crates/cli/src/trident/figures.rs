//! What is asked at a level of concurrency, and the figures that come of it.

use serde::Serialize;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Rows by index
    Fetch,
    /// Nearest neighbours
    Search,
}

/// One measured level, in the shape that programs read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) op: Op,
    pub(crate) protocol: &'static str,
    pub(crate) exchange: Option<String>,
    /// One way. The report says it once for all runs.
    #[serde(skip)]
    pub(crate) peer_delay_ms: f64,
    pub(crate) checked: bool,
    pub(crate) level: usize,
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    pub(crate) failed: usize,
    pub(crate) qps: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) overlap: f64,
    pub(crate) client_bytes_up: f64,
    pub(crate) client_bytes_down: f64,
    pub(crate) server_bytes: f64,
    pub(crate) server_cpu_ms: f64,
    /// CPU time of whoever asks, with the relays between the servers.
    pub(crate) client_cpu_ms: f64,
    /// The part of the machine's processors that all of them used: near 1 they are the limit, and below it a wait is.
    pub(crate) busy: f64,
    pub(crate) recall_at_10: Option<f64>,
}

impl Run {
    /// One of which nothing is known.
    pub(crate) const NONE: Self = Self {
        op: Op::Fetch,
        protocol: "",
        exchange: None,
        peer_delay_ms: 0.0,
        checked: true,
        level: 0,
        right: 0,
        wrong: 0,
        failed: 0,
        qps: f64::NAN,
        mean_ms: f64::NAN,
        p50_ms: f64::NAN,
        p95_ms: f64::NAN,
        p99_ms: f64::NAN,
        overlap: f64::NAN,
        client_bytes_up: f64::NAN,
        client_bytes_down: f64::NAN,
        server_bytes: f64::NAN,
        server_cpu_ms: f64::NAN,
        client_cpu_ms: f64::NAN,
        busy: f64::NAN,
        recall_at_10: None,
    };

    /// The protocol, and how the servers reach each other where they do.
    pub(crate) fn way(&self) -> String {
        let strategy = self.exchange.iter().map(|strategy| format!(" {strategy}"));
        let delay = (self.peer_delay_ms > 0.0).then(|| format!(" {} ms", self.peer_delay_ms));
        strategy.chain(delay).fold(self.protocol.to_owned(), |way, more| way + &more)
    }

    /// Questions that came to an end, whatever end.
    pub(crate) fn asked(&self) -> usize {
        self.right + self.wrong + self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_told_with_its_strategy_and_its_delay_if_it_has_any() {
        let run = |exchange: Option<&str>, peer_delay_ms| Run {
            protocol: "exchange",
            exchange: exchange.map(str::to_owned),
            peer_delay_ms,
            right: 1,
            wrong: 2,
            failed: 4,
            ..Run::NONE
        };
        assert_eq!(run(None, 0.0).way(), "exchange");
        assert_eq!(run(Some("pool:4"), 0.0).way(), "exchange pool:4");
        assert_eq!(run(Some("shared"), 0.5).way(), "exchange shared 0.5 ms");
        assert_eq!(run(None, 0.0).asked(), 7);
    }
}

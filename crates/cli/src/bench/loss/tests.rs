//! What a loss is said to have cost.

use super::*;
use crate::output::tests::{cells, lines};

fn loss(back_after_ms: Option<f64>) -> Loss {
    Loss { before_per_s: 1_000.0, after_per_s: 900.0, failed: 7, slowest_ms: 5_012.0, back_after_ms }
}

fn report(losses: Vec<Loss>) -> Report {
    Report {
        machine: Machine { cores: 2, ..Machine::here() },
        level: 16,
        exchange: "multiplexed".into(),
        tls: true,
        right: 11,
        wrong: 0,
        unnamed: 0,
        losses,
        resident_bytes: [[1 << 10, 2 << 10], [3 << 10, 4 << 10]],
        held_bytes: 0,
        waiting: 0,
        over_time: vec![(0, 4.0), (250, 8.0)],
    }
}

#[test]
fn every_figure_of_a_loss_stands_under_its_title() {
    let mut report = report(vec![loss(Some(321.0)), loss(None)]);
    assert_eq!(
        cells(&report.table()),
        [
            ["loss", "answers/s before", "failed", "slowest ms", "full speed after ms", "answers/s then"],
            ["1", "1,000", "7", "5,012", "321", "900"],
            ["2", "1,000", "7", "5,012", "not reached", "900"],
        ]
    );
    (report.wrong, report.unnamed, report.held_bytes, report.waiting) = (1, 2, 3, 4);
    assert_eq!(
        report.summary(),
        format!(
            "with TLS: 11 right, 1 wrong, 2 failed without naming {VICTIM}; in the end the servers held 3 B of messages and \
             4 queries; the two that lived on had 1.0 KiB and 2.0 KiB of memory before, 3.0 KiB and 4.0 KiB after"
        )
    );
    assert_eq!(lines(&report.chart()), [("answers/s", vec![("right", &[(0, 4.0), (250, 8.0)][..])])]);
}

#[test]
fn a_loss_is_clean_if_all_came_back_and_nothing_was_wrong_unnamed_or_kept() {
    assert!(report(vec![loss(Some(1.0))]).is_clean(), "that queries fail meanwhile is no surprise");
    let spoils: [fn(&mut Report); 5] = [
        |report| report.losses[0].back_after_ms = None,
        |report| report.wrong = 1,
        |report| report.unnamed = 1,
        |report| report.held_bytes = 1,
        |report| report.waiting = 1,
    ];
    for spoil in spoils {
        let mut bad = report(vec![loss(Some(1.0))]);
        spoil(&mut bad);
        assert!(!bad.is_clean());
    }
}

#[test]
fn right_answers_are_counted_by_quarters_of_a_second_but_for_the_last() {
    let ended = |at, right| Ended { at: Duration::from_millis(at), took: Duration::ZERO, right };
    let all = [
        ended(0, true),
        ended(249, true),
        ended(250, true),
        ended(251, false),
        ended(750, true),
        ended(1_000, true),
    ];
    assert_eq!(over_time(&all), [(0, 8.0), (250, 4.0), (500, 0.0), (750, 4.0)]);
    assert!(over_time(&[]).is_empty());
}

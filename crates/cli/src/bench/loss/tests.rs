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
    let all = [
        ended(0, 1, true),
        ended(249, 1, true),
        ended(250, 1, true),
        ended(251, 1, false),
        ended(750, 1, true),
        ended(1_000, 1, true),
    ];
    assert_eq!(over_time(&all), [(0, 8.0), (250, 4.0), (500, 0.0), (750, 4.0)]);
    assert!(over_time(&[]).is_empty());
}

fn ended(at: u64, took: u64, right: bool) -> Ended {
    Ended { at: Duration::from_millis(at), took: Duration::from_millis(took), right }
}

#[test]
fn what_came_from_a_loss_on_is_what_it_cost() {
    let all = [
        ended(10, 900, false),
        ended(99, 800, true),
        ended(100, 7, false),
        ended(150, 30, true),
        ended(200, 5, false),
    ];
    assert_eq!(since(&all, Duration::from_millis(100)), (2, 30.0));
    assert_eq!(since(&all, Duration::from_millis(101)), (1, 30.0));
    assert_eq!(since(&all, Duration::from_secs(1)), (0, 0.0));
}

#[test]
fn a_rate_is_of_the_right_answers_from_the_one_moment_and_before_the_other() {
    let all = [
        ended(99, 1, true),
        ended(100, 1, true),
        ended(200, 1, false),
        ended(599, 1, true),
        ended(600, 1, true),
    ];
    assert_eq!(rate(&all, Duration::from_millis(100), Duration::from_millis(600)), 4.0);
    assert_eq!(rate(&all, Duration::ZERO, Duration::from_secs(2)), 2.0);
    assert_eq!(rate(&[], Duration::ZERO, WINDOW), 0.0);
}

#[test]
fn a_query_is_wrong_or_named_the_lost_server_or_did_not() {
    let unavailable = |party| ClientError::Unavailable {
        party,
        address: ([127, 0, 0, 1], 9).into(),
        why: "it is gone".into(),
    };
    let mut bad = Bad::default();
    bad.note(Err(unavailable(VICTIM)));
    assert!(bad.wrong == 0 && bad.unnamed.is_empty());
    bad.note(Ok(()));
    for party in [Party::ALL[0], Party::ALL[2], Party::ALL[2]] {
        bad.note(Err(unavailable(party)));
    }
    assert_eq!(bad.wrong, 1);
    assert_eq!(bad.unnamed.values().copied().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn programs_find_what_a_loss_has_cost() {
    let mut report = report(vec![loss(Some(321.0)), loss(None)]);
    (report.wrong, report.unnamed, report.held_bytes, report.waiting) = (1, 2, 3, 4);
    let json = serde_json::to_value(&report).unwrap();
    let counts =
        ["level", "right", "wrong", "unnamed", "held_bytes", "waiting"].map(|name| json[name].as_u64());
    assert_eq!(counts, [16, 11, 1, 2, 3, 4].map(Some));
    assert_eq!((&json["exchange"], &json["tls"]), (&"multiplexed".into(), &true.into()));
    let names = ["before_per_s", "after_per_s", "slowest_ms", "back_after_ms"];
    let figures = |at: usize| names.map(|name| json["losses"][at][name].as_f64());
    assert_eq!(figures(0), [1_000.0, 900.0, 5_012.0, 321.0].map(Some));
    assert_eq!(figures(1)[3], None);
    assert!(json.get("over_time").is_none());
}

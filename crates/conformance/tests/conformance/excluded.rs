//! What a model cannot do by nature, and why.

use roadstead::Model;

/// Scenarios that are not asked of a model.
pub(crate) struct Excluded {
    pub(crate) model: Model,
    pub(crate) scenarios: &'static [&'static str],
    pub(crate) why: &'static str,
}

pub(crate) const EXCLUDED: &[Excluded] = &[
    Excluded {
        model: Model::Iterative,
        scenarios: &[
            "an_idle_connection_holds_one_descriptor",
            "a_crowd_that_says_nothing",
            "a_crowd_that_sends_slowly",
            "a_crowd_that_takes_nothing",
            "a_crowd_that_takes_slowly",
            "a_session_that_panics_is_lost_alone",
            "all_connections_share_one_memory",
            "all_share_one_rate",
            "connections_are_counted",
            "connections_of_one_address_are_counted",
            "a_drain_ends_idle_connections",
            "a_drain_under_load_loses_nothing",
            "a_lack_of_descriptors_is_survived",
            "a_limit_below_what_is_open_ends_nobody",
            "a_thousand_at_once",
            "many_come_by_one_path",
            "endless_jobs_hold_neither_their_connection_nor_another",
            "slow_ones_beside_quick_ones",
            "work_goes_on_without_descriptors",
        ],
        why: "it serves one client at a time: several that are open at once there cannot be",
    },
    Excluded {
        model: Model::Process,
        scenarios: &["an_idle_connection_holds_one_descriptor"],
        why: "each of its children has its own of the descriptors that others have once",
    },
];

/// Why a scenario is not asked of a model.
pub(crate) fn why(model: Model, scenario: &str) -> Option<&'static str> {
    let excluded = EXCLUDED.iter().find(|row| row.model == model && row.scenarios.contains(&scenario));
    excluded.map(|row| row.why)
}

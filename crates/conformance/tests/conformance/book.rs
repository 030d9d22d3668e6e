//! The page of the book that lists the scenarios is made of the list that is run.

use std::{collections::BTreeSet, env, fmt::Write, fs};

use libtest_mimic::Trial;

use roadstead::Model;
use roadstead_conformance::setting::Setting;

use crate::{On, THEMES, all, excluded::EXCLUDED};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/conformance.md");
/// Set, the page is written anew.
const RENEW: &str = "ROADSTEAD_RENEW";

/// What must hold of the list itself.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name, check: fn()| {
        Trial::test(name, move || {
            check();
            Ok(())
        })
    };
    vec![
        trial("list::every_name_is_used_once", every_name_is_used_once),
        trial("list::exclusions_name_what_there_is", exclusions_name_what_there_is),
        trial("list::the_book_has_it", the_book_has_it),
    ]
}

fn every_name_is_used_once() {
    let names: BTreeSet<_> = all().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), all().count());
    let settings = Setting::all();
    let names: BTreeSet<_> = settings.iter().map(Setting::name).collect();
    assert_eq!(names.len(), settings.len());
}

fn exclusions_name_what_there_is() {
    for row in EXCLUDED {
        for excluded in row.scenarios {
            assert!(all().any(|scenario| scenario.name == *excluded), "there is no scenario `{excluded}`");
        }
    }
}

fn the_book_has_it() {
    let page = page();
    if env::var_os(RENEW).is_some() {
        fs::write(PAGE, page).unwrap();
        return;
    }
    let is = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        is == page,
        "docs/conformance.md is not what the list says; renew it with \
         `{RENEW}=1 cargo test -p roadstead-conformance --test conformance list::`"
    );
}

fn page() -> String {
    let mut page = include_str!("page.md").to_owned();
    let models: Vec<_> = Model::ALL.into_iter().filter(|model| model.obstacle().is_none()).collect();
    let _ = writeln!(page, "\nThere are {} scenarios and {} models.", all().count(), models.len());
    for (theme, scenarios) in THEMES {
        let _ = write!(page, "\n## {theme}\n\n| scenario | shows | on |\n|---|---|---|\n");
        for scenario in *scenarios {
            let on = match scenario.on {
                On::Select => "`select`",
                On::Models => "models",
                On::Wires => "wires",
                On::Queues => "queues",
                On::Everything => "everything",
                On::Datagrams => "datagrams",
            };
            let _ = writeln!(page, "| `{}` | {} | {on} |", scenario.name, scenario.about);
        }
    }
    page += "\n## What a model cannot do\n\n| model | scenarios | why not |\n|---|---|---|\n";
    for row in EXCLUDED {
        let names: Vec<_> = row.scenarios.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(page, "| `{}` | {} | {} |", row.model, names.join(", "), row.why);
    }
    page
}

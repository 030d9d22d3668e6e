//! What a fault is: a place in a file of the tree, and what a good engineer could have written there by mistake.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// One fault.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A few words with hyphens between them; unique.
    pub name: String,
    /// The file, from the root of the tree.
    pub file: String,
    /// What stands there now: an expression, or statements; in its surroundings if it is marked with `«` and `»`.
    /// Several can be marked.
    pub was: String,
    /// What stands there instead when the fault is chosen; of several places each marked.
    pub becomes: String,
    /// What a user would see, in one line.
    pub user: String,
    /// The tests that are tried first: `crate/target` and a part of their names.
    #[serde(default)]
    pub tests: Vec<String>,
    /// The part of the system that it is in: the name of the file it was read from.
    #[serde(skip)]
    pub area: String,
}

/// What is wrong with the list of faults.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "their texts say it")]
pub enum FaultError {
    #[error("{path}: {error}")]
    Read { path: PathBuf, error: io::Error },
    #[error("{path}: {error}")]
    Syntax { path: PathBuf, error: toml::de::Error },
    #[error("two faults are called {0}")]
    Twice(String),
    #[error("{name}: {file} has its text {count} times; it must be there once, so add what stands beside it")]
    Place { name: String, file: String, count: usize },
    #[error("{0}: `user` is to say in one line what somebody would see")]
    Silent(String),
    #[error("{0}: what it becomes is what it was")]
    Same(String),
    #[error("{0}: as many places must be marked with « and » in what it becomes as in what it was")]
    Uneven(String),
    #[error("{0} and {1} replace the same text")]
    Overlap(String, String),
}

/// The places of faults in one file, in order.
type Places<'a> = Vec<Place<'a>>;

/// One place: what stands there, what it becomes, and for which fault.
#[derive(Debug)]
pub struct Place<'a> {
    range: Range<usize>,
    becomes: &'a str,
    name: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    fault: Vec<Fault>,
}

/// Reads all lists in a directory, by area.
///
/// # Errors
/// If one cannot be read.
pub fn load(dir: &Path) -> Result<Vec<Fault>, FaultError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| FaultError::Read { path, error }
    };
    let entries =
        fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(unreadable(dir))?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
        let list: List =
            toml::from_str(&text).map_err(|error| FaultError::Syntax { path: path.clone(), error })?;
        let area = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.extend(list.fault.into_iter().map(|fault| Fault { area: area.clone(), ..fault }));
    }
    Ok(all)
}

/// Where each fault goes in the tree at `root`, by file.
///
/// # Errors
/// The first fault that is not as it must be.
pub fn places<'a>(faults: &'a [Fault], root: &Path) -> Result<BTreeMap<&'a str, Places<'a>>, FaultError> {
    let (mut names, mut texts, mut all) = (HashSet::new(), HashMap::new(), BTreeMap::<_, Places>::new());
    for fault in faults {
        if !names.insert(&fault.name) {
            return Err(FaultError::Twice(fault.name.clone()));
        }
        if fault.user.trim().is_empty() || fault.user.contains('\n') {
            return Err(FaultError::Silent(fault.name.clone()));
        }
        if !texts.contains_key(&fault.file) {
            let path = root.join(&fault.file);
            let text = fs::read_to_string(&path).map_err(|error| FaultError::Read { path, error })?;
            texts.insert(&fault.file, text);
        }
        all.entry(fault.file.as_str()).or_default().extend(fault.places(&texts[&fault.file])?);
    }
    for places in all.values_mut() {
        places.sort_by_key(|place| place.range.start);
        if let Some([one, other]) = places.array_windows().find(|[a, b]| a.range.end > b.range.start) {
            return Err(FaultError::Overlap(one.name.into(), other.name.into()));
        }
    }
    Ok(all)
}

/// `text` with all its faults in it, each behind its name.
pub fn rewrite(text: &str, places: &Places<'_>) -> String {
    let (mut planted, mut done) = (String::with_capacity(2 * text.len()), 0);
    for place in places {
        planted += &text[done..place.range.start];
        planted += &place.choice(&text[place.range.clone()]);
        done = place.range.end;
    }
    planted + &text[done..]
}

impl Place<'_> {
    /// Statements end with a mark of their end, and stay statements; all else is an expression, and may stand between
    /// others.
    fn choice(&self, was: &str) -> String {
        let Self { becomes, name, .. } = self;
        let choice = format!("if planted::is!({name:?}) {{ {becomes} }} else {{ {was} }}");
        if was.trim_end().ends_with([';', '}']) { choice } else { format!("({choice})") }
    }
}

impl Fault {
    /// The text without marks, and where in it what was marked is; all of it, if nothing was.
    fn sought(&self) -> (String, Vec<Range<usize>>) {
        let (mut sought, mut spots) = (String::new(), Vec::new());
        let mut parts = self.was.trim_end_matches('\n').split('«');
        sought += parts.next().unwrap_or_default();
        for (spot, after) in parts.filter_map(|part| part.split_once('»')) {
            spots.push(sought.len()..sought.len() + spot.len());
            sought = sought + spot + after;
        }
        if spots.is_empty() {
            spots.push(0..sought.len());
        }
        (sought, spots)
    }

    /// What stands in each of its places instead.
    fn becomes(&self) -> Vec<&str> {
        let marked = self.becomes.split('«').skip(1).filter_map(|part| part.split('»').next());
        let marked: Vec<_> = marked.collect();
        if marked.is_empty() { vec![self.becomes.trim_end_matches('\n')] } else { marked }
    }

    fn places(&self, text: &str) -> Result<Places<'_>, FaultError> {
        let ((sought, spots), becomes) = (self.sought(), self.becomes());
        if spots.len() != becomes.len() {
            return Err(FaultError::Uneven(self.name.clone()));
        }
        if spots.iter().zip(&becomes).any(|(spot, becomes)| sought[spot.clone()].trim() == becomes.trim()) {
            return Err(FaultError::Same(self.name.clone()));
        }
        let found: Vec<_> = text.match_indices(&sought).map(|(at, _)| at).collect();
        let [at] = found[..] else {
            let (name, file) = (self.name.clone(), self.file.clone());
            return Err(FaultError::Place { name, file, count: found.len() });
        };
        let spots = spots.into_iter().map(|spot| at + spot.start..at + spot.end);
        let places = spots.zip(becomes);
        Ok(places.map(|(range, becomes)| Place { range, becomes, name: &self.name }).collect())
    }

    /// The name of the crate it is in: its directory's.
    pub fn room(&self) -> &str {
        self.file.split('/').nth(1).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, was: &str, becomes: &str) -> Fault {
        let [name, was, becomes] = [name, was, becomes].map(str::to_owned);
        Fault {
            name,
            file: "crates/a/f.rs".into(),
            was,
            becomes,
            user: "harm".into(),
            tests: vec![],
            area: "a".into(),
        }
    }

    fn planted(text: &str, faults: &[Fault]) -> Result<String, FaultError> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("crates/a")).unwrap();
        fs::write(dir.path().join("crates/a/f.rs"), text).unwrap();
        let places = places(faults, dir.path())?;
        Ok(rewrite(text, &places["crates/a/f.rs"]))
    }

    #[test]
    fn an_expression_and_a_statement_are_each_replaced_by_a_choice() {
        let faults = [fault("more", "«a < b» {", "a <= b"), fault("less", "done();\n", "")];
        assert_eq!(
            planted("if a < b { done(); }", &faults).unwrap(),
            "if (if planted::is!(\"more\") { a <= b } else { a < b }) { \
             if planted::is!(\"less\") {  } else { done(); } }"
        );
    }

    #[test]
    fn a_fault_may_have_several_places() {
        let swapped = [fault("swap", "let a = «one()»; let b = «two()»;", "«two()» «one()»")];
        assert_eq!(
            planted("let a = one(); let b = two();", &swapped).unwrap(),
            "let a = (if planted::is!(\"swap\") { two() } else { one() }); \
             let b = (if planted::is!(\"swap\") { one() } else { two() });"
        );
        let uneven = [fault("swap", "«one()» «two()»", "two()")];
        assert!(matches!(planted("one() two()", &uneven), Err(FaultError::Uneven(_))));
    }

    #[test]
    fn a_place_must_be_there_once_and_be_nobody_elses() {
        assert!(matches!(planted("b", &[fault("x", "a", "")]), Err(FaultError::Place { count: 0, .. })));
        assert!(matches!(planted("a a", &[fault("x", "a", "")]), Err(FaultError::Place { count: 2, .. })));
        let overlapping = [fault("x", "a + b", ""), fault("y", "b + c", "")];
        assert!(matches!(planted("a + b + c", &overlapping), Err(FaultError::Overlap(..))));
        assert!(matches!(
            planted("a b", &[fault("x", "a", ""), fault("x", "b", "")]),
            Err(FaultError::Twice(_))
        ));
        assert!(matches!(planted("a", &[fault("x", "a", "a")]), Err(FaultError::Same(_))));
    }
}

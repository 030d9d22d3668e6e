//! Where a measurement's report goes: a table for people, JSON for programs, a picture.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use roadstead_load::{
    chart::ChartError,
    report::{Destination, ReportError, Stream},
};

use crate::{
    outcome::{Outcome, Result},
    signals,
};

/// Directories that a command is about to make. They are gone again if there is nothing in them when it has ended.
pub(crate) struct NewDirectories(Vec<PathBuf>);

impl NewDirectories {
    /// `path`, and what is missing above it. Refused where something else has its place.
    pub(crate) fn before(path: &Path) -> Result<Self> {
        let ancestors = || path.ancestors().take_while(|dir| !dir.as_os_str().is_empty());
        match ancestors().find(|found| found.exists()) {
            Some(found) if !found.is_dir() => {
                let (path, found) = (path.display(), found.display());
                Err(format!("cannot make the directory {path}: {found} is a file; move it away, or choose another place")
                    .into())
            }
            _ => Ok(Self(ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect())),
        }
    }
}

impl Drop for NewDirectories {
    fn drop(&mut self) {
        for dir in &self.0 {
            // Fails if anything is in it.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// A report that can be delivered in all its forms.
pub(crate) trait Findings: Serialize {
    /// Whether there is no figure in it, as when a signal came too early.
    fn is_empty(&self) -> bool;
    /// Whether nothing was wrong and nothing failed.
    fn is_clean(&self) -> bool;
    fn print(&self, stream: Stream) -> Result<(), ReportError>;
    fn svg(&self) -> Result<String, ChartError>;
}

#[derive(clap::Args)]
pub(crate) struct Output {
    /// Write the report as JSON to this file; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<OsString>,
    /// Draw the report into this file, as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<OsString>,
}

impl Output {
    fn json(&self) -> Option<Destination> {
        self.json.clone().map(Destination::from)
    }

    fn svg(&self) -> Option<Destination> {
        self.svg.clone().map(Destination::from)
    }

    /// Refuses what cannot be written, before anything is measured.
    pub(crate) fn check(&self) -> Result<(), ReportError> {
        [self.json(), self.svg()].iter().flatten().try_for_each(Destination::check)
    }

    /// Where people read.
    pub(crate) fn stream(&self) -> Stream {
        Stream::beside(self.json().as_ref())
    }

    /// The files come first: they are wanted even if nobody reads the table. Nothing is delivered of what a signal
    /// ended before anything was measured.
    pub(crate) fn deliver(&self, report: &impl Findings) -> Result<Outcome> {
        if report.is_empty() {
            signals::check()?;
        }
        if signals::interrupted() {
            tracing::warn!("interrupted: the report holds what was measured until now");
        }
        let files = self.write(report);
        report.print(self.stream())?;
        files?;
        Ok(if report.is_clean() { Outcome::Done } else { Outcome::Wrong })
    }

    fn write(&self, report: &impl Findings) -> Result<()> {
        if let Some(json) = self.json() {
            json.write_json(report)?;
        }
        if let Some(svg) = self.svg() {
            match report.svg() {
                Err(ChartError::Empty(_)) => tracing::warn!("nothing was measured, so {svg} was not drawn"),
                drawn => svg.write(&drawn?)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use roadstead_load::{
        chart::{Chart, Panel},
        report::Table,
    };

    use super::*;

    #[derive(Serialize)]
    struct Found {
        clean: bool,
        #[serde(skip)]
        drawn: Option<&'static str>,
    }

    impl Findings for Found {
        fn is_empty(&self) -> bool {
            false
        }

        fn is_clean(&self) -> bool {
            self.clean
        }

        fn print(&self, _: Stream) -> Result<(), ReportError> {
            Ok(())
        }

        fn svg(&self) -> Result<String, ChartError> {
            self.drawn.map(str::to_owned).ok_or(ChartError::Empty("chart".into()))
        }
    }

    #[test]
    fn a_report_is_delivered_into_each_file_that_was_asked_for_whether_it_is_clean_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        for (clean, outcome) in [(true, Outcome::Done), (false, Outcome::Wrong)] {
            let [json, svg] = ["json", "svg"].map(|name| Some(file(name).into_os_string()));
            assert_eq!(
                Output { json, svg }.deliver(&Found { clean, drawn: Some("<svg/>") }).unwrap(),
                outcome
            );
            let json: Result<serde_json::Value, _> = serde_json::from_slice(&fs::read(file("json")).unwrap());
            assert_eq!(json.unwrap(), serde_json::json!({ "clean": clean }));
            assert_eq!(fs::read_to_string(file("svg")).unwrap().trim(), "<svg/>");
        }
    }

    #[test]
    fn a_picture_of_nothing_is_not_drawn_which_is_said_and_the_rest_is_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| Some(dir.path().join(name).into_os_string());
        let output = Output { json: file("json"), svg: file("svg") };
        let mut outcome = None;
        let said = logged(|| outcome = output.deliver(&Found { clean: true, drawn: None }).ok());
        assert_eq!(outcome, Some(Outcome::Done));
        let svg = dir.path().join("svg");
        assert!(
            said.contains("WARN") && said.contains(&format!("so {} was not drawn", svg.display())),
            "{said}"
        );
        assert!(dir.path().join("json").exists() && !svg.exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused_before_anything_is_measured() {
        let dir = tempfile::tempdir().unwrap();
        let [here, nowhere] = ["file", "nowhere/file"].map(|name| dir.path().join(name).into_os_string());
        let check = |json: &OsString, svg: &OsString| {
            Output { json: Some(json.clone()), svg: Some(svg.clone()) }.check()
        };
        assert!(check(&here, &here).is_ok());
        for refused in [check(&nowhere, &here), check(&here, &nowhere)] {
            assert!(refused.unwrap_err().to_string().contains("nowhere"));
        }
    }

    #[test]
    fn directories_that_stay_empty_are_gone_again_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "old/new"].map(|name| dir.path().join(name));
        fs::create_dir(&old).unwrap();
        for keeps in [true, false] {
            let made = NewDirectories::before(&new.join("newer")).unwrap();
            fs::create_dir_all(new.join("newer")).unwrap();
            if keeps {
                fs::write(new.join("kept"), "").unwrap();
            }
            drop(made);
            assert_eq!((new.exists(), new.join("newer").exists()), (keeps, false));
            let _ = fs::remove_dir_all(&new);
        }
        drop(NewDirectories::before(&old).unwrap());
        assert!(old.exists(), "it was there before");
        fs::write(old.join("file"), "").unwrap();
        let error = NewDirectories::before(&old.join("file/below")).err().unwrap().to_string();
        let [below, file] = ["file/below", "file"].map(|name| old.join(name).display().to_string());
        let said = format!(
            "cannot make the directory {below}: {file} is a file; move it away, or choose another place"
        );
        assert_eq!(error, said);
    }

    /// What is logged meanwhile by this thread, a line for each.
    pub(crate) fn logged(work: impl FnOnce()) -> String {
        let said = Arc::new(Mutex::new(Vec::new()));
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let log = log.without_time().with_writer(Mutex::new(Said(Arc::clone(&said))));
        tracing::subscriber::with_default(log.finish(), work);
        let said = said.lock().unwrap();
        String::from_utf8(said.clone()).unwrap()
    }

    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The cells of a table by rows, of which the first has the titles.
    pub(crate) fn cells(table: &Table) -> Vec<Vec<String>> {
        let text = table.to_string();
        let rows = text.lines().filter_map(|line| line.strip_prefix('│')?.strip_suffix('│'));
        rows.map(|row| row.split('┆').map(|cell| cell.trim().to_owned()).collect()).collect()
    }

    /// Of every panel its axis, and of every line in it the name and the points.
    pub(crate) fn lines(chart: &Chart) -> Vec<(&str, Drawn<'_>)> {
        chart.panels.iter().map(|panel| (panel.y_axis.as_str(), drawn(panel))).collect()
    }

    /// The names of lines, and their points.
    type Drawn<'a> = Vec<(&'a str, &'a [(u64, f64)])>;

    fn drawn(panel: &Panel) -> Drawn<'_> {
        panel.series.iter().map(|line| (line.name.as_str(), line.points.as_slice())).collect()
    }
}

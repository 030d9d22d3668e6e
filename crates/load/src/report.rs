//! Results for people (a table) and for programs (JSON), and how figures are written.

mod table;

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::termios::tcgetwinsize;
use serde::Serialize;
use tempfile::NamedTempFile;

pub use table::{Column, Table};

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file or stream cannot be written.
    #[error("cannot write {destination}: {source}")]
    Unwritable {
        /// Where it should have gone.
        destination: Destination,
        /// What the system said.
        source: io::Error,
    },
    /// The value has no form in JSON (such as a map whose keys are not strings).
    #[error("the result cannot be put into JSON: {0}")]
    Unserializable(#[source] serde_json::Error),
}

/// Where a result goes: what `--json FILE` and `--svg FILE` take, with `-` for stdout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file, replaced in one step: a reader sees the old one or the new one.
    File(PathBuf),
}

impl From<OsString> for Destination {
    fn from(argument: OsString) -> Self {
        if argument == "-" { Self::Stdout } else { Self::File(argument.into()) }
    }
}

impl From<&str> for Destination {
    fn from(argument: &str) -> Self {
        OsString::from(argument).into()
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Destination {
    /// Finds out whether it can be written, and changes nothing: to know it before the work is done.
    pub fn check(&self) -> Result<(), ReportError> {
        let outcome = match self {
            Self::Stdout => Ok(()),
            Self::File(path) if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Self::File(path) => {
                target(path).and_then(|target| target.as_deref().map_or(Ok(()), |it| beside(it).map(drop)))
            }
        };
        outcome.map_err(|source| ReportError::Unwritable { destination: self.clone(), source })
    }

    /// Writes `value` as indented JSON with a final newline.
    pub fn write_json<T: Serialize>(&self, value: &T) -> Result<(), ReportError> {
        let mut text = serde_json::to_string_pretty(value).map_err(ReportError::Unserializable)?;
        text.push('\n');
        self.write(&text)
    }

    /// Writes `text` as it is.
    pub fn write(&self, text: &str) -> Result<(), ReportError> {
        let outcome = match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                heard(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
            }
            Self::File(path) => replace(path, text.as_bytes()),
        };
        outcome.map_err(|source| ReportError::Unwritable { destination: self.clone(), source })
    }
}

/// What has come of writing to stdout. Whoever reads there may stop when they have seen enough, as `head` does.
fn heard(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Replaces the file at `path` in one step; what is not a regular file (a pipe, a terminal, `/dev/null`)
/// is written to instead.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(target) = target(path)? else {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(bytes);
    };
    let mut file = beside(&target)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// The regular file that `path` is or will be; none if it is something else.
fn target(path: &Path) -> io::Result<Option<PathBuf>> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Ok(None),
        // The file behind a link is replaced, not the link.
        Ok(_) => fs::canonicalize(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(path.to_owned())),
        Err(error) => Err(error),
    }
}

/// A file in the same directory, which is deleted unless it takes the place of `target`.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A result is no secret: it gets the permissions of any new file.
    let file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(directory);
    // The message names the destination; the temporary name would only confuse.
    file.map_err(|error| match error.kind() {
        kind @ io::ErrorKind::NotFound => {
            io::Error::new(kind, format!("there is no directory {}", directory.display()))
        }
        kind => kind.into(),
    })
}

/// The stream that tables are printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Where tables go beside JSON: to stdout, unless the JSON itself takes it.
    pub fn beside(json: Option<&Destination>) -> Self {
        match json {
            Some(Destination::Stdout) => Self::Stderr,
            _ => Self::Stdout,
        }
    }

    /// How many characters a line has, if it is a terminal.
    fn width(self) -> Option<u16> {
        let size = match self {
            Self::Stdout => tcgetwinsize(io::stdout()),
            Self::Stderr => tcgetwinsize(io::stderr()),
        };
        size.ok().map(|size| size.ws_col).filter(|&columns| columns > 0)
    }

    /// Prints a sentence, which a terminal does not break within a word.
    pub fn tell(self, sentence: &str) -> Result<(), ReportError> {
        match self.width() {
            Some(width) => self.print(&folded(sentence, width.into())),
            None => self.print(sentence),
        }
    }

    /// Prints a line.
    pub fn print(self, line: &str) -> Result<(), ReportError> {
        match self {
            Self::Stdout => heard(writeln!(io::stdout().lock(), "{line}"))
                .map_err(|source| ReportError::Unwritable { destination: Destination::Stdout, source }),
            Self::Stderr => {
                // Nobody can be told that stderr is closed.
                let _ = writeln!(io::stderr().lock(), "{line}");
                Ok(())
            }
        }
    }
}

/// A sentence in lines of at most `width` characters, if no word is longer.
fn folded(sentence: &str, width: usize) -> String {
    let (mut folded, mut used) = (String::new(), 0);
    for word in sentence.split(' ') {
        let length = word.chars().count();
        if used > 0 {
            let fits = used + 1 + length <= width;
            folded.push(if fits { ' ' } else { '\n' });
            used = if fits { used + 1 } else { 0 };
        }
        folded.push_str(word);
        used += length;
    }
    folded
}

/// `value` with `decimals` digits after the point and thousands apart: `1,234.5`. NaN and infinities are `-`.
pub fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.as_str(), None),
    };
    let rounded_to_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let mut out = String::new();
    if value < 0.0 && !rounded_to_zero {
        out.push('-');
    }
    push_grouped(&mut out, whole);
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A whole number with thousands apart: `20,000`.
pub fn count(value: u64) -> String {
    let mut out = String::new();
    push_grouped(&mut out, &value.to_string());
    out
}

fn push_grouped(out: &mut String, digits: &str) {
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
}

/// Milliseconds with three significant digits at least, without the unit: `0.083`, `1.25`, `12.5`, `1,250`.
pub fn millis(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 1.0 => 3,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    number(value, decimals)
}

/// A size in binary units: `512 B`, `4.7 KiB`, `1.5 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    // Past this, one decimal would round up to 1,024.0.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", number(scaled, 1), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    #[test]
    fn a_sentence_is_folded_between_words_and_keeps_them_all() {
        let sentence = "rows of 128 elements, unabbreviated";
        assert_eq!(folded(sentence, 12), "rows of 128\nelements,\nunabbreviated");
        for width in 0..40 {
            let folded = folded(sentence, width);
            assert_eq!(folded.replace('\n', " "), sentence);
            let long = folded.lines().filter(|line| line.chars().count() > width);
            assert_eq!(long.filter(|line| line.contains(' ')).count(), 0, "{width}: {folded}");
        }
        assert_eq!(folded("", 5), "");
    }

    #[test]
    fn figures_are_grouped_and_rounded() {
        let cases: [(f64, usize, &str); 9] = [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (1_000.0, 0, "1,000"),
            (1_234.56, 1, "1,234.6"),
            (999.96, 1, "1,000.0"),
            (-1_234_567.0, 0, "-1,234,567"),
            (-0.01, 1, "0.0"),
            (f64::NAN, 2, "-"),
            (f64::INFINITY, 2, "-"),
        ];
        for (value, decimals, expected) in cases {
            assert_eq!(number(value, decimals), expected);
        }
        assert_eq!(count(0), "0");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn units_change_where_they_should() {
        assert_eq!(millis(0.0831), "0.083");
        assert_eq!(millis(1.254), "1.25");
        assert_eq!(millis(12.54), "12.5");
        assert_eq!(millis(1_254.0), "1,254");
        assert_eq!([1.0, 10.0, 100.0].map(millis), ["1.00", "10.0", "100"]);
        assert_eq!([-0.5, -12.54, -1_254.0].map(millis), ["-0.500", "-12.5", "-1,254"]);
        assert_eq!(millis(f64::NAN), "-");
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_024), "1.0 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        fs::write(&path, "something much longer than what follows").unwrap();
        let link = directory.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for name in [&path, &link] {
            Destination::File(name.clone()).write_json(&[1]).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "[\n  1\n]\n");
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = |name| fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        fs::remove_file(&path).unwrap();
        Destination::File(path).write("a result is no secret").unwrap();
        fs::write(directory.path().join("other"), "").unwrap();
        assert_eq!(mode("out.json"), mode("other"), "others may read what they may read of any new file");
        fs::remove_file(directory.path().join("other")).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_a_pipe() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let mode = Mode::from_bits_truncate(0o600);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        Destination::File(path.clone()).write("hello").unwrap();
        assert_eq!(reader.join().unwrap(), "hello");
        assert!(!fs::metadata(&path).unwrap().is_file());
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing").join("out.json");
        let error = Destination::File(path.clone()).write_json(&0).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(Destination::File(directory.path().into()).write("").is_err());
    }

    #[test]
    fn what_cannot_be_written_is_known_before_and_what_can_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let within = |name: &str| Destination::File(directory.path().join(name));
        fs::write(directory.path().join("there"), "old").unwrap();
        for fine in [Destination::Stdout, within("new"), within("there"), "/dev/null".into()] {
            fine.check().unwrap();
        }
        assert_eq!(fs::read_to_string(directory.path().join("there")).unwrap(), "old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        for bad in [within("missing/out"), within(""), within("there/out")] {
            assert_eq!(bad.check().is_err(), bad.write("").is_err());
            assert!(bad.check().is_err(), "{bad}");
        }
    }

    #[test]
    fn tables_make_room_for_json_on_stdout() {
        assert_eq!(Destination::from("-"), Destination::Stdout);
        assert_eq!(Stream::beside(Some(&"-".into())), Stream::Stderr);
        assert_eq!(Stream::beside(Some(&"./-".into())), Stream::Stdout);
        assert_eq!(Stream::beside(None), Stream::Stdout);
    }
}

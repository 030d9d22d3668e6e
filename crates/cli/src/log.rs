//! What is said on stderr: the log, a panic, and why a command fails. None of it is waited for.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io, panic,
    sync::OnceLock,
};

use roadstead::log::{Dropped, Log};
use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Who says what a server has come to: heard unless somebody asked for less.
pub(crate) const CLOSING: &str = "roadstead::closing";

static LOG: OnceLock<Log> = OnceLock::new();

/// Everything that is said goes to stderr from now on, where it is waited for no more.
pub(crate) fn begin() -> io::Result<()> {
    let log = Log::stderr()?;
    LOG.get_or_init(|| log);
    panic::set_hook(Box::new(|panic| write(Some(0), &panic.to_string().replace('\n', " "))));
    Ok(())
}

/// Logs what passes `filter` from now on.
pub(crate) fn follow(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(ByKind)
        .with_ansi(false)
        .with_target(false)
        .log_internal_errors(false)
        .init();
}

/// Says a line that is not part of the log.
pub(crate) fn say(line: &str) {
    write(None, line);
}

/// Nothing more is to come.
pub(crate) fn end() {
    LOG.get().iter().for_each(|log| log.finish());
}

/// What was not written of it so far.
pub(crate) fn dropped() -> Dropped {
    LOG.get().map(Log::dropped).unwrap_or_default()
}

fn write(kind: Option<u64>, line: &str) {
    LOG.get().iter().for_each(|log| log.say(kind, line));
}

/// Lines of one place in the program are of a kind. Those that -v and -vv ask for are wanted one and all.
struct ByKind;

impl MakeWriter<'_> for ByKind {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(None)
    }

    fn make_writer_for(&self, place: &Metadata<'_>) -> Line {
        let number = BuildHasherDefault::<DefaultHasher>::default().hash_one(place.callsite());
        Line((*place.level() <= Level::WARN).then_some(number))
    }
}

struct Line(Option<u64>);

impl io::Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write(self.0, &String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        process::{Command, Stdio},
        thread,
    };

    use super::*;

    /// What the log is of this process is said in a process of its own.
    const ALONE: &str = "ROADSTEAD_TEST_OF_THE_LOG";

    /// What a process says on stderr that is this test alone, and finds [`ALONE`] set.
    fn said_alone(name: &str) -> String {
        let mut alone = Command::new(env::current_exe().unwrap());
        let alone = alone.args(["--exact", &format!("log::tests::{name}"), "--nocapture"]);
        let output = alone.env(ALONE, "1").stdout(Stdio::null()).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    }

    #[test]
    fn warnings_of_a_kind_are_a_few_and_then_their_number_and_what_was_asked_for_is_said_one_and_all() {
        if env::var_os(ALONE).is_some() {
            begin().unwrap();
            follow(EnvFilter::new("info"));
            (0..300).for_each(|_| tracing::info!("asked for"));
            (0..300).for_each(|_| tracing::warn!("often"));
            (0..3).for_each(|_| tracing::error!("of another kind"));
            return end();
        }
        let said = said_alone(
            "warnings_of_a_kind_are_a_few_and_then_their_number_and_what_was_asked_for_is_said_one_and_all",
        );
        let count = |what: &str| said.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("asked for"), count("of another kind")), (300, 3), "{said}");
        assert!((10..300).contains(&count("often")), "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains("log::"), "no colours, no places: {said}");
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_with_its_place() {
        if env::var_os(ALONE).is_some() {
            begin().unwrap();
            assert!(thread::spawn(|| panic!("first\nsecond")).join().is_err());
            say("and that was all");
            return end();
        }
        let said = said_alone("a_panic_is_one_line_of_the_log_with_its_place");
        let lines: Vec<&str> = said.lines().collect();
        let [panic, last] = lines[..] else { panic!("{said}") };
        assert!(panic.contains("panicked at ") && panic.contains("log.rs:"), "{said}");
        assert!(panic.ends_with("first second"), "{said}");
        assert_eq!(last, "and that was all");
    }
}

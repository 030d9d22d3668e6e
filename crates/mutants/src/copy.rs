//! The planted copy of the tree: what git tracks and nothing else, with all faults in it, built once.

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::fault::{self, Fault, FaultError};

/// The crate that answers which fault was chosen.
const PLANTED: &str = include_str!("../planted.rs");
/// Where it lies in the copy.
const CRATE: &str = "crates/planted";
/// This crate, which is not copied.
const OURSELVES: &str = "crates/mutants";
const MANIFEST: &str = "[package]
name = \"planted\"
version = \"0.1.0\"
edition.workspace = true
publish = false

[lib]
path = \"lib.rs\"
";

/// Why there is no planted copy.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "their texts say it")]
pub enum CopyError {
    #[error(transparent)]
    Fault(#[from] FaultError),
    #[error("{path}: {error}")]
    Write { path: PathBuf, error: io::Error },
    #[error("{program}: {error}")]
    Program { program: &'static str, error: io::Error },
    #[error("{0} failed")]
    Failed(String),
    #[error("cargo's messages: {0}")]
    Message(#[from] serde_json::Error),
}

/// Copies the tree at `root` to `to`, and plants all `faults` in it. What did not change is not written again, so that
/// the next build is short.
///
/// # Errors
/// If a fault has no place, or the copy cannot be written.
pub fn plant(faults: &[Fault], root: &Path, to: &Path) -> Result<(), CopyError> {
    let places = fault::places(faults, root)?;
    let tracked = tracked(root)?;
    for name in &tracked {
        let from = root.join(name);
        // A file that was deleted and not yet committed is still tracked.
        let Ok(content) = fs::read(&from) else { continue };
        let text = name.to_str().zip(str::from_utf8(&content).ok());
        let content = match text {
            Some((name, text)) if places.contains_key(name) => {
                fault::rewrite(text, &places[name]).into_bytes()
            }
            Some((name, text)) if places.keys().any(|file| is_manifest_of(name, file)) => text
                .replacen("[dependencies]\n", "[dependencies]\nplanted = { path = \"../planted\" }\n", 1)
                .into(),
            _ => content,
        };
        write(&to.join(name), &content)?;
    }
    write(&to.join(CRATE).join("Cargo.toml"), MANIFEST.as_bytes())?;
    write(&to.join(CRATE).join("lib.rs"), PLANTED.as_bytes())?;
    let known: HashSet<_> = tracked.iter().map(|name| to.join(name)).collect();
    clear(&to.join("crates"), &|path| known.contains(path) || path.starts_with(to.join(CRATE)))
}

/// Deletes what the tree has no more: a module that has moved would be found in both places.
fn clear(dir: &Path, keep: &dyn Fn(&Path) -> bool) -> Result<(), CopyError> {
    let failed = |error| CopyError::Write { path: dir.into(), error };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            clear(&path, keep)?;
        } else if !keep(&path) {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

fn is_manifest_of(name: &str, file: &str) -> bool {
    name.strip_suffix("Cargo.toml").is_some_and(|dir| file.starts_with(dir) && dir.matches('/').count() == 2)
}

/// The files of the tree, but for this crate's.
fn tracked(root: &Path) -> Result<Vec<PathBuf>, CopyError> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root);
    let listed = git.output().map_err(|error| CopyError::Program { program: "git", error })?;
    if !listed.status.success() {
        return Err(CopyError::Failed(format!("git ls-files in {}", root.display())));
    }
    let names = listed.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let paths = names.map(|name| PathBuf::from(OsStr::from_bytes(name)));
    Ok(paths.filter(|path| !path.starts_with(OURSELVES)).collect())
}

fn write(path: &Path, content: &[u8]) -> Result<(), CopyError> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, content))
        .map_err(|error| CopyError::Write { path: path.into(), error })
}

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tests {
    /// The directory of the crate, `cli`.
    pub room: String,
    /// `lib`, `bin`, or the name of a file in `tests`.
    pub target: String,
    /// The program.
    pub path: PathBuf,
    /// Where it is run.
    pub dir: PathBuf,
    /// The programs of its crate, which cargo tells it of: their names and where they are.
    pub programs: Vec<(String, PathBuf)>,
}

/// Builds all tests of the copy.
///
/// # Errors
/// If they do not compile, with what the compiler says of it.
pub fn build(copy: &Path, target: &Path) -> Result<Vec<Tests>, CopyError> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json"]);
    cargo.current_dir(copy).stdin(Stdio::null()).stderr(Stdio::inherit());
    // What tells of this crate, if cargo has started us, would have all builds that look at it begin anew.
    let ours = env::vars_os().filter(|(name, _)| {
        let name = name.as_encoded_bytes();
        [&b"CARGO_PKG_"[..], b"CARGO_MANIFEST_", b"CARGO_BIN_"].iter().any(|part| name.starts_with(part))
    });
    ours.for_each(|(name, _)| _ = cargo.env_remove(name));
    cargo.env("CARGO_TARGET_DIR", target).env("CARGO_INCREMENTAL", "0");
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let built = cargo.output().map_err(|error| CopyError::Program { program: "cargo", error })?;
    let lines = built.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let messages: Vec<Message> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    if built.status.success() {
        let programs: Vec<_> = messages.iter().filter_map(Message::program).collect();
        return Ok(messages.into_iter().filter_map(|it| it.tests(&programs)).collect());
    }
    // Of parentheses that nobody needs the copy is full.
    let errors = messages.into_iter().filter_map(|it| it.message).filter(|it| it.level == "error");
    let errors: String = errors.filter_map(|it| it.rendered).collect();
    Err(CopyError::Failed(format!("{errors}the build of the planted copy")))
}

/// What cargo says of something that it has built; of other messages all fields are empty.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    manifest_path: PathBuf,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
    message: Option<Diagnostic>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

impl Message {
    fn dir(&self) -> Option<&Path> {
        self.manifest_path.parent()
    }

    /// Where a crate has a program that is no test, its name, and where that is.
    fn program(&self) -> Option<(PathBuf, String, PathBuf)> {
        let (path, target) = (self.executable.as_ref()?, self.target.as_ref()?);
        (target.kind == ["bin"] && !self.profile.as_ref()?.test).then_some(())?;
        Some((self.dir()?.to_owned(), target.name.clone(), path.clone()))
    }

    fn tests(self, programs: &[(PathBuf, String, PathBuf)]) -> Option<Tests> {
        let dir = self.dir()?.to_owned();
        let (path, target) = (self.executable?, self.target?);
        let room = dir.file_name()?.to_string_lossy().into_owned();
        self.profile.filter(|profile| profile.test)?;
        let target = match target.kind.first()?.as_str() {
            "test" => target.name,
            kind => kind.to_owned(),
        };
        let its = programs.iter().filter(|(of, ..)| *of == dir);
        let programs = its.map(|(_, name, path)| (name.clone(), path.clone())).collect();
        Some(Tests { room, target, path, dir, programs })
    }
}

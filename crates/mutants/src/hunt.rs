//! The hunt for one fault: its tests in their order, until one has found it for certain.

use std::{io, time::Instant};

use serde::{Deserialize, Serialize};

use crate::{
    order::Step,
    program::{Asked, Ending, Runner},
};

/// How often a test that has failed once is run again until it fails by itself: a race is not lost each time. As often
/// it has to pass without the fault.
const AGAIN: usize = 3;

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What found it.
    pub found: Option<Found>,
    /// The steps that were tried, the last of which found it.
    pub tried: Vec<String>,
    /// Seconds of tests until then, without what it took to be certain.
    pub seconds: f64,
    /// Tests that failed and proved nothing: not again, or without the fault too.
    pub doubted: Vec<String>,
}

/// What found a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The test program.
    pub program: String,
    /// The test; or that the program hung, or how it ended.
    pub by: String,
}

/// Plays `fault` to the tests of those of `steps` that it has not survived `before`. `None` if somebody asked us to
/// end. `progress` hears of each step.
///
/// # Errors
/// If a test program cannot be begun.
pub fn hunt(
    fault: &str,
    steps: &[Step<'_>],
    before: Option<Verdict>,
    runner: &Runner,
    mut progress: impl FnMut(&Step<'_>),
) -> io::Result<Option<Verdict>> {
    let nothing = Verdict { found: None, tried: Vec::new(), seconds: 0.0, doubted: Vec::new() };
    let mut verdict = before.unwrap_or(nothing);
    for step in steps {
        if verdict.tried.contains(&step.name()) {
            continue;
        }
        progress(step);
        verdict.tried.push(step.name());
        match play(fault, step, &mut verdict, runner)? {
            Played::Interrupted => return Ok(None),
            Played::Survived => {}
            Played::Found(by) => {
                let program = format!("{}/{}", step.tests.room, step.tests.target);
                verdict.found = Some(Found { program, by });
                break;
            }
        }
    }
    Ok(Some(verdict))
}

/// What came of a step.
enum Played {
    /// By whom.
    Found(String),
    Survived,
    /// Somebody asked us to end.
    Interrupted,
}

/// Plays a step until it passes, or fails for certain. A test that fails and proves nothing is left out from then on.
fn play(fault: &str, step: &Step<'_>, verdict: &mut Verdict, runner: &Runner) -> io::Result<Played> {
    loop {
        let begun = Instant::now();
        let ending =
            runner.play(step, Asked { fault: Some(fault), only: None, without: &verdict.doubted })?;
        verdict.seconds += begun.elapsed().as_secs_f64();
        match ending {
            Ending::Passed(_) => return Ok(Played::Survived),
            Ending::Interrupted => return Ok(Played::Interrupted),
            Ending::Failed(test) => match is_certain(fault, step, &test, runner)? {
                None => return Ok(Played::Interrupted),
                Some(true) => return Ok(Played::Found(test)),
                Some(false) => verdict.doubted.push(test),
            },
            Ending::Hung | Ending::Broken(_) => {
                match runner.play(step, Asked { without: &verdict.doubted, ..Asked::default() })? {
                    Ending::Interrupted => return Ok(Played::Interrupted),
                    Ending::Passed(_) => return Ok(Played::Found(how(&ending))),
                    _ => verdict.doubted.push(how(&ending)),
                }
                return Ok(Played::Survived);
            }
        }
    }
}

/// Whether a test that has failed fails again with the fault, and passes as often as it may take to fail without.
/// `None` if somebody asked us to end.
fn is_certain(fault: &str, step: &Step<'_>, test: &str, runner: &Runner) -> io::Result<Option<bool>> {
    let alone = Asked { only: Some(test), ..Asked::default() };
    let with = Asked { fault: Some(fault), ..alone };
    match passes(with, step, runner)? {
        None => Ok(None),
        Some(true) => Ok(Some(false)),
        Some(false) => passes(alone, step, runner),
    }
}

/// Whether a test passes each time. `None` if somebody asked us to end.
fn passes(asked: Asked<'_>, step: &Step<'_>, runner: &Runner) -> io::Result<Option<bool>> {
    for _ in 0..AGAIN {
        match runner.play(step, asked)? {
            Ending::Interrupted => return Ok(None),
            Ending::Passed(_) => {}
            _ => return Ok(Some(false)),
        }
    }
    Ok(Some(true))
}

fn how(ending: &Ending) -> String {
    match ending {
        Ending::Broken(how) => format!("the program was {how}"),
        _ => "the program did not end".into(),
    }
}

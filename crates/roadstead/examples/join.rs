//! Three processes with one, two and three tenths of a second to work, joined in two ways: each before the next is
//! started, and all once all are started.
//!
//! ```sh
//! cargo run -p roadstead --example join
//! ```

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write, pipe},
    thread,
    time::{Duration, Instant},
};

use roadstead::process::{Child, Run};

/// Says when it begins to work and when it is done.
struct Worker<W> {
    work: W,
    says: PipeWriter,
}

const BEGINS: u8 = b'(';
const IS_DONE: u8 = b')';

impl<W: FnOnce()> Run for Worker<W> {
    fn run(mut self) -> u8 {
        let begins = self.says.write_all(&[BEGINS]);
        (self.work)();
        let is_done = self.says.write_all(&[IS_DONE]);
        u8::from(begins.and(is_done).is_err())
    }
}

/// Each is waited for before the next is there. Answers how many were at work at once.
pub(crate) fn joined_in_the_loop<W: FnOnce()>(works: Vec<W>) -> io::Result<usize> {
    let (heard, says) = pipe()?;
    for work in works {
        let mut child = Child::of(Worker { work, says: says.try_clone()? }).start()?;
        child.join();
    }
    drop(says);
    most_at_once(heard)
}

/// All are there before the first is waited for.
pub(crate) fn joined_after_the_loop<W: FnOnce()>(works: Vec<W>) -> io::Result<usize> {
    let (heard, says) = pipe()?;
    let mut children = Vec::new();
    for work in works {
        children.push(Child::of(Worker { work, says: says.try_clone()? }).start()?);
    }
    drop(says);
    for child in &mut children {
        child.join();
    }
    most_at_once(heard)
}

fn most_at_once(mut heard: PipeReader) -> io::Result<usize> {
    let mut said = Vec::new();
    heard.read_to_end(&mut said)?;
    let (mut at_work, mut most) = (0_usize, 0);
    for word in said {
        at_work = if word == BEGINS { at_work + 1 } else { at_work.saturating_sub(1) };
        most = most.max(at_work);
    }
    Ok(most)
}

fn main() -> io::Result<()> {
    let works = || (1..=3).map(|tenths| move || thread::sleep(Duration::from_millis(100 * tenths))).collect();
    let begun = Instant::now();
    let most = joined_in_the_loop(works())?;
    println!(
        "each joined before the next was started: {most} at once, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    let most = joined_after_the_loop(works())?;
    println!("all started, and then joined: {most} at once, {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}

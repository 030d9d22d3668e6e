//! Where a measurement was made: a figure without its machine, commit and command is worth nothing.

use std::marker::PhantomData;
use std::{env, fs, thread};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// The machine, the program and the moment. Whatever cannot be found out is `None`, so `null` in JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// System, release and architecture: `Linux 6.8.0 x86_64`.
    pub kernel: String,
    /// The processor's model name.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Load averages over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// The git commit that this program was built from.
    pub commit: Option<&'static str>,
    /// The command line, program first.
    pub command: Vec<String>,
}

impl Machine {
    /// Describes this machine now.
    pub fn here() -> Self {
        Self {
            kernel: match fs::read_to_string("/proc/sys/kernel/osrelease") {
                Ok(release) => format!("Linux {} {}", release.trim(), env::consts::ARCH),
                Err(_) => format!("{} {}", env::consts::OS, env::consts::ARCH),
            },
            cpu: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text)),
            cores: thread::available_parallelism().map_or(1, usize::from),
            load_average: fs::read_to_string("/proc/loadavg").ok().and_then(|text| load_average(&text)),
            commit: option_env!("ROADSTEAD_COMMIT"),
            command: env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect(),
        }
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let (_, value) = cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")?;
    Some(value.trim().to_owned())
}

fn load_average(loadavg: &str) -> Option<[f64; 3]> {
    let mut values = loadavg.split_ascii_whitespace().map(str::parse);
    let mut next = || values.next()?.ok();
    Some([next()?, next()?, next()?])
}

/// Keeps the calling thread on one core; dropping it gives back the cores that it had.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
    /// Cores belong to a thread: dropped in another one, this would give them to the wrong one.
    not_send: PhantomData<*const ()>,
}

/// Pins the calling thread to core `core`. Fails if there is no such core or it may not be used.
pub fn pin(core: usize) -> std::io::Result<Pinned> {
    let before = sched_getaffinity(None)?;
    if core >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    Ok(Pinned { before, not_send: PhantomData })
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // A core can only have gone offline meanwhile: staying pinned is then all that is left.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_its_parts() {
        let machine = Machine::here();
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        assert!(machine.cores >= 1);
        assert!(!machine.command.is_empty());
        let json = serde_json::to_value(&machine).unwrap();
        assert_eq!(json["load_average"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn odd_proc_files_are_unknown_and_not_a_panic() {
        assert_eq!(cpu_model("processor : 0\nflags : model name\n"), None);
        assert_eq!(cpu_model("model\t: 2\nmodel name\t: A: B\n"), Some("A: B".into()));
        assert_eq!(load_average("0.5 0.25"), None);
        assert_eq!(load_average("0.5 0.25 x 1/2 3"), None);
        assert_eq!(load_average("0.5 0.25 1 1/2 3"), Some([0.5, 0.25, 1.0]));
    }

    #[test]
    fn a_pin_holds_until_it_is_dropped() {
        let before = sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU).find(|&c| before.is_set(c)).unwrap();
        let pinned = pin(core).unwrap();
        let pinned_to = sched_getaffinity(None).unwrap();
        assert!(pinned_to.count() == 1 && pinned_to.is_set(core));
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap().count(), before.count());
        assert!(pin(CpuSet::MAX_CPU).is_err());
    }
}

//! How much memory a process may count on.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes that can be used without taking them from others: what the machine has available, or the limit of a control
/// group that this process is in, whichever is least. `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|group| limits(root, group));
    machine(root).into_iter().chain(limits).min()
}

/// `MemAvailable: 123 kB`, see proc_meminfo(5).
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of a line of /proc/self/cgroup, `number:controllers:path`, see cgroups(7): every group above may have one.
fn limits(root: &Path, group: &str) -> Vec<u64> {
    let mut fields = group.splitn(3, ':');
    let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let mounted = root.join("sys/fs/cgroup");
    let (mounted, file) = match controllers {
        "" => (mounted, "memory.max"),
        _ if controllers.split(',').any(|one| one == "memory") => {
            (mounted.join("memory"), "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    // In a container the path may be the host's: then only the group at the root is seen.
    let path = PathBuf::from(path.trim_start_matches('/'));
    let limit = |above: &Path| fs::read_to_string(mounted.join(above).join(file)).ok()?.trim().parse().ok();
    path.ancestors().filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system with these files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const MACHINE: (&str, &str) =
        ("proc/meminfo", "MemTotal:       16000 kB\nMemFree:  1 kB\nMemAvailable:    9000 kB\n");

    #[test]
    fn the_least_limit_of_the_machine_and_of_the_groups_above_counts() {
        let available = |files: &[(&str, &str)]| available_below(system(files).path());
        assert_eq!(available(&[]), None);
        assert_eq!(available(&[MACHINE]), Some(9000 << 10));
        let second = ("proc/self/cgroup", "0::/a/b\n");
        let no_limit = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        assert_eq!(available(&[MACHINE, second, no_limit]), Some(9000 << 10));
        let above = ("sys/fs/cgroup/a/memory.max", "4096\n");
        assert_eq!(available(&[MACHINE, second, no_limit, above]), Some(4096));
        let at_root = ("sys/fs/cgroup/memory.max", "2048\n");
        assert_eq!(available(&[MACHINE, second, above, at_root]), Some(2048));
        let first = ("proc/self/cgroup", "5:cpu,memory:/c\n3:cpuset:/d\n");
        let limit = ("sys/fs/cgroup/memory/c/memory.limit_in_bytes", "8192\n");
        assert_eq!(available(&[MACHINE, first, limit]), Some(8192));
        let nonsense = [("proc/self/cgroup", "::\nmemory\n0::\n"), ("proc/meminfo", "MemAvailable: much\n")];
        assert_eq!(available(&nonsense), None);
    }
}

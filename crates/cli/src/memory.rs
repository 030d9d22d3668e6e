//! How much memory a process may count on.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes that can be used without taking them from others: what the machine has available, or what a control group that
/// this process is in has left of its limit, whichever is least. `None` where the system does not say.
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

/// What the groups of a line of /proc/self/cgroup, `number:controllers:path`, have left of their limits, see
/// cgroups(7): every group above may have one.
fn limits(root: &Path, group: &str) -> Vec<u64> {
    let mut fields = group.splitn(3, ':');
    let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let mounted = root.join("sys/fs/cgroup");
    let (mounted, left): (_, fn(&Path) -> Option<u64>) = match controllers {
        "" => (mounted, |group| left(group, &["memory.max", "memory.high"], "memory.current", "")),
        _ if controllers.split(',').any(|one| one == "memory") => (mounted.join("memory"), |group| {
            left(group, &["memory.limit_in_bytes"], "memory.usage_in_bytes", "total_")
        }),
        _ => return Vec::new(),
    };
    // In a container the path may be the host's: then only the group at the root is seen.
    let path = PathBuf::from(path.trim_start_matches('/'));
    path.ancestors().filter_map(|above| left(&mounted.join(above))).collect()
}

/// What a group has left of the least of its limits. Of what it uses, cached files make way.
fn left(group: &Path, limits: &[&str], usage: &str, prefix: &str) -> Option<u64> {
    let number = |file: &&str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = limits.iter().filter_map(number).min()?;
    let cached = [format!("{prefix}inactive_file "), format!("{prefix}active_file ")];
    let used = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let bytes = |line: &str| cached.iter().find_map(|name| line.strip_prefix(name)?.parse::<u64>().ok());
    let cached = used.lines().filter_map(bytes).fold(0, u64::saturating_add);
    Some(limit.saturating_sub(number(&usage).unwrap_or(0).saturating_sub(cached)))
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

    #[test]
    fn what_others_of_a_group_hold_is_not_available() {
        let available = |files: &[(&str, &str)]| available_below(system(files).path());
        let stat = "anon 700\ninactive_file 150\nactive_file 50\nfile 9000\n";
        let mut second = vec![
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/a/memory.current", "1000\n"),
        ];
        assert_eq!(available(&second), Some(4000));
        second.push(("sys/fs/cgroup/a/memory.stat", stat));
        assert_eq!(available(&second), Some(4200));
        second.push(("sys/fs/cgroup/a/memory.high", "3000\n"));
        assert_eq!(available(&second), Some(2200));
        second.push(("sys/fs/cgroup/memory.max", "900\n"));
        second.push(("sys/fs/cgroup/memory.current", "1000\n"));
        assert_eq!(available(&second), Some(0));
        let first = [
            ("proc/self/cgroup", "5:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "active_file 900\ntotal_active_file 100\n"),
        ];
        assert_eq!(available(&first), Some(4100));
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

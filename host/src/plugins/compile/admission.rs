//! Whether there is memory to compile a component, before anything is started: a container that goes over its limit is
//! killed as a whole, with the sidecar in it.
//!
//! Called by [`super::Compiler`]. The limit is that of the cgroup, in either version; without one nothing is refused.

use std::path::{Path, PathBuf};

/// What compiling anything takes. Measured, with what is in the next line: 12 to 14 MiB for the built-in filter of 88 KB,
/// 20 to 23 MiB for one of 98 KB that is nearly all code.
const BASE_BYTES: u64 = 18 << 20;
/// What it takes for each byte of the component. Measured: 25 for components that carry much data, 36 for those that are
/// nearly all code.
const BYTES_PER_BYTE: u64 = 40;
/// Where there is no limit: how much more than expected a compiler may take before it is stopped.
const TOLERANCE: u64 = 4;
/// In version 1, no limit is a number close to this one.
const NO_LIMIT: u64 = 1 << 60;

/// The files that say how much memory there is.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// Where cgroups are mounted.
    root: PathBuf,
    /// The file that says which cgroups this process is in.
    membership: PathBuf,
}

/// Memory of a container, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    /// What it may take.
    pub limit: u64,
    /// What is left of that.
    pub free: u64,
}

impl Default for Cgroup {
    /// This process's own.
    fn default() -> Self {
        Self::at("/sys/fs/cgroup", "/proc/self/cgroup")
    }
}

/// What compiling a component of this size is expected to take.
pub(super) fn need(component_bytes: usize) -> u64 {
    BASE_BYTES + BYTES_PER_BYTE * component_bytes as u64
}

/// What a compiler may take at most.
pub(super) fn allowance(need: u64, headroom: Option<Headroom>) -> u64 {
    headroom.map_or(need * TOLERANCE, |headroom| headroom.free)
}

impl Cgroup {
    /// As it is described there, in the form of `/sys/fs/cgroup` and `/proc/self/cgroup`.
    pub fn at(root: impl Into<PathBuf>, membership: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            membership: membership.into(),
        }
    }

    /// What is left of the tightest limit; none where there is no limit.
    pub(super) fn headroom(&self) -> Option<Headroom> {
        let membership = std::fs::read_to_string(&self.membership).ok()?;
        let lines = membership.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        let found = lines.flat_map(|(controllers, path)| match controllers {
            "" => levels(&self.root, path, v2),
            _ if controllers.split(',').any(|name| name == "memory") => levels(&self.root.join("memory"), path, v1),
            _ => Vec::new(),
        });
        found.min_by_key(|headroom| headroom.free)
    }
}

/// A limit can stand at each level above. Inside a container the path may be the one outside, and the root is our own.
fn levels(mount: &Path, path: &str, read: fn(&Path) -> Option<Headroom>) -> Vec<Headroom> {
    let relative = path.trim_start_matches('/');
    Path::new(relative)
        .ancestors()
        .filter_map(|level| read(&mount.join(level)))
        .collect()
}

fn v2(directory: &Path) -> Option<Headroom> {
    headroom(directory, "memory.max", "memory.current", "")
}

fn v1(directory: &Path) -> Option<Headroom> {
    headroom(directory, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
}

fn headroom(directory: &Path, limit: &str, used: &str, prefix: &str) -> Option<Headroom> {
    let text = |file: &str| std::fs::read_to_string(directory.join(file)).ok();
    let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
    // In version 2, no limit is the word `max`.
    let limit = number(limit).filter(|&limit| limit < NO_LIMIT)?;
    // Pages of files are counted as used, the image of this very process among them, and given up before anybody is
    // killed.
    let statistics = text("memory.stat").unwrap_or_default();
    let cached = statistics.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        let is_cache = matches!(name.strip_prefix(prefix)?, "inactive_file" | "active_file");
        is_cache.then(|| value.trim().parse::<u64>().ok())?
    });
    let used = number(used)?.saturating_sub(cached.sum());
    Some(Headroom {
        limit,
        free: limit.saturating_sub(used),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Files below a root, and what they say.
    fn check(membership: &str, files: &[(&str, &str)], expected: Option<(u64, u64)>) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let own = root.path().join("own");
        std::fs::write(&own, membership).unwrap();
        let headroom = Cgroup::at(root.path(), own).headroom();
        let expected = expected.map(|(limit, free)| Headroom {
            limit: limit * MIB,
            free: free * MIB,
        });
        assert_eq!(headroom, expected, "{membership} {files:?}");
    }

    #[test]
    fn what_is_left_is_read_from_either_version() {
        let v2 = [
            ("memory.max", "67108864\n"),
            ("memory.current", "33554432\n"),
            ("memory.stat", "anon 1\ninactive_file 3145728\nactive_file 1048576\n"),
        ];
        check("0::/\n", &v2, Some((64, 36)));
        let v1 = [
            ("memory/memory.limit_in_bytes", "67108864\n"),
            ("memory/memory.usage_in_bytes", "33554432\n"),
            (
                "memory/memory.stat",
                "inactive_file 1048576\ntotal_inactive_file 4194304\n",
            ),
        ];
        check("5:cpu,cpuacct:/x\n4:memory:/kubepods/pod1\n0::/\n", &v1, Some((64, 36)));
    }

    #[test]
    fn the_tightest_limit_counts() {
        let levels = [
            ("a/memory.max", "33554432"),
            ("a/memory.current", "16777216"),
            ("a/b/memory.max", "67108864"),
            ("a/b/memory.current", "8388608"),
        ];
        check("0::/a/b\n", &levels, Some((32, 16)));
        check("0::/elsewhere\n", &levels, None);
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_say() {
        check(
            "0::/\n",
            &[("memory.max", "max\n"), ("memory.current", "33554432\n")],
            None,
        );
        let v1 = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.usage_in_bytes", "1\n"),
        ];
        check("4:memory:/\n", &v1, None);
        check("0::/\n", &[], None);
        check("nonsense", &[("memory.max", "1"), ("memory.current", "1")], None);
        check("0::/\n", &[("memory.max", "12 apples"), ("memory.current", "1")], None);
    }
}

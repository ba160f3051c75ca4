//! A group of processes with a limit on memory, as a container is one.
//!
//! Used by the tests of the image. Whether there can be one is the machine's to say.

use std::path::{Path, PathBuf};

/// The group. It is gone when dropped, which only works when no process is left in it.
pub(super) struct MemoryGroup {
    folder: PathBuf,
    peak: &'static str,
}

impl MemoryGroup {
    /// A group of this machine with a limit in bytes. None: this user may not make one, or the kernel has none.
    pub(super) fn create(name: &str, limit: u64) -> Option<Self> {
        let name = format!("distributor-{name}-{}", std::process::id());
        let versions = [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ];
        versions.into_iter().find_map(|(root, limit_file, peak)| {
            let folder = Path::new(root).join(&name);
            std::fs::create_dir(&folder).ok()?;
            let group = Self { folder, peak };
            let is_limited = std::fs::write(group.folder.join(limit_file), limit.to_string()).is_ok();
            is_limited.then_some(group)
        })
    }

    /// Where processes are put into it.
    pub(super) fn folder(&self) -> &str {
        self.folder.to_str().expect("the name is plain")
    }

    /// The most that all its processes together have used, files in memory included.
    pub(super) fn peak(&self) -> Option<u64> {
        let peak = std::fs::read_to_string(self.folder.join(self.peak)).ok()?;
        peak.trim().parse().ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // What is left over has no process and no effect.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

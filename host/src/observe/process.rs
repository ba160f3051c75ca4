//! What the process takes of the machine.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What the process takes of the machine. What the system does not tell is 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProcessReport {
    /// Processor time, of all threads.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_files: u64,
    /// How many there may be; none: any number.
    pub max_open_files: Option<u64>,
    /// Threads.
    pub threads: u64,
}

impl ProcessReport {
    /// What it takes now.
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(cpu).unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // The one that is open for this look is counted as well.
        let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        Self {
            cpu_seconds: cpu.as_secs_f64(),
            resident_bytes: field(&status, "VmRSS:").saturating_mul(1024),
            open_files: open_files as u64,
            max_open_files: getrlimit(Resource::Nofile).current,
            threads: field(&status, "Threads:"),
        }
    }
}

/// The first number behind a name.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::ProcessReport;

    #[test]
    fn a_process_takes_something_of_everything() {
        let report = ProcessReport::now();
        assert!(report.cpu_seconds > 0.0);
        assert!(report.resident_bytes > 1 << 20);
        assert!(report.open_files >= 3 && report.threads >= 1, "{report:?}");
        assert!(report.max_open_files.is_none_or(|max| max >= report.open_files));
    }
}

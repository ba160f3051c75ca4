//! Gives back the memory that only the start needed.
//!
//! Called by `main` once everything runs. Most of what a sidecar at rest seems to use is its own code: the kernel maps 64
//! KiB around whatever was executed, and configuration, certificates, schemas and the set-up of WebAssembly execute nearly
//! all of it once. Unmapped, it stays in the kernel's cache, which is shared by all sidecars of a node and can be taken
//! back at any time; what is executed later is mapped again, without a read from the disk.

use std::ffi::c_void;
use std::path::Path;

use rustix::mm::{Advice, madvise};

const MAPS: &str = "/proc/self/maps";
const EXECUTABLE: &str = "/proc/self/exe";

/// Unmaps the code of this executable, until it is executed again. Returns how many bytes of address space that are; none
/// where the kernel does not tell where the code is.
pub fn forget_executed_code() -> usize {
    let (Ok(maps), Ok(executable)) = (std::fs::read_to_string(MAPS), std::fs::read_link(EXECUTABLE)) else {
        return 0;
    };
    let mut n_bytes = 0;
    for (start, length) in maps.lines().filter_map(|line| code_in(line, &executable)) {
        if forget(start, length) {
            n_bytes += length;
        }
    }
    n_bytes
}

/// Address and length of a mapping with code of the executable, from a line like
/// `55d0c8a3d000-55d0ca1b2000 r-xp 0047c000 fe:00 1835041    /distributor`.
fn code_in(line: &str, executable: &Path) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?;
    // Only code: data of the executable was changed when it was loaded, and is not in the file.
    if permissions != "r-xp" || Path::new(path) != executable {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    Some((start, end.checked_sub(start)?))
}

#[expect(unsafe_code, reason = "there is no safe way to speak of a mapping")]
fn forget(start: usize, length: usize) -> bool {
    let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
    // SAFETY: the range is a private mapping of a file that cannot be written to while it is executed (ETXTBSY), and the
    // mapping itself cannot be written to either (`r-xp`), so that its content is the file's, before and after.
    unsafe { madvise(start, length, Advice::LinuxDontNeed) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_code_of_the_executable_is_meant() {
        let check = |line: &str, expected| assert_eq!(code_in(line, Path::new("/distributor")), expected, "{line}");
        check(
            "1000-3000 r-xp 0047c000 fe:00 1835041    /distributor",
            Some((0x1000, 0x2000)),
        );
        check("1000-3000 r--p 0047c000 fe:00 1835041    /distributor", None);
        check("1000-3000 rw-p 0047c000 fe:00 1835041    /distributor", None);
        check("1000-3000 r-xp 0047c000 fe:00 1835041    /lib/libc.so.6", None);
        check("1000-3000 r-xp 00000000 00:00 0", None);
        check("3000-1000 r-xp 0047c000 fe:00 1835041    /distributor", None);
        check("", None);
    }

    #[test]
    fn code_that_was_forgotten_runs_again() {
        assert!(forget_executed_code() > 0);
        assert!(forget_executed_code() > 0);
    }
}

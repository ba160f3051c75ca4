//! Ways to strain the parts of WASI that the host has, and to look for those that it should not have.
//!
//! Called by the filter. The standard library reaches some of WASI only in harmless amounts, so that C functions under it
//! are called by name.

use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::time::{Duration, SystemTime};

const HUGE_RANDOM_BYTES: u64 = 64 << 20;
const LONG_LINE_BYTES: usize = 1 << 20;

#[repr(C)]
struct ByteList {
    start: *mut u8,
    length: usize,
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code, reason = "C functions")]
unsafe extern "C" {
    fn random_get_random_bytes(length: u64, list: *mut ByteList);
    fn monotonic_clock_subscribe_duration(nanoseconds: u64) -> i32;
}

/// Only so that the crate is checked natively like all others.
#[cfg(not(target_arch = "wasm32"))]
use natively::{monotonic_clock_subscribe_duration, random_get_random_bytes};

#[cfg(not(target_arch = "wasm32"))]
#[allow(
    unsafe_code,
    clippy::missing_safety_doc,
    reason = "as the C functions, but does nothing"
)]
mod natively {
    pub(super) unsafe fn random_get_random_bytes(_: u64, _: *mut super::ByteList) {}

    pub(super) unsafe fn monotonic_clock_subscribe_duration(_: u64) -> i32 {
        0
    }
}

/// Calls the host all the time, so that only its clock can end it.
pub(crate) fn spin_on_clock() {
    while SystemTime::now() > SystemTime::UNIX_EPOCH - Duration::from_secs(1) {}
}

pub(crate) fn print(n_lines: u32) {
    let mut output = std::io::stdout();
    for number in 0..n_lines {
        // A guest whose output is refused goes on.
        let _ = writeln!(output, "told to print {number}");
    }
}

pub(crate) fn print_bytes() {
    let mut output = std::io::stdout();
    let long = vec![b'x'; LONG_LINE_BYTES];
    for part in [b"odd \xff\xfe \x1b[31m bytes\n".as_slice(), &long, b"\n", b"unfinished"] {
        let _ = output.write_all(part);
    }
    let _ = output.flush();
}

#[allow(unsafe_code, reason = "the standard library gives each timer back")]
pub(crate) fn hoard_timers() {
    loop {
        // SAFETY: takes a number and returns one.
        unsafe { monotonic_clock_subscribe_duration(u64::MAX) };
    }
}

#[allow(unsafe_code, reason = "the standard library asks for a few bytes only")]
pub(crate) fn ask_for_random_bytes() {
    let mut list = ByteList {
        start: std::ptr::null_mut(),
        length: 0,
    };
    // SAFETY: the list is written to, and nothing else.
    unsafe { random_get_random_bytes(HUGE_RANDOM_BYTES, &raw mut list) };
    assert!(!list.start.is_null() || list.length == 0);
}

/// The standard library seeds each with random numbers of the host.
pub(crate) fn random_number() -> u64 {
    RandomState::new().hash_one(0)
}

/// What it found of the host.
pub(crate) fn snoop() -> String {
    #[allow(clippy::disallowed_methods, reason = "to look at the environment is what is wanted")]
    let n_variables = std::env::vars().count();
    let n_arguments = std::env::args().count();
    let files = ["/proc/self/environ", "/etc/passwd", "/", "."];
    let n_files = files
        .iter()
        .filter(|path| std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok())
        .count();
    let n_written = files
        .iter()
        .filter(|path| std::fs::write(format!("{path}/written-by-guest"), "x").is_ok())
        .count();
    let address = "127.0.0.1:4222";
    let n_sockets = usize::from(std::net::TcpStream::connect(address).is_ok())
        + usize::from(std::net::TcpListener::bind("127.0.0.1:0").is_ok())
        + usize::from(std::net::UdpSocket::bind("127.0.0.1:0").is_ok())
        + usize::from(std::net::ToSocketAddrs::to_socket_addrs("localhost:80").is_ok());
    format!(
        "variables {n_variables}, arguments {n_arguments}, files {n_files}, written {n_written}, sockets {n_sockets}"
    )
}

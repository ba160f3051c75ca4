//! Feeds damaged input to whatever reads what comes from outside, for some time. Only in tests, on stable Rust: it knows
//! nothing of coverage, but keeps what was taken and goes on from there.
//!
//! Called by the modules named `fuzz`. A moment each in a plain `cargo test`; `make fuzz` gives each a minute, or what
//! `FUZZ_SECONDS` says, and is a step of `make test`.

use std::time::Duration;

use tokio::time::Instant;

/// For each target, unless `FUZZ_SECONDS` says otherwise.
const DEFAULT_SECONDS: u64 = 1;
/// Inputs that are gone on from.
const MAX_CORPUS: usize = 4096;
const MAX_BYTES: usize = 64 << 10;
/// Texts that mean something to one reader or another.
const WORDS: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    ",",
    ":",
    "null",
    "true",
    "-0",
    "1e999",
    "9223372036854775808",
    ".",
    "*",
    ">",
    "/",
    "//",
    "..",
    "%2e",
    "%2F",
    "?",
    "#",
    "@",
    "\n[[plugin]]\n",
    "\n[plugin.config]\n",
    "=",
    "\u{feff}",
];

/// Shows the input that a check did not survive.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("input: {:?}\n       {:?}", self.0, String::from_utf8_lossy(self.0));
        }
    }
}

/// Calls `check` with what is made of `seeds`. It panics if something is wrong, and says whether the input was taken.
pub(crate) fn run(seeds: &[&[u8]], check: impl Fn(&[u8]) -> bool) {
    let end = Instant::now() + seconds();
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    for seed in &corpus {
        let shown = Shown(seed);
        assert!(check(seed), "what is right is to be taken");
        drop(shown);
    }
    let (mut n_inputs, mut n_taken) = (0_u64, 0_u64);
    while Instant::now() < end {
        // Not a look at the clock for each.
        for _ in 0..64 {
            let input = damaged(&corpus);
            let shown = Shown(&input);
            let is_taken = check(&input);
            drop(shown);
            n_inputs += 1;
            if is_taken {
                n_taken += 1;
                if corpus.len() < MAX_CORPUS {
                    corpus.push(input);
                } else {
                    let place = fastrand::usize(seeds.len()..corpus.len());
                    corpus[place] = input;
                }
            }
        }
    }
    eprintln!("{n_inputs} inputs, of which {n_taken} were taken");
    assert!(
        n_taken > 0 && n_taken < n_inputs,
        "{n_taken} of {n_inputs} were taken: it tries nothing"
    );
}

fn seconds() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a switch of the tests, not of the product")]
    let text = std::env::var("FUZZ_SECONDS").ok();
    let seconds = text.and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS))
}

fn damaged(corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = fastrand::choice(corpus).cloned().unwrap_or_default();
    for _ in 0..=fastrand::usize(..4) {
        let at = fastrand::usize(..=input.len());
        let end = fastrand::usize(at..=input.len().min(at + 32));
        match fastrand::u8(..6) {
            0 if at < input.len() => input[at] = fastrand::u8(..),
            1 if at < input.len() => input[at] ^= 1 << fastrand::u8(..8),
            2 => drop(input.drain(at..end)),
            3 => {
                let copy = input[at..end].to_vec();
                let to = fastrand::usize(..=input.len());
                input.splice(to..to, copy);
            }
            4 => {
                let other = fastrand::choice(corpus).cloned().unwrap_or_default();
                let from = fastrand::usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[fastrand::usize(..WORDS.len())];
                input.splice(at..end, word.bytes());
            }
        }
    }
    input.truncate(MAX_BYTES);
    input
}

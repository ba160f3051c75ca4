//! Damaged files: of what is no gzip file nothing is taken, and what is one is what `gzip` made.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

#[test]
fn a_gzip_file_is_taken_whole_or_not_at_all() {
    let packed = |content: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let (short, long) = (packed(b"\0asm"), packed(&[7; 5000]));
    crate::fuzz::run(&[&short, &long], |bytes| match inflate(bytes) {
        Ok(component) => {
            assert!(component.bytes.len() as u64 <= MAX_BYTES);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    });
}

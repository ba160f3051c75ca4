//! Files of every kind, whole and damaged.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::super::builtins::{BUILTINS, DEFAULT_FILTER_COMPONENT};
use super::*;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn file(name: &str, content: &[u8]) -> (TempDir, Source) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    (folder, Source::File(path))
}

fn refusal(name: &str, content: &[u8], pin: Option<&str>) -> String {
    let (_folder, source) = file(name, content);
    read(&source, pin, None).unwrap_err().to_string()
}

#[test]
fn the_same_component_has_the_same_digest_however_it_is_packed() {
    let (_folder, plain) = file("a.wasm", b"component");
    let (_other_folder, packed) = file("a.wasm.gz", &gzip(b"component"));
    let (plain, packed) = (read(&plain, None, None).unwrap(), read(&packed, None, None).unwrap());
    assert_eq!(plain.bytes, &b"component"[..]);
    assert_eq!(packed.bytes, plain.bytes);
    assert_eq!(packed.digest, plain.digest);
    assert_eq!(plain.digest, digest(b"component"));
}

#[test]
fn what_is_built_in_needs_no_file() {
    let source = Source::Builtin(&BUILTINS[0]);
    assert_eq!(read(&source, None, None).unwrap().bytes, DEFAULT_FILTER_COMPONENT);
    assert_eq!(source.file(), None);
}

#[test]
fn a_file_that_inflates_beyond_all_measure_is_refused_with_the_limit() {
    let zeros = vec![0; usize::try_from(MAX_BYTES).unwrap()];
    let (_folder, largest) = file("a.wasm.gz", &gzip(&zeros));
    assert_eq!(read(&largest, None, None).unwrap().bytes.len(), zeros.len());

    let mut bomb = gzip(&zeros);
    bomb.extend(gzip(b"0"));
    assert!(bomb.len() < 1 << 20, "it is small as it lies there");
    assert_eq!(
        refusal("a.wasm.gz", &bomb, None),
        "has more than 64 MiB when it is inflated; make the component smaller"
    );
    let too_large = [zeros, vec![0]].concat();
    assert!(refusal("a.wasm", &too_large, None).starts_with("has more than 64 MiB"));
}

#[test]
fn a_damaged_file_is_refused() {
    let whole = gzip(&[7; 1000]);
    for content in [&whole[..whole.len() / 2], &whole[..whole.len() - 1], b"", b"component"] {
        let reason = refusal("a.wasm.gz", content, None);
        assert!(reason.starts_with("is no gzip file that can be inflated: "), "{reason}");
    }
    let mut flipped = whole;
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    assert!(refusal("a.wasm.gz", &flipped, None).contains("is no gzip file"));
}

#[test]
fn a_missing_file_is_named_by_the_file_system() {
    let reason = read(&Source::File("/no/such/file.wasm".into()), None, None)
        .unwrap_err()
        .to_string();
    assert!(
        reason.starts_with("cannot be read: No such file or directory"),
        "{reason}"
    );
}

#[test]
fn a_pin_covers_the_file_as_it_lies_there() {
    let packed = gzip(b"component");
    for (name, content) in [("a.wasm", &b"component"[..]), ("a.wasm.gz", &packed)] {
        let (_folder, source) = file(name, content);
        read(&source, Some(&digest(content)), None).unwrap();

        let (other, actual) = (digest(b"other"), digest(content));
        assert_eq!(
            refusal(name, content, Some(&other)),
            format!(
                "has the digest {actual}, and its entry asks for sha256 {other}; mount the file that was meant, or \
                 correct the pin"
            )
        );
    }
    let reason = refusal("a.wasm.gz", &packed, Some(&digest(b"component")));
    assert!(reason.contains("the digest of the component inside"), "{reason}");
}

#[test]
fn once_there_are_trusted_keys_every_file_needs_a_signature_of_what_lies_there() {
    let keys = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let public = keys.pk.to_base64();
    let trusted = TrustedKeys::Keys(TrustedKeys::parse([public.as_str()].into_iter()).unwrap());
    let packed = gzip(b"component");
    let (folder, source) = file("a.wasm.gz", &packed);
    let reason = read(&source, None, Some(&trusted)).unwrap_err().to_string();
    assert!(reason.starts_with("is not signed"), "{reason}");

    let sign = |content: &[u8]| {
        let signature = minisign::sign(Some(&keys.pk), &keys.sk, content, None, None).unwrap();
        std::fs::write(folder.path().join("a.wasm.gz.minisig"), signature.into_string()).unwrap();
    };
    sign(b"component");
    let reason = read(&source, None, Some(&trusted)).unwrap_err().to_string();
    assert!(reason.starts_with("does not match its signature"), "{reason}");
    sign(&packed);
    assert_eq!(read(&source, None, Some(&trusted)).unwrap().bytes, &b"component"[..]);

    let builtin = Source::Builtin(&BUILTINS[0]);
    assert!(
        read(&builtin, None, Some(&trusted)).is_ok(),
        "what is built in needs none"
    );
}

//! `plugin pack`: what it makes is mounted and loads, and what does not fit is refused with the ways that are left.

use base64::Engine;
use test_support::ConfigMapVolume;

use super::*;

/// The files of a `ConfigMap` in YAML, as the kubelet writes them.
pub(super) fn files_of(config_map: &str) -> Vec<(String, Vec<u8>)> {
    let (_, data) = config_map.split_once("\ndata:\n").expect("it has texts");
    let (texts, binaries) = data.split_once("binaryData:\n").expect("it has a component");
    let (name, text) = texts.split_once(": |\n").expect("the chain file is shown as lines");
    let lines: Vec<_> = text
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(""))
        .collect();
    let text = lines.join("\n") + "\n";
    let (key, value) = binaries.trim().split_once(": ").unwrap();
    let value = value.trim_matches('"');
    let content = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
    vec![(name.trim().to_owned(), text.into_bytes()), (key.to_owned(), content)]
}

/// The guest with a section of bytes that no compression makes smaller.
fn with_noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut noise = b"\x05noise".to_vec();
    noise.extend((0..bytes).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    }));
    let mut component = guest("guest_misbehaving.wasm");
    component.push(0);
    let mut length = noise.len();
    while length >= 0x80 {
        component.push(0x80 | u8::try_from(length % 0x80).unwrap());
        length /= 0x80;
    }
    component.push(u8::try_from(length).unwrap());
    component.extend(noise);
    component
}

async fn assert_loads(files: &[(String, Vec<u8>)], expected: &str) {
    let mut volume = ConfigMapVolume::new().unwrap();
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content)).collect();
    volume.write(&files).unwrap();
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &[("PLUGINS_DIR", volume.text())]).await;
    assert_eq!(exit_code, 0, "{stderr}");
    assert!(stdout.contains(expected), "{expected} is missing: {stdout}");
}

#[tokio::test]
async fn a_config_map_is_mounted_and_loads() {
    let desk = Desk::new();
    let config = r#"{"behaviour":"drop","only":"bad \"quoted\" ü"}"#;
    let arguments = [
        "pack",
        &desk.component(),
        "--config",
        config,
        "--configmap",
        "my-plugins",
        "--namespace",
        "prod-1",
    ];
    let said = said(&arguments).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    assert!(
        said.stdout
            .starts_with("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: my-plugins\n  namespace: prod-1\n"),
        "{}",
        said.stdout
    );
    assert!(said.stderr.contains("fits: "), "{}", said.stderr);
    let component = digest(&guest("guest_misbehaving.wasm"));
    assert_loads(&files_of(&said.stdout), &component).await;
}

#[tokio::test]
async fn what_kustomize_is_given_loads_too() {
    let desk = Desk::new();
    let folder = desk.path("deploy");
    let said = said(&["pack", &desk.component(), "--kustomize", folder.to_str().unwrap()]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    let text = std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    let listed = text.lines().filter_map(|line| line.strip_prefix("      - "));
    let files: Vec<_> = listed
        .map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap()))
        .collect();
    assert_eq!(files.len(), 2, "{text}");
    assert_loads(&files, "filter+transform").await;
}

#[tokio::test]
async fn a_chain_folder_is_packed_as_it_is_once_it_works() {
    let entry = "[[plugin]]\nname = \"a\"\ncomponent = \"guest.wasm\"\n[[plugin.selftest]]\nevent = \"event.json\"\nexpect = \"keep\"\n";
    let folder = PluginFolder::with_manifest(entry).file("event.json", event("e1").to_bytes());
    let packed = said(&["pack", "--chain", folder.path(), "--json"]).await;
    assert_eq!(packed.exit_code, 0, "{packed:?}");
    assert_eq!(
        packed.json()["files"],
        serde_json::json!(["event.json", "guest.wasm", "plugins.toml"])
    );
    let broken = folder.file("plugins.toml", entry.replace("keep", "drop"));
    let refused = said(&["pack", "--chain", broken.path()]).await;
    assert_eq!(refused.exit_code, 1);
    assert!(refused.stderr.contains("fails its self-test"), "{}", refused.stderr);
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_the_ways_that_are_left() {
    let desk = Desk::new();
    let large = desk.write("large.wasm", with_noise(2 << 20));
    let said = said(&["pack", &large, "--configmap", "my-plugins"]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    assert!(said.stdout.is_empty(), "nothing that could be applied");
    for expected in [
        "does not fit",
        "image volume",
        "PLUGINS_DIR",
        "make it smaller",
        "QuickJS",
    ] {
        assert!(said.stderr.contains(expected), "{expected} is missing: {}", said.stderr);
    }
}

#[tokio::test]
async fn what_client_side_apply_does_not_take_is_said() {
    let desk = Desk::new();
    let component = desk.write("medium.wasm", with_noise(300 << 10));
    let said = said(&["pack", &component, "--configmap", "my-plugins"]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    assert!(
        said.stderr.contains("kubectl apply --server-side -f -"),
        "{}",
        said.stderr
    );
}

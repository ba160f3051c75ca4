//! What `plugin new` makes, on its last step: mounted into a distributor that runs, it changes the next event.

use std::time::Duration;

use test_support::{ConfigMapVolume, DistributorProcess};

use super::pack::files_of;
use super::*;

/// Compiling an interpreter takes its time on a loaded machine.
const COMPILED: Duration = Duration::from_mins(3);
const NAME: &str = "my-transform";

/// The folder that `make examples` has made and built, as an author has it after the commands of its README.
fn folder(language: &str) -> PathBuf {
    let components = guests_dir();
    let target = components.ancestors().nth(3);
    let target = target.expect("components are below the target directory");
    target.join("examples").join(language)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("`make examples` makes {}: {error}", path.display()))
}

/// A distributor without plugins of its own, with its chain in this directory.
async fn running(peers: &Peers, plugins_dir: &str) -> DistributorProcess {
    let cache = ("PLUGINS_CACHE_DIR", "off");
    peers.process(&[ALL_TOPICS, ("PLUGINS_DIR", plugins_dir), cache]).await
}

/// The plugin puts the extension in that its `plugins.toml` names.
async fn assert_lives(peers: &Peers, process: &DistributorProcess, language: &str) {
    let replaced = process.wait_for_log("plugins replaced", COMPILED).await.unwrap();
    assert!(replaced.contains(NAME), "{replaced}");
    let event = read(&folder(language).join("fixtures/build.triggered.json"));
    let topic = json(&event)["type"].as_str().unwrap().to_owned();
    peers.publish_bytes(&topic, event).await;
    let delivered = peers.delivered(1).await;
    assert_eq!(delivered[0].json().unwrap()["team"], "checkout", "{language}");
}

async fn check_config_map(language: &str) {
    let peers = Peers::start().await;
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&[("plugins.toml", "")]).unwrap();
    let process = running(&peers, volume.text()).await;
    let packed = String::from_utf8(read(&folder(language).join("configmap.yaml"))).unwrap();
    let files = files_of(&packed);
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content)).collect();
    volume.write(&files).unwrap();
    assert_lives(&peers, &process, language).await;
}

#[tokio::test]
async fn a_new_plugin_in_rust_goes_live() {
    check_config_map("rust").await;
}

#[tokio::test]
async fn a_new_plugin_in_c_goes_live() {
    check_config_map("c").await;
}

#[tokio::test]
async fn a_new_plugin_in_javascript_goes_live() {
    check_config_map("js").await;
}

#[tokio::test]
async fn a_new_plugin_in_typescript_goes_live() {
    check_config_map("ts").await;
}

#[tokio::test]
async fn a_new_plugin_in_go_goes_live() {
    check_config_map("go").await;
}

/// Too large for a `ConfigMap`: the folder itself is mounted.
#[tokio::test]
async fn a_new_plugin_in_python_goes_live() {
    let peers = Peers::start().await;
    let mounted = PluginFolder::new();
    let process = running(&peers, mounted.path()).await;
    let made = folder("python");
    let fixtures = Path::new(mounted.path()).join("fixtures");
    std::fs::create_dir(&fixtures).unwrap();
    for file in ["fixtures/build.triggered.json", "my-transform.wasm", "plugins.toml"] {
        std::fs::write(Path::new(mounted.path()).join(file), read(&made.join(file))).unwrap();
    }
    assert_lives(&peers, &process, "python").await;
}

//! How components become native code: in a child process, once, and only where there is room for it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distributor::plugins::{Cgroup, Compiler, Host, LoadError, Plugin, Settings, load};
use tempfile::TempDir;
use test_support::eventually;
use tokio::io::AsyncWriteExt;

use crate::harness::*;

const REAL: &str = "exec BINARY \"$@\"";

/// A compiler that notes how often it is started, and what it is to do then.
struct Rig {
    folder: TempDir,
    component: Vec<u8>,
}

impl Rig {
    fn new(orders: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/compiler-stand-in.sh");
        std::os::unix::fs::symlink(script, folder.path().join("compiler")).unwrap();
        std::fs::write(folder.path().join("orders"), orders.replace("BINARY", BINARY)).unwrap();
        std::fs::write(folder.path().join("starts"), "").unwrap();
        Self {
            folder,
            component: guest("guest_misbehaving.wasm"),
        }
    }

    fn compiler(&self) -> Compiler {
        Compiler::child(self.folder.path().join("compiler"))
    }

    fn cached(&self) -> Compiler {
        self.compiler().cached_in(Some(self.folder.path()))
    }

    fn cgroup_with_used(&self, mebibytes: u64) -> Cgroup {
        cgroup_with_used(self.folder.path(), mebibytes)
    }

    async fn load(&self, compiler: Compiler) -> Result<Plugin, LoadError> {
        let host = Arc::new(Host::new(compiler).unwrap());
        load(&host, &self.component, Settings::named("suspect")).await
    }

    async fn load_error(&self, compiler: Compiler) -> String {
        self.load(compiler).await.unwrap_err().to_string()
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.folder.path().join("starts"))
            .unwrap()
            .lines()
            .count()
    }

    /// The one entry of the cache.
    fn entry(&self) -> PathBuf {
        let entries = std::fs::read_dir(self.folder.path().join("native")).unwrap();
        let entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        let [entry] = entries.as_slice() else {
            panic!("one entry is expected: {entries:?}")
        };
        entry.clone()
    }
}

/// A cgroup of 64 MiB of which so many MiB are used, as files in this folder.
pub(crate) fn cgroup_with_used(folder: &Path, mebibytes: u64) -> Cgroup {
    let file = |name: &str, content: String| std::fs::write(folder.join(name), content).unwrap();
    file("memory.max", (64_u64 << 20).to_string());
    file("memory.current", (mebibytes << 20).to_string());
    file("membership", "0::/\n".to_owned());
    Cgroup::at(folder, folder.join("membership"))
}

/// What another version of the distributor might have made, with other settings of the engine.
fn of_another_version(component: &[u8]) -> Vec<u8> {
    wasmtime::Engine::default().precompile_component(component).unwrap()
}

#[tokio::test]
async fn a_component_is_compiled_once() {
    let rig = Rig::new(REAL);
    for _ in 0..3 {
        rig.load(rig.cached()).await.unwrap();
    }
    assert_eq!(rig.starts(), 1);
    let folder = rig.folder.path().join("native");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(rig.entry().metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_entry_that_is_damaged_or_does_not_fit_is_compiled_anew() {
    let rig = Rig::new(REAL);
    rig.load(rig.cached()).await.unwrap();
    let entry = rig.entry();
    let native = std::fs::read(&entry).unwrap();

    std::fs::write(&entry, &native[..native.len() / 2]).unwrap();
    rig.load(rig.cached()).await.unwrap();
    assert_eq!(rig.starts(), 2, "cut off");

    // Whole as far as its name says, and of another version: the engine refuses it.
    let other = of_another_version(&rig.component);
    let name = entry.file_name().unwrap().to_str().unwrap();
    let (key, _) = name.rsplit_once('-').unwrap();
    std::fs::remove_file(&entry).unwrap();
    std::fs::write(entry.with_file_name(format!("{key}-{}.cwasm", digest(&other))), &other).unwrap();
    rig.load(rig.cached()).await.unwrap();
    assert_eq!(rig.starts(), 3, "another version");
    assert_eq!(std::fs::read(rig.entry()).unwrap(), native);
}

#[tokio::test]
async fn without_a_place_to_keep_it_native_code_comes_over_a_pipe() {
    let rig = Rig::new(REAL);
    rig.load(rig.compiler()).await.unwrap();
    rig.load(rig.compiler()).await.unwrap();
    assert_eq!(rig.starts(), 2);

    let unusable = tempfile::tempdir().unwrap();
    let native = unusable.path().join("native");
    std::fs::create_dir(&native).unwrap();
    std::fs::set_permissions(&native, Permissions::from_mode(0o777)).unwrap();
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("drop");
    let cache = unusable.path().to_str().unwrap();
    let process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("PLUGINS_CACHE_DIR", cache)])
        .await;
    let lines = lines_with(&process, "no cache for native code");
    let [line] = lines.as_slice() else {
        panic!("it is said once: {lines:?}")
    };
    assert!(line.contains("can be written to by others (mode 777)"), "{line}");
    assert_eq!(std::fs::read_dir(&native).unwrap().count(), 0);
    peers.publish_all([event("bad"), event("good")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good"]);
}

#[tokio::test]
async fn where_no_process_can_be_started_it_is_compiled_here() {
    let rig = Rig::new(REAL);
    let missing = Compiler::child(rig.folder.path().join("missing"));
    rig.load(missing.cached_in(Some(rig.folder.path()))).await.unwrap();
    rig.load(rig.cached()).await.unwrap();
    assert_eq!(rig.starts(), 0, "what was compiled here is kept as well");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_started() {
    let rig = Rig::new(REAL);
    let error = rig.load_error(rig.compiler().within(rig.cgroup_with_used(50))).await;
    for reason in [
        "of the container's 64 MiB only 14 MiB are left",
        "raise its memory limit by ",
        "smaller",
    ] {
        assert!(error.contains(reason), "{reason} is missing: {error}");
    }
    assert_eq!(rig.starts(), 0);
    rig.load(rig.cached().within(rig.cgroup_with_used(20))).await.unwrap();
    // What was compiled already needs no room.
    rig.load(rig.cached().within(rig.cgroup_with_used(50))).await.unwrap();
    assert_eq!(rig.starts(), 1);
}

#[tokio::test]
async fn a_compiler_that_takes_too_much_ends_and_nothing_else_does() {
    // The limit is that of the container, had it less than was expected.
    let rig = Rig::new("exec BINARY plugin compile --memory-limit 12000000");
    let error = rig.load_error(rig.cached().within(rig.cgroup_with_used(20))).await;
    for reason in [
        "needs more than the 44 MiB",
        "raise the container's memory limit",
        "smaller",
    ] {
        assert!(error.contains(reason), "{reason} is missing: {error}");
    }
    assert!(
        std::fs::read_dir(rig.folder.path().join("native"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
async fn a_compiler_that_does_not_end_is_killed() {
    let rig = Rig::new("echo $$ >\"$folder/id.new\"; mv \"$folder/id.new\" \"$folder/id\"; exec sleep 1000");
    let id_file = rig.folder.path().join("id");
    let time_flies_once_it_runs = async {
        eventually(SOON, async || id_file.exists()).await.unwrap();
        tokio::time::pause();
    };
    let (error, ()) = tokio::join!(rig.load_error(rig.cached()), time_flies_once_it_runs);
    assert!(error.contains("took longer than 2m"), "{error}");
    let id = std::fs::read_to_string(id_file).unwrap();
    let is_gone = async || {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
        status.is_err() || status.is_ok_and(|text| text.contains(") Z "))
    };
    tokio::time::resume();
    eventually(SOON, is_gone).await.unwrap();
}

#[tokio::test]
async fn a_compiler_that_is_killed_says_why_that_may_be() {
    let rig = Rig::new("kill -9 $$");
    let error = rig.load_error(rig.cached()).await;
    assert!(
        error.contains("was killed") && error.contains("out of memory"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_disk_is_no_reason_to_refuse_a_plugin() {
    let full = "if [ -f /proc/self/fd/1 ]; then echo 'error: cannot write the native code: No space left on device' >&2; exit 1; fi; ";
    let rig = Rig::new(&format!("{full}{REAL}"));
    rig.load(rig.cached()).await.unwrap();
    assert_eq!(rig.starts(), 2, "once more, over the pipe");
    assert!(
        std::fs::read_dir(rig.folder.path().join("native"))
            .unwrap()
            .next()
            .is_none()
    );
}

#[tokio::test]
async fn the_compiler_gets_nothing_of_our_environment() {
    let rig = Rig::new(&format!("env >\"$folder/environment\"; {REAL}"));
    rig.load(rig.compiler()).await.unwrap();
    let environment = std::fs::read_to_string(rig.folder.path().join("environment")).unwrap();
    let names: Vec<_> = environment.lines().filter_map(|line| line.split('=').next()).collect();
    // What a shell sets by itself.
    let foreign = |name: &&&str| !["PWD", "OLDPWD", "SHLVL", "_", "MIMALLOC_PAGE_COMMIT_ON_DEMAND"].contains(name);
    assert_eq!(names.iter().find(foreign), None);
}

#[tokio::test]
async fn the_compiler_limits_itself_before_it_reads_the_component() {
    let mut child = tokio::process::Command::new(BINARY)
        .args(["plugin", "compile", "--memory-limit", "99999744"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let id = child.id().unwrap();
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).unwrap();
    // The last thing it does.
    eventually(SOON, async || of("oom_score_adj").trim() == "1000")
        .await
        .unwrap();
    let limits = of("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max data size"), "99999744");
    assert_eq!(limit("Max core file size"), "0");
    assert_eq!(limit("Max cpu time"), "120");
    let stat = of("stat");
    let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap();
    assert_eq!(nice, "19");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&guest("guest_misbehaving.wasm")).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success() && output.stdout.len() > 100_000);
}

/// A directory with native code, and the chain file for it.
fn native_folder(native: &[u8], allowed: bool) -> PluginFolder {
    let allowed = if allowed { "allow_precompiled = true\n" } else { "" };
    let manifest = format!(
        "[[plugin]]\nname = \"suspect\"\ncomponent = \"suspect.cwasm\"\nsha256 = \"{}\"\n{allowed}\
         [plugin.config]\nbehaviour = \"drop\"\nonly = \"bad\"\n",
        digest(native)
    );
    PluginFolder::new()
        .file("plugins.toml", manifest)
        .file("suspect.cwasm", native)
}

#[tokio::test]
async fn native_code_that_is_pinned_and_allowed_runs() {
    let rig = Rig::new(REAL);
    rig.load(rig.cached()).await.unwrap();
    let native = std::fs::read(rig.entry()).unwrap();
    let peers = Peers::start().await;
    let folder = native_folder(&native, true);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("bad"), event("good")]).await;

    assert_eq!(peers.delivered_ids(1).await, ["good"]);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(lines_with(&process, "in place of native code").is_empty());
}

#[tokio::test]
async fn native_code_of_another_version_makes_way_for_the_component_beside_it() {
    let component = guest("guest_misbehaving.wasm");
    let folder = native_folder(&of_another_version(&component), true);
    let (exit_code, _, error) = run_to_end(&["check"], &[folder.variable()]).await;
    assert_eq!(exit_code, 1);
    assert!(error.contains("compile it anew, or put the component"), "{error}");

    let folder = folder.file("suspect.wasm", component);
    let peers = Peers::start().await;
    let process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    peers.publish_all([event("bad"), event("good")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good"]);
    let lines = lines_with(&process, "in place of native code");
    assert!(lines.len() == 1 && lines[0].contains("suspect.wasm"), "{lines:?}");
}

#[tokio::test]
async fn native_code_needs_the_permission_of_its_entry() {
    let component = guest("guest_misbehaving.wasm");
    let folder = native_folder(&of_another_version(&component), false);
    let (exit_code, _, error) = run_to_end(&["check"], &[folder.variable()]).await;
    assert_eq!(exit_code, 1);
    assert!(error.contains("set `allow_precompiled = true` and `sha256`"), "{error}");
}

#[tokio::test]
async fn native_code_that_is_mounted_is_not_run() {
    let mut rig = Rig::new(REAL);
    rig.load(rig.cached()).await.unwrap();
    rig.component = std::fs::read(rig.entry()).unwrap();
    let error = rig.load_error(rig.compiler()).await;
    assert!(
        error.contains("is native code") && error.contains("mount the component"),
        "{error}"
    );
    assert_eq!(rig.starts(), 1);
}

//! Mounts that never change: those by `subPath`, which Kubernetes fills once.
//!
//! Called by [`super::reload`] at the start, with the mounts of this process.

use std::path::{Path, PathBuf};

/// Where the kernel lists them.
pub(super) const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// What keeps changes of this directory from arriving, one line each.
pub(super) fn obstacles(mount_info: &str, directory: &Path) -> Vec<String> {
    let mounts = mount_info.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((unescaped(fields.next()?), PathBuf::from(unescaped(fields.next()?))))
    });
    let remedy = "mount the whole ConfigMap as a directory, without `subPath`";
    let mut obstacles = Vec::new();
    for (root, point) in mounts {
        if point != directory && point.starts_with(directory) {
            obstacles.push(format!(
                "{} is a mount of its own (`subPath`), which never changes; {remedy}",
                point.display()
            ));
        } else if point == directory && (root.contains("/volume-subpaths/") || is_below_a_version(&root)) {
            obstacles.push(format!(
                "{} is mounted by `subPath`, and never changes; {remedy}",
                point.display()
            ));
        }
    }
    obstacles
}

/// The kubelet's directories have names like `..2026_11_23_01_02_03.123`; the mount of a whole volume is above them.
fn is_below_a_version(root: &str) -> bool {
    root.contains("/volumes/kubernetes.io~") && root.contains("/..")
}

/// Blanks, tabs, line breaks and backslashes are octal numbers there.
fn unescaped(text: &str) -> String {
    let mut plain = text.to_owned();
    for (octal, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(octal, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn obstacles_in(lines: &[&str]) -> Vec<String> {
        let lines: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(number, mount)| format!("{number} 1 8:1 {mount} ro,relatime shared:1 - ext4 /dev/sda1 rw\n"))
            .collect();
        obstacles(&lines.concat(), Path::new("/etc/my plugins"))
    }

    #[test]
    fn mounts_by_sub_path_are_named_and_others_are_not() {
        const VOLUME: &str = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~configmap/plugins";
        let whole = format!("{VOLUME} /etc/my\\040plugins");
        assert_eq!(
            obstacles_in(&["/ /", &whole, "/ /etc/my", "/ /etc/my\\040plugins-too/x"]),
            [""; 0]
        );

        let file = format!("{VOLUME}/..2026_11_23/plugins.toml /etc/my\\040plugins/plugins.toml");
        let [problem] = &obstacles_in(&["/ /", &file])[..] else {
            panic!("one is expected")
        };
        assert!(
            problem.contains("/etc/my plugins/plugins.toml is a mount") && problem.contains("without `subPath`"),
            "{problem}"
        );
        let directory = format!("{VOLUME}/..2026_11_23/below /etc/my\\040plugins");
        assert_eq!(obstacles_in(&[&directory]).len(), 1);
        let prepared = "/var/lib/kubelet/pods/1/volume-subpaths/plugins/distributor/0 /etc/my\\040plugins";
        assert_eq!(obstacles_in(&[prepared]).len(), 1);
    }
}

#!/usr/bin/env bash
# Runs the root file system that deploy/image.sh made as a container engine would: as the user of deploy/Dockerfile, its
# root read-only, without privileges and without a way to get any. The environment and the network are those of the
# caller. It becomes the distributor, which is ended as such; its mounts end with it. Needs root, as an engine does.
#
#   run-image.sh <folder> [--memory-group <folder of a cgroup>] [<volume>]... -- [<arguments>]
#
# Volumes: `--empty-dir <path in the image>`, a file system of its own, which belongs to root and can be written to by
# all; `--config-map <folder>:<path in the image>`, which cannot be written to.
set -euo pipefail

if [ "$1" != --mounted ]; then
    exec unshare --mount --propagation private -- "${BASH_SOURCE[0]}" --mounted "$@"
fi
user="$(sed -n 's/^USER //p' "$(dirname "${BASH_SOURCE[0]}")/../../deploy/Dockerfile")"
root="$(cd "$2" && pwd)"
shift 2

# What an engine mounts into every container.
mkdir -p "$root"/{proc,sys,dev}
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$root/dev"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do
    case "$1" in
    --memory-group) echo $$ >"$2/cgroup.procs" ;;
    --empty-dir)
        mkdir -p "$root$2"
        mount -t tmpfs -o size=320m,mode=777 tmpfs "$root$2"
        ;;
    --config-map)
        mkdir -p "$root${2#*:}"
        mount --bind "${2%%:*}" "$root${2#*:}"
        mount -o remount,bind,ro "$root${2#*:}"
        ;;
    *)
        echo "unknown option $1" >&2
        exit 64
        ;;
    esac
    shift 2
done
shift
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" /distributor "$@"

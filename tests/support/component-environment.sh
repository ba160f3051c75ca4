# Sourced, not run: the environment in which components are built, so that their bytes do not depend on the folder, the
# user or what the caller exported. The same as in host/build.rs. It must be equal wherever target/components is built
# into: cargo rebuilds everything when the flags change.
#
# The caller sets component_root to the root of the workspace that it builds.
unset RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"$'\x1f'"--remap-path-prefix=$component_root=/src"
export CARGO_ENCODED_RUSTFLAGS

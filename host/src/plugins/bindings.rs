//! The Rust side of `wit/world.wit`, generated.
wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    // A looping plugin must not hold a runtime thread.
    exports: { default: async },
    // A plugin that calls the host too often is stopped by a trap.
    imports: { default: trappable },
    // What goes into a hook is borrowed from the event: saves a copy of every string.
    ownership: Borrowing { duplicate_if_necessary: true },
});

//! The component's allocator: what one call allocates, the next call overwrites.
//!
//! Set as the global allocator by the component, in which the host allocates the strings of every event, around
//! twenty of them; a general allocator takes a fifth of the whole call for that. It knows nothing of events or hooks.
//!
//! Nothing depends on the caller's discipline: space is used again only when every block in it was given back, and
//! what does not fit comes from the system's allocator. A block that stays for ever costs the speed, nothing else.

// An allocator is made of pointers; here are all the unsafe lines of this crate that are written by hand.
#![allow(unsafe_code, reason = "implements GlobalAlloc")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};

/// Several times what the strings of an event take. A call that needs more is only slower.
const SPACE_BYTES: usize = 16 * 1024;

/// The alignment of the space; blocks with a greater one come from the system's allocator.
const SPACE_ALIGN: usize = 16;

/// Blocks are cut off one after the other from a fixed space, which starts anew when the last of them is given back.
pub(crate) struct Arena {
    space: Space,
    /// Closed at first, so that what is made to last (the configured lists) does not stand in the space.
    open: Cell<bool>,
    /// Bytes cut off from the start of the space.
    used_bytes: Cell<usize>,
    /// Blocks in the space that were not given back.
    n_live: Cell<usize>,
}

#[repr(align(16))] // SPACE_ALIGN
struct Space(UnsafeCell<[u8; SPACE_BYTES]>);

// SAFETY: a component of this contract has one thread (the target is built without atomics).
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Self {
            space: Space(UnsafeCell::new([0; SPACE_BYTES])),
            open: Cell::new(false),
            used_bytes: Cell::new(0),
            n_live: Cell::new(0),
        }
    }

    /// To be called when everything is allocated that lasts longer than one call.
    pub(crate) fn open(&self) {
        self.open.set(true);
    }

    fn start(&self) -> *mut u8 {
        self.space.0.get().cast()
    }

    fn holds(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.start().addr()) < SPACE_BYTES
    }

    /// Where in the space a block of this layout goes; none when it is closed or too full.
    fn cut_off(&self, layout: Layout) -> Option<usize> {
        if !self.open.get() || layout.align() > SPACE_ALIGN {
            return None;
        }
        let offset = self.used_bytes.get().next_multiple_of(layout.align());
        let end = offset.checked_add(layout.size())?;
        if end > SPACE_BYTES {
            return None;
        }
        self.used_bytes.set(end);
        self.n_live.set(self.n_live.get() + 1);
        Some(offset)
    }
}

// SAFETY: blocks of the space do not overlap, since `used_bytes` only grows while one of them is live, and they are as
// large and aligned as asked for (`cut_off`). All others are the system allocator's, and go back to it: `holds` tells
// them apart by address.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.cut_off(layout) {
            // SAFETY: the offset lies in the space.
            Some(offset) => unsafe { self.start().add(offset) },
            // SAFETY: the caller's promise about the layout is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !self.holds(block) {
            // SAFETY: not in the space, so `alloc` had it from there.
            return unsafe { System.dealloc(block, layout) };
        }
        let n_live = self.n_live.get() - 1;
        self.n_live.set(n_live);
        if n_live == 0 {
            self.used_bytes.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("the tests ask for small blocks")
    }

    /// Allocates, fills and gives back one block; says whether it stood in the space.
    #[track_caller]
    fn check(arena: &Arena, size: usize, align: usize, in_space: bool) {
        let layout = layout(size, align);
        // SAFETY: the block is used within its layout and given back once.
        unsafe {
            let block = arena.alloc(layout);
            assert!(!block.is_null());
            assert_eq!(block.addr() % align, 0);
            block.write_bytes(0xff, size);
            assert_eq!(arena.holds(block), in_space);
            arena.dealloc(block, layout);
        }
    }

    fn opened() -> Arena {
        let arena = Arena::new();
        arena.open();
        arena
    }

    #[test]
    fn closed_arena_leaves_all_to_the_system() {
        check(&Arena::new(), 8, 8, false);
    }

    #[test]
    fn what_does_not_fit_comes_from_the_system() {
        let arena = opened();
        check(&arena, SPACE_BYTES, 1, true);
        check(&arena, SPACE_BYTES + 1, 1, false);
        check(&arena, 64, SPACE_ALIGN, true);
        check(&arena, 64, 2 * SPACE_ALIGN, false);
    }

    #[test]
    fn space_starts_anew_when_the_last_block_is_given_back() {
        let arena = opened();
        for _ in 0..1000 {
            check(&arena, 3000, 1, true);
        }
    }

    #[test]
    fn live_block_is_not_overwritten() {
        let arena = opened();
        let kept = layout(4, 4);
        // SAFETY: the block is used within its layout and given back once.
        unsafe {
            let block = arena.alloc(kept);
            block.write_bytes(0x11, 4);
            for _ in 0..5 {
                check(&arena, 3000, 1, true);
            }
            check(&arena, 3000, 1, false);
            assert_eq!(std::slice::from_raw_parts(block, 4), [0x11; 4]);
            arena.dealloc(block, kept);
        }
        check(&arena, 3000, 1, true);
    }

    #[test]
    fn block_that_grows_out_of_the_space_keeps_its_bytes() {
        let arena = opened();
        let small = layout(100, 1);
        let size = SPACE_BYTES + 1;
        // SAFETY: the block is used within its layouts and given back once.
        unsafe {
            let block = arena.alloc(small);
            block.write_bytes(0x22, 100);
            let block = arena.realloc(block, small, size);
            assert!(!arena.holds(block));
            assert_eq!(std::slice::from_raw_parts(block, 100), [0x22; 100]);
            arena.dealloc(block, layout(size, 1));
        }
        assert_eq!(arena.n_live.get(), 0);
    }
}

//! Memory in huge pages, for tables that are read all over.

use std::alloc::{GlobalAlloc, Layout, System};

/// A huge page of x86-64 and of arm64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// The system's allocator, which asks for huge pages where a block can fill one.
///
/// A lookup in a table of many megabytes misses the TLB as well as the cache, and on a virtual machine the walk through two
/// sets of page tables is the dearer of the two. `madvise` is how a process asks where the system leaves it the choice
/// (Documentation/admin-guide/mm/transhuge.rst); where there is none, nothing changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HugePages;

impl HugePages {
    /// The layout that is asked for: on a boundary of huge pages where it can fill one.
    fn layout(layout: Layout) -> Layout {
        if layout.size() < HUGE_PAGE {
            return layout;
        }
        layout.align_to(HUGE_PAGE).unwrap_or(layout)
    }
}

// SAFETY: blocks are the system allocator's, asked for and given back with the same layout, which depends on the
// caller's alone and is as large and at least as aligned. Advice changes no byte of them.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let wanted = Self::layout(layout);
        // SAFETY: the caller's word, that the size is not zero, holds for `wanted` too.
        let block = unsafe { System.alloc(wanted) };
        if wanted.align() >= HUGE_PAGE && !block.is_null() {
            // SAFETY: the block is ours and as long as said. Refusal is no error: it stays in small pages.
            unsafe { libc::madvise(block.cast(), wanted.size(), libc::MADV_HUGEPAGE) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's word is that `block` came from `alloc` with this layout, so it came with that one.
        unsafe { System.dealloc(block, Self::layout(layout)) };
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < HUGE_PAGE {
            // SAFETY: the caller's word. The system knows which memory is zero already.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's word.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is that long, and nobody else has it yet.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size().max(size) < HUGE_PAGE {
            // SAFETY: the caller's word; both layouts are the system's.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller's word: `size` is not zero and does not overflow when rounded up to the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as above.
        let moved = unsafe { self.alloc(wanted) };
        if !moved.is_null() {
            // SAFETY: both blocks are at least that long, and are two.
            unsafe { block.copy_to_nonoverlapping(moved, layout.size().min(size)) };
            // SAFETY: the caller's word; it is not used any more.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_what_they_hold_over_the_border() {
        let layout = |size| Layout::from_size_align(size, 64).unwrap();
        let sizes = [100, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 5, HUGE_PAGE, 100];
        // SAFETY: every block is used within its size, with its layout, and given back once.
        unsafe {
            let mut block = HugePages.alloc_zeroed(layout(sizes[0]));
            block.write_bytes(7, 100);
            for pair in sizes.windows(2) {
                block = HugePages.realloc(block, layout(pair[0]), pair[1]);
                assert_eq!(block.addr() % if pair[1] < HUGE_PAGE { 64 } else { HUGE_PAGE }, 0);
                assert_eq!(std::slice::from_raw_parts(block, 100), [7; 100]);
                block.add(pair[1] - 1).write(if pair[1] == 100 { 7 } else { 9 });
            }
            HugePages.dealloc(block, layout(100));
            let zeroed = HugePages.alloc_zeroed(layout(HUGE_PAGE));
            assert!(std::slice::from_raw_parts(zeroed, HUGE_PAGE).iter().all(|&byte| byte == 0));
            HugePages.dealloc(zeroed, layout(HUGE_PAGE));
        }
    }
}

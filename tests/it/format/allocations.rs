//! A global allocator that counts the memory of the current thread, so that a test can bound the memory of a
//! parser. (Zstandard's own contexts come from C, and are not counted.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    let held = HELD_BYTES.get() + bytes;
    HELD_BYTES.set(held);
    PEAK_BYTES.set(PEAK_BYTES.get().max(held));
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing, because
// the counters are constants without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is the same
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is the same
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Most bytes that `run` held at one time, beyond the bytes that this thread held before.
pub fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD_BYTES.get();
    PEAK_BYTES.set(before);
    run();
    (PEAK_BYTES.get() - before) as usize
}

#[test]
fn the_peak_counts_bytes_that_are_held_at_the_same_time() {
    let peak = peak_of(|| {
        drop(std::hint::black_box(vec![1u8; 1000]));
        drop(std::hint::black_box(vec![1u8; 3000]));
    });
    assert_eq!(peak, 3000);
}

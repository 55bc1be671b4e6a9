//! Proof that the firmware core and the crate of words need no standard library: a program with a panic handler and an allocator of its own.
//!
//! A program has one panic handler, and the standard library brings one. So this compiles exactly as long as neither
//! the core nor anything that it stands on brings the standard library in. Nothing here is ever run.
#![no_std]

use core::{
    alloc::{GlobalAlloc, Layout},
    panic::PanicInfo,
};
use medmesh_device_fw::{
    frame::MAX_PDU, health::Health, registers::Monitor, signal::Sample, slave,
};

/// Samples of the monitor in this proof.
const RING: usize = 4;

/// A chip without memory to give away.
struct Nothing;

// SAFETY: null says that there is no memory (`GlobalAlloc::alloc`), so nothing is ever given back.
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static NOTHING: Nothing = Nothing;

#[panic_handler]
fn halt(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

pub use medmesh_types as types;

/// What a chip's main loop does with a request: the core answers from registers that it owns, without an allocation.
pub fn answer(request: &[u8], out: &mut [u8; MAX_PDU]) -> usize {
    let ring = [Sample::default(); RING];
    let mut monitor = Monitor::new(ring, Health::OK);
    slave::answer(&mut monitor, request, out)
}

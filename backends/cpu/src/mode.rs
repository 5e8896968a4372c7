//! The floating-point mode that compiled code runs in: rounding to nearest, without interrupts, denormals kept or flushed, the same in every thread
//! whatever the thread's own mode is. The thread has its own again when the code returns; no code that others wrote runs in the other one.

use crate::emit::jit::Entry;
use crate::how::Denormals;

pub(crate) use machine::call;

/// What a kernel's function takes: arguments, sizes, begin, end, scratch, status.
pub(crate) type Operands = (*const *mut u8, *const i64, i64, i64, *mut u8, *mut u64);

/// Calls a kernel's function in the thread's own mode.
///
/// # Safety
/// As the function asks of its operands.
unsafe fn plainly(function: Entry, (args, dims, begin, end, scratch, status): Operands) {
    // SAFETY: as the caller's.
    unsafe { function(args, dims, begin, end, scratch, status) }
}

/// By MXCSR, the control and status of vectors.
#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::asm;

    use super::{Denormals, Entry, Operands, plainly};

    /// Every exception masked, to nearest.
    const KEPT: u32 = 0x1f80;
    /// FTZ, of results, and DAZ, of operands.
    const FLUSHED: u32 = KEPT | 1 << 15 | 1 << 6;
    /// What instructions note, which is no mode.
    const NOTED: u32 = 0x3f;

    /// Calls a kernel's function in the mode.
    ///
    /// # Safety
    /// As the function asks of its operands.
    pub(crate) unsafe fn call(function: Entry, denormals: Denormals, operands: Operands) {
        let mode = match denormals {
            Denormals::Kept => KEPT,
            Denormals::Flushed => FLUSHED,
        };
        let mut own = 0u32;
        // SAFETY: it writes the four bytes of the number.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut own, options(nostack, preserves_flags)) };
        if own & !NOTED == mode {
            // SAFETY: as the caller's.
            return unsafe { plainly(function, operands) };
        }
        let (args, dims, begin, end, scratch, status) = operands;
        // SAFETY: the function keeps to the convention, by which r12 and the stack are kept, and is called as the caller promises. One block
        // changes the mode, calls and changes it back, since Rust's own code must not run in another.
        unsafe {
            asm!(
                "ldmxcsr [{mode}]",
                "call {function}",
                "ldmxcsr [r12]",
                mode = in(reg) &raw const mode,
                function = in(reg) function,
                in("r12") &raw const own,
                in("rdi") args,
                in("rsi") dims,
                in("rdx") begin,
                in("rcx") end,
                in("r8") scratch,
                in("r9") status,
                clobber_abi("sysv64"),
            );
        }
    }
}

/// By FPCR, the control of floating point.
#[cfg(target_arch = "aarch64")]
mod machine {
    use std::arch::asm;

    use super::{Denormals, Entry, Operands, plainly};

    /// Calls a kernel's function in the mode.
    ///
    /// # Safety
    /// As the function asks of its operands.
    pub(crate) unsafe fn call(function: Entry, denormals: Denormals, operands: Operands) {
        let mode: u64 = match denormals {
            Denormals::Kept => 0,
            // FZ, of operands and results.
            Denormals::Flushed => 1 << 24,
        };
        let own: u64;
        // SAFETY: it reads a register.
        unsafe { asm!("mrs {}, fpcr", out(reg) own, options(nomem, nostack, preserves_flags)) };
        if own == mode {
            // SAFETY: as the caller's.
            return unsafe { plainly(function, operands) };
        }
        let (args, dims, begin, end, scratch, status) = operands;
        // SAFETY: the function keeps to the convention, by which x20 and the stack are kept, and is called as the caller promises. One block
        // changes the mode, calls and changes it back, since Rust's own code must not run in another.
        unsafe {
            asm!(
                "msr fpcr, {mode}",
                "blr {function}",
                "msr fpcr, x20",
                mode = in(reg) mode,
                function = in(reg) function,
                in("x20") own,
                in("x0") args,
                in("x1") dims,
                in("x2") begin,
                in("x3") end,
                in("x4") scratch,
                in("x5") status,
                clobber_abi("C"),
            );
        }
    }
}

/// Of other architectures no mode is known: denormals are not flushed there, and code runs in the thread's own mode.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod machine {
    use super::{Denormals, Entry, Operands, plainly};

    /// Calls a kernel's function.
    ///
    /// # Safety
    /// As the function asks of its operands.
    pub(crate) unsafe fn call(function: Entry, _: Denormals, operands: Operands) {
        // SAFETY: as the caller's.
        unsafe { plainly(function, operands) }
    }
}

//! Registers: which there are, who owns them in a call, and the allocator.

use regalloc2::{MachineEnv, Output, PReg, PRegSet, RegClass, RegallocOptions};

use super::Wide;
use super::inst::Asm;
use super::operand::{GENERAL, MASK, VECTOR};

pub(super) const RAX: PReg = PReg::new(0, GENERAL);
pub(super) const RDX: PReg = PReg::new(2, GENERAL);
/// Where a call's parameters are, in order.
pub(super) const PARAMS: [PReg; 6] = [
    PReg::new(7, GENERAL),
    PReg::new(6, GENERAL),
    PReg::new(2, GENERAL),
    PReg::new(1, GENERAL),
    PReg::new(8, GENERAL),
    PReg::new(9, GENERAL),
];
/// General registers that a call may destroy.
const VOLATILE: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];
/// General registers that a function gives back as they were; `rsp` and `rbp` are the frame's.
pub(super) const SAVED: [usize; 5] = [3, 12, 13, 14, 15];

fn set(class: RegClass, numbers: impl IntoIterator<Item = usize>) -> PRegSet {
    numbers.into_iter().map(|number| PReg::new(number, class)).collect()
}

/// What a call of a helper destroys, but for the register of its result.
pub(super) fn clobbers(wide: Wide, result: PReg) -> PRegSet {
    let mut clobbers = set(GENERAL, VOLATILE) | set(VECTOR, 0..wide.registers()) | set(MASK, 0..8);
    clobbers.remove(result);
    clobbers
}

/// Registers for every operand.
///
/// # Panics
/// If the code is not what an allocator takes, or, where assertions are on, the allocator's result is not equal to it.
pub(super) fn allocate(asm: &Asm, wide: Wide) -> Output {
    let vectors = set(VECTOR, 0..wide.registers());
    // Mask 0 means no mask.
    let masks = match wide {
        Wide::V3 => PRegSet::empty(),
        Wide::V4 => set(MASK, 1..8),
    };
    let env = MachineEnv {
        preferred_regs_by_class: [set(GENERAL, VOLATILE), vectors, masks],
        non_preferred_regs_by_class: [set(GENERAL, SAVED), PRegSet::empty(), PRegSet::empty()],
        scratch_by_class: [None; 3],
        fixed_stack_slots: Vec::new(),
    };
    let options = RegallocOptions { validate_ssa: cfg!(debug_assertions), ..RegallocOptions::default() };
    let output = regalloc2::run(asm, &env, &options).expect("X1: code is SSA with split edges and few fixed registers");
    if cfg!(debug_assertions) {
        let mut checker = regalloc2::checker::Checker::new(asm, &env);
        checker.prepare(&output);
        let verdict = checker.run();
        assert!(verdict.is_ok(), "X2: allocated registers hold the values that they stand for: {verdict:?}");
    }
    output
}

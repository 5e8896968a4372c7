//! A kernel's stages as text, made anew when asked for.

use graver_ir::kernel::Program;
use graver_runtime::Stage;

use crate::emit::cranelift::LANES;
use crate::emit::jit::Jit;
use crate::lower::{Lowered, lower};

/// The text of every function of a kernel at a stage; `None` if there is no such kernel.
pub(crate) fn text(program: &Program, kernel: usize, stage: Stage) -> Option<String> {
    let lowered = lower(program.kernels.get(kernel)?, &program.symbols, LANES);
    match stage {
        Stage::Vector => Some(vector(&lowered)),
        Stage::Clif => texts(&lowered).map(|texts| texts.into_iter().map(|(clif, _)| clif).collect::<Vec<_>>().join("\n")),
        Stage::Asm => texts(&lowered).map(|texts| texts.into_iter().map(|(_, asm)| asm).collect::<Vec<_>>().join("\n")),
    }
}

fn vector(lowered: &Lowered) -> String {
    let phase = |phase: &crate::lower::Phase| format!("// over {} points\n{}", phase.extent, phase.func);
    lowered.phases.iter().map(phase).collect::<Vec<_>>().join("\n")
}

fn texts(lowered: &Lowered) -> Option<Vec<(String, String)>> {
    let mut jit = Jit::new().ok()?;
    lowered.phases.iter().map(|phase| jit.texts(&phase.func).ok()).collect()
}

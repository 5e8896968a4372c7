//! A kernel's stages as text, made anew when asked for.

use graver_ir::kernel::Program;
use graver_runtime::Stage;

use crate::emit::jit::Jit;
use crate::how::How;
use crate::isa::Isa;
use crate::lower::{Lowered, lower};
use crate::packs;

/// The text of every function of a kernel at a stage; `None` if there is no such kernel, or the stage is of another
/// machine. Cranelift's IR is that of the
/// baseline, whatever the level.
pub(crate) fn text(program: &Program, kernel: usize, stage: Stage, how: How) -> Option<String> {
    let isa = if stage == Stage::Clif { Isa::Baseline } else { how.isa };
    let lasting = packs::lasting(program);
    let lowered = lower(program.kernels.get(kernel)?, &program.symbols, How { isa, ..how }, lasting.get(kernel)?);
    match stage {
        Stage::Vector => Some(vector(&lowered)),
        Stage::Clif => texts(&lowered, isa, Jit::clif),
        Stage::Asm => texts(&lowered, isa, Jit::asm),
        Stage::Cuda | Stage::Ptx | Stage::Sass => None,
    }
}

fn vector(lowered: &Lowered) -> String {
    let phase = |phase: &crate::lower::Phase| format!("// over {} points\n{}", phase.extent, phase.func);
    lowered.phases.iter().map(phase).collect::<Vec<_>>().join("\n")
}

type Text = fn(&mut Jit, &crate::vector::Func) -> Result<String, String>;

fn texts(lowered: &Lowered, isa: Isa, text: Text) -> Option<String> {
    let mut jit = Jit::new(isa).ok()?;
    let texts: Option<Vec<String>> = lowered.phases.iter().map(|phase| text(&mut jit, &phase.func).ok()).collect();
    Some(texts?.join("\n"))
}

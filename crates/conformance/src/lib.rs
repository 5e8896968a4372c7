//! The suite that every backend passes, for their tests. Backends are judged against the graph interpreter's reference by
//! derived error bounds, and against themselves in other guises (more threads, another order), which must give the same bits.
//!
//! Everything is compiled before anything runs, so that a backend may compile many programs at once. Each function panics with
//! what is wrong.

mod again;
pub mod attention;
pub mod calls;
mod contractions;
mod functions;
mod narrow;
mod nets;
mod pools;
mod programs;
mod rounding;
mod shares;
mod windows;

use std::sync::Arc;

use graver_ir::kernel::Program;
use graver_ir::{Array, Module, Target};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Executable, Invocation, Slot};

use nets::{DTYPES, nets_of};

pub use again::Again;
pub use attention::attentions;
pub use contractions::{contractions, narrow_contractions, pools};
pub use functions::functions;
pub use nets::networks;
pub use programs::{random_programs, samples};

/// Seeds of random programs that a backend is to be run with.
pub const SEEDS: u64 = 150;

/// Every program that the suite runs, and nets as users write them, by name: compiled for a target, not for a backend.
///
/// # Panics
/// If one does not compile.
#[must_use]
pub fn programs(target: &Target) -> Vec<(String, Program)> {
    let samples = graver_testkit::samples().into_iter().map(|sample| (sample.name, sample.module));
    let random = (0..SEEDS).map(|seed| (format!("random/{seed}"), graver_testkit::random_program(seed).module));
    let contractions = contractions::cases().into_iter().chain(narrow::cases()).map(|case| (case.what, case.module));
    let all = samples.chain(random).chain(contractions).chain(attention::modules()).chain(functions::modules()).chain(nets());
    all.map(|(name, module)| {
        let program = pipeline::compile(module, target, &mut Silent).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, program)
    })
    .collect()
}

/// Nets as users write them, by name.
#[must_use]
pub fn nets() -> Vec<(String, Module)> {
    DTYPES.into_iter().flat_map(nets_of).collect()
}

/// A program that a backend has compiled, in every guise.
struct Compiled(Vec<Arc<dyn Executable>>);

impl Compiled {
    fn new(module: &Module, backend: &dyn Backend, alike: &[&dyn Backend]) -> Result<Self, String> {
        let one = |backend: &dyn Backend| -> Result<Arc<dyn Executable>, String> {
            let program =
                pipeline::compile(module.clone(), &backend.describe(), &mut Silent).map_err(|error| error.to_string())?;
            backend.compile(Arc::new(program)).map_err(|error| error.to_string())
        };
        std::iter::once(&backend).chain(alike).map(|backend| one(*backend)).collect::<Result<_, _>>().map(Self)
    }

    /// Results, and the state afterwards: the same bits in every guise.
    fn run(&self, inputs: &[Array], state: &[Array]) -> Result<Vec<Array>, String> {
        let mut results = self.0.iter().map(|executable| run(executable.as_ref(), inputs, state));
        let first = results.next().expect("a backend has a guise")?;
        for other in results {
            if other? != first {
                return Err("the same backend gives other bits in another guise".to_owned());
            }
        }
        Ok(first)
    }
}

fn run(executable: &dyn Executable, inputs: &[Array], state: &[Array]) -> Result<Vec<Array>, String> {
    let mut state = state.to_vec();
    let mut workspace = executable.workspace();
    let inputs: Vec<&Array> = inputs.iter().collect();
    let mut slots: Vec<Slot<'_>> = state.iter_mut().map(Slot::Write).collect();
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut slots, workspace: &mut workspace };
    let results = executable.run(call).map_err(|error| error.to_string())?;
    Ok(results.into_iter().chain(state).collect())
}

/// Panics with everything that is wrong.
fn report(what: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{} {what} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

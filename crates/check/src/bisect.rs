//! Whether what is compiled computes what is written, and if not, who is to blame.
//!
//! The interpreter evaluates the graph as it is written, then the kernel program that the compiler made of it. Where these differ, the graph is
//! evaluated after one pass and another until two neighbours are found of which the first is right and the second wrong; behind the passes the
//! same over the stages of kernels. Where they agree, every launch is run on the device beside the interpreter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use graver_interp::{Interp, Precision, eval, eval_noisy};
use graver_ir::kernel::Program;
use graver_ir::{Array, Error, Loc, Module, Sink};
use graver_passes::pipeline::Stage;
use graver_passes::{Cx, Observer, Pass, PassReport, Silent, pipeline, runner};
use graver_runtime::{Backend, Invocation, Slot};

use crate::case::Case;
use crate::close::{SEEDS, first_difference};
use crate::finite;
use crate::kernels::{WrongKernel, every_launch};
use crate::reduce::{Budget, reduced};

/// What compiles and runs.
#[derive(Clone, Debug)]
pub struct Compiler<'a> {
    /// The passes, in order.
    pub passes: Vec<Pass>,
    /// The stages behind them, in order.
    pub stages: Vec<Stage>,
    /// The device.
    pub backend: &'a dyn Backend,
}

impl<'a> Compiler<'a> {
    /// The whole compiler, for a device.
    #[must_use]
    pub fn new(backend: &'a dyn Backend) -> Self {
        Self { passes: pipeline::passes(), stages: pipeline::STAGES.to_vec(), backend }
    }
}

/// Who makes a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guilty {
    /// A pass over the graph, by name and place in the pipeline.
    Pass {
        /// The name.
        name: &'static str,
        /// The place, from 0.
        position: usize,
    },
    /// A stage behind the passes: `lower`, `schedule`, `reuse` or `plan`.
    Stage(&'static str),
    /// A kernel's code on the device, by the kernel's name.
    Kernel(String),
    /// The device, though each of its kernels is right: their order, their memory, or how they are bound.
    Device,
}

impl std::fmt::Display for Guilty {
    /// `pass simplify (3 in the pipeline)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass { name, position } => write!(f, "pass `{name}` ({position} in the pipeline)"),
            Self::Stage(name) => write!(f, "stage `{name}`"),
            Self::Kernel(name) => write!(f, "the device's code of kernel `{name}`"),
            Self::Device => f.write_str("the device, though each of its kernels is right alone"),
        }
    }
}

/// A difference.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Who makes it.
    pub guilty: Guilty,
    /// Which element, both values.
    pub told: String,
    /// The user's line, where one is known.
    pub loc: Loc,
    /// The smallest program found that shows it.
    pub case: Case,
}

impl Finding {
    /// The case as a `.gir` text that is a test.
    #[must_use]
    pub fn to_gir(&self) -> String {
        let place = if self.loc.place().is_some() { format!(" at {}", self.loc) } else { String::new() };
        self.case.print(&[format!("{}{place}: {}", self.guilty, self.told)])
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.loc.place().is_some() {
            write!(f, "{}: ", self.loc)?;
        }
        write!(f, "{} computes something else: {}", self.guilty, self.told)
    }
}

/// What a check found.
#[derive(Clone, Debug)]
pub enum Checked {
    /// Everything is as written; so many launches were compared.
    Right {
        /// How many.
        launches: usize,
    },
    /// Something is not.
    Wrong(Box<Finding>),
}

/// Checks one call of a program on a device. On a difference the guilty one is named, and the program is made as small as it still shows it.
///
/// Derivatives are written out by the compiler's own pass before anything is compared: whether they are right is not told here.
///
/// # Errors
/// The program does not compile, or the call fails as it is written.
pub fn check(case: &Case, compiler: &Compiler<'_>) -> Result<Checked, Error> {
    let written = Expected::of(case)?;
    let Some(found) = fault(case, compiler, &written)? else {
        let launches = match &case.pass {
            Some(_) => 0,
            None => launches(case, compiler)?.unwrap_or_default(),
        };
        return Ok(Checked::Right { launches });
    };
    let Fault { guilty, mut told, mut loc, before } = found;
    // A pass is shown by what it was given, anything else by the whole compiler.
    let pass = if let Guilty::Pass { name, .. } = &guilty { Some((*name).to_owned()) } else { None };
    let start = Case { module: before.unwrap_or_else(|| case.module.clone()), pass, ..case.clone() };
    let still = |case: &Case| -> Option<(String, Loc)> {
        let written = Expected::of(case).ok()?;
        let found = fault(case, compiler, &written).ok()??;
        same_kind(&found.guilty, &guilty).then_some((found.told, found.loc))
    };
    let (case, last) = reduced(&start, &still, &mut Budget::default());
    if let Some((last, place)) = last {
        (told, loc) = (last, if place.place().is_some() { place } else { loc });
    }
    Ok(Checked::Wrong(Box::new(Finding { guilty, told, loc, case })))
}

/// In a smaller program a kernel has another name.
fn same_kind(x: &Guilty, y: &Guilty) -> bool {
    match (x, y) {
        (Guilty::Pass { name: x, .. }, Guilty::Pass { name: y, .. }) => x == y,
        (Guilty::Stage(x), Guilty::Stage(y)) => x == y,
        (Guilty::Kernel(_), Guilty::Kernel(_)) | (Guilty::Device, Guilty::Device) => true,
        (Guilty::Pass { .. } | Guilty::Stage(_) | Guilty::Kernel(_) | Guilty::Device, _) => false,
    }
}

/// What a call means, and how far rounding may take it: outputs, then updates.
pub(crate) struct Expected {
    exact: Vec<Array>,
    noisy: Vec<Vec<Array>>,
}

impl Expected {
    fn of(case: &Case) -> Result<Self, Error> {
        let mut module = case.module.clone();
        finite::run(&mut module, &["inline", "grad"])?;
        let (inputs, id) = (case.inputs.iter().collect::<Vec<_>>(), entry(&module)?);
        let all = |outcome: graver_interp::Outcome| {
            outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, value)| value)).collect::<Vec<Array>>()
        };
        let exact = all(eval(&module, id, &inputs, &case.state, Precision::Typed)?);
        let noisy = |seed| eval_noisy(&module, id, &inputs, &case.state, seed).map(all);
        Ok(Self { exact, noisy: (1..=SEEDS).filter_map(|seed| noisy(seed).ok()).collect() })
    }

    fn difference(&self, got: &Result<Vec<Array>, String>) -> Option<String> {
        match got {
            Ok(got) => first_difference(&self.exact, &self.noisy, got).map(|(place, told)| format!("result {place}: {told}")),
            Err(why) => Some(why.clone()),
        }
    }
}

fn entry(module: &Module) -> Result<graver_ir::FuncId, Error> {
    module.entry().map(|(id, _)| id).ok_or_else(|| Error::new("the program is empty"))
}

/// A difference and who makes it.
struct Fault {
    guilty: Guilty,
    told: String,
    loc: Loc,
    /// The module that a guilty pass was given.
    before: Option<Module>,
}

fn fault(case: &Case, compiler: &Compiler<'_>, written: &Expected) -> Result<Option<Fault>, Error> {
    if let Some(name) = &case.pass {
        return Ok(one_pass(case, compiler, written, name));
    }
    let steps = match steps(case, compiler)? {
        Ok(steps) => steps,
        Err(fault) => return Ok(Some(fault)),
    };
    let wrong = |step: &Step| written.difference(&step.run(case));
    let last = steps.last().expect("the compiler has stages");
    if let Some(told) = wrong(last) {
        // What is written is right and the last step is wrong: somewhere between are neighbours of which only the second is wrong.
        let (mut low, mut left, mut said) = (0, steps.len() - 1, told);
        while low < left {
            let middle = low.midpoint(left);
            match wrong(&steps[middle]) {
                Some(told) => (left, said) = (middle, told),
                None => low = middle + 1,
            }
        }
        let before = left.checked_sub(1).map_or_else(|| Some(case.module.clone()), |before| steps[before].module().cloned());
        let loc = Loc::UNKNOWN;
        return Ok(Some(Fault { guilty: steps[left].guilty.clone(), told: said, loc, before }));
    }
    Ok(match last.program() {
        Some(program) => on_device(case, compiler, written, program)?,
        None => None,
    })
}

/// One pass alone.
fn one_pass(case: &Case, compiler: &Compiler<'_>, written: &Expected, name: &str) -> Option<Fault> {
    let position = compiler.passes.iter().position(|pass| pass.name == name)?;
    let pass = compiler.passes[position];
    let guilty = Guilty::Pass { name: pass.name, position };
    let told = match apply(pass, case.module.clone(), compiler) {
        Ok(module) => written.difference(&evaluated(case, &module))?,
        Err(Refusal::Panicked(why)) => why,
        Err(Refusal::Refused(_)) => return None,
    };
    Some(Fault { guilty, told, loc: Loc::UNKNOWN, before: Some(case.module.clone()) })
}

/// A program somewhere on its way.
struct Step {
    guilty: Guilty,
    form: Form,
}

enum Form {
    Graph(Module),
    Kernels(Arc<Program>),
}

impl Step {
    fn module(&self) -> Option<&Module> {
        match &self.form {
            Form::Graph(module) => Some(module),
            Form::Kernels(_) => None,
        }
    }

    fn program(&self) -> Option<&Arc<Program>> {
        match &self.form {
            Form::Graph(_) => None,
            Form::Kernels(program) => Some(program),
        }
    }

    /// What the interpreter makes of it: outputs, then updates.
    fn run(&self, case: &Case) -> Result<Vec<Array>, String> {
        match &self.form {
            Form::Graph(module) => evaluated(case, module),
            Form::Kernels(program) => run_on(&Interp::default(), program, case),
        }
    }
}

/// What a graph evaluates to, derivatives that are not yet written out included.
fn evaluated(case: &Case, module: &Module) -> Result<Vec<Array>, String> {
    let mut module = module.clone();
    let written_out = catch_unwind(AssertUnwindSafe(|| finite::run(&mut module, &["inline", "grad"])));
    written_out.map_err(said)?.map_err(|error| error.to_string())?;
    let inputs: Vec<&Array> = case.inputs.iter().collect();
    let id = entry(&module).map_err(|error| error.to_string())?;
    let outcome = eval(&module, id, &inputs, &case.state, Precision::Typed).map_err(|error| error.to_string())?;
    Ok(outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, value)| value)).collect())
}

/// What a program gives on a device: outputs, then updates.
fn run_on(backend: &dyn Backend, program: &Arc<Program>, case: &Case) -> Result<Vec<Array>, String> {
    let text = |error: Error| error.to_string();
    let executable = backend.compile(Arc::clone(program)).map_err(text)?;
    let (inputs, mut state) = (case.inputs.iter().collect::<Vec<_>>(), case.state.clone());
    let mut results = executable
        .run(Invocation {
            entry: 0,
            inputs: &inputs,
            state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
            workspace: &mut executable.workspace(),
        })
        .map_err(text)?;
    let Some((_, main)) = case.module.entry() else { return Ok(results) };
    results.extend(main.results.iter().filter_map(|result| match result.sink {
        Sink::Out => None,
        Sink::Update(slot) => Some(state[slot.0 as usize].clone()),
    }));
    Ok(results)
}

/// Why a pass gave nothing.
enum Refusal {
    /// It found something wrong with the program.
    Refused(Error),
    /// It broke an invariant.
    Panicked(String),
}

fn apply(pass: Pass, mut module: Module, compiler: &Compiler<'_>) -> Result<Module, Refusal> {
    let target = compiler.backend.describe();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    match catch_unwind(AssertUnwindSafe(|| runner::run(&mut module, &[pass], &mut cx, &mut Silent, None))) {
        Ok(Ok(_)) => Ok(module),
        Ok(Err(error)) => Err(Refusal::Refused(error)),
        Err(payload) => Err(Refusal::Panicked(said(payload))),
    }
}

/// What a panic says.
fn said(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "it panics".to_owned())
}

/// Every form of the program, from the first pass to the last stage; or a pass or a stage that breaks an invariant.
fn steps(case: &Case, compiler: &Compiler<'_>) -> Result<Result<Vec<Step>, Fault>, Error> {
    let mut steps = Vec::new();
    let mut module = case.module.clone();
    for (position, pass) in compiler.passes.iter().enumerate() {
        let before = module.clone();
        let guilty = Guilty::Pass { name: pass.name, position };
        match apply(*pass, module, compiler) {
            Ok(after) => module = after,
            Err(Refusal::Refused(error)) => return Err(error),
            Err(Refusal::Panicked(told)) => return Ok(Err(Fault { guilty, told, loc: Loc::UNKNOWN, before: Some(before) })),
        }
        steps.push(Step { guilty, form: Form::Graph(module.clone()) });
    }
    let mut stages = Seen::default();
    let target = compiler.backend.describe();
    let lowered = catch_unwind(AssertUnwindSafe(|| pipeline::kernels_by(&compiler.stages, &module, &target, &mut stages)));
    if let Err(payload) = lowered {
        let guilty = Guilty::Stage(compiler.stages[stages.0.len()].name);
        return Ok(Err(Fault { guilty, told: said(payload), loc: Loc::UNKNOWN, before: None }));
    }
    steps.extend(
        stages.0.into_iter().map(|(name, program)| Step { guilty: Guilty::Stage(name), form: Form::Kernels(Arc::new(program)) }),
    );
    Ok(Ok(steps))
}

/// Keeps what every stage leaves.
#[derive(Default)]
struct Seen(Vec<(&'static str, Program)>);

impl Observer for Seen {
    fn after_pass(&mut self, _: &PassReport<'_>) {}

    fn program(&mut self, stage: &'static str, program: &Program, _: Duration) {
        self.0.push((stage, program.clone()));
    }
}

/// Every launch beside the interpreter's, then the whole call.
fn on_device(case: &Case, compiler: &Compiler<'_>, written: &Expected, program: &Arc<Program>) -> Result<Option<Fault>, Error> {
    let inputs: Vec<&Array> = case.inputs.iter().collect();
    if let Err(WrongKernel { name, loc, told }) = every_launch(program, &inputs, &case.state, compiler.backend)? {
        return Ok(Some(Fault { guilty: Guilty::Kernel(name), told, loc, before: None }));
    }
    let told = written.difference(&run_on(compiler.backend, program, case));
    Ok(told.map(|told| Fault { guilty: Guilty::Device, told, loc: Loc::UNKNOWN, before: None }))
}

/// How many launches a right call has.
fn launches(case: &Case, compiler: &Compiler<'_>) -> Result<Option<usize>, Error> {
    let Ok(steps) = steps(case, compiler)? else { return Ok(None) };
    let Some(program) = steps.last().and_then(Step::program) else { return Ok(None) };
    let (mut count, mut state) = (0, case.state.clone());
    let inputs: Vec<&Array> = case.inputs.iter().collect();
    let call = Invocation {
        entry: 0,
        inputs: &inputs,
        state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
        workspace: &mut graver_runtime::Workspace::default(),
    };
    graver_interp::run_watched(program, call, None, &mut |_| {
        count += 1;
        Ok(())
    })?;
    Ok(Some(count))
}

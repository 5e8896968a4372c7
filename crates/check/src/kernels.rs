//! Every launch of a program on a device, beside the interpreter's, over the same memory.
//!
//! The interpreter runs the program. What a launch finds and leaves is kept, with rounding errors by chance too, and the device runs the launch
//! alone, as a program of one kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

use graver_interp::{Launched, run_watched};
use graver_ir::kernel::{
    Access, Arg, AxisSet, Body, Bounds, Buffer, BufferId, Entry, Index, InstKind, Kernel, KernelBody, KernelId, Launch, Mode,
    Nest, Place, Program, Stage, Step, Store, View,
};
use graver_ir::{Array, Diag, Dim, Error, Loc, Sizes, StateDecl, StateId, StateKind, Type};
use graver_runtime::{Backend, Executable, Invocation, Slot, Workspace};

use crate::close::{SEEDS, difference};

/// A kernel that computes something else on the device.
#[derive(Clone, Debug)]
pub(crate) struct WrongKernel {
    pub(crate) name: String,
    pub(crate) loc: Loc,
    pub(crate) told: String,
}

/// The launches of a run, and what they left.
struct Seen {
    launch: Launch,
    sizes: Sizes,
    before: Vec<Array>,
    after: Vec<Array>,
}

/// Runs every launch beside the interpreter's. Gives how many there were, or the first that differs.
pub(crate) fn every_launch(
    program: &Arc<Program>,
    inputs: &[&Array],
    state: &[Array],
    backend: &dyn Backend,
) -> Result<Result<usize, WrongKernel>, Error> {
    let mut compiled: BTreeMap<Key, Alone> = BTreeMap::new();
    let mut wrong = None;
    let mut count = 0;
    watched(program, inputs, state, None, &mut |launched| {
        if wrong.is_some() {
            return Ok(());
        }
        count += 1;
        let seen = Seen {
            launch: launched.launch.clone(),
            sizes: launched.sizes.clone(),
            before: launched.before.to_vec(),
            after: launched.after.to_vec(),
        };
        wrong = beside(program, &seen, backend, &mut compiled)?;
        Ok(())
    })?;
    Ok(wrong.map_or(Ok(count), Err))
}

fn watched(
    program: &Arc<Program>,
    inputs: &[&Array],
    state: &[Array],
    noise: Option<u64>,
    watch: &mut dyn FnMut(&Launched<'_>) -> Result<(), Diag>,
) -> Result<Vec<Array>, Error> {
    let mut state = state.to_vec();
    let call = Invocation {
        entry: 0,
        inputs,
        state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
        workspace: &mut Workspace::default(),
    };
    run_watched(program, call, noise, watch)
}

/// A kernel over buffers of these sizes at these offsets.
type Key = (KernelId, Vec<(usize, Vec<usize>, i64)>, Vec<(String, i64)>);

/// A launch as a program of its own.
struct Alone {
    program: Arc<Program>,
    executable: Arc<dyn Executable>,
    /// For each buffer the argument that it is first, and where it is found afterwards.
    buffers: Vec<(usize, Place)>,
}

fn beside(
    program: &Program,
    seen: &Seen,
    backend: &dyn Backend,
    compiled: &mut BTreeMap<Key, Alone>,
) -> Result<Option<WrongKernel>, Diag> {
    let kernel = program.kernel(seen.launch.kernel);
    let loc = seen.launch.locs.first().cloned().unwrap_or(Loc::UNKNOWN);
    let wrong = |told: String| Some(WrongKernel { name: kernel.name.clone(), loc: loc.clone(), told });
    let one = |error: Error| error.diags()[0].clone();
    let key = key(seen)?;
    if !compiled.contains_key(&key) {
        let (alone, buffers) = alone(program, kernel, seen)?;
        let alone = Arc::new(alone);
        let executable = match backend.compile(Arc::clone(&alone)) {
            Ok(executable) => executable,
            Err(error) => return Ok(wrong(format!("does not compile: {error}"))),
        };
        compiled.insert(key.clone(), Alone { program: alone, executable, buffers });
    }
    let alone = &compiled[&key];
    let symbols = symbol_inputs(program, &seen.sizes);
    let got = match run(alone.executable.as_ref(), alone, seen, &symbols) {
        Ok(got) => got,
        Err(error) => return Ok(wrong(format!("fails: {error}"))),
    };
    let noisy: Vec<Vec<Array>> =
        (1..=SEEDS).map(|seed| interpreted(alone, seen, &symbols, seed)).collect::<Result<_, _>>().map_err(one)?;
    for (place, (arg, at)) in alone.buffers.iter().enumerate() {
        let got = if matches!(at, Place::Output(_)) {
            where_written(&seen.before[*arg], &seen.after[*arg], &got[place])
        } else {
            got[place].clone()
        };
        let around: Vec<&Array> = noisy.iter().map(|noisy| &noisy[place]).collect();
        if kernel.args[*arg].mode != Mode::Read
            && !matches!(at, Place::Input(_))
            && let Some(told) = difference(&seen.after[*arg], &around, &got)
        {
            return Ok(wrong(format!("argument {arg}: {told}")));
        }
    }
    Ok(None)
}

/// What a launch gave, where it has written; a result holds anything elsewhere.
fn where_written(before: &Array, after: &Array, got: &Array) -> Array {
    Array::from_fn(after.dtype(), after.shape().to_vec(), |place| {
        let untouched = before.get(place).bits() == after.get(place).bits();
        if untouched { after.get(place) } else { got.get(place) }
    })
}

fn key(seen: &Seen) -> Result<Key, Diag> {
    let view = |(view, array): (&View, &Array)| Ok((view.buffer.0 as usize, array.shape().to_vec(), offset(view, &seen.sizes)?));
    let views = seen.launch.args.iter().zip(&seen.before).map(view).collect::<Result<_, Diag>>()?;
    Ok((seen.launch.kernel, views, seen.sizes.iter().map(|(name, size)| (name.clone(), *size)).collect()))
}

fn offset(view: &View, sizes: &Sizes) -> Result<i64, Diag> {
    view.offset.eval(sizes).map_err(|error| Diag::new(error.to_string()))
}

/// The launch alone: what it reads comes as inputs, what it writes is state, so that what it leaves alone stays; results, where it may fail.
fn alone(program: &Program, kernel: &Kernel, seen: &Seen) -> Result<(Program, Vec<(usize, Place)>), Diag> {
    let mut entry = Entry {
        name: "launch".to_owned(),
        buffers: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        steps: Vec::new(),
        arena: Dim::ZERO,
    };
    let mut of = Program {
        symbols: program.symbols.clone(),
        kernels: vec![kernel.clone()],
        traps: program.traps.clone(),
        ..Program::default()
    };
    for symbol in &of.symbols {
        let id = buffer_id(entry.buffers.len());
        let place = Place::Input(entry.inputs.len());
        let shape = vec![Dim::sym(symbol), Dim::ZERO];
        entry.buffers.push(Buffer { place, dtype: graver_ir::DType::Bool, shape, loc: Loc::UNKNOWN });
        entry.inputs.push((id, symbol.name().to_owned()));
    }
    let mut copied: Vec<(BufferId, usize)> = Vec::new();
    let mut known: BTreeMap<BufferId, BufferId> = BTreeMap::new();
    let (mut buffers, mut args) = (Vec::new(), Vec::new());
    for (place, view) in seen.launch.args.iter().enumerate() {
        let buffer = match known.get(&view.buffer) {
            Some(buffer) => *buffer,
            None => {
                let id = buffer_id(entry.buffers.len());
                let mode = mode_of(kernel, &seen.launch, view.buffer);
                let at = placed(&mut of, &mut entry, id, mode, &seen.before[place], kernel.body.may_fail());
                let shape = seen.before[place].shape().iter().map(|size| Dim::from(*size)).collect();
                let dtype = seen.before[place].dtype();
                entry.buffers.push(Buffer { place: at.clone(), dtype, shape, loc: Loc::UNKNOWN });
                known.insert(view.buffer, id);
                if mode == Mode::Update && matches!(at, Place::Output(_)) {
                    copied.push((id, place));
                }
                buffers.push((written_arg(kernel, &seen.launch, view.buffer).unwrap_or(place), at));
                id
            }
        };
        args.push(View { buffer, offset: Dim::from(offset(view, &seen.sizes)?) });
    }
    for (id, place) in copied {
        let array = &seen.before[place];
        let from = buffer_id(entry.buffers.len());
        let input = Place::Input(entry.inputs.len());
        entry.inputs.push((from, format!("x{}", entry.inputs.len())));
        let shape = entry.buffer(id).shape.clone();
        entry.buffers.push(Buffer { place: input.clone(), dtype: array.dtype(), shape, loc: Loc::UNKNOWN });
        buffers.push((place, input));
        let kernel = of.intern(copy(array));
        let views = vec![View::whole(from), View::whole(id)];
        entry.steps.push(Step::Launch(Launch { kernel, args: views, locs: Vec::new() }));
    }
    entry.steps.push(Step::Launch(Launch { kernel: KernelId(0), args, locs: seen.launch.locs.clone() }));
    of.entries.push(entry);
    Ok((of, buffers))
}

fn buffer_id(place: usize) -> BufferId {
    BufferId(u32::try_from(place).expect("fewer than 2^32 buffers"))
}

/// How a launch uses a buffer: written, if any argument is.
fn mode_of(kernel: &Kernel, launch: &Launch, buffer: BufferId) -> Mode {
    let modes = kernel.args.iter().zip(&launch.args).filter(|(_, view)| view.buffer == buffer).map(|(arg, _)| arg.mode);
    modes.max().unwrap_or(Mode::Read)
}

fn written_arg(kernel: &Kernel, launch: &Launch, buffer: BufferId) -> Option<usize> {
    let mut args = kernel.args.iter().zip(&launch.args).enumerate();
    args.find(|(_, (arg, view))| view.buffer == buffer && arg.mode != Mode::Read).map(|(place, _)| place)
}

fn placed(of: &mut Program, entry: &mut Entry, id: BufferId, mode: Mode, array: &Array, may_fail: bool) -> Place {
    match mode {
        Mode::Read => {
            entry.inputs.push((id, format!("x{}", entry.inputs.len())));
            Place::Input(entry.inputs.len() - 1)
        }
        // What may fail may not write the state.
        Mode::Write if may_fail => {
            entry.outputs.push(id);
            Place::Output(entry.outputs.len() - 1)
        }
        // Then it begins as a copy of what was there.
        Mode::Update if may_fail => {
            entry.outputs.push(id);
            Place::Output(entry.outputs.len() - 1)
        }
        Mode::Write | Mode::Update => {
            let slot = StateId(u32::try_from(of.state.len()).expect("fewer than 2^32 slots"));
            let shape = graver_ir::Shape::new(array.shape().iter().copied());
            let ty = Type::new(array.dtype(), shape);
            of.state.push(StateDecl { path: format!("buffer.{}", slot.0), ty, kind: StateKind::Buffer });
            Place::State(slot)
        }
    }
}

/// A kernel that copies an array.
fn copy(array: &Array) -> Kernel {
    let numel = Dim::from(array.numel());
    let one = numel.is(1);
    let (over, axes) = if one { (AxisSet::EMPTY, Vec::new()) } else { (AxisSet::first(1), vec![numel.clone()]) };
    let index = vec![Index::At(Dim::axis(0, &numel))];
    let mut body = Body::default();
    let load = InstKind::Load(Access { arg: 0, index: index.clone(), bounds: Bounds::Proven });
    let value = body.push(load, array.dtype());
    let stores = vec![Store { arg: 1, index, value }];
    let stages = vec![Stage { over, keep: over, body, reductions: Vec::new(), stores }];
    let arg = |mode| Arg::dense(array.dtype(), vec![numel.clone()], mode);
    let body = KernelBody::Nest(Nest { axes, stages });
    Kernel { name: "copy".to_owned(), args: vec![arg(Mode::Read), arg(Mode::Write)], body }
}

/// An empty array for each symbol, of whose size it tells.
fn symbol_inputs(program: &Program, sizes: &Sizes) -> Vec<Array> {
    let size = |name: &str| sizes.get(name).copied().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
    program.symbols.iter().map(|symbol| Array::full([size(symbol.name()), 0], graver_ir::Scalar::bool(false))).collect()
}

/// What the launch leaves in each buffer, on a device.
fn run(executable: &dyn Executable, alone: &Alone, seen: &Seen, symbols: &[Array]) -> Result<Vec<Array>, Error> {
    over(alone, seen, symbols, executable.workspace(), |call| executable.run(call))
}

/// The same in the interpreter, with rounding errors by chance.
fn interpreted(alone: &Alone, seen: &Seen, symbols: &[Array], seed: u64) -> Result<Vec<Array>, Error> {
    let workspace = Workspace::default();
    over(alone, seen, symbols, workspace, |call| run_watched(&alone.program, call, Some(seed), &mut |_| Ok(())))
}

fn over(
    alone: &Alone,
    seen: &Seen,
    symbols: &[Array],
    mut workspace: Workspace,
    run: impl FnOnce(Invocation<'_>) -> Result<Vec<Array>, Error>,
) -> Result<Vec<Array>, Error> {
    let of = |wanted: fn(&Place) -> bool| {
        alone.buffers.iter().filter(move |(_, place)| wanted(place)).map(|(arg, _)| &seen.before[*arg])
    };
    let inputs: Vec<&Array> = symbols.iter().chain(of(|place| matches!(place, Place::Input(_)))).collect();
    let mut state: Vec<Array> = of(|place| matches!(place, Place::State(_))).cloned().collect();
    let outputs = run(Invocation {
        entry: 0,
        inputs: &inputs,
        state: &mut state.iter_mut().map(Slot::Write).collect::<Vec<_>>(),
        workspace: &mut workspace,
    })?;
    let mut found = Vec::new();
    for (arg, place) in &alone.buffers {
        found.push(match place {
            Place::Output(number) => outputs[*number].clone(),
            Place::State(slot) => state[slot.0 as usize].clone(),
            Place::Input(_) | Place::Const(_) | Place::Arena(_) | Place::Unplaced => seen.before[*arg].clone(),
        });
    }
    found.iter().try_for_each(|array| array.fetch().map(drop))?;
    Ok(found)
}

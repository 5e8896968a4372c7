//! Sizes become numbers: every offset, extent and amount of memory of an entry for one set of input shapes.

use graver_ir::kernel::{Entry, Launch, Loop, Program, Step, Trip, View};
use graver_ir::{Array, Diag, Dim, Error, Sizes, Symbol};
use graver_runtime::Binding;

use crate::codes::Codes;
use crate::compile::CompiledKernel;
use crate::emit::jit::Entry as Function;
use crate::lower::Passing;
use crate::packs::{PackId, Packs};
use crate::room::{Room, Scratch};

/// Bytes of a result that no cache would hold until it is read.
const LARGE: i64 = 32 << 20;
/// Bytes of a cache line, and of the widest vector.
pub(crate) const LINE: usize = 64;
/// Operations for which another thread is worth waking.
const WORK_PER_THREAD: i64 = 40_000;

/// An entry for one set of sizes.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) binding: Binding,
    /// The program's symbols, 0 where this entry does not have one: no launch reads it.
    pub(crate) dims: Vec<i64>,
    pub(crate) room: Room,
    pub(crate) steps: Vec<BoundStep>,
}

/// A step for one set of sizes.
#[derive(Debug)]
pub(crate) enum BoundStep {
    Launch(BoundLaunch),
    If { cond: BoundView, then: Vec<BoundStep>, otherwise: Vec<BoundStep> },
    Loop(BoundLoop),
}

#[derive(Debug)]
pub(crate) struct BoundLaunch {
    pub(crate) kernel: usize,
    /// Where what its first phase packs is kept.
    pub(crate) pack: Option<PackId>,
    /// One an argument.
    pub(crate) args: Vec<BoundView>,
    pub(crate) phases: Vec<BoundPhase>,
    /// The same, for where this argument lies at a multiple of [`LINE`]: it is large, and stored past the caches.
    pub(crate) passing: Option<(usize, Vec<BoundPhase>)>,
    pub(crate) scratch: Scratch,
}

#[derive(Debug)]
pub(crate) struct BoundLoop {
    /// Not more often than this.
    pub(crate) most: i64,
    /// Steps before every iteration, and the bool that they leave.
    pub(crate) test: Option<(Vec<BoundStep>, BoundView)>,
    /// Buffers that exchange their memory.
    pub(crate) carry: Vec<(usize, usize)>,
    /// What is packed anew when it begins.
    pub(crate) packs: Vec<usize>,
    pub(crate) body: Vec<BoundStep>,
}

/// A place in a buffer.
#[derive(Debug)]
pub(crate) struct BoundView {
    pub(crate) buffer: usize,
    /// In bytes, in the first iteration of every loop around.
    pub(crate) offset: i64,
    /// Bytes that an iteration of a loop adds, by the number of loops around that one.
    pub(crate) strides: Vec<(usize, i64)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundPhase {
    pub(crate) function: Function,
    pub(crate) extent: i64,
    pub(crate) parts: i64,
}

impl Bound {
    /// Everything evaluated for these inputs.
    pub(crate) fn new(
        program: &Program,
        kernels: &[CompiledKernel],
        packs: &Packs,
        codes: &Codes,
        entry: usize,
        inputs: &[&Array],
        threads: usize,
    ) -> Result<Self, Error> {
        let binding = Binding::new(program, entry, inputs)?;
        let description = &program.entries[entry];
        let room = Room::new(description, kernels, packs, &binding.sizes, threads)?;
        let mut binder = Binder {
            kernels,
            packs,
            codes,
            symbols: &program.symbols,
            entry: description,
            sizes: binding.sizes.clone(),
            threads,
            scratch: &room.scratch,
            counters: Vec::new(),
            launches: 0,
            loops: 0,
        };
        let steps = binder.steps(&description.steps)?;
        // Of others only: each that a launch of this entry reads was looked up above.
        let dims = program.symbols.iter().map(|symbol| binding.sizes.get(symbol.name()).copied().unwrap_or(0)).collect();
        Ok(Self { binding, dims, room, steps })
    }
}

struct Binder<'a> {
    kernels: &'a [CompiledKernel],
    packs: &'a Packs,
    codes: &'a Codes,
    /// Of the program.
    symbols: &'a [Symbol],
    entry: &'a Entry,
    /// Symbols, and 0 for the counters of the loops around.
    sizes: Sizes,
    threads: usize,
    /// By launch.
    scratch: &'a [Scratch],
    /// Outermost first.
    counters: Vec<String>,
    /// How many are bound.
    launches: usize,
    /// How many are begun.
    loops: usize,
}

impl Binder<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<Vec<BoundStep>, Error> {
        let mut bound = Vec::with_capacity(steps.len());
        for step in steps {
            bound.push(match step {
                Step::Launch(launch) => BoundStep::Launch(self.launch(launch)?),
                Step::If(branch) => BoundStep::If {
                    cond: self.view(&branch.cond)?,
                    then: self.steps(&branch.then)?,
                    otherwise: self.steps(&branch.otherwise)?,
                },
                Step::Loop(of) => BoundStep::Loop(self.repeat(of)?),
            });
        }
        Ok(bound)
    }

    fn launch(&mut self, launch: &Launch) -> Result<BoundLaunch, Error> {
        let number = launch.kernel.0 as usize;
        let kernel = &self.kernels[number];
        let args = launch.args.iter().map(|view| self.view(view)).collect::<Result<_, _>>()?;
        let phases = kernel.phases.iter().map(|phase| self.phase(phase)).collect::<Result<Vec<_>, _>>()?;
        let passing = self.passing(number, &phases)?;
        let (pack, scratch) = (self.packs.of_launch[self.launches], self.scratch[self.launches]);
        self.launches += 1;
        Ok(BoundLaunch { kernel: number, pack, args, phases, passing, scratch })
    }

    /// The phases that store past the caches, where that is allowed and worth it.
    fn passing(&self, number: usize, phases: &[BoundPhase]) -> Result<Option<(usize, Vec<BoundPhase>)>, Error> {
        let Some(Passing { arg, bytes, apart }) = &self.kernels[number].passing else { return Ok(None) };
        let whole = |apart: &Dim| Ok::<_, Error>(self.value(apart)? % i64::try_from(LINE).unwrap_or(1) == 0);
        // What overflows is refused elsewhere.
        if self.value(bytes).unwrap_or(0) < LARGE
            || !apart.iter().map(whole).collect::<Result<Vec<bool>, _>>()?.into_iter().all(|whole| whole)
        {
            return Ok(None);
        }
        let functions = self.codes.passing(number, *arg)?;
        let of = |(phase, function): (&BoundPhase, Function)| BoundPhase { function, ..*phase };
        Ok(Some((*arg, phases.iter().zip(functions).map(of).collect())))
    }

    fn repeat(&mut self, of: &Loop) -> Result<BoundLoop, Error> {
        let most = match &of.trip {
            Trip::Times(trip) | Trip::While { most: Some(trip), .. } => self.value(trip)?,
            Trip::While { most: None, .. } => i64::MAX,
        };
        let packs = self.packs.of_loop[self.loops].clone();
        self.loops += 1;
        let counter = of.counter.name().to_owned();
        self.counters.push(counter.clone());
        self.sizes.insert(counter.clone(), 0);
        let test = match &of.trip {
            Trip::Times(_) => None,
            Trip::While { test, holds, .. } => Some((self.steps(test)?, self.view(holds)?)),
        };
        let body = self.steps(&of.body)?;
        self.counters.pop();
        self.sizes.remove(&counter);
        let carry = of.carry.iter().map(|carry| (carry.now.0 as usize, carry.next.0 as usize)).collect();
        Ok(BoundLoop { most, test, carry, packs, body })
    }

    /// Offsets are linear in every counter: what an iteration adds is what the second one adds.
    fn view(&mut self, view: &View) -> Result<BoundView, Error> {
        let size = self.entry.buffer(view.buffer).dtype.size();
        let bytes = &view.offset * Dim::from(size);
        let (offset, mut strides) = (self.value(&bytes)?, Vec::new());
        let named: Vec<String> = bytes.symbols().iter().map(|symbol| symbol.name().to_owned()).collect();
        for depth in 0..self.counters.len() {
            let counter = self.counters[depth].clone();
            if named.contains(&counter) {
                self.sizes.insert(counter.clone(), 1);
                strides.push((depth, self.value(&bytes)? - offset));
                self.sizes.insert(counter, 0);
            }
        }
        Ok(BoundView { buffer: view.buffer.0 as usize, offset, strides })
    }

    fn phase(&self, phase: &crate::compile::CompiledPhase) -> Result<BoundPhase, Error> {
        for dim in &phase.dims {
            self.value(&Dim::sym(&self.symbols[*dim]))?;
        }
        let (extent, work) = (self.value(&phase.extent)?, self.value(&phase.work).unwrap_or(i64::MAX));
        let most = i64::try_from(self.threads).unwrap_or(1).min(extent);
        let parts = (work / WORK_PER_THREAD).clamp(1, most.max(1));
        Ok(BoundPhase { function: self.codes.entry(phase.function), extent, parts })
    }

    fn value(&self, dim: &Dim) -> Result<i64, Error> {
        dim.eval(&self.sizes).map_err(|error| Error::from(Diag::new(error.to_string())))
    }
}

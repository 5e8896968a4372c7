//! Steps in order: launches, one of two lists, and lists again and again.

use graver_ir::kernel::{Branch, Launch, Loop, Step, Trip, View};
use graver_ir::{Array, Diag, Sizes};
use graver_runtime::{Failed, failure};

use super::expr::size_of;
use super::memory::Memory;
use super::{Checks, Interpreted, Launched, Progress, Watcher};
use crate::scalar::Num;

/// A run on its way through the steps.
pub(super) struct Walk<'a, 'w> {
    pub(super) of: &'a Interpreted,
    pub(super) entry: usize,
    pub(super) inputs: &'a [&'a Array],
    pub(super) memory: &'a mut Memory,
    /// Symbols, and the counters of the loops around.
    pub(super) sizes: Sizes,
    pub(super) progress: Progress,
    pub(super) watch: Option<Watcher<'w>>,
}

impl Walk<'_, '_> {
    /// Every step.
    pub(super) fn all(&mut self, steps: &[Step]) -> Result<(), Diag> {
        steps.iter().try_for_each(|step| match step {
            Step::Launch(launch) => self.launch(launch),
            Step::If(branch) => self.branch(branch),
            Step::Loop(of) => self.repeat(of),
        })
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), Diag> {
        let arrays = |memory: &Memory| {
            launch.args.iter().map(|view| memory.snapshot(view.buffer.0 as usize)).collect::<Result<Vec<_>, _>>()
        };
        let before = if self.watch.is_some() { arrays(self.memory)? } else { Vec::new() };
        if let Some(trap) = self.of.launch(launch, self.memory, &self.sizes, &mut self.progress)? {
            let call = Failed { program: &self.of.program, entry: self.entry, sizes: &self.sizes, inputs: self.inputs };
            return Err(failure(call, trap.0 as usize));
        }
        match &mut self.watch {
            Some(watch) => watch(&Launched { launch, sizes: &self.sizes, before: &before, after: &arrays(self.memory)? }),
            None => Ok(()),
        }
    }

    fn branch(&mut self, branch: &Branch) -> Result<(), Diag> {
        let holds = self.holds(&branch.cond)?;
        self.all(if holds { &branch.then } else { &branch.otherwise })
    }

    fn repeat(&mut self, of: &Loop) -> Result<(), Diag> {
        let most = match &of.trip {
            Trip::Times(trip) => size_of(trip, &self.sizes)?,
            Trip::While { most, .. } => most.as_ref().map_or(Ok(i64::MAX), |most| size_of(most, &self.sizes))?,
        };
        let name = of.counter.name().to_owned();
        let mut count = 0;
        while count < most && self.goes_on((&name, count), &of.trip)? {
            self.all(&of.body)?;
            of.carry.iter().for_each(|carry| self.memory.exchange(carry.now.0 as usize, carry.next.0 as usize));
            count += 1;
        }
        self.sizes.remove(&name);
        Ok(())
    }

    /// Whether there is another iteration, of this number; its counter is known from here on.
    fn goes_on(&mut self, (name, count): (&str, i64), trip: &Trip) -> Result<bool, Diag> {
        self.sizes.insert(name.to_owned(), count);
        match trip {
            Trip::Times(_) => Ok(true),
            Trip::While { test, holds, .. } => {
                self.all(test)?;
                self.holds(holds)
            }
        }
    }

    fn holds(&self, view: &View) -> Result<bool, Diag> {
        let (buffer, offset) = (view.buffer.0 as usize, size_of(&view.offset, &self.sizes)?);
        let placed = self.memory.placed(buffer);
        let at = usize::try_from(offset).ok().filter(|at| at + placed.dtype.size() <= placed.len);
        let at = placed.start + at.ok_or_else(|| Diag::new(format!("a condition outside of buffer {buffer}")))?;
        if self.of.checks == Checks::Strict {
            self.memory.check_written(placed.region, at, placed.dtype.size(), buffer)?;
        }
        Ok(self.memory.load(placed.region, at, placed.dtype) != Num::Int(0))
    }
}

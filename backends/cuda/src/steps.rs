//! Steps in order: launches, one of two lists, and lists again and again, for the shim and for a GPU alike.
//!
//! What a loop carries is not copied: the two buffers of a pair exchange their memory after every iteration. Launches are numbered
//! as they happen, so that of several failures the first is told. A failure does not end launches; it ends the call where a
//! value decides how to go on.

use graver_ir::kernel::{Entry, Launch, Loop, Place, Program, Step, Trip, View};
use graver_ir::{Dim, Error, Symbol};
use graver_runtime::{Binding, Wrote, evaluated, writes, written_state};

use crate::emit::Emitted;

/// A place in memory: whose memory it is, and how many bytes from its first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    /// The buffer that was planned there; another may lie there by now.
    pub(crate) memory: usize,
    pub(crate) offset: usize,
}

/// What does the steps.
pub(crate) trait Machine {
    /// Launches a kernel over these places, one an argument.
    fn launch(&mut self, number: u32, launch: &Launch, args: &[At]) -> Result<(), Error>;

    /// The bool at a place, once all launches so far are done; `None` if one of them failed.
    fn holds(&mut self, at: At) -> Result<Option<bool>, Error>;

    /// Whether a launch was begun that may write to the state.
    fn has_begun_to_write(&self) -> bool;
}

/// Whether a kernel over these places may write to the state.
pub(crate) fn writes_state(entry: &Entry, kernel: &Emitted, args: &[At]) -> bool {
    let is_state = |at: &At| matches!(entry.buffers[at.memory].place, Place::State(_));
    kernel.args.iter().zip(args).any(|((_, mode), at)| writes(*mode) && is_state(at))
}

/// What a kernel is given for its symbols.
///
/// # Errors
/// No input gives one of them its size.
pub(crate) fn sizes_of(symbols: &[Symbol], binding: &Binding) -> Result<Vec<i64>, Error> {
    let size = |symbol: &Symbol| Dim::sym(symbol).eval(&binding.sizes).map_err(|error| Error::new(error.to_string()));
    symbols.iter().map(size).collect()
}

/// Whether values decide what happens: such an entry cannot be recorded.
pub(crate) fn decides(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Launch(_) => false,
        Step::If(_) | Step::Loop(Loop { trip: Trip::While { .. }, .. }) => true,
        Step::Loop(Loop { trip: Trip::Times(_), body, .. }) => decides(body),
    })
}

/// How many launches happen, at least where values decide.
pub(crate) fn count(steps: &[Step], binding: &Binding) -> Result<usize, Error> {
    steps.iter().try_fold(0usize, |sum, step| {
        let own = match step {
            Step::Launch(_) => 1,
            Step::If(branch) => count(&branch.then, binding)?.max(count(&branch.otherwise, binding)?),
            Step::Loop(of) => match &of.trip {
                Trip::Times(trip) => count(&of.body, binding)?.saturating_mul(binding.size(trip)?),
                Trip::While { .. } => count(&of.body, binding)?,
            },
        };
        Ok(sum.saturating_add(own))
    })
}

/// Runs the steps of an entry, and says what that does to the state if no check fails.
pub(crate) fn run(program: &Program, binding: &Binding, machine: &mut dyn Machine, wrote: &mut Wrote) -> Result<(), Error> {
    let entry = &program.entries[binding.entry];
    let mut walk = Walk { program, binding: binding.clone(), memory: (0..entry.buffers.len()).collect(), launches: 0, machine };
    for (number, step) in entry.steps.iter().enumerate() {
        let goes = walk.all(std::slice::from_ref(step));
        if goes.is_err() && walk.machine.has_begun_to_write() {
            // What is left may be results alone.
            let left = written_state(program, entry, &entry.steps[number..]);
            *wrote = if left.is_empty() { Wrote::All } else { Wrote::Part };
        }
        if goes? == Goes::Home {
            return Ok(());
        }
    }
    *wrote = if binding.written.is_empty() { Wrote::Nothing } else { Wrote::All };
    Ok(())
}

/// Whether a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    On,
    /// A launch failed.
    Home,
}

struct Walk<'a> {
    program: &'a Program,
    /// With the counters of the loops around among its sizes.
    binding: Binding,
    /// By buffer: whose memory it has.
    memory: Vec<usize>,
    launches: u32,
    machine: &'a mut dyn Machine,
}

impl Walk<'_> {
    fn all(&mut self, steps: &[Step]) -> Result<Goes, Error> {
        for step in steps {
            let goes = match step {
                Step::Launch(launch) => self.launch(launch)?,
                Step::If(branch) => match self.holds(&branch.cond)? {
                    Some(true) => self.all(&branch.then)?,
                    Some(false) => self.all(&branch.otherwise)?,
                    None => Goes::Home,
                },
                Step::Loop(of) => self.repeat(of)?,
            };
            if goes == Goes::Home {
                return Ok(Goes::Home);
            }
        }
        Ok(Goes::On)
    }

    fn launch(&mut self, launch: &Launch) -> Result<Goes, Error> {
        let args = launch.args.iter().map(|view| self.at(view)).collect::<Result<Vec<At>, Error>>()?;
        self.machine.launch(self.launches, launch, &args)?;
        self.launches = self.launches.saturating_add(1);
        Ok(Goes::On)
    }

    fn repeat(&mut self, of: &Loop) -> Result<Goes, Error> {
        let most = match &of.trip {
            Trip::Times(trip) | Trip::While { most: Some(trip), .. } => self.binding.size(trip)?,
            Trip::While { most: None, .. } => usize::MAX,
        };
        let counter = of.counter.name();
        for iteration in 0..most {
            self.binding.sizes.insert(counter.to_owned(), i64::try_from(iteration).unwrap_or(i64::MAX));
            if let Trip::While { test, holds, .. } = &of.trip {
                if self.all(test)? == Goes::Home {
                    return Ok(Goes::Home);
                }
                match self.holds(holds)? {
                    Some(true) => {}
                    Some(false) => break,
                    None => return Ok(Goes::Home),
                }
            }
            if self.all(&of.body)? == Goes::Home {
                return Ok(Goes::Home);
            }
            of.carry.iter().for_each(|carry| self.memory.swap(carry.now.0 as usize, carry.next.0 as usize));
        }
        self.binding.sizes.remove(counter);
        Ok(Goes::On)
    }

    fn holds(&mut self, view: &View) -> Result<Option<bool>, Error> {
        let at = self.at(view)?;
        self.machine.holds(at)
    }

    fn at(&self, view: &View) -> Result<At, Error> {
        let size = self.program.entries[self.binding.entry].buffer(view.buffer).dtype.size();
        let offset = evaluated(&view.offset, &self.binding.sizes)?;
        Ok(At { memory: self.memory[view.buffer.0 as usize], offset: offset.saturating_mul(size) })
    }
}

//! Steps in order: launches, one of two lists, and lists again and again. A failure ends all of them.
//!
//! What a loop carries is not copied: the addresses of the two buffers of a pair are exchanged after every iteration.

use std::time::Instant;

use graver_runtime::{LaunchTime, Profile};

use crate::bind::{Bound, BoundLaunch, BoundLoop, BoundStep, BoundView, LINE};
use crate::exec::CpuExecutable;
use crate::kept::Block;
use crate::packs::PackId;

/// A call on its way through the steps.
pub(crate) struct Running<'a> {
    pub(crate) executable: &'a CpuExecutable,
    pub(crate) bound: &'a Bound,
    /// The address of every buffer.
    pub(crate) buffers: &'a mut Vec<*mut u8>,
    /// Where all memory starts.
    pub(crate) start: *mut u8,
    /// Packings for all calls, where there are some.
    pub(crate) block: Option<&'a Block>,
    /// Which packings of loops are as they should be.
    pub(crate) fresh: &'a mut [bool],
    /// Told of a packing for all calls that was made: what it is of was read.
    pub(crate) packed: &'a dyn Fn(usize),
    /// The arguments of a launch; kept, so that no launch takes memory.
    pub(crate) args: &'a mut Vec<*mut u8>,
    /// The iteration of every loop around, outermost first.
    pub(crate) counters: &'a mut Vec<i64>,
    /// Where the time of launches is noted, if anywhere.
    pub(crate) profile: Option<&'a mut Profile>,
}

impl Running<'_> {
    /// Every step.
    ///
    /// # Errors
    /// The number of the first failure.
    pub(crate) fn all(&mut self, steps: &[BoundStep]) -> Result<(), u64> {
        steps.iter().try_for_each(|step| match step {
            BoundStep::Launch(launch) if self.profile.is_some() => self.timed(launch),
            BoundStep::Launch(launch) => self.launch(launch),
            BoundStep::If { cond, then, otherwise } => self.all(if self.holds(cond) { then } else { otherwise }),
            BoundStep::Loop(of) => self.repeat(of),
        })
    }

    fn timed(&mut self, launch: &BoundLaunch) -> Result<(), u64> {
        let start = Instant::now();
        let outcome = self.launch(launch);
        let took = start.elapsed();
        if let Some(profile) = &mut self.profile {
            profile.launches.push(LaunchTime { kernel: launch.kernel, took });
        }
        outcome
    }

    fn launch(&mut self, launch: &BoundLaunch) -> Result<(), u64> {
        self.args.clear();
        for view in &launch.args {
            let address = self.address(view);
            self.args.push(address);
        }
        // SAFETY: packings and scratch lie inside of the memory, as bound, apart from every buffer that is alive.
        let own = |place: usize| unsafe { self.start.add(place) };
        let (room, scratch) = (&self.bound.room, (own(launch.scratch.first), launch.scratch.each));
        let (packed, is_packed) = match launch.pack {
            None => (own(launch.scratch.shared), false),
            Some(PackId::Loops(pack)) => (own(room.packs[pack]), std::mem::replace(&mut self.fresh[pack], true)),
            // SAFETY: as above; the block has room for all packings of its entry.
            Some(PackId::Calls(pack)) => (unsafe { self.block().start().add(room.shared.0[pack]) }, true),
        };
        self.args.push(packed);
        let phases = match &launch.passing {
            Some((arg, phases)) if self.args[*arg].addr().is_multiple_of(LINE) => phases,
            Some(_) | None => &launch.phases,
        };
        if let Some(PackId::Calls(pack)) = launch.pack {
            let (phase, packed) = (&phases[0], self.block().packed(pack));
            if !packed.is_whole(phase.extent) {
                self.executable.pack(phase, packed, self.args, &self.bound.dims, scratch);
                (self.packed)(pack);
            }
        }
        for phase in &phases[usize::from(is_packed)..] {
            let status = self.executable.phase(phase, self.args, &self.bound.dims, scratch);
            if status != 0 {
                return Err(status);
            }
        }
        Ok(())
    }

    fn block(&self) -> &Block {
        self.block.expect("an entry that packs for all calls has a block")
    }

    fn repeat(&mut self, of: &BoundLoop) -> Result<(), u64> {
        let depth = self.counters.len();
        of.packs.iter().for_each(|pack| self.fresh[*pack] = false);
        self.counters.push(0);
        while self.counters[depth] < of.most && self.goes_on(of)? {
            self.all(&of.body)?;
            of.carry.iter().for_each(|(now, next)| self.buffers.swap(*now, *next));
            self.counters[depth] += 1;
        }
        self.counters.truncate(depth);
        Ok(())
    }

    fn goes_on(&mut self, of: &BoundLoop) -> Result<bool, u64> {
        let Some((test, holds)) = &of.test else { return Ok(true) };
        self.all(test)?;
        Ok(self.holds(holds))
    }

    fn holds(&self, view: &BoundView) -> bool {
        // SAFETY: a condition is one byte of its buffer, which an earlier step wrote (K25).
        unsafe { self.address(view).read() != 0 }
    }

    fn address(&self, view: &BoundView) -> *mut u8 {
        let moved: i64 = view.strides.iter().map(|(depth, stride)| self.counters[*depth] * stride).sum();
        let offset = isize::try_from(view.offset + moved).expect("K4: a view lies inside of its buffer");
        // SAFETY: a view lies inside of its buffer (K4), in every iteration of the loops around.
        unsafe { self.buffers[view.buffer].offset(offset) }
    }
}

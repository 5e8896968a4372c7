//! What kernels cost on a GPU: registers, shared memory and spills, as the assembler says.

use std::collections::BTreeMap;

use graver_ir::Error;
use graver_ir::kernel::{Kernel, KernelBody, Program};

use crate::emit::{Emitted, Phase, distinct, emit, unit};
use crate::nvrtc::Nvrtc;
use crate::parallel;

/// Kernels in one compilation.
const BATCH: usize = 64;

/// What a kernel takes of a multiprocessor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of a thread.
    pub registers: u32,
    /// Bytes of a block.
    pub shared: u32,
    /// Bytes that a thread writes to memory for want of registers.
    pub spilled: u32,
    /// Bytes of memory that a thread has for itself: what is spilled, and arrays that found no registers.
    pub stack: u32,
}

impl Usage {
    /// The most that one of both takes.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            registers: self.registers.max(other.registers),
            shared: self.shared.max(other.shared),
            spilled: self.spilled.max(other.spilled),
            stack: self.stack.max(other.stack),
        }
    }
}

/// A kernel by its name in the text and in its program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelName {
    /// In the program, for people.
    pub kernel: String,
    /// `nest`, `contract`, `scatter`, `sort`, `prefix` or `attend`.
    pub shape: &'static str,
    /// The function, different for different texts.
    pub function: String,
}

impl Nvrtc {
    /// Compiles every kernel of some programs to machine code, equal ones once, and says what they take.
    ///
    /// # Errors
    /// A kernel does not compile: the compiler's words.
    pub fn usage<'a>(
        &self,
        programs: impl IntoIterator<Item = &'a Program>,
        architecture: &str,
    ) -> Result<BTreeMap<KernelName, Usage>, Error> {
        let mut kernels: BTreeMap<KernelName, Emitted> = BTreeMap::new();
        for kernel in programs.into_iter().flat_map(|program| &program.kernels) {
            let emitted = emit(kernel);
            kernels.insert(
                KernelName { kernel: kernel.name.clone(), shape: shape(kernel), function: emitted.name.clone() },
                emitted,
            );
        }
        let all: Vec<(KernelName, Emitted)> = kernels.into_iter().collect();
        let batches: Vec<&[(KernelName, Emitted)]> = all.chunks(BATCH).collect();
        let parts = parallel::all(batches.len(), |number| self.batch(batches[number], architecture))?;
        Ok(parts.into_iter().flatten().collect())
    }

    fn batch(&self, batch: &[(KernelName, Emitted)], architecture: &str) -> Result<Vec<(KernelName, Usage)>, Error> {
        let text = unit(&distinct(batch.iter().map(|(_, kernel)| kernel)));
        let log = self.compile(&text, architecture)?.log;
        let usages = read(&log);
        // Of a kernel of several phases, the most that one of them takes.
        let usage = |(name, kernel): &(KernelName, Emitted)| {
            let of = |phase: &Phase| {
                let missing = || Error::new(format!("NVRTC's log says nothing of {}", phase.name));
                usages.get(&phase.name).copied().ok_or_else(missing)
            };
            let phases = kernel.phases.iter().map(of).collect::<Result<Vec<Usage>, Error>>()?;
            Ok((name.clone(), phases.into_iter().reduce(Usage::most).expect("a kernel has a phase")))
        };
        batch.iter().map(usage).collect()
    }
}

const fn shape(kernel: &Kernel) -> &'static str {
    match kernel.body {
        KernelBody::Nest(_) => "nest",
        KernelBody::Contract(_) => "contract",
        KernelBody::Scatter(_) => "scatter",
        KernelBody::Sort(_) => "sort",
        KernelBody::Prefix(_) => "prefix",
        KernelBody::Attend(_) => "attend",
    }
}

/// What the assembler's log says, by function.
fn read(log: &str) -> BTreeMap<String, Usage> {
    let (mut usages, mut current) = (BTreeMap::<String, Usage>::new(), String::new());
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(place) = words.iter().position(|word| *word == "function") {
            current = words.get(place + 1).map(|word| word.trim_matches('\'').to_owned()).unwrap_or_default();
        } else if let Some(place) = words.windows(2).position(|pair| *pair == ["properties", "for"]) {
            current = words.get(place + 2).map(|word| (*word).to_owned()).unwrap_or_default();
        }
        let usage = usages.entry(current.clone()).or_default();
        let before = |what: &[&str]| {
            let place = words
                .windows(what.len())
                .position(|window| window.iter().zip(what).all(|(word, what)| word.trim_end_matches(',') == *what))?;
            words.get(place.checked_sub(1)?)?.parse::<u32>().ok()
        };
        if let Some(registers) = before(&["registers"]) {
            usage.registers = registers;
        }
        if let Some(shared) = before(&["bytes", "smem"]) {
            usage.shared = shared;
        }
        if let Some(stack) = before(&["bytes", "stack", "frame"]) {
            usage.stack = stack;
        }
        if let Some(spilled) = before(&["bytes", "spill", "stores"]) {
            usage.spilled = spilled;
        }
    }
    usages
}

#[cfg(test)]
mod tests {
    use super::{Usage, read};

    #[test]
    fn the_assemblers_words_are_read() {
        let log = "ptxas info    : 0 bytes gmem\n\
                   ptxas info    : Compiling entry function 'k_dot' for 'sm_90a'\n\
                   ptxas info    : Function properties for k_dot\n    \
                   16 bytes stack frame, 24 bytes spill stores, 28 bytes spill loads\n\
                   ptxas info    : Used 56 registers, used 1 barriers, 8320 bytes smem, 412 bytes cmem[0]\n\
                   ptxas info    : Compiling entry function 'k_map' for 'sm_90a'\n\
                   ptxas info    : Used 12 registers\n";
        let usages = read(log);
        assert_eq!(usages["k_dot"], Usage { registers: 56, shared: 8320, spilled: 24, stack: 16 });
        assert_eq!(usages["k_map"], Usage { registers: 12, shared: 0, spilled: 0, stack: 0 });
    }
}

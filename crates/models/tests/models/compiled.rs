//! How often a decoder compiles: what reads a prompt once, what reads a token once, whatever the lengths.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use graver_cpu::Cpu;
use graver_ir::Target;
use graver_ir::kernel::Program;
use graver_models::{CausalLm, Decoder, Generation, Gpt2, Llama, Pretrained, Room, T5};
use graver_runtime::{Backend, Executable};
use graver_trace::{Device, Error};

use crate::common::Reference;

/// The CPU, and how many programs it has compiled.
#[derive(Debug)]
struct Counted {
    cpu: Cpu,
    programs: AtomicUsize,
}

impl Backend for Counted {
    fn describe(&self) -> Target {
        self.cpu.describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        self.programs.fetch_add(1, Ordering::Relaxed);
        self.cpu.compile(program)
    }

    fn compile_beside(&self, unplaced: &Program, plan: &(dyn Fn() -> Arc<Program> + Sync)) -> Result<Arc<dyn Executable>, Error> {
        self.programs.fetch_add(1, Ordering::Relaxed);
        self.cpu.compile_beside(unplaced, plan)
    }
}

const ROOM: Room = Room { texts: 1, tokens: 12 };

/// Generates behind prompts of every length, each as far as there is room, and the cached ones again.
#[track_caller]
fn compiles_twice(of: impl Fn(&Device) -> Result<Decoder, Error>) -> Result<(), Error> {
    let counted = Arc::new(Counted { cpu: Cpu::new(1), programs: AtomicUsize::new(0) });
    let device = Device::new(Arc::clone(&counted) as Arc<dyn Backend>);
    let mut decoder = of(&device)?;
    let programs = || counted.programs.load(Ordering::Relaxed);
    assert_eq!(programs(), 2, "a decoder is two programs");
    for length in (1..ROOM.tokens).chain([3]) {
        let prompt: Vec<u32> = (3..).take(length).collect();
        let options = Generation { max_length: Some(ROOM.tokens), ..Generation::default() };
        let steps = decoder.generate(&[prompt], &options)?.collect::<Result<Vec<_>, Error>>()?.len();
        assert!(steps > 0 && programs() == 2, "{} programs behind {steps} tokens after {length}", programs());
    }
    Ok(())
}

#[test]
fn text_of_any_length_compiles_nothing() -> Result<(), Error> {
    let reference = |case: &str| Reference::of(case).folder;
    let gpt2 = CausalLm::<Gpt2>::of_folder(&reference("gpt2"))?;
    compiles_twice(|device| Decoder::new(&gpt2, ROOM, device))?;
    // Positions that turn otherwise from a length on.
    for case in ["llama", "dynamic", "longrope"] {
        let llama = CausalLm::<Llama>::of_folder(&reference(case))?;
        compiles_twice(|device| Decoder::new(&llama, ROOM, device))?;
    }
    let t5 = T5::of_folder(&reference("t5"))?;
    compiles_twice(|device| Decoder::of_t5(&t5, ROOM, device))
}

//! The instruction-set levels that tests run at: all that the machine has. What it lacks is said to be NOT RUN, and is a
//! failure if the environment's `GRAVER_LEVELS` (`baseline,v3,v4`), which CI sets, promises it.

use graver_cpu::{Cpu, Dots, Isa};

/// A device of every level, with the dot-product instructions that are fastest there.
pub(crate) fn cpus(threads: usize) -> Vec<Cpu> {
    let promised = std::env::var("GRAVER_LEVELS").unwrap_or_default();
    let promised: Vec<Isa> =
        promised.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().expect("a level")).collect();
    let of = |isa: Isa| match Cpu::new(threads).with_isa(isa).and_then(|cpu| cpu.with_dots(Dots::detect(isa))) {
        Ok(cpu) => Some(cpu),
        Err(error) => {
            println!("level {isa}: NOT RUN: {error}");
            assert!(!promised.contains(&isa), "level {isa} was promised: {error}");
            None
        }
    };
    Isa::ALL.into_iter().filter_map(of).collect()
}

/// A device of every level with every set of dot-product instructions that the machine has.
#[allow(dead_code, reason = "tests of one file each")]
pub(crate) fn with_dots(threads: usize) -> Vec<Cpu> {
    let all = |cpu: Cpu| {
        Dots::ALL.into_iter().filter_map(move |dots| {
            cpu.clone().with_dots(dots).map_err(|error| println!("{dots} at level {}: NOT RUN: {error}", cpu.isa())).ok()
        })
    };
    cpus(threads).into_iter().flat_map(all).collect()
}

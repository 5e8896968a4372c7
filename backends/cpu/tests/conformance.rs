//! The suite that every backend passes, at every instruction-set level of this machine, on one thread and on several.

mod levels;

use graver_conformance::{SEEDS, contractions, functions, narrow_contractions, networks, pools, random_programs, samples};
use graver_cpu::Cpu;

/// A device of the same level with so many threads.
fn like(cpu: &Cpu, threads: usize) -> Cpu {
    Cpu::new(threads).with_isa(cpu.isa()).and_then(|like| like.with_dots(cpu.dots())).expect("the machine runs it")
}

#[test]
fn every_operation_at_every_type() {
    levels::cpus(2).iter().for_each(|cpu| samples(cpu, &[]));
}

#[test]
fn random_programs_on_one_thread_and_three() {
    levels::cpus(1).iter().for_each(|cpu| random_programs(cpu, &[&like(cpu, 3)], 0..SEEDS));
}

#[test]
fn functions_within_their_bounds() {
    levels::cpus(1).iter().for_each(|cpu| functions(cpu));
}

#[test]
fn contractions_of_every_arrangement() {
    levels::cpus(1).iter().for_each(|cpu| contractions(cpu, &[&like(cpu, 2), &like(cpu, 3)]));
}

#[test]
fn pooling_of_every_kind_and_its_derivatives() {
    levels::cpus(1).iter().for_each(|cpu| pools(cpu, &[&like(cpu, 3)]));
}

#[test]
fn narrow_contractions_by_every_instruction() {
    levels::with_dots(1).iter().for_each(|cpu| narrow_contractions(cpu, &[&like(cpu, 3)]));
}

#[test]
fn nets_and_their_training_steps() {
    levels::cpus(2).iter().for_each(|cpu| networks(cpu, &[&like(cpu, 3)]));
}

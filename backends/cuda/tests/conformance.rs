//! The suite that every backend passes, on the CPU through the shim, with a block's threads in one order and in the other.

use std::path::Path;

use graver_conformance::{contractions, functions, networks, programs, random_programs, samples};
use graver_cuda::{Order, Shim, cuda_text, describe};

fn shim() -> Shim {
    Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler")
}

#[test]
fn every_operation_at_every_type() {
    samples(&shim());
}

#[test]
fn random_programs_in_both_orders() {
    let shim = shim();
    random_programs(&shim, &shim.with_order(Order::Descending).with_shared(3000), 0..60);
}

#[test]
fn functions_within_their_bounds() {
    functions(&shim());
}

#[test]
fn contractions_of_every_arrangement() {
    let shim = shim();
    contractions(&shim, &[&shim.with_order(Order::Descending), &shim.with_blocks(5).with_shared(6000)]);
}

#[test]
fn nets_and_their_training_steps() {
    networks(&shim());
}

/// Every way to run a kernel, by what only its text holds; but for results in memory, which no pass asks for, and
/// sums of attention by tensor instructions: `src/shim` has both.
const WAYS: &[(&str, &str)] = &[
    ("16 bytes at once", "gr_read<"),
    ("a warp a row", "gr_of_warp<"),
    ("a block a row", "% 32 == 0, 0, 1, 8)"),
    ("columns", "thread, true, thread % 32, 32, 8)"),
    ("the position of an extreme, in a warp", "gr_arg_of_warp<"),
    ("the position of an extreme, in a block", "gr_arg_of_team<"),
    ("chunks", "start"),
    ("16 bytes at once, without rows", "gr_read_some<"),
    ("transposes", "_first + row + e"),
    ("shares of rows and columns", "from = share"),
    ("shares of k", "k_begin = share"),
    ("tiles", "gr_mad("),
    ("tensor instructions of bf16", "gr_mma_bf16("),
    ("tensor instructions of f16", "gr_mma_f16("),
    ("16 bytes of an operand whose k is not innermost", "turned.at[j]"),
    ("rows in registers", "row1["),
    ("rows of 16 bytes a thread", "> row1["),
    ("rows in shared memory", "GR_DYNAMIC("),
    ("asynchronous copies", "gr_copy16("),
    ("shares of a scatter", "== owner"),
    ("checks", "gr_check("),
    ("random bits", "gr_philox("),
    ("narrow positions", "typedef i32 idx"),
    ("wide positions", "typedef i64 idx"),
];

#[test]
fn the_suite_runs_kernels_in_every_way() {
    let programs = programs(&describe());
    let text = |kernel: (usize, usize)| cuda_text(&programs[kernel.0].1, kernel.1).expect("there is such a kernel");
    let kernels = programs.iter().enumerate().flat_map(|(at, (_, program))| (0..program.kernels.len()).map(move |k| (at, k)));
    let all: String = kernels.map(text).collect();
    let missing: Vec<&str> = WAYS.iter().filter(|(_, mark)| !all.contains(mark)).map(|(way, _)| *way).collect();
    assert!(missing.is_empty(), "no kernel of the suite is run by {missing:?}");
}

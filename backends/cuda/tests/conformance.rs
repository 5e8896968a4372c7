//! The suite that every backend passes, on the CPU through the shim, with blocks and a block's threads in one order and in the other.

use std::path::Path;

use graver_conformance::{SEEDS, attentions, contractions, functions, narrow_contractions, networks, random_programs, samples};
use graver_cuda::{Order, Shim};

fn shim() -> Shim {
    Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler")
}

#[test]
fn every_operation_at_every_type() {
    let shim = shim();
    samples(&shim, &[&shim.with_order(Order::Descending)]);
}

#[test]
fn random_programs_in_both_orders() {
    let shim = shim();
    random_programs(&shim, &[&shim.with_order(Order::Descending).with_shared(3000)], 0..SEEDS);
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
fn narrow_contractions_of_every_arrangement() {
    let shim = shim();
    narrow_contractions(&shim, &[&shim.with_order(Order::Descending)]);
}

#[test]
fn nets_and_their_training_steps() {
    let shim = shim();
    networks(&shim, &[&shim.with_order(Order::Descending)]);
}

#[test]
fn attention_and_its_derivatives() {
    let shim = shim();
    attentions(&shim, &[&shim.with_order(Order::Descending).with_blocks(3)]);
}

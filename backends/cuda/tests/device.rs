//! The suite on a GPU, where there is one; elsewhere, that its absence is an ordinary error.

use std::sync::Arc;

use graver_conformance::{
    Again, SEEDS, attentions, calls, contractions, functions, narrow_contractions, networks, random_programs, samples,
};
use graver_cuda::Cuda;
use graver_runtime::Backend;

/// Says that there is a GPU: that none can be used is then a failure, whatever is missing.
const REQUIRED: &str = "GRAVER_GPU";

/// The GPU, each of whose calls is replayed as well, or nothing where there is none, which is said.
fn gpu() -> Option<Again<Cuda>> {
    match Cuda::new(0) {
        Ok(cuda) => {
            println!("on {}", cuda.name());
            Some(Again(cuda))
        }
        Err(error) => {
            let said = error.to_string();
            assert!(std::env::var_os(REQUIRED).is_none_or(|value| value != "1"), "{REQUIRED} is 1, and there is no GPU: {said}");
            let told = ["libcuda.so.1", "libnvrtc.so.13", "there is no GPU 0", "compute capability", "the CUDA driver"];
            assert!(told.iter().any(|what| said.contains(what)), "{said}");
            println!("not run on a GPU: {said}");
            None
        }
    }
}

#[test]
fn every_operation_at_every_type() {
    gpu().iter().for_each(|gpu| samples(gpu, &[]));
}

#[test]
fn random_programs_give_the_same_bits_again() {
    gpu().iter().for_each(|gpu| random_programs(gpu, &[&gpu.0], 0..SEEDS));
}

#[test]
fn functions_within_their_bounds() {
    gpu().iter().for_each(|gpu| functions(gpu));
}

#[test]
fn contractions_of_every_arrangement() {
    gpu().iter().for_each(|gpu| contractions(gpu, &[&gpu.0]));
}

#[test]
fn narrow_contractions_of_every_arrangement() {
    gpu().iter().for_each(|gpu| narrow_contractions(gpu, &[&gpu.0]));
}

#[test]
fn nets_and_their_training_steps() {
    gpu().iter().for_each(|gpu| networks(gpu, &[]));
}

#[test]
fn attention_and_its_derivatives() {
    gpu().iter().for_each(|gpu| attentions(gpu, &[&gpu.0]));
}

/// Calls as users make them, without the checks of [`Again`].
fn calls_of(check: fn(Arc<dyn Backend>)) {
    gpu().into_iter().for_each(|gpu| check(Arc::new(gpu.0)));
}

#[test]
fn rows_that_registers_do_not_hold() {
    calls_of(calls::long_rows);
}

#[test]
fn two_programs_share_a_state() {
    calls_of(calls::a_state_that_two_programs_share);
}

#[test]
fn a_failing_check_leaves_the_state() {
    calls_of(calls::a_check_that_fails_now_and_then);
}

#[test]
fn values_decide_how_often() {
    calls_of(calls::values_that_decide_how_often);
}

#[test]
fn threads_call_at_once() {
    calls_of(calls::threads_that_call_at_once);
}

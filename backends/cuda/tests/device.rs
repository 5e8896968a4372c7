//! The suite on a GPU, where there is one; elsewhere, that its absence is an ordinary error.

use graver_conformance::{SEEDS, attentions, contractions, functions, narrow_contractions, networks, random_programs, samples};
use graver_cuda::Cuda;

/// Says that there is a GPU: that none can be used is then a failure, whatever is missing.
const REQUIRED: &str = "GRAVER_GPU";

/// The GPU, or nothing where there is none, which is said.
fn gpu() -> Option<Cuda> {
    match Cuda::new(0) {
        Ok(cuda) => {
            println!("on {}", cuda.name());
            Some(cuda)
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
    gpu().iter().for_each(|cuda| samples(cuda, &[]));
}

#[test]
fn random_programs_give_the_same_bits_again() {
    gpu().iter().for_each(|cuda| random_programs(cuda, &[cuda], 0..SEEDS));
}

#[test]
fn functions_within_their_bounds() {
    gpu().iter().for_each(|cuda| functions(cuda));
}

#[test]
fn contractions_of_every_arrangement() {
    gpu().iter().for_each(|cuda| contractions(cuda, &[cuda]));
}

#[test]
fn narrow_contractions_of_every_arrangement() {
    gpu().iter().for_each(|cuda| narrow_contractions(cuda, &[cuda]));
}

#[test]
fn nets_and_their_training_steps() {
    gpu().iter().for_each(|cuda| networks(cuda, &[]));
}

#[test]
fn attention_and_its_derivatives() {
    gpu().iter().for_each(|cuda| attentions(cuda, &[cuda]));
}

//! Every operation alone, and random programs: kernels mean what the graph means.

use crate::common::check;

#[test]
fn every_sample_means_the_same() {
    for sample in graver_testkit::samples() {
        let bounds = vec![sample.bound; sample.module.entry().map_or(0, |(_, function)| function.results.len())];
        check(&sample.name, &sample.module, &sample.inputs, &[], &bounds);
    }
}

#[test]
fn random_programs_mean_the_same() {
    for seed in 0..200 {
        let random = graver_testkit::random_program(seed);
        check(&format!("seed {seed}"), &random.module, &random.inputs, &random.state, &random.bounds);
    }
}

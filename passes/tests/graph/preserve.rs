//! Every pass keeps the interpreter's answer, bit for bit.

use graver_interp::{Outcome, Precision, eval};
use graver_ir::text::print;
use graver_ir::{Array, DType, Module, ScalarFn};
use graver_testkit::{random_like, random_program, reverse, samples, transform_samples};

use crate::common::{Draft, after, module};
use crate::tools::{ENTRY, run};

/// The passes that a program goes through after its derivatives are written out, each alone and all together.
const PIPELINES: &[&[&str]] = &[
    &["inline"],
    &["simplify"],
    &["fold"],
    &["cse"],
    &["dce"],
    &["inline", "simplify", "fold", "simplify", "cse", "dce", "simplify", "fold", "cse", "dce"],
];

fn outcome(module: &Module, inputs: &[Array], state: &[Array]) -> Result<Outcome, String> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    eval(module, ENTRY, &inputs, state, Precision::Typed).map_err(|error| error.to_string())
}

fn check(name: &str, module: &Module, inputs: &[Array], state: &[Array]) {
    let expected = outcome(module, inputs, state).expect("the test's program runs");
    for passes in PIPELINES {
        let rewritten = after(module.clone(), passes);
        let got = outcome(&rewritten, inputs, state);
        assert_eq!(got.as_ref(), Ok(&expected), "{name} after {passes:?}:\n{}", print(&rewritten));
    }
}

#[test]
fn samples_keep_their_answers() {
    for sample in samples() {
        check(&sample.name, &sample.module, &sample.inputs, &[]);
    }
}

#[test]
fn derivatives_keep_their_answers() {
    for sample in samples().into_iter().chain(transform_samples()).filter(|sample| sample.differentiable) {
        if sample.name.starts_with("window/prod") {
            continue;
        }
        let outputs = run(&sample.module, &sample.inputs);
        let seeds = random_like(&outputs, &mut graver_testkit::Rng::named(&sample.name));
        let written_out = after(reverse(&sample.module), &["inline", "grad"]);
        check(&sample.name, &written_out, &[sample.inputs, seeds].concat(), &[]);
    }
}

#[test]
fn random_programs_keep_their_answers() {
    for seed in 0..300 {
        let program = random_program(seed);
        check(&format!("seed {seed}"), &program.module, &program.inputs, &program.state);
    }
}

#[test]
fn passes_reach_a_fixed_point() {
    for seed in 0..100 {
        let all = PIPELINES.last().expect("there are pipelines");
        let done = after(random_program(seed).module, all);
        // Merging equal work may show one more rewrite.
        let done = after(done, all);
        assert_eq!(print(&after(done.clone(), all)), print(&done), "seed {seed}");
    }
}

/// Beside the edges of both types and of halves of `u64`.
#[test]
fn u64_is_divided_by_the_bits() {
    const HALF: u64 = 1 << 63;
    let edges: Vec<u64> = [0, 1 << 32, HALF / 2, HALF, u64::MAX - 2]
        .into_iter()
        .flat_map(|edge: u64| (0..5).map(move |near| edge.wrapping_add(near).wrapping_sub(2)))
        .chain([3, 7, 10, 1_000_003, HALF + 12_345])
        .collect();
    let pairs: Vec<(u64, u64)> = edges.iter().flat_map(|x| edges.iter().map(|y| (*x, *y))).filter(|(_, y)| *y != 0).collect();
    let mut draft = Draft::new("main");
    let count = i64::try_from(pairs.len()).expect("few");
    let [x, y] = [(), ()].map(|()| draft.param(DType::U64, &[count]));
    let results = [ScalarFn::Div, ScalarFn::Rem].map(|function| draft.map(function, &[x, y]));
    let legal = after(module([draft.done(&results)]), &["legalize"]);
    let of = |pick: fn(&(u64, u64)) -> u64| {
        Array::from_vec([pairs.len()], pairs.iter().map(pick).collect::<Vec<u64>>()).expect("sizes agree")
    };
    let got = outcome(&legal, &[of(|(x, _)| *x), of(|(_, y)| *y)], &[]).expect("no divisor is zero");
    assert_eq!(got.outputs, [of(|(x, y)| x / y), of(|(x, y)| x % y)]);
}

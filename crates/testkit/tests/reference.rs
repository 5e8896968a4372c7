//! Every sample and random program is run by the interpreter in its own types and in `f64`: results keep their bounds, and
//! those of random programs are finite. This is what holds the bounds themselves.

use graver_interp::{Precision, eval};
use graver_ir::{Array, FuncId, Module};
use graver_testkit::{Bound, check_close, random_program, samples};

fn run(module: &Module, inputs: &[Array], state: &[Array], precision: Precision) -> Result<Vec<Array>, String> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    let outcome = eval(module, FuncId(0), &inputs, state, precision).map_err(|error| error.to_string())?;
    Ok(outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, new)| new)).collect())
}

fn compare(module: &Module, inputs: &[Array], state: &[Array], bounds: &[Bound]) -> Result<(), String> {
    let expected = run(module, inputs, state, Precision::Reference)?;
    let got = run(module, inputs, state, Precision::Typed)?;
    assert_eq!(expected.len(), got.len());
    expected.iter().zip(&got).zip(bounds).try_for_each(|((expected, got), bound)| check_close(expected, got, *bound))
}

#[test]
fn samples_keep_their_bounds() {
    let failures: Vec<String> = samples()
        .iter()
        .filter_map(|sample| {
            let bounds = vec![sample.bound; 4];
            compare(&sample.module, &sample.inputs, &[], &bounds).err().map(|why| format!("{}: {why}", sample.name))
        })
        .collect();
    assert!(failures.is_empty(), "{} samples:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn random_programs_are_finite_and_keep_their_bounds() {
    for seed in 0..300 {
        let random = random_program(seed);
        if let Err(why) = compare(&random.module, &random.inputs, &random.state, &random.bounds) {
            panic!("seed {seed}: {why}");
        }
        for result in run(&random.module, &random.inputs, &random.state, Precision::Typed).expect("ran before") {
            assert!(result.to_f64().into_iter().all(f64::is_finite), "seed {seed}: {result:?}");
        }
    }
}

#[test]
fn the_comparison_can_fail() {
    // The interpreter rounds every operation once: only what is made of several can differ.
    let softmax = samples().into_iter().find(|sample| sample.name == "call/f32/softmax").expect("a sample of this name");
    assert!(compare(&softmax.module, &softmax.inputs, &[], &[Bound::EXACT]).is_err());
    let exact = |seed: &u64| {
        let random = random_program(*seed);
        compare(&random.module, &random.inputs, &random.state, &vec![Bound::EXACT; random.bounds.len()]).is_ok()
    };
    let rounding = 300 - (0..300).filter(exact).count();
    assert!(rounding > 30, "rounding shows in {rounding} of 300 programs");
}

//! Maps over batches: the rule of every operation against a loop of single calls, which is what the interpreter makes of a map that no pass
//! has seen; derivatives of maps, and maps of derivatives.

use std::collections::BTreeSet;

use graver_interp::{Precision, eval};
use graver_ir::text::print;
use graver_ir::{Array, DType, Dim, Module, Op, Symbol};
use graver_testkit::{Build, Rng, Sample, mapped, one_by_one, random_like, random_program, reverse, samples, transform_samples};

use crate::common::after;
use crate::tools::{ENTRY, run_expanded};

/// What takes maps at once, and derivatives with them.
const PASSES: &[&str] = &["inline", "vmap", "grad", "inline"];

/// Instances' values of a parameter: the elements of the first one, turned further from one instance to the next, so that they are as many
/// and of the same kind, and no two instances are alike.
fn instances(x: &Array, count: usize) -> Array {
    let shape: Vec<usize> = std::iter::once(count).chain(x.shape().iter().copied()).collect();
    let numel = x.numel();
    Array::from_fn(x.dtype(), shape, |place| x.get((place % numel.max(1) + place / numel.max(1)) % numel.max(1)))
}

/// Which parameters are mapped: all of them, and each alone.
fn markings(count: usize) -> Vec<Vec<bool>> {
    let alone = (0..count).map(|own| (0..count).map(|place| place == own).collect());
    let all = vec![vec![true; count]];
    if count > 1 { all.into_iter().chain(alone).collect() } else { all }
}

fn outcome(module: &Module, inputs: &[Array]) -> Result<Vec<Array>, String> {
    let inputs: Vec<&Array> = inputs.iter().collect();
    eval(module, ENTRY, &inputs, &[], Precision::Typed).map(|outcome| outcome.outputs).map_err(|error| error.to_string())
}

/// Bit for bit the same as one instance after another. Answers whether a loop over instances is left; nothing, where the program fails.
fn check(name: &str, module: &Module, inputs: &[Array], marked: &[bool], size: &Dim, count: usize) -> Option<bool> {
    let recorded = mapped(module, marked, size);
    let inputs: Vec<Array> =
        inputs.iter().zip(marked).map(|(input, marked)| if *marked { instances(input, count) } else { input.clone() }).collect();
    let expected = outcome(&after(one_by_one(&recorded), &["inline", "grad", "inline"]), &inputs);
    let batched = after(recorded, PASSES);
    let got = outcome(&batched, &inputs);
    if expected.is_ok() || got.is_ok() {
        assert_eq!(got, expected, "{name}, mapped: {marked:?}\n{}", print(&batched));
    }
    let graph = &batched.function(ENTRY).graph;
    expected.is_ok().then(|| graph.nodes().any(|node| matches!(graph.op(node), Op::Scan(scan) if scan.trip == *size)))
}

fn sizes() -> [(Dim, usize); 2] {
    [(Dim::from(2), 2), (Dim::sym(&Symbol::new("n")), 3)]
}

#[test]
fn every_operation_over_a_batch_is_one_after_another() {
    let (mut one_by_one, mut covered) = (BTreeSet::new(), BTreeSet::new());
    for sample in samples().into_iter().chain(transform_samples()) {
        for marked in markings(sample.inputs.len()) {
            for (size, count) in sizes() {
                let Sample { name, module, inputs, .. } = &sample;
                if !marked.contains(&true) {
                    continue;
                }
                let family = name.split('/').next().unwrap_or_default().to_owned();
                let Some(looped) = check(name, module, inputs, &marked, &size, count) else { continue };
                if looped {
                    one_by_one.insert(family.clone());
                }
                covered.insert(family);
            }
        }
    }
    // Random bits; both sides of a convolution where nobody knows how many instances; control flow that decides instance by instance, where
    // what is then computed in vain might fail; samples that are scans themselves, of as many iterations.
    insta::assert_snapshot!(Vec::from_iter(one_by_one).join(" "));
    assert!(covered.len() > 60, "{covered:?}");
}

#[test]
fn random_programs_over_a_batch_are_one_after_another() {
    let mut checked = 0;
    for seed in 0..1200 {
        let program = random_program(seed);
        if !program.state.is_empty() {
            continue;
        }
        let marked: Vec<bool> = (0..program.inputs.len()).map(|place| (seed >> (place % 8)) & 1 == 0 || place == 0).collect();
        let (size, count) = &sizes()[usize::try_from(seed % 2).expect("small")];
        let ran = check(&format!("seed {seed}"), &program.module, &program.inputs, &marked, size, *count);
        checked += usize::from(ran.is_some());
    }
    assert!(checked > 250, "{checked}");
}

fn close(name: &str, expected: &[Array], got: &[Array]) {
    for (expected, got) in expected.iter().zip(got) {
        for (x, y) in expected.to_f64().into_iter().zip(got.to_f64()) {
            let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * (1.0 + x.abs());
            assert!(same, "{name}: a loop says {x}, the batch {y}");
        }
    }
}

/// The derivative of a map, against that of the loop, whose derivative is tested elsewhere.
#[test]
fn derivatives_of_maps_are_those_of_loops() {
    // Products of windows are made of many small operations, which are tested alone.
    let worth = |sample: &Sample| sample.differentiable && !sample.name.starts_with("window/prod");
    for sample in samples().into_iter().filter(worth) {
        for marked in markings(sample.inputs.len()).into_iter().take(2) {
            let (size, count) = (Dim::from(2), 2);
            let recorded = reverse(&mapped(&sample.module, &marked, &size));
            let mut inputs: Vec<Array> = sample
                .inputs
                .iter()
                .zip(&marked)
                .map(|(input, marked)| if *marked { instances(input, count) } else { input.clone() })
                .collect();
            let outputs = run_expanded(&after(mapped(&sample.module, &marked, &size), PASSES), &inputs);
            inputs.extend(random_like(&outputs, &mut Rng::named(&sample.name)));
            let [expected, got] =
                [after(one_by_one(&recorded), PASSES), after(recorded, PASSES)].map(|module| run_expanded(&module, &inputs));
            close(&format!("{}, mapped: {marked:?}", sample.name), &expected, &got);
        }
    }
}

/// A map of a derivative, against the derivative of one instance after another.
#[test]
fn maps_of_derivatives_are_derivatives_of_instances() {
    for sample in samples().into_iter().filter(|sample| sample.differentiable && !sample.name.starts_with("window/prod")) {
        let module = reverse(&sample.module);
        let outputs = run_expanded(&after(sample.module, &["inline"]), &sample.inputs);
        let inputs = [sample.inputs, random_like(&outputs, &mut Rng::named(&sample.name))].concat();
        for marked in [vec![true; inputs.len()], (0..inputs.len()).map(|place| place + outputs.len() >= inputs.len()).collect()] {
            check(&sample.name, &module, &inputs, &marked, &Dim::from(2), 2);
        }
    }
}

/// Blocks that begin elsewhere in every instance, along one axis and along two.
#[test]
fn blocks_of_instances_lie_where_each_says() {
    for axes in [&[0][..], &[1], &[0, 2], &[0, 1, 2]] {
        let mut b = Build::new("main");
        let x = b.arg("x", DType::F64, [4, 3, 5]);
        let starts: Vec<_> = axes.iter().map(|axis| b.arg(&format!("start{axis}"), DType::I64, ())).collect();
        let block = b.dynamic_slice(x, axes, vec![2; axes.len()], &starts);
        let twice = b.map(graver_ir::ScalarFn::Add, [block, block]);
        let updated = b.dynamic_update(x, twice, axes, &starts);
        let module = b.finish([block, updated]);
        let recorded = mapped(&module, &vec![true; 1 + axes.len()], &Dim::from(3));
        let x = Array::from_fn(DType::F64, [3, 4, 3, 5], |place| graver_ir::Scalar::float(DType::F64, f64::from(place as u32)));
        let starts =
            axes.iter().map(|axis| Array::from_vec([3], [[0i64, 1, 2], [1, 0, 1], [3, 0, 2]][*axis].to_vec()).expect("three"));
        let inputs: Vec<Array> = std::iter::once(x).chain(starts).collect();
        let [expected, got] = [recorded.clone(), after(recorded, PASSES)].map(|module| outcome(&module, &inputs));
        assert_eq!(expected.expect("they are inside"), got.expect("they are inside"), "{axes:?}");
    }
}

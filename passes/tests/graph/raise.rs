//! What is raised means what was written out, and keeps its name where a kernel knows it.

use std::path::{Path, PathBuf};

use graver_interp::{Precision, eval};
use graver_ir::dim::Atom;
use graver_ir::op::Composite;
use graver_ir::{Array, DType, Dim, Module, Op, Scalar, text};
use graver_passes::pipeline;
use graver_testkit::{Bound, check_close};

use crate::common::after;
use crate::tools::ENTRY;

/// The file tests of the pass, by name.
fn files() -> Vec<(String, Module)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/files/raise");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("the pass has file tests").map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gir"));
    paths.sort();
    let read = |path: &PathBuf| {
        let module = text::parse(&std::fs::read_to_string(path).expect("the tests' files are text"));
        (path.file_stem().expect("files have names").to_string_lossy().into_owned(), module.expect("the tests' files are right"))
    };
    paths.iter().map(read).collect()
}

/// Numbers below 1, which differ from place to place; of truth values, a row that is false.
fn inputs(module: &Module) -> Vec<Array> {
    let (_, entry) = module.entry().expect("the test's program has an entry");
    let one = |(seed, param): (usize, &graver_ir::Param)| {
        let ty = entry.graph.ty(param.node.into());
        let mut symbol = |atom: &Atom| {
            let Atom::Sym(symbol) = atom else { return None };
            Some(if symbol.name() == "s" { 7 } else { 5.min(symbol.decl().hi) })
        };
        let mut size = |dim: &Dim| usize::try_from(dim.eval_with(&mut symbol).expect("of symbols")).expect("small");
        let shape: Vec<usize> = ty.shape.iter().map(&mut size).collect();
        Array::from_fn(ty.dtype, shape.clone(), |place| {
            if ty.dtype == DType::Bool {
                return Scalar::bool(place >= shape[1] && place % 3 != 1);
            }
            let number = u32::try_from((place * 37 + seed * 101 + place / 11 * 5) % 127).expect("small");
            Scalar::float(ty.dtype, f64::from(number) / 64.0 - 1.0)
        })
    };
    entry.params.iter().enumerate().map(one).collect()
}

fn outputs(module: &Module, precision: Precision) -> Vec<Array> {
    let inputs = inputs(module);
    eval(module, ENTRY, &inputs.iter().collect::<Vec<_>>(), &[], precision).expect("the test's program runs").outputs
}

#[test]
fn answers_stay() {
    let bound = Bound { relative: 2e-6, absolute: 1e-6 };
    for (name, module) in files() {
        let expected = outputs(&module, Precision::Reference);
        let raised = after(module.clone(), &["raise"]);
        for (place, (expected, got)) in expected.iter().zip(outputs(&raised, Precision::Typed)).enumerate() {
            check_close(expected, &got, bound).unwrap_or_else(|error| panic!("{name}, result {place}: {error}"));
        }
    }
}

/// How many calls of attention the entry holds after all graph passes.
fn attentions(module: &Module) -> usize {
    let names: Vec<&str> = pipeline::GRAPH.iter().map(|pass| pass.name).collect();
    let done = after(module.clone(), &names);
    let (_, entry) = done.entry().expect("the test's program has an entry");
    let calls = |node| matches!(entry.graph.op(node), Op::Call(call) if matches!(call.tag, Some(Composite::Attend(_))));
    entry.graph.nodes().filter(|node| calls(*node)).count()
}

#[test]
fn attention_stays_a_call_through_the_whole_pipeline() {
    for (name, module) in files() {
        let raises = [
            "attention",
            "attention_causal",
            "attention_causal_constant",
            "attention_causal_padded",
            "attention_causal_padded_by_number",
            "attention_causal_table",
            "attention_constant_bias",
            "attention_flat",
            "attention_grouped",
            "attention_guarded",
            "attention_hidden_rows",
            "attention_of_merged_biases",
            "attention_of_scaled_bias",
            "attention_strictly_earlier",
            "attention_swapped",
            "attention_with_bias",
        ];
        assert_eq!(attentions(&module), usize::from(raises.contains(&name.as_str())), "{name}");
    }
}

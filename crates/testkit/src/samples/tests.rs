//! Coverage: what the samples must hold. `kind_of` does not compile until a new operation is named in it.

use std::collections::BTreeSet;

use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{DType, Op, ScalarFn};

use super::{Sample, map, samples, transform_samples};
use crate::fill::concrete;

/// What must occur, by name.
fn required() -> BTreeSet<String> {
    let maps = ScalarFn::ALL
        .iter()
        .flat_map(|function| map::admitted(*function).into_iter().map(move |dtype| format!("{function} {dtype}")));
    let casts = DType::ALL.into_iter().flat_map(|from| DType::ALL.map(|to| format!("cast {from} {to}")));
    let bits = |from: DType, to: DType| graver_ir::infer(&Op::Bitcast(to), &[&graver_ir::Type::scalar(from)]).is_ok();
    let pairs = DType::ALL.into_iter().flat_map(|from| DType::ALL.map(|to| (from, to)));
    let bitcasts = pairs.filter(|(from, to)| bits(*from, *to)).map(|(from, to)| format!("bitcast {from} {to}"));
    maps.chain(casts).chain(bitcasts).chain(structural()).collect()
}

fn structural() -> Vec<String> {
    let any = [
        "const",
        "gather",
        "dynamic_slice",
        "dynamic_update",
        "sort",
        "scatter_set",
        "reshape",
        "permute",
        "broadcast",
        "slice",
        "pad",
        "concat",
        "reverse",
        "reduce max",
        "reduce min",
        "prefix max",
        "prefix min",
    ];
    let any =
        any.iter().chain(&["if", "while", "scan", "window max", "window min", "window_take", "param", "alias", "stop_gradient"]);
    let any = any.chain(&["arg_reduce max", "arg_reduce min", "window_arg max", "window_arg min"]);
    let numbers = [
        "iota",
        "scatter_add",
        "scatter_mul",
        "scatter_max",
        "scatter_min",
        "reduce sum",
        "reduce prod",
        "prefix sum",
        "prefix prod",
        "window sum",
        "window prod",
        "window_put",
        "dot",
        "conv",
    ];
    let floats = ["call", "vjp", "jvp"];
    let mut all = vec!["size".to_owned(), "philox".to_owned()];
    for dtype in DType::ALL {
        all.extend(any.clone().map(|op| format!("{op} {dtype}")));
        all.extend(numbers.iter().filter(|_| dtype != DType::Bool).map(|op| format!("{op} {dtype}")));
        all.extend(floats.iter().filter(|_| dtype.is_float()).map(|op| format!("{op} {dtype}")));
    }
    all
}

/// A new operation stops the build here: it also goes into `structural`, or nothing would demand samples of it.
///
/// An operation and the element type of its first operand (of its result if it has none).
fn kind_of(op: &Op, operands: &[DType], result: DType) -> String {
    let dtype = operands.first().copied().unwrap_or(result);
    match op {
        Op::Map(function) => format!("{function} {}", operands[operands.len() - 1]),
        Op::Cast(to) | Op::Bitcast(to) => format!("{} {dtype} {to}", op.name()),
        Op::Size(_) | Op::Philox(_) => op.name().to_owned(),
        Op::Reduce(reduce) => format!("reduce {} {dtype}", reduce.kind.name()),
        Op::Prefix(prefix) => format!("prefix {} {dtype}", prefix.kind.name()),
        Op::Window(window) | Op::WindowArg(window) => format!("{} {} {dtype}", op.name(), window.kind.name()),
        Op::ArgReduce(arg) => match arg.kind {
            Extreme::Max => format!("arg_reduce {} {dtype}", ReduceKind::Max.name()),
            Extreme::Min => format!("arg_reduce {} {dtype}", ReduceKind::Min.name()),
        },
        Op::If(_) | Op::While(_) | Op::Scan(_) => format!("{} {result}", op.name()),
        Op::Const(_)
        | Op::Iota(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::Transform(_) => format!("{} {dtype}", op.name()),
    }
}

fn occurring(samples: &[Sample]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for function in samples.iter().flat_map(|sample| sample.module.functions.values()) {
        for id in function.graph.nodes() {
            let operands: Vec<DType> = function.graph.args(id).iter().map(|arg| function.graph.ty(*arg).dtype).collect();
            let node = function.graph.node(id);
            found.insert(kind_of(&node.op, &operands, node.outs[0].dtype));
        }
    }
    found
}

fn all() -> Vec<Sample> {
    [samples(), transform_samples()].concat()
}

#[test]
fn every_operation_occurs_at_every_type() {
    let (found, required) = (occurring(&all()), required());
    let missing: Vec<&String> = required.difference(&found).collect();
    assert!(missing.is_empty(), "no sample of {missing:?}");
    let unknown: Vec<&String> = found.difference(&required).collect();
    assert!(unknown.is_empty(), "{unknown:?} is not in the list of what must occur");
}

#[test]
fn every_operation_with_operands_meets_symbols_and_zero_sizes() {
    let (mut symbolic, mut empty) = (BTreeSet::new(), BTreeSet::new());
    for sample in all() {
        let name = sample.name.split('/').next().unwrap_or_default().to_owned();
        if sample.inputs.iter().any(|input| input.numel() == 0) {
            empty.insert(name.clone());
        }
        let entry = sample.module.entry().expect("an entry").1;
        if entry.params.iter().any(|param| entry.graph.ty(param.node.into()).shape.as_const().is_none()) {
            symbolic.insert(name);
        }
    }
    let structural = [
        "gather",
        "dynamic_slice",
        "dynamic_update",
        "sort",
        "scatter_add",
        "scatter_mul",
        "scatter_max",
        "scatter_min",
        "reshape",
        "permute",
        "broadcast",
        "slice",
        "pad",
        "concat",
        "reverse",
        "reduce",
    ];
    let structural =
        structural.iter().chain(&["arg_reduce", "prefix", "window", "window_arg", "window_take", "window_put", "dot", "conv"]);
    for op in structural.chain(&["add", "exp", "select", "is_nan", "iota", "param"]) {
        assert!(symbolic.contains(*op), "no symbolic size in a sample of {op}");
        assert!(empty.contains(*op), "no zero size in a sample of {op}");
    }
}

#[test]
fn samples_are_consistent() {
    let all = all();
    let names: BTreeSet<&str> = all.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "names are unique");
    for sample in &all {
        let entry = sample.module.entry().expect("an entry").1;
        assert_eq!(entry.params.len(), sample.inputs.len(), "{}", sample.name);
        for (param, input) in entry.params.iter().zip(&sample.inputs) {
            let ty = entry.graph.ty(param.node.into());
            assert_eq!((ty.dtype, concrete(&ty.shape)), (input.dtype(), input.shape().to_vec()), "{}", sample.name);
        }
        if sample.differentiable {
            assert!(sample.inputs.iter().any(|input| input.dtype() == DType::F64), "{}", sample.name);
            assert!(entry.result_types().iter().all(|ty| ty.dtype == DType::F64), "{}", sample.name);
        }
    }
    let smooth = all.iter().filter(|sample| sample.differentiable).count();
    assert!((600..3500).contains(&all.len()) && smooth > 120, "{} samples, {smooth} differentiable", all.len());
}

#[test]
fn inputs_are_the_same_in_every_run() {
    let same = samples().iter().zip(&samples()).all(|(x, y)| x.inputs == y.inputs);
    assert!(same);
}

#[test]
fn scalar_functions_and_casts_meet_the_ends_of_every_type() {
    let names: BTreeSet<String> = samples().into_iter().map(|sample| sample.name).collect();
    let functions = ScalarFn::ALL.iter().flat_map(|function| map::admitted(*function).into_iter().map(move |of| (*function, of)));
    let functions = functions.filter(|(_, dtype)| *dtype != DType::Bool).map(|(function, dtype)| format!("{function}/{dtype}"));
    let numbers = DType::ALL.into_iter().filter(|dtype| *dtype != DType::Bool);
    let casts = numbers.flat_map(|from| DType::ALL.map(|to| format!("cast/{from}/{to}")));
    let missing: Vec<String> = functions.chain(casts).filter(|name| !names.contains(&format!("{name}/special"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

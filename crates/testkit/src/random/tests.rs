//! Coverage of the random programs, and that they are what they say.

use std::collections::BTreeSet;

use graver_ir::op::Family;
use graver_ir::{DType, Function, Module, Op, Role, ScalarFn, Sink, StateKind};

use super::{RandomModule, random_program};
use crate::fill::concrete;

const SEEDS: u64 = 300;

/// Whatever a test over all seeds is sure to meet.
fn features(random: &RandomModule, found: &mut BTreeSet<String>) {
    for function in random.module.functions.values() {
        operations(function, found);
    }
    let entry = random.module.entry().expect("an entry").1;
    if entry.results.iter().any(|result| matches!(result.sink, Sink::Update(_))) {
        found.insert("state update".to_owned());
    }
    if entry.results.len() > 1 {
        found.insert("several results".to_owned());
    }
    if random.state.iter().zip(&random.module.state).any(|(_, decl)| decl.kind == StateKind::Rng) {
        found.insert("random key".to_owned());
    }
    if calls(&random.module).windows(2).any(|pair| pair[0] == pair[1]) {
        found.insert("a function called twice".to_owned());
    }
    if random
        .module
        .functions
        .values()
        .skip(1)
        .any(|function| function.graph.nodes().any(|id| matches!(function.graph.op(id), Op::Call(_))))
    {
        found.insert("a call in a callee".to_owned());
    }
    if random.bounds.iter().any(|bound| bound.absolute > 0.0) {
        found.insert("an inexact result".to_owned());
    }
}

fn calls(module: &Module) -> Vec<u32> {
    let mut called: Vec<u32> = module
        .functions
        .values()
        .flat_map(|function| function.graph.nodes().map(|id| function.graph.op(id)))
        .filter_map(|op| if let Op::Call(call) = op { Some(call.func.0) } else { None })
        .collect();
    called.sort_unstable();
    called
}

fn operations(function: &Function, found: &mut BTreeSet<String>) {
    for id in function.graph.nodes() {
        let node = function.graph.node(id);
        found.insert(node.op.name().to_owned());
        found.insert(format!("{:?}", node.op.family()));
        for (out, ty) in (0..).zip(&node.outs) {
            found.insert(format!("{:?} {}", node.op.family(), ty.dtype));
            if ty.shape.as_const().is_none() {
                found.insert("symbolic size".to_owned());
            }
            if concrete(&ty.shape).contains(&0) {
                found.insert("zero size".to_owned());
            }
            let users: BTreeSet<_> = function.graph.uses(id.out(out)).into_iter().map(|user| user.node).collect();
            if users.len() > 1 {
                found.insert("multi-use".to_owned());
            }
        }
    }
}

fn required() -> BTreeSet<String> {
    let scalar = ScalarFn::ALL.iter().map(|function| function.name());
    let others = [
        "cast",
        "const",
        "size",
        "iota",
        "gather",
        "scatter_add",
        "scatter_set",
        "scatter_max",
        "scatter_min",
        "dynamic_slice",
        "dynamic_update",
        "sort",
        "reshape",
        "permute",
        "broadcast",
        "slice",
        "pad",
    ];
    let more = [
        "concat",
        "reverse",
        "reduce",
        "prefix",
        "arg_reduce",
        "window",
        "window_arg",
        "window_take",
        "window_put",
        "dot",
        "conv",
    ];
    let control = [
        "philox",
        "param",
        "alias",
        "stop_gradient",
        "call",
        "if",
        "while",
        "scan",
        "symbolic size",
        "zero size",
        "multi-use",
        "state update",
    ];
    let rest = ["several results", "random key", "a function called twice", "a call in a callee", "an inexact result"];
    let mut all: BTreeSet<String> = scalar.chain(others).chain(more).chain(control).chain(rest).map(ToOwned::to_owned).collect();
    for family in [Family::Map, Family::Movement, Family::Reduce, Family::Index, Family::Control] {
        all.extend(DType::ALL.map(|dtype| format!("{family:?} {dtype}")));
    }
    all.extend(DType::ALL.into_iter().filter(|dtype| *dtype != DType::Bool).map(|dtype| format!("Contract {dtype}")));
    all
}

#[test]
fn every_feature_occurs() {
    let mut found = BTreeSet::new();
    (0..SEEDS).for_each(|seed| features(&random_program(seed), &mut found));
    let missing: Vec<String> = required().difference(&found).cloned().collect();
    assert!(missing.is_empty(), "no random program has {missing:?}");
}

#[test]
fn programs_are_consistent() {
    for seed in 0..SEEDS {
        let random = random_program(seed);
        let entry = random.module.entry().expect("an entry").1;
        let args: Vec<_> = entry.params.iter().filter(|param| matches!(param.role, Role::Arg(_))).collect();
        assert_eq!((args.len(), entry.results.len()), (random.inputs.len(), random.bounds.len()), "seed {seed}");
        for (param, input) in args.iter().zip(&random.inputs) {
            let ty = entry.graph.ty(param.node.into());
            assert_eq!((ty.dtype, concrete(&ty.shape)), (input.dtype(), input.shape().to_vec()), "seed {seed}");
        }
        assert_eq!(random.module.state.len(), random.state.len(), "seed {seed}");
        let nodes: usize = random.module.functions.values().map(|function| function.graph.len()).sum();
        assert!((5..120).contains(&nodes), "seed {seed}: {nodes} nodes");
    }
}

#[test]
fn a_seed_is_one_program() {
    let text = |seed| format!("{:?}", random_program(seed));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

//! What compiling a deep network is: its blocks are compiled once, whatever their number, and called as often as there are.

use std::collections::BTreeMap;

use graver::cpu;
use graver::passes::pipeline;
use graver::trace::Engine;
use graver_ir::kernel::Step;
use graver_ir::{Loc, Module, Target};
use graver_onnx::Options;
use graver_onnx::proto::{
    Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TensorType, TypeProto,
    TypeValue, ValueInfoProto,
};
use graver_passes::{Cx, Silent, runner};

#[path = "../../crates/graver/examples/depth/model.rs"]
mod model;

use model::Net;

/// What there is to compile, after the graph's last pass and after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    /// What is the same for any number of blocks: functions, operations inside of them, and kernels.
    once: [usize; 3],
    /// What each block adds: operations of the entry, and launches.
    each: [usize; 2],
}

fn work<S, Y>(engine: &Engine<S, Y>) -> Work {
    let last = pipeline::GRAPH.last().expect("there are passes");
    let text = engine.dump(last.name).expect("the pass is there");
    let functions: Vec<&str> = text.split("func @").skip(1).collect();
    let operations = |function: &&str| function.lines().filter(|line| line.contains(" = ")).count();
    let entry = functions.iter().filter(|function| function.starts_with("main")).map(operations).sum();
    let inside = functions.iter().filter(|function| !function.starts_with("main")).map(operations).sum();
    let launches = engine.program().entries[0].steps.len();
    Work { once: [functions.len(), inside, engine.kernels().len()], each: [entry, launches] }
}

/// Work of 12, 24 and 48 blocks.
#[track_caller]
fn grows(work: [Work; 3]) {
    let [shallow, middle, deep] = work;
    assert!(shallow.once[0] > 1, "blocks are functions: {shallow:?}");
    assert_eq!([shallow.once, middle.once], [deep.once; 2], "what blocks share");
    for (few, (more, most)) in shallow.each.into_iter().zip(middle.each.into_iter().zip(deep.each)) {
        assert!(few < more && 2 * (more - few) == most - more, "as many more of each further block: {work:?}");
    }
}

#[test]
fn blocks_that_predict_are_compiled_once() {
    grows([12, 24, 48].map(|depth| work(&*Net::new(depth).predicting(&cpu()).expect("it compiles"))));
}

#[test]
fn blocks_that_are_trained_are_compiled_once() {
    grows([12, 24, 48].map(|depth| work(&*Net::new(depth).training(&cpu()).expect("it compiles"))));
}

/// Blocks of an ONNX model, each `x + sin(x)` and 21 times `x + tanh(x)`.
const BLOCKS: usize = 4;
const NODES: usize = 44;

/// The operation of a node.
fn op(at: usize) -> &'static str {
    match at % NODES {
        0 => "Sin",
        place if place.is_multiple_of(2) => "Tanh",
        _ => "Add",
    }
}

fn imported() -> Module {
    let named = |name: &str, r#type| ValueInfoProto { name: name.to_owned(), r#type };
    let node = |at: usize| {
        let before = if at < 2 { "x".to_owned() } else { format!("y{}", at / 2 * 2 - 1) };
        let input = if op(at) == "Add" { vec![before, format!("y{}", at - 1)] } else { vec![before] };
        let name = format!("/{}/n_{}", at / NODES, at + 1);
        NodeProto { input, output: vec![format!("y{at}")], name, op_type: op(at).to_owned(), ..NodeProto::default() }
    };
    let shape = TensorShapeProto { dim: vec![Dimension { value: Some(DimensionValue::Size(4)) }] };
    let floats = TypeProto { value: Some(TypeValue::Tensor(TensorType { elem_type: 1, shape: Some(shape) })) };
    let graph = GraphProto {
        node: (0..BLOCKS * NODES).map(node).collect(),
        input: vec![named("x", Some(floats))],
        output: vec![named(&format!("y{}", BLOCKS * NODES - 1), None)],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let model = ModelProto { ir_version: 8, opset_import, graph: Some(graph), functions: Vec::new() };
    graver_onnx::import(&model, &Options::default()).expect("a good model").module
}

#[test]
fn blocks_of_a_model_file_are_compiled_once_and_every_call_names_its_nodes() {
    let module = imported();
    let target = Target::generic();
    let mut after = module.clone();
    let repeat = pipeline::GRAPH.iter().copied().filter(|pass| pass.name == "repeat").collect::<Vec<_>>();
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut after, &repeat, &mut cx, &mut Silent, None).expect("a good program");
    let sizes: Vec<usize> = after.functions.values().map(|function| function.graph.len()).collect();
    assert_eq!(sizes, [1 + BLOCKS, 1 + NODES], "a call of each block, and one block");

    let program = pipeline::compile(module, &target, &mut Silent).expect("a good program");
    let launches = program.entries[0].steps.iter().map(|step| match step {
        Step::Launch(launch) => launch.locs.clone(),
        Step::If(_) | Step::Loop(_) => panic!("no control flow"),
    });
    let locs: Vec<Loc> = launches.flatten().collect();
    let places: BTreeMap<u32, &str> =
        locs.iter().filter_map(|loc| loc.place().map(|place| (place.line, place.scope.as_str()))).collect();
    let expected: BTreeMap<u32, String> = (0..BLOCKS * NODES)
        .map(|at| {
            let place = format!("{} /{}/n_{}", op(at), at / NODES, at + 1);
            (u32::try_from(at + 1).expect("few nodes"), place)
        })
        .collect();
    assert_eq!(places, expected.iter().map(|(line, scope)| (*line, scope.as_str())).collect());
}

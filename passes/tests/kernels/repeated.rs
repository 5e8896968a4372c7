//! What is repeated is kept once: in the graph, through derivatives, and in kernels.

use graver_interp::Precision;
use graver_ir::DType::{F64, I64};
use graver_ir::{Array, Module, Target};
use graver_passes::{Cx, Pass, Silent, pipeline, runner};
use graver_testkit::{Bound, Fill, Rng, check_close, initial_state};

use crate::common::{check_meaning, compiled};
use crate::nets::Net;

/// The training step of so many layers, each of about twenty operations.
fn deep(layers: usize) -> Module {
    let mut net = Net::new(F64);
    let (mut x, labels) = (net.b.arg("x", F64, ("n", 8)), net.b.arg("labels", I64, ["n"]));
    for layer in 0..layers {
        let inner = net.linear(x, &format!("layers.{layer}.in"), 8, 8);
        let inner = net.softmax(inner);
        let inner = net.linear(inner, &format!("layers.{layer}.out"), 8, 8);
        let inner = net.relu(inner);
        x = net.b.map(graver_ir::ScalarFn::Add, [x, inner]);
    }
    let loss = net.cross_entropy(x, labels);
    net.descend(loss);
    net.finish([loss])
}

fn after(module: &Module, passes: &[Pass]) -> Module {
    let (mut module, target) = (module.clone(), Target::generic());
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut module, passes, &mut cx, &mut Silent, None).expect("the program is right");
    module
}

/// Functions, operations outside of the entry, and kernels.
fn counts(module: &Module) -> [usize; 3] {
    let graph = after(module, pipeline::GRAPH);
    let (entry, _) = graph.entry().expect("there is an entry");
    let inside = graph.functions.iter().filter(|(id, _)| **id != entry).map(|(_, function)| function.graph.len()).sum();
    [graph.functions.len(), inside, compiled(module).kernels.len()]
}

#[test]
fn depth_adds_calls_and_nothing_else() {
    let (shallow, deep) = (deep(10), deep(20));
    let [functions, inside, kernels] = counts(&shallow);
    assert!(functions > 1 && inside > 0, "layers are functions");
    assert_eq!([functions, inside, kernels], counts(&deep));
    let launches = [&shallow, &deep].map(|module| compiled(module).entries[0].steps.len());
    assert!(launches[1] > launches[0], "{launches:?}");
}

#[test]
fn blocks_mean_what_they_stand_for() {
    let module = deep(10);
    check_meaning("deep", &module);
    let flat: Vec<Pass> = pipeline::GRAPH.iter().copied().filter(|pass| pass.name != "repeat").collect();
    let (with, without) = (after(&module, pipeline::GRAPH), after(&module, &flat));
    assert_eq!(without.functions.len(), 1, "nothing is kept once without the pass");
    let mut rng = Rng::named("deep");
    let inputs = [Fill::Quarters.array(F64, &[3, 8], &mut rng), Fill::Index(4).array(I64, &[3], &mut rng)];
    let given: Vec<&Array> = inputs.iter().collect();
    let state = initial_state(&module);
    let [with, without] = [with, without].map(|module| {
        let (entry, _) = module.entry().expect("there is an entry");
        graver_interp::eval(&module, entry, &given, &state, Precision::Reference).expect("the program runs")
    });
    let bound = Bound { relative: 1e-12, absolute: 1e-12 };
    let all = |outcome: graver_interp::Outcome| {
        outcome.outputs.into_iter().chain(outcome.updates.into_iter().map(|(_, array)| array)).collect::<Vec<Array>>()
    };
    let (with, without) = (all(with), all(without));
    assert_eq!(with.len(), without.len());
    for (x, y) in with.iter().zip(&without) {
        check_close(x, y, bound).expect("a block gives what its operations give");
    }
}

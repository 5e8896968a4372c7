//! What compiling a deep network is: its blocks are compiled once, whatever their number, and called as often as there are.

use graver::cpu;
use graver::passes::pipeline;
use graver::trace::Engine;

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

//! Branches, loops, scans and recurrent cells: they stay control flow, and what they use from outside comes along.

use graver_ir::{Array, text};
use graver_onnx::Failure;
use graver_onnx::proto::{AttributeProto, GraphProto, TensorProto, ValueInfoProto};

use crate::common::{FLOAT, Size, array, failure, floats, graph, imported, input, int, integers, model, node, run};

const BOOL: i32 = 9;

fn inside(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 5, g: Some(graph), ..AttributeProto::default() }
}

fn scalar(name: &str, elem_type: i32) -> ValueInfoProto {
    input(name, elem_type, &[])
}

/// `y = x + x` or `y = x * outer`, as `c` says.
fn branches(c: ValueInfoProto, given: Vec<TensorProto>) -> graver_onnx::proto::ModelProto {
    let then = graph(vec![node("Add", &["x", "x"], &["t"], Vec::new())], Vec::new(), Vec::new(), &["t"]);
    let other = graph(vec![node("Mul", &["x", "outer"], &["o"], Vec::new())], Vec::new(), Vec::new(), &["o"]);
    let attributes = vec![inside("then_branch", then), inside("else_branch", other)];
    let nodes = vec![node("Neg", &["x"], &["outer"], Vec::new()), node("If", &["c"], &["y"], attributes)];
    model(graph(nodes, vec![floats("x", &[2]), c], given, &["y"]), 16)
}

#[test]
fn a_condition_of_the_run_chooses_then() {
    let model = branches(scalar("c", BOOL), Vec::new());
    let x = array(&[2], &[1.0, 3.0]);
    assert_eq!(run(&model, &[&x, &Array::scalar(true)])[0].to_f64(), [2.0, 6.0]);
    assert_eq!(run(&model, &[&x, &Array::scalar(false)])[0].to_f64(), [-1.0, -9.0]);
    assert!(text::print(&imported(&model).module).contains(" = if("));
}

#[test]
fn a_known_condition_chooses_at_import() {
    let given = TensorProto { name: "c".to_owned(), data_type: BOOL, int32_data: vec![0], ..TensorProto::default() };
    let model = branches(scalar("c", BOOL), vec![given]);
    assert_eq!(run(&model, &[&array(&[2], &[1.0, 3.0])])[0].to_f64(), [-1.0, -9.0]);
    assert!(!text::print(&imported(&model).module).contains(" = if("));
}

/// The message has the types as the language writes them; with the condition at hand, there is one branch.
#[test]
fn branches_of_different_types_are_told_with_their_types() {
    let then = graph(vec![node("Add", &["x", "x"], &["t"], Vec::new())], Vec::new(), Vec::new(), &["t"]);
    let shapes = vec![node("Shape", &["x"], &["o"], Vec::new())];
    let attributes = vec![inside("then_branch", then), inside("else_branch", graph(shapes, Vec::new(), Vec::new(), &["o"]))];
    let nodes = vec![node("If", &["c"], &["y"], attributes)];
    let x = input("x", FLOAT, &[Size::Named("n"), Size::Is(2)]);
    let model = model(graph(nodes, vec![x, scalar("c", BOOL)], Vec::new(), &["y"]), 16);
    let Failure::Undetermined { inputs, error } = failure(&model) else { panic!("their types differ") };
    assert_eq!(inputs, ["c"]);
    let said = "model.onnx:1:1 (If the_If): If: branches of different types, (f32[n, 2]) and (i64[2]), chosen at run time";
    assert_eq!(error.to_string(), said);
    let x = array(&[1, 2], &[1.0, 3.0]);
    assert_eq!(run(&model, &[&x, &Array::scalar(true)])[0].to_f64(), [2.0, 6.0]);
    assert_eq!(run(&model, &[&x, &Array::scalar(false)])[0].to_f64(), [1.0, 2.0]);
}

/// Doubles `v` and stacks what it was, `trip` times or until `v[0]` is no longer below `bound`.
fn doubling(stacks: bool, ends: bool) -> GraphProto {
    let mut nodes = vec![node("Add", &["v", "v"], &["next"], Vec::new()), node("Identity", &["v"], &["was"], Vec::new())];
    if ends {
        nodes.push(node("Less", &["next", "bound"], &["below"], Vec::new()));
        nodes.push(node("Squeeze", &["below"], &["again"], Vec::new()));
    } else {
        nodes.push(node("Identity", &["keep"], &["again"], Vec::new()));
    }
    let outputs: &[&str] = if stacks { &["again", "next", "was"] } else { &["again", "next"] };
    graph(nodes, vec![scalar("i", 7), scalar("keep", BOOL), floats("v", &[1])], Vec::new(), outputs)
}

#[test]
fn a_loop_of_known_length_is_a_scan() {
    let node = node("Loop", &["trip", "", "v0"], &["last", "all"], vec![inside("body", doubling(true, false))]);
    let model = model(graph(vec![node], vec![floats("v0", &[1])], vec![integers("trip", &[4])], &["last", "all"]), 16);
    let outputs = run(&model, &[&array(&[1], &[1.0])]);
    assert_eq!((outputs[0].to_f64(), outputs[1].to_f64()), (vec![16.0], vec![1.0, 2.0, 4.0, 8.0]));
    assert!(text::print(&imported(&model).module).contains(" = scan("));
}

/// How many results are stacked is known where the first condition is.
#[test]
fn a_loop_that_stacks_asks_whether_it_begins() {
    let steps = node("Loop", &["trip", "c", "v0"], &["last", "all"], vec![inside("body", doubling(true, false))]);
    let inputs = vec![scalar("c", BOOL), floats("v0", &[1])];
    let model = model(graph(vec![steps], inputs, vec![integers("trip", &[3])], &["last", "all"]), 16);
    let Failure::Undetermined { inputs, error } = failure(&model) else { panic!("it is not known") };
    assert_eq!(inputs, ["c"]);
    assert!(error.to_string().contains("whether there is a first step must be known before the program runs"), "{error}");
    let outputs = run(&model, &[&Array::scalar(true), &array(&[1], &[1.0])]);
    assert_eq!((outputs[0].to_f64(), outputs[1].to_f64()), (vec![8.0], vec![1.0, 2.0, 4.0]));
}

#[test]
fn a_loop_that_ends_by_its_condition_is_a_while() {
    let loops = |stacks, results: &[&str]| {
        let node = node("Loop", &["", "", "v0"], results, vec![inside("body", doubling(stacks, true))]);
        model(graph(vec![node], vec![floats("v0", &[1]), floats("bound", &[1])], Vec::new(), results), 16)
    };
    let model = loops(false, &["last"]);
    assert_eq!(run(&model, &[&array(&[1], &[3.0]), &array(&[1], &[40.0])])[0].to_f64(), [48.0]);
    assert!(text::print(&imported(&model).module).contains(" = while("));
    let Failure::Unsupported(error) = failure(&loops(true, &["last", "all"])) else { panic!("its length is unknown") };
    assert!(error.to_string().contains("a loop that stacks results"), "{error}");
}

#[test]
fn a_scan_runs_over_a_symbolic_length() {
    let body = graph(
        vec![node("Add", &["s", "x"], &["sum"], Vec::new()), node("Identity", &["sum"], &["out"], Vec::new())],
        vec![scalar("s", FLOAT), scalar("x", FLOAT)],
        Vec::new(),
        &["sum", "out"],
    );
    let attributes = vec![inside("body", body), int("num_scan_inputs", 1)];
    let xs = input("xs", FLOAT, &[Size::Named("n")]);
    let model = model(
        graph(vec![node("Scan", &["s0", "xs"], &["s", "ys"], attributes)], vec![scalar("s0", FLOAT), xs], Vec::new(), &["ys"]),
        16,
    );
    let outputs = run(&model, &[&Array::scalar(1f32), &array(&[3], &[1.0, 2.0, 3.0])]);
    assert_eq!(outputs[0].to_f64(), [2.0, 4.0, 7.0]);
}

#[test]
fn a_cell_stops_at_the_end_of_each_sequence() {
    // One unit that adds what it sees: weights of one, an affine activation.
    let ones = |name: &str, dims: &[i64]| TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: FLOAT,
        float_data: vec![1.0],
        ..TensorProto::default()
    };
    let relu = AttributeProto { name: "activations".to_owned(), strings: vec!["Relu".into()], ..AttributeProto::default() };
    let mut lengths = integers("lengths", &[]);
    (lengths.dims, lengths.data_type, lengths.int32_data) = (vec![2], 6, vec![2, 3]);
    let node = node("RNN", &["x", "w", "r", "", "lengths"], &["y", "h"], vec![relu, int("hidden_size", 1)]);
    let x = input("x", FLOAT, &[Size::Named("time"), Size::Is(2), Size::Is(1)]);
    let given = vec![ones("w", &[1, 1, 1]), ones("r", &[1, 1, 1]), lengths];
    let model = model(graph(vec![node], vec![x], given, &["y", "h"]), 14);
    let outputs = run(&model, &[&array(&[3, 2, 1], &[1.0, 10.0, 2.0, 20.0, 4.0, 40.0])]);
    assert_eq!(outputs[0].to_f64(), [1.0, 10.0, 3.0, 30.0, 0.0, 70.0]);
    assert_eq!(outputs[1].to_f64(), [3.0, 70.0]);
}

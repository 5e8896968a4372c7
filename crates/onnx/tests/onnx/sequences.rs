//! Sequences and optional values, which nothing is left of; and elements chosen by values.

use graver_ir::{Array, text};
use graver_onnx::proto::{AttributeProto, GraphProto, NodeProto, Of, TypeProto, TypeValue, ValueInfoProto};
use graver_onnx::{Failure, Form, Options, Origin, import};

use crate::common::{FLOAT, INT64, Size, array, failure, floats, graph, imported, input, int, integers, model, node, run};

/// `bool` in ONNX files.
const BOOL: i32 = 9;

fn inside(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 5, g: Some(graph), ..AttributeProto::default() }
}

fn of(nodes: Vec<NodeProto>, outputs: &[&str]) -> graver_onnx::proto::ModelProto {
    let given = vec![integers("last", &[-1]), integers("first", &[0]), integers("sizes", &[1, 2]), integers("five", &[5])];
    model(graph(nodes, vec![floats("x", &[3, 2])], given, outputs), 17)
}

#[test]
fn parts_are_taken_out_of_a_sequence_and_put_in() {
    let nodes = vec![
        node("SplitToSequence", &["x", "sizes"], &["parts"], vec![int("axis", 0)]),
        node("SequenceAt", &["parts", "last"], &["rest"], Vec::new()),
        node("SequenceInsert", &["parts", "rest", "last"], &["more"], Vec::new()),
        node("SequenceErase", &["more", "first"], &["fewer"], Vec::new()),
        node("SequenceLength", &["more"], &["count"], Vec::new()),
        node("ConcatFromSequence", &["fewer"], &["y"], vec![int("axis", 0)]),
    ];
    let model = of(nodes, &["y", "count"]);
    let y = run(&model, &[&array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    assert_eq!((y[0].shape(), y[0].to_f64()), ([4, 2].as_slice(), vec![3.0, 4.0, 5.0, 6.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(y[1].to_f64(), [3.0]);
    assert!(!text::print(&imported(&model).module).contains("Sequence("));
}

#[test]
fn slices_of_one_are_stacked_again() {
    let nodes = vec![
        node("SplitToSequence", &["x"], &["rows"], vec![int("keepdims", 0)]),
        node("Identity", &["rows"], &["same"], Vec::new()),
        node("ConcatFromSequence", &["same"], &["y"], vec![int("axis", 1), int("new_axis", 1)]),
    ];
    let y = run(&of(nodes, &["y"]), &[&array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    assert_eq!((y[0].shape(), y[0].to_f64()), ([2, 3].as_slice(), vec![1.0, 3.0, 5.0, 2.0, 4.0, 6.0]));
}

#[test]
fn what_is_no_sequence_or_has_no_such_place_is_told() {
    let at = |what: &str, place: &str| {
        let nodes = vec![
            node("SequenceConstruct", &["x", "x"], &["s"], Vec::new()),
            node("SequenceAt", &[what, place], &["y"], Vec::new()),
        ];
        failure(&of(nodes, &["y"]))
    };
    let (tensor, far) = (at("x", "first"), at("s", "five"));
    assert!(matches!(&tensor, Failure::Invalid(error) if error.to_string().contains("a tensor, not a sequence")), "{tensor}");
    assert!(matches!(&far, Failure::Invalid(error) if error.to_string().contains("the position 5 of 2")), "{far}");
    let added = failure(&of(
        vec![node("SequenceConstruct", &["x"], &["s"], Vec::new()), node("Neg", &["s"], &["y"], Vec::new())],
        &["y"],
    ));
    assert!(matches!(added, Failure::Unsupported(_)), "{added}");
}

/// The rows of `x` in reverse, put into a sequence one by one, and stacked as they were, negated.
fn reversing(trip: &str) -> graver_onnx::proto::ModelProto {
    let step = vec![
        node("SequenceAt", &["rows", "i"], &["row"], Vec::new()),
        node("SequenceInsert", &["s", "row", "first"], &["more"], Vec::new()),
        node("Neg", &["row"], &["less"], Vec::new()),
        node("Identity", &["c"], &["again"], Vec::new()),
    ];
    let inputs = vec![input("i", INT64, &[]), input("c", BOOL, &[]), input("s", FLOAT, &[])];
    let body = inside("body", graph(step, inputs, Vec::new(), &["again", "more", "less"]));
    let nodes = vec![
        node("SplitToSequence", &["x"], &["rows"], vec![int("keepdims", 0)]),
        node("SequenceLength", &["rows"], &["count"], Vec::new()),
        node("SequenceEmpty", &[], &["none"], Vec::new()),
        node("Loop", &[trip, "", "none"], &["turned", "stacked"], vec![body]),
        node("ConcatFromSequence", &["turned"], &["y"], vec![int("axis", 0), int("new_axis", 1)]),
    ];
    let given = vec![integers("first", &[0]), integers("five", &[5])];
    model(graph(nodes, vec![floats("x", &[3, 2]), input("n", INT64, &[])], given, &["y", "stacked"]), 17)
}

#[test]
fn loops_over_sequences_are_unrolled() {
    let x = array(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let n = |n: i64| Array::scalar(n);
    let y = run(&reversing("count"), &[&x, &n(0)]);
    assert_eq!((y[0].shape(), y[0].to_f64()), ([3, 2].as_slice(), vec![5.0, 6.0, 3.0, 4.0, 1.0, 2.0]));
    assert_eq!((y[1].shape(), y[1].to_f64()), ([3, 2].as_slice(), vec![-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]));
    // As many steps as an input says, which must be known.
    let asked = reversing("n");
    assert_eq!(run(&asked, &[&x, &n(2)])[0].to_f64(), [3.0, 4.0, 1.0, 2.0]);
    let Failure::Undetermined { inputs, error } = failure(&asked) else { panic!("it is not known") };
    assert_eq!(inputs, ["n"]);
    assert!(error.to_string().contains("the number of steps must be known before the program runs"), "{error}");
    let beyond = failure(&reversing("five")).to_string();
    assert!(beyond.contains("the position 3 of 3"), "{beyond}");
}

/// Neither many steps nor long sequences take more than a bounded amount.
#[test]
fn loops_over_sequences_are_bounded() {
    let step = vec![node("SequenceInsert", &["s", "x"], &["more"], Vec::new()), node("Identity", &["c"], &["again"], Vec::new())];
    let inputs = vec![input("i", INT64, &[]), input("c", BOOL, &[]), input("s", FLOAT, &[])];
    let body = inside("body", graph(step, inputs, Vec::new(), &["again", "more"]));
    let nodes = vec![
        node("SequenceEmpty", &[], &["none"], Vec::new()),
        node("Loop", &["", "", "none"], &["all"], vec![body]),
        node("SequenceLength", &["all"], &["y"], Vec::new()),
    ];
    let endless = failure(&model(graph(nodes, vec![floats("x", &[1])], Vec::new(), &["y"]), 17)).to_string();
    assert!(endless.contains("a loop over sequences of more than 4096 steps"), "{endless}");
}

/// A branch that gives a sequence is chosen while the model is imported.
#[test]
fn branches_may_give_sequences_where_the_condition_is_at_hand() {
    let one = |name: &str| {
        let value = holding(input(name, FLOAT, &[Size::Is(3), Size::Is(2)]), TypeValue::Sequence);
        let operands: &[&str] = if name == "t" { &["x"] } else { &["x", "x"] };
        let nodes = vec![node("SequenceConstruct", operands, &[name], Vec::new())];
        GraphProto { output: vec![value], ..graph(nodes, Vec::new(), Vec::new(), &[]) }
    };
    let attributes = vec![inside("then_branch", one("t")), inside("else_branch", one("o"))];
    let nodes = vec![node("If", &["c"], &["s"], attributes), node("SequenceLength", &["s"], &["y"], Vec::new())];
    let model = model(graph(nodes, vec![floats("x", &[3, 2]), input("c", BOOL, &[])], Vec::new(), &["y"]), 17);
    let x = array(&[3, 2], &[0.0; 6]);
    for (c, count) in [(true, 1.0), (false, 2.0)] {
        assert_eq!(run(&model, &[&x, &Array::scalar(c)])[0].to_f64(), [count]);
    }
    assert!(matches!(failure(&model), Failure::Undetermined { inputs, .. } if inputs == ["c"]));
}

/// The type of a sequence of these tensors, or of an optional value.
fn holding(input: ValueInfoProto, wrap: fn(Of) -> TypeValue) -> ValueInfoProto {
    let of = Of { elem_type: input.r#type.map(Box::new) };
    ValueInfoProto { r#type: Some(TypeProto { value: Some(wrap(of)) }), ..input }
}

#[test]
fn sequences_are_given_and_come_out_element_by_element() {
    let nodes = vec![
        node("SequenceAt", &["s", "first"], &["one"], Vec::new()),
        node("Neg", &["one"], &["less"], Vec::new()),
        node("SequenceInsert", &["s", "less", "last"], &["more"], Vec::new()),
        node("SequenceLength", &["more"], &["count"], Vec::new()),
    ];
    let sequence = holding(input("s", FLOAT, &[Size::Named("rows")]), TypeValue::Sequence);
    let given = vec![integers("last", &[-1]), integers("first", &[0])];
    let model = model(graph(nodes, vec![floats("x", &[1]), sequence], given, &["more", "count"]), 17);
    let with = |forms: &[(&str, Form)]| {
        let forms = forms.iter().map(|(name, form)| ((*name).to_owned(), *form)).collect();
        import(&model, &Options { forms, ..Options::default() })
    };
    let imported = with(&[("s", Form::Sequence(2))]).expect("a good model");
    let item = |item| Origin { input: 1, item: Some(item) };
    assert_eq!(imported.inputs, [Origin { input: 0, item: None }, item(0), item(1)]);
    assert_eq!(imported.outputs, [Form::Sequence(3), Form::Tensor]);
    let (entry, _) = imported.module.entry().expect("an entry");
    // Elements have sizes of their own.
    let arrays = [array(&[1], &[0.0]), array(&[2], &[1.0, 2.0]), array(&[3], &[3.0, 4.0, 5.0])];
    let outputs = graver_interp::eval(&imported.module, entry, &arrays.each_ref(), &[], graver_interp::Precision::Typed);
    let outputs: Vec<Vec<f64>> = outputs.expect("it runs").outputs.iter().map(Array::to_f64).collect();
    assert_eq!(outputs, [vec![1.0, 2.0], vec![-1.0, -2.0], vec![3.0, 4.0, 5.0], vec![3.0]]);
    let open = with(&[]).expect_err("nobody says how long it is");
    assert!(open.to_string().contains("the input `s`: a sequence whose length is not given"), "{open}");
    let tensor = with(&[("s", Form::Tensor)]).expect_err("it is no tensor");
    assert!(tensor.to_string().contains("a sequence whose length is not given"), "{tensor}");
}

#[test]
fn an_optional_input_is_there_or_not() {
    let nodes = vec![node("OptionalHasElement", &["o"], &["has"], Vec::new()), node("Identity", &["o"], &["same"], Vec::new())];
    let model = model(graph(nodes, vec![holding(floats("o", &[2]), TypeValue::Optional)], Vec::new(), &["has", "same"]), 18);
    let with = |form| import(&model, &Options { forms: [("o".to_owned(), form)].into(), ..Options::default() });
    let there = with(Form::Tensor).expect("a good model");
    assert_eq!((there.inputs.len(), there.outputs), (1, vec![Form::Tensor, Form::Tensor]));
    let absent = with(Form::Absent).expect("a good model");
    assert_eq!((absent.inputs.len(), absent.outputs), (0, vec![Form::Tensor, Form::Absent]));
    assert!(failure(&model).to_string().contains("an optional value of which is not said what it is"));
}

#[test]
fn an_optional_value_is_there_or_not() {
    let nodes = vec![
        node("Optional", &["x"], &["some"], Vec::new()),
        node("OptionalHasElement", &["some"], &["has"], Vec::new()),
        node("OptionalGetElement", &["some"], &["y"], Vec::new()),
        node("OptionalHasElement", &[""], &["none"], Vec::new()),
    ];
    let y = run(&of(nodes, &["has", "y", "none"]), &[&array(&[3, 2], &[1.0; 6])]);
    assert_eq!((y[0].to_f64(), y[1].to_f64(), y[2].to_f64()), (vec![1.0], vec![1.0; 6], vec![0.0]));
    let nothing = failure(&of(vec![node("OptionalGetElement", &[""], &["y"], Vec::new())], &["y"]));
    assert!(nothing.to_string().contains("an optional value that is not there"), "{nothing}");
}

#[test]
fn elements_are_chosen_where_their_values_are_given() {
    let nodes = vec![
        node("NonZero", &["x"], &["places"], Vec::new()),
        node("Greater", &["x", "two"], &["high"], Vec::new()),
        node("Reshape", &["high", "flat"], &["which"], Vec::new()),
        node("Compress", &["x", "which"], &["kept"], Vec::new()),
        node("Unique", &["x"], &["u", "first", "inverse", "counts"], Vec::new()),
    ];
    let two =
        graver_onnx::proto::TensorProto { name: "two".to_owned(), data_type: 1, float_data: vec![2.0], ..Default::default() };
    let given = vec![two, integers("flat", &[-1])];
    let outputs = ["places", "kept", "u", "first", "inverse", "counts"];
    let model = model(graph(nodes, vec![floats("x", &[2, 3])], given, &outputs), 17);
    let y = run(&model, &[&array(&[2, 3], &[0.0, 5.0, 2.0, 3.0, 0.0, -1.0])]);
    assert_eq!((y[0].shape(), y[0].to_f64()), ([2, 4].as_slice(), vec![0.0, 0.0, 1.0, 1.0, 1.0, 2.0, 0.0, 2.0]));
    assert_eq!(y[1].to_f64(), [5.0, 3.0]);
    assert_eq!(y[2].to_f64(), [-1.0, 0.0, 2.0, 3.0, 5.0]);
    assert_eq!((y[3].to_f64(), y[5].to_f64()), (vec![5.0, 0.0, 2.0, 3.0, 1.0], vec![1.0, 2.0, 1.0, 1.0, 1.0]));
    assert_eq!(y[4].to_f64(), [1.0, 4.0, 2.0, 3.0, 1.0, 0.0]);
    let open = failure(&model);
    assert!(matches!(&open, Failure::Undetermined { inputs, .. } if inputs == &["x"]), "{open}");
}

#[test]
fn boxes_that_overlap_a_better_one_are_left_out() {
    let inputs = vec![floats("boxes", &[1, 3, 4]), floats("scores", &[1, 1, 3])];
    let number = |name: &str, value: f32| graver_onnx::proto::TensorProto {
        name: name.to_owned(),
        data_type: 1,
        float_data: vec![value],
        ..Default::default()
    };
    let nodes = vec![node("NonMaxSuppression", &["boxes", "scores", "most", "overlap", "least"], &["y"], Vec::new())];
    let given = vec![integers("most", &[5]), number("overlap", 0.5), number("least", 0.2)];
    let model = model(graph(nodes, inputs, given, &["y"]), 11);
    let boxes = array(&[1, 3, 4], &[0.0, 0.0, 1.0, 1.0, 1.0, 1.1, 0.0, 0.1, 0.0, 5.0, 1.0, 6.0]);
    let chosen = |scores: &[f32]| {
        let y = run(&model, &[&boxes, &array(&[1, 1, 3], scores)]).remove(0);
        (y.shape().to_vec(), y.to_f64())
    };
    assert_eq!(chosen(&[0.5, 0.9, 0.6]), (vec![2, 3], vec![0.0, 0.0, 1.0, 0.0, 0.0, 2.0]));
    assert_eq!(chosen(&[0.1, 0.1, 0.1]), (vec![0, 3], Vec::new()));
}

//! Models that are wrong on purpose: an error within a second, in little memory, never a panic.

use graver_onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto, TensorProto};
use graver_onnx::{Failure, decode};
use prost::Message;

use crate::common::{FLOAT, Size, array, failure, floats, graph, imported, input, int, integers, ints, model, node, run, text};

fn check(graph: GraphProto, said: &str) {
    let failure = failure(&model(graph, 17));
    assert!(matches!(failure, Failure::Invalid(_)), "{failure}");
    assert!(failure.to_string().contains(said), "{failure}");
}

#[test]
fn a_circle_of_nodes() {
    let nodes = vec![node("Relu", &["b"], &["a"], Vec::new()), node("Relu", &["a"], &["b"], Vec::new())];
    check(graph(nodes, Vec::new(), Vec::new(), &["b"]), "`b` is used before any node computes it, or in a circle");
}

#[test]
fn an_output_that_nobody_computes() {
    check(graph(Vec::new(), Vec::new(), Vec::new(), &["y"]), "the output `y`: no node computes it");
}

#[test]
fn names_that_are_given_twice() {
    let x = || vec![floats("x", &[2])];
    let relu = |to: &[&str]| node("Relu", &["x"], to, Vec::new());
    let exp = |to: &[&str]| node("Exp", &["x"], to, Vec::new());
    let said = "model.onnx:2:1 (Exp the_Exp): `y` has two values: one at model.onnx:1:1 (Relu the_Relu), and here";
    check(graph(vec![relu(&["y"]), exp(&["y"])], x(), Vec::new(), &["y"]), said);
    check(graph(vec![relu(&["x"])], x(), Vec::new(), &["x"]), "`x` has two values: it is given, or another output of this node");
    let halves = node("Split", &["x"], &["y", "y"], Vec::new());
    check(graph(vec![halves], x(), Vec::new(), &["y"]), "`y` has two values");
    check(graph(vec![relu(&["y"])], [x(), x()].concat(), Vec::new(), &["y"]), "the input `x`: it is there twice");
    let weights = vec![integers("w", &[1]), integers("w", &[2])];
    check(graph(vec![relu(&["y"])], x(), weights, &["y"]), "the initializer `w`: it is there twice");
    // A body's names are its own, and an input may have its value with it.
    let inner = || graph(vec![relu(&["y"])], Vec::new(), Vec::new(), &["y"]);
    let branch = |name: &str| AttributeProto { name: name.to_owned(), r#type: 5, g: Some(inner()), ..AttributeProto::default() };
    let flow = node("If", &["c"], &["y"], vec![branch("then_branch"), branch("else_branch")]);
    let inputs = [x(), vec![input("c", 9, &[]), input("w", 7, &[Size::Is(1)])]].concat();
    imported(&model(graph(vec![flow], inputs, vec![integers("w", &[1])], &["y"]), 17));
}

/// As exporters write a model that gives one value in two places.
#[test]
fn an_output_may_be_there_twice() {
    let nodes = vec![node("Relu", &["x"], &["y"], Vec::new()), node("Exp", &["x"], &["z"], Vec::new())];
    let model = model(graph(nodes, vec![floats("x", &[2])], Vec::new(), &["y", "z", "y"]), 17);
    let outputs = run(&model, &[&array(&[2], &[-1.0, 2.0])]);
    let found: Vec<Vec<f64>> = outputs.iter().map(graver_ir::Array::to_f64).collect();
    assert_eq!((found.len(), &found[0], &found[2]), (3, &vec![0.0, 2.0], &vec![0.0, 2.0]));
    assert!((found[1][0] - (-1f64).exp()).abs() < 1e-6);
}

#[test]
fn a_kernel_that_is_not_of_the_shape_that_is_said() {
    let inputs = || vec![floats("x", &[1, 1, 8, 8]), floats("w", &[1, 1, 3, 3])];
    for op in ["Conv", "ConvTranspose"] {
        let of = |shape: &[i64]| {
            graph(vec![node(op, &["x", "w"], &["y"], vec![ints("kernel_shape", shape)])], inputs(), Vec::new(), &["y"])
        };
        check(of(&[5, 3]), "`kernel_shape` is [5, 3], and the kernel is f32[1, 1, 3, 3]: [3, 3]");
        imported(&model(of(&[3, 3]), 17));
    }
}

#[test]
fn absurd_sizes() {
    let large = graph(Vec::new(), vec![floats("x", &[1 << 40, 1 << 40])], Vec::new(), &["x"]);
    assert_eq!(failure(&model(large.clone(), 17)).to_string().matches("the input `x`").count(), 1);
    check(large, "more than 2^48 elements");
    let huge = TensorProto { dims: vec![i64::MAX, i64::MAX], ..integers("x", &[1]) };
    check(graph(Vec::new(), Vec::new(), vec![huge], &["x"]), "larger than memory");
    let negative = TensorProto { dims: vec![-1], ..integers("x", &[1]) };
    check(graph(Vec::new(), Vec::new(), vec![negative], &["x"]), "a tensor of shape [-1]");
    let short = TensorProto { dims: vec![1 << 30], ..integers("x", &[1]) };
    check(graph(Vec::new(), Vec::new(), vec![short], &["x"]), "cannot be made of 1 elements");
}

#[test]
fn a_bomb_of_tiles() {
    let names: Vec<String> = (0..64).map(|step| format!("x{step}")).collect();
    let tiles = names.windows(2).map(|pair| node("Tile", &[&pair[0], "twice"], &[&pair[1]], Vec::new()));
    let given = vec![integers("twice", &[1 << 20])];
    check(graph(tiles.collect(), vec![floats("x0", &[1])], given, &["x63"]), "more than 2^48 elements");
    // One that no memory ever holds, as it is summed at once, is as much to compute.
    let nodes = vec![node("Tile", &["x", "often"], &["tiled"], Vec::new()), node("ReduceSum", &["tiled"], &["y"], Vec::new())];
    check(
        graph(nodes, vec![floats("x", &[2, 3])], vec![integers("often", &[1_000_000, 1_000_000])], &["y"]),
        "more than 2^40 elements",
    );
}

#[test]
fn wrong_types_and_numbers_of_operands() {
    let x = || vec![floats("x", &[2]), input("i", 7, &[Size::Is(2)])];
    check(graph(vec![node("Add", &["x", "i"], &["y"], Vec::new())], x(), Vec::new(), &["y"]), "element types differ");
    check(graph(vec![node("Add", &["x"], &["y"], Vec::new())], x(), Vec::new(), &["y"]), "the operand 1 is missing");
    check(graph(vec![node("Concat", &[], &["y"], Vec::new())], x(), Vec::new(), &["y"]), "takes one operand or more");
    let perm = vec![ints("perm", &[5])];
    check(graph(vec![node("Transpose", &["x"], &["y"], perm)], x(), Vec::new(), &["y"]), "axis 5 of a tensor of rank 1");
    let axis = vec![int("axis", i64::MIN)];
    check(graph(vec![node("Softmax", &["x"], &["y"], axis)], x(), Vec::new(), &["y"]), "of a tensor of rank 1");
    let strides = vec![ints("kernel_shape", &[0])];
    let image = vec![floats("x", &[1, 1, 4])];
    check(graph(vec![node("MaxPool", &["x"], &["y"], strides)], image, Vec::new(), &["y"]), "windows [0]");
}

#[test]
fn windows_far_larger_than_the_picture() {
    let of = |op: &str, attributes: Vec<AttributeProto>, size: Size| {
        let x = input("x", FLOAT, &[size, Size::Is(1), Size::Is(8), Size::Is(8)]);
        graph(vec![node(op, &["x"], &["y"], attributes)], vec![x], Vec::new(), &["y"])
    };
    let huge = 1 << 28;
    for op in ["MaxPool", "AveragePool", "LpPool"] {
        for size in [|| Size::Is(1), || Size::Named("n")] {
            let pads = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[0, huge, 0, huge])];
            check(of(op, pads, size()), "the padding 268435456 and 268435456 of axis 3 must be less than its windows' 3");
            let negative = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[-1, 0, 0, 0])];
            check(of(op, negative, size()), "the padding -1 and 0 of axis 2 must be less than its windows' 3");
            let wide = vec![ints("kernel_shape", &[huge, huge]), text("auto_pad", "SAME_UPPER")];
            check(of(op, wide, size()), "have more than 2^40: to compute it takes hours");
            let padded = vec![ints("kernel_shape", &[huge, 1]), ints("pads", &[huge - 1, 0, huge - 1, 0])];
            check(of(op, padded, size()), "the windows of 268435456 elements of a result");
            let plain = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[2, 2, 2, 2])];
            imported(&model(of(op, plain, size()), 17));
        }
    }
}

#[test]
fn operands_of_fewer_axes_than_the_operation_is_for() {
    let known = ["sizes", "depth"];
    let of = |op: &str, inputs: &[&str], attributes, shapes: &[&[i64]], said: &str| {
        let values: Vec<_> = inputs
            .iter()
            .filter(|name| !name.is_empty() && !known.contains(name))
            .zip(shapes)
            .map(|(name, shape)| floats(name, shape))
            .collect();
        let given = vec![integers("sizes", &[1, 1, 4, 4]), integers("depth", &[4])];
        let failure = failure(&model(graph(vec![node(op, inputs, &["y"], attributes)], values, given, &["y"]), 24));
        assert!(matches!(failure, Failure::Invalid(_)) && failure.to_string().contains(said), "{op}: {failure}");
    };
    let gates = |count: i64| [[1, count * 6, 4], [1, count * 6, 6]];
    let [w, r] = gates(3);
    of("GRU", &["x", "w", "r", "b"], Vec::new(), &[&[5, 3, 4], &w, &r, &[]], "f32[] has no axis 0");
    let [w, r] = gates(4);
    let batch_first = vec![int("layout", 1)];
    of("LSTM", &["x", "w", "r", "", "", "h"], batch_first, &[&[5, 3, 4], &w, &r, &[]], "f32[] has no axis 1");
    of("LSTM", &["x", "w", "r"], Vec::new(), &[&[5, 3, 4], &[1, 24], &r], "has no axis 1");
    of("AffineGrid", &["theta", "sizes"], Vec::new(), &[&[]], "f32[] has no axis 2");
    of(
        "TensorScatter",
        &["past", "update"],
        vec![int("axis", 1)],
        &[&[2, 3, 4], &[2, 3]],
        "the update has 3 axes, got f32[2, 3]",
    );
    of("OneHot", &["i", "depth", "values"], Vec::new(), &[&[3], &[]], "f32[] has no axis 0");
}

#[test]
fn attributes_of_other_types_and_values() {
    let x = || vec![floats("x", &[2, 2]), floats("w", &[1, 4, 2]), floats("r", &[1, 4, 1]), floats("image", &[1, 1, 4, 4])];
    let of = |op: &str, inputs: &[&str], attribute: AttributeProto| {
        graph(vec![node(op, inputs, &["y"], vec![attribute])], x(), vec![integers("i", &[0])], &["y"])
    };
    check(of("Softmax", &["x"], text("axis", "foo")), "the attribute `axis` is a text, and must be an integer");
    check(of("Concat", &["x", "x"], ints("axis", &[1, 2])), "the attribute `axis` is integers, and must be an integer");
    let said = "`auto_pad` is `FOO`, and must be NOTSET, SAME_UPPER, SAME_LOWER or VALID";
    check(of("Conv", &["image", "image"], text("auto_pad", "FOO")), said);
    check(of("ConvTranspose", &["image", "image"], text("auto_pad", "FOO")), said);
    let sequence = || graph(vec![node("Unsqueeze", &["x", "i"], &["s"], Vec::new())], x(), vec![integers("i", &[0])], &["y"]);
    let cell = |attribute| {
        let mut graph = sequence();
        graph.node.push(node("LSTM", &["s", "w", "r"], &["y"], vec![attribute]));
        graph
    };
    check(cell(text("direction", "sideways")), "`direction` is `sideways`, and must be forward, reverse or bidirectional");
    check(cell(int("hidden_size", 3)), "`hidden_size` is 3, and the recurrent weights are [1, 4, 1]");
    let gather = graph(vec![node("Gather", &["x", "x"], &["y"], Vec::new())], x(), Vec::new(), &["y"]);
    check(gather, "positions are integers, got f32[2, 2]");
    let inputs = vec![floats("a", &[1, 2]), floats("b", &[2, 2]), floats("c", &[3, 2])];
    let gemm = graph(vec![node("Gemm", &["a", "b", "c"], &["y"], Vec::new())], inputs, Vec::new(), &["y"]);
    check(gemm, "f32[3, 2] does not broadcast to the product f32[1, 2]");
}

#[test]
fn what_a_file_says_twice_or_otherwise() {
    let x = || vec![floats("x", &[2])];
    let relu = || vec![node("Relu", &["x"], &["y"], Vec::new())];
    let twice = TensorProto { raw_data: vec![0; 8].into(), ..integers("w", &[1]) };
    check(graph(relu(), x(), vec![twice], &["y"]), "whose elements are there twice, in `raw_data` and in `int64_data`");
    let declared = |output| GraphProto { output: vec![output], ..graph(relu(), x(), Vec::new(), &[]) };
    check(declared(input("y", 7, &[Size::Is(2)])), "the output `y`: it is declared to be of i64, and is f32[2]");
    check(declared(floats("y", &[3])), "the output `y`: it is declared to be [3], and is f32[2]");
    check(declared(input("y", FLOAT, &[Size::Named("n"), Size::Open])), "it is declared to be [n, ?], and is f32[2]");
    imported(&model(declared(input("y", FLOAT, &[Size::Named("n")])), 17));
    let mut two = model(graph(relu(), x(), Vec::new(), &["y"]), 17);
    two.opset_import.push(OperatorSetIdProto { domain: String::new(), version: 13 });
    assert!(failure(&two).to_string().contains("the operators of `` are imported in versions 17 and 13"), "{}", failure(&two));
    // The same twice says nothing else, by either name of the standard operators.
    two.opset_import[1] = OperatorSetIdProto { domain: "ai.onnx".to_owned(), version: 17 };
    imported(&two);
    let late = graver_onnx::proto::ModelProto { ir_version: 999, ..model(graph(relu(), x(), Vec::new(), &["y"]), 17) };
    let said = "not supported: version 999 of the format; 14 is the newest that is known";
    assert_eq!(failure(&late).to_string(), said);
}

#[test]
fn functions_that_call_themselves() {
    let domain = "own".to_owned();
    let call = NodeProto { domain: domain.clone(), ..node("F", &["x"], &["y"], Vec::new()) };
    let function = FunctionProto {
        name: "F".to_owned(),
        domain: domain.clone(),
        input: vec!["x".to_owned()],
        output: vec!["z".to_owned()],
        node: vec![call.clone(), NodeProto { output: vec!["z".to_owned()], ..call.clone() }],
        opset_import: vec![OperatorSetIdProto { domain, version: 1 }],
        ..FunctionProto::default()
    };
    let mut model = model(graph(vec![call], vec![floats("x", &[1])], Vec::new(), &["y"]), 17);
    model.functions = vec![function];
    let failure = failure(&model);
    assert!(failure.to_string().contains("functions nest deeper than 32"), "{failure}");
}

#[test]
fn branches_that_nest_without_end() {
    let mut inner = graph(vec![node("Relu", &["x"], &["y"], Vec::new())], Vec::new(), Vec::new(), &["y"]);
    for _ in 0..25 {
        let branch = AttributeProto { name: "then_branch".to_owned(), g: Some(inner), ..AttributeProto::default() };
        inner = graph(vec![node("If", &["c"], &["y"], vec![branch])], Vec::new(), Vec::new(), &["y"]);
    }
    inner.input = vec![floats("x", &[1])];
    inner.initializer = vec![integers("c", &[1])];
    let bytes = model(inner, 17).encode_to_vec();
    let error = decode(bytes.into()).expect_err("it nests too deep");
    assert!(error.to_string().contains("nest deeper"), "{error}");
}

#[test]
fn values_of_inputs_that_are_no_numbers() {
    let x = input("x", 8, &[Size::Is(1)]);
    let strings = failure(&model(graph(Vec::new(), vec![x], Vec::new(), &["x"]), 17));
    assert!(
        matches!(strings, Failure::Unsupported(_))
            && strings.to_string() == "not supported: the input `x`: the element type string",
        "{strings}"
    );
    let unknown = input("x", 99, &[Size::Is(1)]);
    check(graph(Vec::new(), vec![unknown], Vec::new(), &["x"]), "there is no element type 99");
}

#[test]
fn sizes_below_zero() {
    let of = |size| graph(vec![node("Relu", &["x"], &["y"], Vec::new())], vec![floats("x", &[2, size])], Vec::new(), &["y"]);
    check(of(-2), "the input `x`: the size of axis 1 is -2: a size is 0 or more, or -1 where it is open");
    check(of(i64::MIN), "the size of axis 1 is -9223372036854775808");
    // As exporters of other frameworks write dynamic axes.
    assert_eq!(run(&model(of(-1), 17), &[&array(&[2, 3], &[1.0; 6])])[0].shape(), [2, 3]);
    let mut declared = graph(vec![node("Relu", &["x"], &["y"], Vec::new())], vec![floats("x", &[2])], Vec::new(), &["y"]);
    declared.output = vec![floats("y", &[-3])];
    check(declared, "the output `y`: it is declared to be [-3], and is f32[2]");
}

#[test]
fn long_equations_are_cut() {
    let long = "a".repeat(100_000);
    let einsum = |equation: &str| {
        let nodes = vec![node("Einsum", &["x"], &["y"], vec![text("equation", equation)])];
        model(graph(nodes, vec![floats("x", &[2])], Vec::new(), &["y"]), 17)
    };
    for (equation, said) in [
        (format!("{long},b->a"), "..` (100005 characters) names 2 operands, there are 1"),
        (long, "..` (100000 characters) for a tensor of rank 1"),
    ] {
        let told = failure(&einsum(&equation)).to_string();
        assert!(told.contains(said) && told.len() < 300, "{told}");
    }
    let told = failure(&einsum("a,b->a")).to_string();
    assert!(told.contains("`a,b->a` names 2 operands, there are 1"), "{told}");
}

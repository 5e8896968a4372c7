//! Sizes: chains of shape arithmetic vanish, dynamic axes are symbols, and what shapes depend on is asked for.

use graver_ir::{Array, text as gir};
use graver_onnx::Failure;
use graver_onnx::proto::TensorProto;

use crate::common::{
    FLOAT, INT64, Size, array, failure, floats, graph, imported, input, int, integers, ints, model, node, options, run, text,
};

/// `x: [batch, 2, 3]` as `[batch, 6]`, by way of its own shape.
fn chain() -> graver_onnx::proto::ModelProto {
    let nodes = vec![
        node("Shape", &["x"], &["shape"], Vec::new()),
        node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)]),
        node("Concat", &["batch", "rest"], &["target"], vec![int("axis", 0)]),
        node("Reshape", &["x", "target"], &["y"], Vec::new()),
    ];
    let x = input("x", FLOAT, &[Size::Named("batch"), Size::Is(2), Size::Is(3)]);
    model(graph(nodes, vec![x], vec![integers("zero", &[0]), integers("rest", &[-1])], &["y"]), 17)
}

#[test]
fn a_shape_chain_leaves_one_reshape() {
    let shown = gir::print(&imported(&chain()).module);
    let expected = "graver 1\n\nsym batch: 0..=4294967296\n\nfunc @main(\n  %0: f32[batch, 2, 3] = arg \"x\",\n) {\n  \
                    %1 = reshape(%0) {shape = [batch, 6]} : f32[batch, 6] loc(\"model.onnx\":4:1 \"Reshape the_Reshape\")\n  return %1\n}\n";
    assert_eq!(shown, expected);
}

#[test]
fn a_table_that_is_cut_to_a_length_bounds_the_length() {
    let nodes = vec![
        node("Shape", &["x"], &["shape"], Vec::new()),
        node("Slice", &["table", "zero", "shape"], &["rows"], Vec::new()),
        node("Add", &["x", "rows"], &["y"], Vec::new()),
    ];
    let x = input("x", INT64, &[Size::Named("length")]);
    let model = model(graph(nodes, vec![x], vec![integers("table", &[10, 20, 30, 40]), integers("zero", &[0])], &["y"]), 17);
    assert!(gir::print(&imported(&model).module).contains("sym length: 0..=4\n"));
    let two = Array::from_vec([2], vec![1i64, 2]).expect("sizes agree");
    assert_eq!(run(&model, &[&two])[0].as_slice::<i64>(), Some([11, 22].as_slice()));
}

/// Differences of neighbours, as an exporter takes them: the first element, put before all, less all.
#[test]
fn sizes_that_are_equal_unless_they_are_empty_are_not_empty() {
    let slice = |from: &str, start: &str, end: &str, to: &str| node("Slice", &[from, start, end], &[to], Vec::new());
    let nodes = vec![
        slice("x", "zero", "one", "first"),
        node("Concat", &["first", "x"], &["longer"], vec![int("axis", 0)]),
        slice("longer", "one", "far", "late"),
        slice("longer", "zero", "last", "early"),
        node("Sub", &["late", "early"], &["steps"], Vec::new()),
        node("Add", &["steps", "x"], &["y"], Vec::new()),
    ];
    let given = [("zero", 0), ("one", 1), ("last", -1), ("far", i64::MAX)];
    let given = given.iter().map(|(name, value)| integers(name, &[*value])).collect();
    let model = model(graph(nodes, vec![input("x", INT64, &[Size::Named("length")])], given, &["y"]), 17);
    assert!(gir::print(&imported(&model).module).contains("sym length: 1..=4294967296\n"));
    let x = Array::from_vec([3], vec![1i64, 4, 9]).expect("sizes agree");
    assert_eq!(run(&model, &[&x])[0].as_slice::<i64>(), Some([1, 7, 14].as_slice()));
}

/// As a mask of a sequence that lost its ends in a window: its length is cut at 0, and the sequence's is not.
#[test]
fn sizes_that_are_equal_where_there_is_enough_are_bounded_from_below() {
    let nodes = vec![
        node("Slice", &["x", "two", "far"], &["late"], Vec::new()),
        node("Shape", &["x"], &["length"], Vec::new()),
        node("Sub", &["length", "two"], &["less"], Vec::new()),
        node("Expand", &["late", "less"], &["y"], Vec::new()),
    ];
    let given = vec![integers("two", &[2]), integers("far", &[i64::MAX])];
    let model = model(graph(nodes, vec![input("x", INT64, &[Size::Named("length")])], given, &["y"]), 17);
    assert!(gir::print(&imported(&model).module).contains("sym length: 2..=4294967296\n"));
    let x = Array::from_vec([3], vec![1i64, 4, 9]).expect("sizes agree");
    assert_eq!(run(&model, &[&x])[0].as_slice::<i64>(), Some([9].as_slice()));
}

/// Keys and values of a cache that an exporter gave lengths of two names, each with what is new behind it: they are multiplied in the end.
#[test]
fn sums_that_must_agree_make_their_symbols_one() {
    let nodes = vec![
        node("Concat", &["keys", "new"], &["all_keys"], vec![int("axis", 0)]),
        node("Concat", &["values", "new"], &["all_values"], vec![int("axis", 0)]),
        node("Transpose", &["all_keys"], &["columns"], vec![ints("perm", &[1, 0])]),
        node("MatMul", &["columns", "all_values"], &["y"], Vec::new()),
    ];
    let x = |name: &'static str, length: &'static str| input(name, FLOAT, &[Size::Named(length), Size::Is(2)]);
    let inputs = vec![x("keys", "past"), x("values", "other"), x("new", "length")];
    let model = model(graph(nodes, inputs, Vec::new(), &["y"]), 17);
    let shown = gir::print(&imported(&model).module);
    assert!(shown.contains("%0: f32[past, 2] = arg \"keys\"") && shown.contains("%1: f32[past, 2] = arg \"values\""), "{shown}");
}

/// A mask that is viewed by the batch of the tokens has that batch; other sizes are no reshape's.
#[test]
fn an_axis_that_a_reshape_keeps_has_one_size() {
    let nodes = vec![
        node("Shape", &["tokens"], &["shape"], Vec::new()),
        node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)]),
        node("Concat", &["batch", "rest"], &["target"], vec![int("axis", 0)]),
        node("Reshape", &["mask", "target"], &["y"], Vec::new()),
    ];
    let sized = |rows| input("mask", FLOAT, &[rows, Size::Named("length"), Size::Is(3)]);
    let tokens = || input("tokens", INT64, &[Size::Named("batch"), Size::Named("length")]);
    let given = || vec![integers("zero", &[0]), integers("rest", &[-1])];
    let of = |rows| model(graph(nodes.clone(), vec![tokens(), sized(rows)], given(), &["y"]), 17);
    let shown = gir::print(&imported(&of(Size::Named("rows"))).module);
    assert!(shown.contains("%1: f32[batch, length, 3] = arg \"mask\"") && shown.contains("shape = [batch, 3*length]"), "{shown}");
    // Where they are not kept, a call of other sizes is what it was: only those are imported.
    let tokens = Array::from_vec([1, 2], vec![0i64; 2]).expect("sizes agree");
    assert_eq!(run(&of(Size::Named("rows")), &[&tokens, &array(&[2, 2, 3], &[0.0; 12])])[0].shape(), [1, 12]);
}

/// Two rows as rows of the batch: elements of two may be any batch's, so that it is not taken as 2.
#[test]
fn a_number_that_a_reshape_does_not_keep_is_no_size_of_a_symbol() {
    let nodes = vec![
        node("Shape", &["tokens"], &["shape"], Vec::new()),
        node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)]),
        node("Concat", &["batch", "rest"], &["target"], vec![int("axis", 0)]),
        node("Reshape", &["x", "target"], &["y"], Vec::new()),
    ];
    let tokens = input("tokens", INT64, &[Size::Named("batch"), Size::Named("length")]);
    let x = input("x", FLOAT, &[Size::Is(2), Size::Named("n"), Size::Is(3)]);
    let model = model(graph(nodes, vec![tokens, x], vec![integers("zero", &[0]), integers("rest", &[-1])], &["y"]), 17);
    let Failure::Undetermined { inputs, error } = failure(&model) else { panic!("the batch is open") };
    assert_eq!(inputs, ["x"]);
    let said = "a size of -1 beside batch elements, of f32[2, n, 3]: whether they divide is known only where sizes are";
    assert!(error.to_string().contains(said), "{error}");
    for (batch, width) in [(1usize, 30), (2, 15), (3, 10), (6, 5)] {
        let tokens = Array::from_vec([batch, 1], vec![0i64; batch]).expect("sizes agree");
        assert_eq!(run(&model, &[&tokens, &array(&[2, 5, 3], &[0.0; 30])])[0].shape(), [batch, width]);
    }
}

/// Elements of one axis as rows of the batch: there may be any number of them a row.
#[test]
fn an_axis_that_a_reshape_splits_is_not_the_first_part() {
    let nodes = |rest: &'static str| {
        vec![
            node("Shape", &["tokens"], &["shape"], Vec::new()),
            node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)]),
            node("Gather", &["shape", "one"], &["length"], vec![int("axis", 0)]),
            node("Concat", &["batch", rest], &["target"], vec![int("axis", 0)]),
            node("Reshape", &["x", "target"], &["y"], Vec::new()),
        ]
    };
    let inputs = || {
        let tokens = input("tokens", INT64, &[Size::Named("batch"), Size::Named("length")]);
        vec![tokens, input("x", FLOAT, &[Size::Named("n")])]
    };
    let given = || vec![integers("zero", &[0]), integers("one", &[1]), integers("rest", &[-1])];
    let of = |rest| model(graph(nodes(rest), inputs(), given(), &["y"]), 17);
    let Failure::Undetermined { inputs, error } = failure(&of("rest")) else { panic!("the batch is open") };
    assert_eq!(inputs, ["x"]);
    assert!(error.to_string().contains("a size of -1 beside batch elements, of f32[n]"), "{error}");
    for (batch, width) in [(1usize, 6), (2, 3), (6, 1)] {
        let tokens = Array::from_vec([batch, 1], vec![0i64; batch]).expect("sizes agree");
        assert_eq!(run(&of("rest"), &[&tokens, &array(&[6], &[0.0; 6])])[0].shape(), [batch, width]);
    }
    // Without a size that is left open, the elements say how many there are.
    let shown = gir::print(&imported(&of("length")).module);
    assert!(shown.contains("arg \"x\"") && shown.contains("f32[batch*length] = arg"), "{shown}");
}

/// What is split into parts of a number has a size that divides by it, whatever that size is; if it is a number in the end, it is that one.
#[test]
fn an_axis_that_is_split_is_so_many_times_another() {
    let split = |to| node("Reshape", &["x", "parts"], &[to], Vec::new());
    let x = || input("x", FLOAT, &[Size::Named("n"), Size::Is(4)]);
    let of = |nodes, inputs| model(graph(nodes, inputs, vec![integers("parts", &[6, -1])], &["y"]), 17);
    let whole = of(vec![split("y")], vec![x()]);
    let shown = gir::print(&imported(&whole).module);
    assert!(shown.contains("%0: f32[3*n, 4] = arg \"x\"") && shown.contains("shape = [6, 2*n]"), "{shown}");
    assert_eq!(run(&whole, &[&array(&[9, 4], &[1.0; 36])])[0].shape(), [6, 6]);
    let nodes = vec![split("rows"), node("MatMul", &["rows", "table"], &["y"], Vec::new())];
    let shown = gir::print(&imported(&of(nodes, vec![x(), floats("table", &[4, 5])])).module);
    assert!(shown.contains("%0: f32[6, 4] = arg \"x\""), "{shown}");
}

/// A running sum of sizes is sizes.
#[test]
fn running_sums_of_sizes_are_followed() {
    let nodes = vec![
        node("Shape", &["x"], &["shape"], Vec::new()),
        node("CumSum", &["shape", "axis"], &["ends"], Vec::new()),
        node("ConstantOfShape", &["ends"], &["y"], Vec::new()),
    ];
    let x = input("x", INT64, &[Size::Named("n"), Size::Named("m")]);
    let model = model(graph(nodes, vec![x], vec![integers("axis", &[0])], &["y"]), 17);
    let shown = gir::print(&imported(&model).module);
    assert!(shown.contains("f32[n, m + n]"), "{shown}");
    assert_eq!(run(&model, &[&Array::from_vec([2, 3], vec![0i64; 6]).expect("sizes agree")])[0].shape(), [2, 5]);
}

/// Running sums take as much work as there are elements: nothing has the size twice.
#[test]
fn running_sums_over_symbols_are_linear() {
    for (exclusive, reverse) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let attributes = vec![int("exclusive", exclusive), int("reverse", reverse)];
        let nodes = vec![node("CumSum", &["x", "axis"], &["y"], attributes)];
        let x = input("x", INT64, &[Size::Is(2), Size::Named("length")]);
        let model = model(graph(nodes, vec![x], vec![integers("axis", &[1])], &["y"]), 17);
        let shown = gir::print(&imported(&model).module);
        assert!(!shown.contains("length, length"), "{shown}");
        for size in [0usize, 1, 63, 64, 65, 200] {
            let count = i64::try_from(size).expect("small");
            let x = Array::from_vec([2, size], (0..2 * count).map(|place| place * 7 % 11).collect()).expect("sizes agree");
            let given = x.as_slice::<i64>().expect("integers").to_vec();
            let mut expected = Vec::new();
            for row in 0..2 {
                let mut own = given[row * size..][..size].to_vec();
                if reverse == 1 {
                    own.reverse();
                }
                let mut sum = 0;
                for element in &mut own {
                    let value = *element;
                    *element = if exclusive == 1 { sum } else { sum + value };
                    sum += value;
                }
                if reverse == 1 {
                    own.reverse();
                }
                expected.extend(own);
            }
            assert_eq!(run(&model, &[&x])[0].as_slice::<i64>(), Some(expected.as_slice()), "{size}");
        }
    }
}

/// What the model calls by one name has one size in a call, whether the program needs it or not.
#[test]
fn a_name_is_one_size_in_a_call() {
    let of = |inputs: Vec<graver_onnx::proto::ValueInfoProto>| {
        let nodes = inputs.iter().map(|input| node("Relu", &[&input.name], &[&format!("y_{}", input.name)], Vec::new()));
        let outputs: Vec<String> = inputs.iter().map(|input| format!("y_{}", input.name)).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        model(graph(nodes.collect(), inputs.clone(), Vec::new(), &outputs), 17)
    };
    let told = |model: &graver_onnx::proto::ModelProto, arrays: &[Array]| {
        let given = graver_onnx::input_names(model).into_iter().zip(arrays.iter().cloned()).collect();
        graver_onnx::import_for(model, &options(), &given).map(drop).map_err(|failure| failure.to_string())
    };
    let batch = |name: &str| input(name, FLOAT, &[Size::Named("batch"), Size::Is(2)]);
    let zeros = |shape: &[usize]| array(shape, &vec![0.0; shape.iter().product()]);
    let two = of(vec![batch("x"), batch("m")]);
    assert_eq!(told(&two, &[zeros(&[2, 2]), zeros(&[2, 2])]), Ok(()));
    let said = "`batch` is 2 in axis 0 of the input `x`, and 3 in axis 0 of the input `m`";
    assert_eq!(told(&two, &[zeros(&[2, 2]), zeros(&[3, 2])]), Err(said.to_owned()));
    let square = of(vec![input("x", FLOAT, &[Size::Named("a"), Size::Named("a")])]);
    let said = "`a` is 2 in axis 0 of the input `x`, and 3 in axis 1 of the input `x`";
    assert_eq!(told(&square, &[zeros(&[2, 3])]), Err(said.to_owned()));
}

/// Which axes vanish follows from the sizes: those at hand decide.
#[test]
fn axes_of_one_element_are_found_where_sizes_are() {
    let x = input("x", FLOAT, &[Size::Named("n"), Size::Is(1), Size::Is(3)]);
    let model = model(graph(vec![node("Squeeze", &["x"], &["y"], Vec::new())], vec![x], Vec::new(), &["y"]), 13);
    let Failure::Undetermined { inputs, error } = failure(&model) else { panic!("n may be 1") };
    assert!(inputs == ["x"] && error.to_string().contains("n may be 1"), "{error}");
    let shape = |n: usize| run(&model, &[&array(&[n, 1, 3], &vec![0.0; 3 * n])])[0].shape().to_vec();
    assert_eq!((shape(1), shape(2)), (vec![3], vec![2, 3]));
}

/// An initializer that is an input too is a default: it may be left out, and another value may be given.
#[test]
fn an_input_with_a_value_may_have_another() {
    let nodes = vec![node("Sub", &["x", "w"], &["y"], Vec::new())];
    let inputs = vec![input("w", INT64, &[Size::Is(2)]), input("x", INT64, &[Size::Is(2)])];
    let model = model(graph(nodes, inputs, vec![integers("w", &[1, 2])], &["y"]), 13);
    assert_eq!(graver_onnx::input_names(&model), ["w", "x"]);
    assert_eq!(imported(&model).inputs, [graver_onnx::Origin { input: 1, item: None }]);
    let two = |values: [i64; 2]| Array::from_vec([2], values.to_vec()).expect("sizes agree");
    let of = |given: &[(&str, Array)]| {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let imported = graver_onnx::import_for(&model, &options(), &given).unwrap_or_else(|failure| panic!("{failure}"));
        let (entry, _) = imported.module.entry().expect("a module has an entry");
        let arrays: Vec<&Array> = imported.inputs.iter().map(|origin| &given[["w", "x"][origin.input]]).collect();
        graver_interp::eval(&imported.module, entry, &arrays, &[], graver_interp::Precision::Typed)
            .expect("it runs")
            .outputs
            .remove(0)
    };
    assert_eq!(of(&[("x", two([5, 5]))]), two([4, 3]));
    assert_eq!(of(&[("x", two([5, 5])), ("w", two([2, 0]))]), two([3, 5]));
}

#[test]
fn axes_that_meet_are_one_symbol() {
    let x = |name: &str| input(name, FLOAT, &[Size::Open, Size::Is(2)]);
    let model = model(graph(vec![node("Add", &["x", "y"], &["z"], Vec::new())], vec![x("x"), x("y")], Vec::new(), &["z"]), 17);
    let shown = gir::print(&imported(&model).module);
    assert!(shown.contains("%0: f32[x_0, 2] = arg \"x\"") && shown.contains("%1: f32[x_0, 2] = arg \"y\""), "{shown}");
}

#[test]
fn an_input_that_decides_about_shapes_is_named_and_may_be_given() {
    let x = [floats("x", &[2, 3]), input("shape", INT64, &[Size::Is(1)])];
    let model = model(graph(vec![node("Reshape", &["x", "shape"], &["y"], Vec::new())], x.to_vec(), Vec::new(), &["y"]), 17);
    let Failure::Undetermined { inputs, error } = failure(&model) else { panic!("the shape is open") };
    assert_eq!(inputs, ["shape"]);
    let said = "model.onnx:1:1 (Reshape the_Reshape): Reshape: the shape must be known before the program runs";
    assert_eq!(error.to_string(), said);
    let shape = Array::from_vec([1], vec![6i64]).expect("sizes agree");
    assert_eq!(run(&model, &[&array(&[2, 3], &[0.0; 6]), &shape])[0].shape(), [6]);
}

#[test]
fn everything_that_is_not_supported_is_told_at_once() {
    let nodes = vec![
        node("StringNormalizer", &["x"], &["a"], Vec::new()),
        node("Relu", &["a"], &["b"], Vec::new()),
        node("ImageDecoder", &["b"], &["c"], Vec::new()),
    ];
    let model = model(graph(nodes, vec![floats("x", &[2])], Vec::new(), &["c"]), 17);
    let Failure::Unsupported(error) = failure(&model) else { panic!("two operations are unknown") };
    let said = "model.onnx:1:1 (StringNormalizer the_StringNormalizer): StringNormalizer: the operation in version 17\n\
                model.onnx:3:1 (ImageDecoder the_ImageDecoder): ImageDecoder: the operation in version 17";
    assert_eq!(error.to_string(), said);
}

/// In branches both, in bodies whose operands have problems, in functions that take such, and beside what is wrong.
#[test]
fn what_is_not_supported_is_told_wherever_it_is() {
    let body = |op: &str, inputs: Vec<graver_onnx::proto::ValueInfoProto>, from: &str| {
        graph(vec![node(op, &[from], &["out"], Vec::new())], inputs, Vec::new(), &["out"])
    };
    let inside = |name: &str, graph| graver_onnx::proto::AttributeProto {
        name: name.to_owned(),
        r#type: 5,
        g: Some(graph),
        ..Default::default()
    };
    let branches = |then, other| {
        vec![inside("then_branch", body(then, Vec::new(), "x")), inside("else_branch", body(other, Vec::new(), "x"))]
    };
    let told = |nodes: Vec<graver_onnx::proto::NodeProto>, parts: &[&str]| {
        let inputs = vec![floats("x", &[2]), input("c", 9, &[])];
        let mut model = model(graph(nodes, inputs, Vec::new(), &["y"]), 17);
        model.functions = vec![graver_onnx::proto::FunctionProto {
            name: "F".to_owned(),
            input: vec!["a".to_owned()],
            output: vec!["b".to_owned()],
            node: vec![node("InFunction", &["a"], &["b"], Vec::new())],
            opset_import: model.opset_import.clone(),
            ..Default::default()
        }];
        let failure = failure(&model).to_string();
        assert!(parts.iter().all(|part| failure.matches(&format!("{part}: ")).count() == 1), "{failure}");
    };
    told(vec![node("If", &["c"], &["y"], branches("First", "Second"))], &["First", "Second"]);
    let unknown = || node("Unknown", &["x"], &["u"], Vec::new());
    told(vec![unknown(), node("If", &["u"], &["y"], branches("First", "Second"))], &["Unknown", "First", "Second"]);
    told(vec![unknown(), node("F", &["u"], &["y"], Vec::new())], &["Unknown", "InFunction"]);
    let scan = vec![inside("body", body("InScan", vec![floats("s", &[1])], "s")), int("num_scan_inputs", 1)];
    told(vec![unknown(), node("Scan", &["u"], &["y"], scan)], &["Unknown", "InScan"]);
    let wrong = node("Concat", &["x", "x"], &["w"], vec![int("axis", 7)]);
    told(
        vec![unknown(), wrong, node("Last", &["u"], &["y"], Vec::new())],
        &["Concat", "Unknown: not supported", "Last: not supported"],
    );
}

#[test]
fn a_failure_at_run_time_names_the_node() {
    let model = model(
        graph(
            vec![node("Gather", &["x", "i"], &["y"], vec![int("axis", 0)])],
            vec![floats("x", &[3]), input("i", INT64, &[Size::Is(1)])],
            Vec::new(),
            &["y"],
        ),
        17,
    );
    let module = imported(&model).module;
    let (x, i) = (array(&[3], &[1.0, 2.0, 3.0]), Array::from_vec([1], vec![7i64]).expect("sizes agree"));
    let (entry, _) = module.entry().expect("an entry");
    let error = graver_interp::eval(&module, entry, &[&x, &i], &[], graver_interp::Precision::Typed).expect_err("7 is outside");
    assert!(error.to_string().starts_with("model.onnx:1:1 (Gather the_Gather)"), "{error}");
    let last = Array::from_vec([1], vec![-1i64]).expect("sizes agree");
    assert_eq!(run(&model, &[&x, &last])[0].to_f64(), [3.0]);
}

#[test]
fn windows_over_symbols_stay_symbols() {
    let x = input("x", FLOAT, &[Size::Named("n"), Size::Is(1), Size::Is(4)]);
    let pool = node("MaxPool", &["x"], &["y"], vec![ints("kernel_shape", &[2])]);
    let model = model(graph(vec![pool], vec![x], Vec::new(), &["y"]), 12);
    assert!(gir::print(&imported(&model).module).contains(": f32[n, 1, 3]"));
}

/// Places and weights that the program computes are those that are computed at import where sizes are numbers.
#[test]
fn axes_of_any_size_are_resized() {
    let float = |name: &str, data: &[f32]| TensorProto {
        name: name.to_owned(),
        dims: vec![i64::try_from(data.len()).expect("few")],
        data_type: FLOAT,
        float_data: data.to_vec(),
        ..TensorProto::default()
    };
    let of = |size, mode: &str, coordinates: &str, nearest: &str, scale: f32| {
        let attributes =
            vec![text("mode", mode), text("coordinate_transformation_mode", coordinates), text("nearest_mode", nearest)];
        let nodes = vec![node("Resize", &["x", "", "scales"], &["y"], attributes)];
        model(graph(nodes, vec![input("x", FLOAT, &[Size::Is(2), size])], vec![float("scales", &[1.0, scale])], &["y"]), 13)
    };
    for (mode, coordinates, nearest) in [
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "asymmetric", "ceil"),
        ("nearest", "pytorch_half_pixel", "round_prefer_ceil"),
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
        ("linear", "half_pixel_symmetric", "floor"),
        ("cubic", "pytorch_half_pixel", "floor"),
        ("cubic", "asymmetric", "floor"),
    ] {
        for (count, scale) in [(5usize, 2.0f32), (7, 0.5), (4, 1.75), (6, 0.3), (1, 3.0)] {
            let any = of(Size::Named("n"), mode, coordinates, nearest, scale);
            imported(&any);
            let x = array(&[2, count], &(0..2 * count).map(|place| (place * 5 % 7) as f32).collect::<Vec<f32>>());
            let fixed = of(Size::Is(i64::try_from(count).expect("small")), mode, coordinates, nearest, scale);
            let (got, expected) = (run(&any, &[&x]).remove(0), run(&fixed, &[&x]).remove(0));
            assert_eq!(got.shape(), expected.shape(), "{mode} {coordinates} {count} {scale}");
            let close = got.to_f64().iter().zip(expected.to_f64()).all(|(x, y)| (x - y).abs() < 1e-5);
            assert!(close, "{mode} {coordinates} {count} {scale}: {got:?} is not {expected:?}");
        }
    }
}

/// A picture that is halved, and doubled to what it was: for sizes that divide, as the sum asks; others are none of the model's.
#[test]
fn what_is_halved_and_doubled_again_is_what_it_was() {
    let pool = node("MaxPool", &["x"], &["small"], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let nodes = vec![
        pool,
        node("Shape", &["x"], &["sizes"], Vec::new()),
        node("Resize", &["small", "", "", "sizes"], &["same"], vec![text("mode", "linear")]),
        node("Resize", &["small", "", "scales"], &["twice"], vec![text("mode", "linear")]),
        node("Add", &["x", "same"], &["y"], Vec::new()),
        node("Add", &["x", "twice"], &["z"], Vec::new()),
    ];
    let scales = TensorProto {
        name: "scales".to_owned(),
        dims: vec![4],
        data_type: FLOAT,
        float_data: vec![1.0, 1.0, 2.0, 2.0],
        ..TensorProto::default()
    };
    let x = input("x", FLOAT, &[Size::Is(1), Size::Is(1), Size::Named("h"), Size::Named("w")]);
    let model = model(graph(nodes, vec![x], vec![scales], &["y", "z"]), 13);
    let shown = text_of(&model);
    assert!(shown.contains("f32[1, 1, 2*h, 2*w] = arg \"x\""), "{shown}");
    let outputs = run(&model, &[&array(&[1, 1, 4, 6], &[1.0; 24])]);
    assert!(outputs.iter().all(|output| output.to_f64() == [2.0; 24]), "{outputs:?}");
}

fn text_of(model: &graver_onnx::proto::ModelProto) -> String {
    gir::print(&imported(model).module)
}

/// Before version 4 of the format every initializer was an input: they are no defaults, and are not counted.
#[test]
fn inputs_of_old_files_are_those_without_values() {
    let nodes = vec![node("Sub", &["x", "w"], &["y"], Vec::new())];
    let inputs = vec![input("w", INT64, &[Size::Is(2)]), input("x", INT64, &[Size::Is(2)])];
    let old =
        graver_onnx::proto::ModelProto { ir_version: 3, ..model(graph(nodes, inputs, vec![integers("w", &[1, 2])], &["y"]), 8) };
    assert_eq!(graver_onnx::input_names(&old), ["x"]);
    assert_eq!(imported(&old).inputs, [graver_onnx::Origin { input: 0, item: None }]);
}

//! Sizes that a model computes in floats, as exporters spell halves, multiples and ratios of sizes.

use graver_ir::text as gir;
use graver_onnx::Failure;
use graver_onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};

use crate::common::{FLOAT, INT64, Size, array, failure, graph, imported, input, int, integers, ints, model, node, run, text};

fn number(name: &str, value: f32) -> TensorProto {
    TensorProto { name: name.to_owned(), data_type: FLOAT, float_data: vec![value], ..TensorProto::default() }
}

fn cast(from: &str, to: &str, elem_type: i32) -> NodeProto {
    node("Cast", &[from], &[to], vec![int("to", i64::from(elem_type))])
}

fn plain(op: &str, from: &[&str], to: &str) -> NodeProto {
    node(op, from, &[to], Vec::new())
}

/// The last size of a value of three axes, as a scalar.
fn width(of: &str, to: &str) -> [NodeProto; 2] {
    let shape = format!("shape_{to}");
    [plain("Shape", &[of], &shape), node("Gather", &[&shape, "last"], &[to], vec![int("axis", 0)])]
}

/// A model over `x: [1, 1, size]`, with the constants that the tests need.
fn over(size: Size, nodes: Vec<NodeProto>, version: i64) -> ModelProto {
    let x = input("x", FLOAT, &[Size::Is(1), Size::Is(1), size]);
    let scalar = |name: &str, value: i64| TensorProto { dims: Vec::new(), ..integers(name, &[value]) };
    let given = vec![
        scalar("last", 2),
        scalar("two", 2),
        scalar("four", 4),
        scalar("none", 0),
        scalar("one", 1),
        integers("behind", &[2]),
        integers("most", &[i64::MAX]),
        integers("zero", &[0]),
        integers("zeros", &[0, 0]),
        integers("one_and_one", &[1, 1]),
        TensorProto { dims: vec![2], float_data: vec![1.0, 1.0], ..number("as_they_are", 1.0) },
        TensorProto { dims: vec![3], float_data: vec![1.0, 1.0, 2.0], ..number("twice", 1.0) },
        TensorProto { dims: vec![3], float_data: vec![1.0, 1.0, 4.0], ..number("four_times", 1.0) },
        number("half", 0.5),
        number("third", 1.0 / 3.0),
        number("2.0", 2.0),
        number("3.0", 3.0),
        number("4.0", 4.0),
        TensorProto { data_type: 9, dims: Vec::new(), int32_data: vec![0], name: "no".to_owned(), ..TensorProto::default() },
    ];
    model(graph(nodes, vec![x], given, &["y"]), version)
}

/// Checks that a model is imported for any size, and gives for some what it gives where their number is known at import.
fn check(nodes: &[NodeProto], version: i64) {
    let any = over(Size::Named("w"), nodes.to_vec(), version);
    let shown = gir::print(&imported(&any).module);
    assert!(shown.contains("f32[1, 1, w] = arg \"x\""), "{shown}");
    for size in [2usize, 3, 7, 8, 13] {
        let x = array(&[1, 1, size], &(0..size).map(|place| (place * 5 % 7) as f32).collect::<Vec<f32>>());
        let fixed = over(Size::Is(i64::try_from(size).expect("small")), nodes.to_vec(), version);
        let (got, expected) = (run(&any, &[&x]).remove(0), run(&fixed, &[&x]).remove(0));
        assert_eq!(got.shape(), expected.shape(), "{size}");
        let close = got.to_f64().iter().zip(expected.to_f64()).all(|(x, y)| (x - y).abs() < 1e-5);
        assert!(close, "{size}: {got:?} is not {expected:?}");
    }
}

/// `x` halved and doubled, and what it lost, `d`.
fn halved() -> Vec<NodeProto> {
    let pool = node("MaxPool", &["x"], &["small"], vec![ints("kernel_shape", &[2]), ints("strides", &[2])]);
    let doubled = node("Resize", &["small", "", "twice"], &["near"], nearest());
    let lost = [width("x", "w"), width("near", "v")].concat();
    [vec![pool, doubled], lost, vec![plain("Sub", &["w", "v"], "d")]].concat()
}

fn nearest() -> Vec<AttributeProto> {
    vec![text("mode", "nearest"), text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")]
}

/// `near` with so many zeros before and behind, added to `x`.
fn padded(low: &str, high: &str) -> Vec<NodeProto> {
    vec![
        plain("Unsqueeze", &[low, "zero"], "lows"),
        plain("Unsqueeze", &[high, "zero"], "highs"),
        node("Concat", &["zeros", "lows", "zeros", "highs"], &["pads"], vec![int("axis", 0)]),
        plain("Pad", &["near", "pads"], "far"),
        plain("Add", &["x", "far"], "y"),
    ]
}

#[test]
fn padding_of_halves_that_are_cast_back() {
    let half = vec![
        cast("d", "d_float", FLOAT),
        plain("Div", &["d_float", "2.0"], "half_float"),
        cast("half_float", "low", INT64),
        plain("Sub", &["d", "low"], "high"),
    ];
    check(&[halved(), half, padded("low", "high")].concat(), 17);
    let floored = vec![
        cast("d", "d_float", FLOAT),
        plain("Mul", &["d_float", "half"], "half_float"),
        plain("Floor", &["half_float"], "floor"),
        plain("Sub", &["d_float", "floor"], "rest"),
        cast("floor", "low", INT64),
        cast("rest", "high", INT64),
    ];
    check(&[halved(), floored, padded("low", "high")].concat(), 17);
}

/// A division that rounds down, as exporters spell it with one that truncates: what it asks of the remainder does not matter.
#[test]
fn padding_of_a_quotient_that_is_less_where_it_is_negative() {
    let half = vec![
        plain("Div", &["d", "two"], "truncated"),
        plain("Less", &["d", "none"], "below"),
        plain("Xor", &["below", "no"], "differs"),
        node("Mod", &["d", "two"], &["rest"], vec![int("fmod", 0)]),
        plain("Equal", &["rest", "none"], "even"),
        plain("Not", &["even"], "odd"),
        plain("And", &["differs", "odd"], "rounds"),
        plain("Sub", &["truncated", "two"], "lower"),
        plain("Where", &["rounds", "lower", "truncated"], "low"),
        plain("Sub", &["d", "low"], "high"),
    ];
    check(&[halved(), half, padded("low", "high")].concat(), 17);
}

#[test]
fn padding_to_a_multiple() {
    let nodes = vec![
        cast("w", "w_float", FLOAT),
        plain("Div", &["w_float", "4.0"], "quarters"),
        plain("Ceil", &["quarters"], "up"),
        plain("Mul", &["up", "4.0"], "whole"),
        cast("whole", "v", INT64),
        plain("Sub", &["v", "w"], "d"),
        plain("Unsqueeze", &["d", "zero"], "highs"),
        node("Concat", &["zeros", "zero", "zeros", "highs"], &["pads"], vec![int("axis", 0)]),
        plain("Pad", &["x", "pads"], "y"),
    ];
    check(&[width("x", "w").to_vec(), nodes].concat(), 17);
}

#[test]
fn sizes_that_are_multiplied_and_floored() {
    for factor in ["half", "2.0"] {
        let nodes = vec![
            cast("w", "w_float", FLOAT),
            plain("Mul", &["w_float", factor], "scaled"),
            cast("scaled", "again", FLOAT),
            plain("Floor", &["again"], "floor"),
            plain("Unsqueeze", &["floor", "zero"], "floors"),
            cast("floors", "size", INT64),
            node("Concat", &["one_and_one", "size"], &["sizes"], vec![int("axis", 0)]),
            node("Resize", &["x", "", "", "sizes"], &["y"], vec![text("mode", "linear")]),
        ];
        check(&[width("x", "w").to_vec(), nodes].concat(), 17);
    }
}

/// Before version 11 there were scales alone: one size over another.
#[test]
fn scales_that_are_ratios_of_sizes() {
    let pool = node("MaxPool", &["x"], &["small"], vec![ints("kernel_shape", &[2]), ints("strides", &[2])]);
    let nodes = vec![
        cast("w", "w_float", FLOAT),
        cast("v", "v_float", FLOAT),
        plain("Div", &["w_float", "v_float"], "ratio"),
        node("Unsqueeze", &["ratio"], &["ratios"], vec![ints("axes", &[0])]),
        node("Concat", &["as_they_are", "ratios"], &["scales"], vec![int("axis", 0)]),
        node("Resize", &["small", "scales"], &["same"], vec![text("mode", "nearest")]),
        plain("Add", &["x", "same"], "y"),
    ];
    check(&[vec![pool], [width("x", "w"), width("small", "v")].concat(), nodes].concat(), 10);
}

/// Where floats round, what they give for any size is not told: it is computed for the sizes at hand.
#[test]
fn what_is_rounded_is_not_followed() {
    let of = |chain: Vec<NodeProto>| {
        let rest = vec![
            plain("Floor", &["scaled"], "floor"),
            plain("Unsqueeze", &["floor", "zero"], "floors"),
            cast("floors", "size", INT64),
            node("Concat", &["one_and_one", "size"], &["sizes"], vec![int("axis", 0)]),
            node("Resize", &["x", "", "", "sizes"], &["y"], nearest()),
        ];
        let nodes = [width("x", "w").to_vec(), vec![cast("w", "w_float", FLOAT)], chain, rest].concat();
        let model = over(Size::Named("w"), nodes, 17);
        let Failure::Unsupported(error) = failure(&model) else { panic!("the sizes are open") };
        assert!(error.to_string().contains("the sizes must be known before the program runs"), "{error}");
        run(&model, &[&array(&[1, 1, 9], &[1.0; 9])])[0].shape()[2]
    };
    assert_eq!(of(vec![plain("Mul", &["w_float", "third"], "scaled")]), 3);
    assert_eq!(of(vec![plain("Div", &["w_float", "3.0"], "ratio"), plain("Mul", &["ratio", "3.0"], "scaled")]), 9);
}

/// As many as there lack to a multiple, in integers.
#[test]
fn padding_by_a_remainder_of_a_remainder() {
    let nodes = vec![
        node("Mod", &["w", "four"], &["rest"], vec![int("fmod", 0)]),
        plain("Sub", &["four", "rest"], "lacks"),
        node("Mod", &["lacks", "four"], &["d"], vec![int("fmod", 0)]),
        plain("Unsqueeze", &["d", "zero"], "highs"),
        node("Concat", &["zeros", "zero", "zeros", "highs"], &["pads"], vec![int("axis", 0)]),
        plain("Pad", &["x", "pads"], "wide"),
        node("MaxPool", &["wide"], &["small"], vec![ints("kernel_shape", &[4]), ints("strides", &[4])]),
        node("Resize", &["small", "", "four_times"], &["again"], nearest()),
        plain("Add", &["wide", "again"], "y"),
    ];
    check(&[width("x", "w").to_vec(), nodes].concat(), 17);
}

/// As many as there lack to a multiple: what is left of the negated size has the divisor's sign.
#[test]
fn padding_by_a_remainder_of_what_is_negated() {
    let nodes = vec![
        plain("Neg", &["w"], "below"),
        node("Mod", &["below", "four"], &["d"], vec![int("fmod", 0)]),
        plain("Unsqueeze", &["d", "zero"], "highs"),
        node("Concat", &["zeros", "zero", "zeros", "highs"], &["pads"], vec![int("axis", 0)]),
        plain("Pad", &["x", "pads"], "wide"),
        node("MaxPool", &["wide"], &["small"], vec![ints("kernel_shape", &[4]), ints("strides", &[4])]),
        node("Resize", &["small", "", "four_times"], &["again"], nearest()),
        plain("Unsqueeze", &["w", "zero"], "ends"),
        plain("Slice", &["again", "zero", "ends", "behind"], "cut"),
        plain("Add", &["x", "cut"], "y"),
    ];
    check(&[width("x", "w").to_vec(), nodes].concat(), 17);
}

/// As many as half of a size that is rounded up, spelled as one more than the half of one less.
#[test]
fn cutting_to_a_half_of_one_less_and_one_more() {
    let nodes = vec![
        plain("Sub", &["w", "one"], "less"),
        plain("Div", &["less", "two"], "half_of_less"),
        plain("Add", &["half_of_less", "one"], "d"),
        plain("Unsqueeze", &["d", "zero"], "ends"),
        plain("Slice", &["x", "zero", "ends", "behind"], "cut"),
        node("MaxPool", &["x"], &["small"], vec![ints("kernel_shape", &[2]), ints("strides", &[2]), int("ceil_mode", 1)]),
        plain("Add", &["cut", "small"], "y"),
    ];
    check(&[width("x", "w").to_vec(), nodes].concat(), 17);
}

/// Two elements fewer on both sides: pictures that have fewer are refused, where the bound would count from the end.
#[test]
fn cutting_out_of_the_middle_is_for_what_has_one() {
    let nodes = vec![
        plain("Sub", &["w", "four"], "inner"),
        plain("Div", &["inner", "two"], "low"),
        plain("Unsqueeze", &["low", "zero"], "lows"),
        plain("Slice", &["x", "lows", "most", "behind"], "y"),
    ];
    let nodes = [width("x", "w").to_vec(), nodes].concat();
    let shown = gir::print(&imported(&over(Size::Named("w"), nodes.clone(), 17)).module);
    assert!(shown.contains("sym w: 4..="), "{shown}");
    let x = array(&[1, 1, 7], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(run(&over(Size::Named("w"), nodes, 17), &[&x])[0], array(&[1, 1, 6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
}

/// Whole networks, as `tests/exported/make.py` has torch write them; what they compute is held by a test of the command.
#[test]
fn exported_networks_are_imported_for_any_size() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exported");
    for case in ["padded_by_halves", "padded_to_a_multiple", "resized_by_a_half", "resized_to_sizes_as_scales"] {
        let model = graver_onnx::read_file(&folder.join(case).join("model.onnx")).expect("kept beside the tests");
        let shown = gir::print(&imported(&model).module);
        assert!(shown.contains("f32[n, 1, h, w] = arg \"x\""), "{case}: {shown}");
    }
}

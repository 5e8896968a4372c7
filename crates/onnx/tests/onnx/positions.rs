//! Values at positions where sizes are symbols: axes that must agree become one, and positions are computed from sizes.

use graver_ir::{Array, text as gir};
use graver_onnx::proto::{ModelProto, NodeProto};

use crate::common::{FLOAT, INT64, Size, array, failure, graph, imported, input, int, integers, model, node, run, text};

fn text_of(model: &ModelProto) -> String {
    gir::print(&imported(model).module)
}

fn positions(shape: &[usize], places: &[i64]) -> Array {
    Array::from_vec(shape, places.to_vec()).expect("the test's sizes agree")
}

/// A scatter of updates whose axes an exporter calls by other names than those of the positions.
fn scatter(op: &str, attributes: Vec<graver_onnx::proto::AttributeProto>, index: &[Size], update: &[Size]) -> ModelProto {
    let inputs =
        vec![input("x", FLOAT, &[Size::Named("s0"), Size::Is(4)]), input("index", INT64, index), input("update", FLOAT, update)];
    model(graph(vec![node(op, &["x", "index", "update"], &["y"], attributes)], inputs, Vec::new(), &["y"]), 18)
}

#[test]
fn the_positions_and_the_updates_of_a_scatter_have_one_shape() {
    let of = |index: &[Size], update: &[Size]| {
        scatter("ScatterElements", vec![int("axis", 0), text("reduction", "add")], index, update)
    };
    let summed = of(&[Size::Named("s4"), Size::Is(4)], &[Size::Named("s86"), Size::Is(4)]);
    let shown = text_of(&summed);
    assert!(shown.contains("f32[s4, 4] = arg \"update\"") || shown.contains("i64[s86, 4] = arg \"index\""), "{shown}");
    let x = array(&[2, 4], &[1.0; 8]);
    let update = array(&[3, 4], &(0..12).map(|place| place as f32).collect::<Vec<f32>>());
    let outputs = run(&summed, &[&x, &positions(&[3, 4], &[1, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1]), &update]);
    assert_eq!(outputs[0].to_f64(), [1.0, 7.0, 7.0, 11.0, 13.0, 10.0, 13.0, 12.0]);
    // A number on one side is the size of the symbol on the other.
    let shown = text_of(&of(&[Size::Is(3), Size::Is(4)], &[Size::Named("s86"), Size::Is(4)]));
    assert!(shown.contains("f32[3, 4] = arg \"update\""), "{shown}");
    let said = "the positions and the updates are [3, 4] and [2, 4]: axis 0 is 3 of one and 2 of the other";
    let told = failure(&of(&[Size::Is(3), Size::Is(4)], &[Size::Is(2), Size::Is(4)])).to_string();
    assert!(told.contains(said), "{told}");
    let told = failure(&of(&[Size::Is(3), Size::Is(4)], &[Size::Is(12)])).to_string();
    assert!(told.contains("[3, 4] and [12]: they have as many axes"), "{told}");
}

#[test]
fn the_rows_of_positions_and_the_updates_agree() {
    let rows = scatter("ScatterND", Vec::new(), &[Size::Named("n"), Size::Is(1)], &[Size::Named("m"), Size::Named("w")]);
    let shown = text_of(&rows);
    assert!(shown.contains("f32[n, 4] = arg \"update\"") || shown.contains("f32[m, 4] = arg \"update\""), "{shown}");
    let outputs = run(&rows, &[&array(&[2, 4], &[0.0; 8]), &positions(&[1, 1], &[1]), &array(&[1, 4], &[5.0; 4])]);
    assert_eq!(outputs[0].to_f64(), [0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0]);
    let wrong = scatter("ScatterND", Vec::new(), &[Size::Is(2), Size::Is(1)], &[Size::Is(2), Size::Is(3)]);
    let told = failure(&wrong).to_string();
    assert!(told.contains("what the positions name, and the updates are [2, 4] and [2, 3]"), "{told}");
}

/// `x: [n]` rolled by `shift`, as an exporter spells it: what follows the start, and what is before it.
fn rolled(shift: i64, remainder: NodeProto) -> ModelProto {
    let slice = |start: &str, end: &str, to: &str| node("Slice", &["x", start, end], &[to], Vec::new());
    let nodes = vec![
        node("Shape", &["x"], &["size"], Vec::new()),
        node("Sub", &["size", "shift"], &["less"], Vec::new()),
        remainder,
        slice("start", "far", "late"),
        slice("zero", "start", "early"),
        node("Concat", &["late", "early"], &["moved"], vec![int("axis", 0)]),
        node("Add", &["moved", "x"], &["y"], Vec::new()),
    ];
    let given = vec![integers("shift", &[shift]), integers("zero", &[0]), integers("far", &[i64::MAX])];
    model(graph(nodes, vec![input("x", INT64, &[Size::Named("n")])], given, &["y"]), 17)
}

#[test]
fn what_is_rolled_along_a_symbol_starts_at_a_remainder_of_sizes() {
    let remainder = || node("Mod", &["less", "size"], &["start"], Vec::new());
    for (shift, least) in [(-7, 7), (-1, 1), (0, 1), (1, 1), (2, 2), (5, 5)] {
        let roll = rolled(shift, remainder());
        let shown = text_of(&roll);
        let said = format!("sym n: {least}..=4294967296\n");
        assert!(shown.contains("i64[n] = arg \"x\"") && shown.contains(&said), "{shown}");
        for count in [1i64, 2, 3, 8] {
            let x: Vec<i64> = (0..count).map(|place| place * place + 3).collect();
            let at = |place: i64| x[usize::try_from((place - shift).rem_euclid(count)).expect("small")];
            let expected: Vec<i64> = (0..count).map(|place| at(place) + x[usize::try_from(place).expect("small")]).collect();
            let outputs = run(&roll, &[&positions(&[x.len()], &x)]);
            assert_eq!(outputs[0].as_slice::<i64>(), Some(expected.as_slice()), "{shift} of {count}");
        }
    }
}

/// C's remainder has the dividend's sign: it is a remainder of sizes where that is not negative.
#[test]
fn remainders_of_sizes_by_either_rule() {
    let of = |fmod: i64, x: i64| {
        let nodes = vec![
            node("Shape", &["x"], &["size"], Vec::new()),
            node("Add", &["size", "shift"], &["sum"], Vec::new()),
            node("Mod", &["sum", "by"], &["y"], vec![int("fmod", fmod)]),
        ];
        let given = vec![integers("shift", &[x]), integers("by", &[3])];
        let of = model(graph(nodes, vec![input("x", FLOAT, &[Size::Named("n")])], given, &["y"]), 17);
        run(&of, &[&array(&[5], &[0.0; 5])])[0].as_slice::<i64>().map(<[i64]>::to_vec)
    };
    assert_eq!([of(0, 0), of(1, 0), of(0, -10), of(1, -10)], [2, 2, 1, -2].map(|rest| Some(vec![rest])));
}

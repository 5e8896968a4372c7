//! Elements that are codes, and integers with a scale and a zero.

use graver_ir::Array;
use graver_onnx::Failure;
use graver_onnx::proto::{AttributeProto, ModelProto, TensorProto};

use crate::common::{FLOAT, Size, array, failure, floats, graph, input, int, integers, model, node, run, text};

const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT4: i32 = 22;
/// Each with the number of its codes.
const CODED: [(i32, usize); 10] =
    [(17, 256), (18, 256), (19, 256), (20, 256), (21, 16), (22, 16), (23, 16), (24, 256), (25, 4), (26, 4)];

/// A cast between two element types.
fn cast(from: i32, to: i32, size: i64, saturate: i64) -> ModelProto {
    let attributes = vec![int("to", i64::from(to)), int("saturate", saturate)];
    let nodes = vec![node("Cast", &["x"], &["y"], attributes)];
    model(graph(nodes, vec![input("x", from, &[Size::Is(size)])], Vec::new(), &["y"]), 24)
}

/// All codes of a type, as they are stored.
fn codes(elem_type: i32, count: usize) -> Array {
    if elem_type == INT4 || elem_type == 26 {
        let half = i8::try_from(count / 2).expect("few");
        return Array::from_vec([count], (-half..half).collect::<Vec<i8>>()).expect("as many");
    }
    Array::from_vec([count], (0..count).map(|code| u8::try_from(code).expect("a byte")).collect::<Vec<u8>>()).expect("as many")
}

#[test]
fn every_number_of_a_format_is_its_own_nearest() {
    for (elem_type, count) in CODED {
        let size = i64::try_from(count).expect("few");
        let decoded = &run(&cast(elem_type, FLOAT, size, 1), &[&codes(elem_type, count)])[0];
        let again = &run(&cast(FLOAT, elem_type, size, 0), &[decoded])[0];
        let numbers = &run(&cast(elem_type, FLOAT, size, 1), &[again])[0];
        let same = |(x, y): (&f64, &f64)| x == y || (x.is_nan() && y.is_nan());
        assert!(decoded.to_f64().iter().zip(&numbers.to_f64()).all(same), "{elem_type}");
        let distinct = decoded.to_f64().iter().filter(|x| !x.is_nan()).count();
        assert!(distinct * 10 > count * 9, "{elem_type}: {distinct} of {count} codes are numbers");
    }
}

#[test]
fn numbers_go_to_the_nearest_code_and_ties_to_the_even_one() {
    let x = array(&[7], &[1.0625, 1.1875, -1.0625, 500.0, f32::INFINITY, f32::NAN, 1e-9]);
    let round = |to: i32, saturate: i64| {
        let y = run(&cast(FLOAT, to, 7, saturate), &[&x]).remove(0);
        run(&cast(to, FLOAT, 7, 1), &[&y])[0].to_f64()
    };
    let saturated = round(17, 1);
    assert_eq!(saturated[..5], [1.0, 1.25, -1.0, 448.0, 448.0]);
    assert!(saturated[5].is_nan());
    assert_eq!(saturated[6], 0.0);
    assert!(round(17, 0)[3..5].iter().all(|x| x.is_nan()));
    assert_eq!(round(19, 0)[3..5], [512.0, f64::INFINITY]);
    assert_eq!(round(19, 1)[4], 57344.0);
}

#[test]
fn codes_are_moved_and_not_computed_with() {
    let permuted = |op: &str| {
        let nodes = vec![node(op, &["x"], &["m"], Vec::new()), node("Cast", &["m"], &["y"], vec![int("to", i64::from(FLOAT))])];
        model(graph(nodes, vec![input("x", 17, &[Size::Is(1), Size::Is(2)])], Vec::new(), &["y"]), 24)
    };
    let x = Array::from_vec([1, 2], vec![0x38u8, 0xb8]).expect("two");
    let y = &run(&permuted("Transpose"), &[&x])[0];
    assert_eq!((y.shape(), y.to_f64()), ([2, 1].as_slice(), vec![1.0, -1.0]));
    let failure = failure(&permuted("Neg"));
    assert!(
        matches!(&failure, Failure::Unsupported(error) if error.to_string().contains("only moved and converted")),
        "{failure}"
    );
}

#[test]
fn files_have_two_small_integers_a_byte() {
    let tensor = |raw: &[u8]| TensorProto {
        name: "w".to_owned(),
        dims: vec![3],
        data_type: INT4,
        raw_data: raw.to_vec().into(),
        ..TensorProto::default()
    };
    let dequantized = |raw: &[u8]| {
        let nodes = vec![node("DequantizeLinear", &["w", "scale"], &["y"], Vec::new())];
        model(graph(nodes, vec![floats("scale", &[])], vec![tensor(raw)], &["y"]), 21)
    };
    let y = run(&dequantized(&[0x8f, 0x07]), &[&array(&[], &[0.5])]);
    assert_eq!(y[0].to_f64(), [-0.5, -4.0, 3.5]);
    let failure = failure(&dequantized(&[0x8f, 0x07, 0]));
    assert!(failure.to_string().contains("3 bytes for 3 elements of int4"), "{failure}");
}

#[test]
fn scales_belong_to_all_to_an_axis_or_to_blocks() {
    let quantized = |scale: &[i64], attributes: Vec<graver_onnx::proto::AttributeProto>| {
        let sizes: Vec<Size> = scale.iter().map(|size| Size::Is(*size)).collect();
        let inputs = vec![floats("x", &[2, 3]), floats("s", scale), input("z", UINT8, &sizes)];
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"], attributes.clone()),
            node("DequantizeLinear", &["q", "s", "z"], &["y"], attributes),
        ];
        model(graph(nodes, inputs, Vec::new(), &["q", "y"]), 21)
    };
    let x = array(&[2, 3], &[0.0, 1.0, 2.5, -1.0, 300.0, -300.0]);
    let bytes = |shape: &[usize], values: &[u8]| Array::from_vec(shape, values.to_vec()).expect("as many");
    let all = run(&quantized(&[], Vec::new()), &[&x, &array(&[], &[1.0]), &bytes(&[], &[10])]);
    assert_eq!(all[0].to_f64(), [10.0, 11.0, 12.0, 9.0, 255.0, 0.0]);
    assert_eq!(all[1].to_f64(), [0.0, 1.0, 2.0, -1.0, 245.0, -10.0]);
    let rows = run(&quantized(&[2], vec![int("axis", 0)]), &[&x, &array(&[2], &[0.5, 2.0]), &bytes(&[2], &[0, 200])]);
    assert_eq!(rows[0].to_f64(), [0.0, 2.0, 5.0, 200.0, 255.0, 50.0]);
    let blocks = vec![int("axis", 1), int("block_size", 2)];
    let scale = array(&[2, 2], &[1.0, 0.5, 100.0, 10.0]);
    let blocks = run(&quantized(&[2, 2], blocks), &[&x, &scale, &bytes(&[2, 2], &[0, 0, 1, 30])]);
    assert_eq!(blocks[0].to_f64(), [0.0, 1.0, 5.0, 1.0, 4.0, 0.0]);
    // Type 0 is what exporters write for none.
    let none = run(&quantized(&[], vec![int("output_dtype", 0)]), &[&x, &array(&[], &[1.0]), &bytes(&[], &[10])]);
    assert_eq!(none[0], all[0]);
    let wrong = failure(&quantized(&[2, 3], vec![int("axis", 1), int("block_size", 2)]));
    assert!(wrong.to_string().contains("in blocks of 2 along axis 1"), "{wrong}");
}

#[test]
fn sums_of_products_of_integers_are_exact() {
    let byte = |name: &str, elem_type: i32, sizes: &[i64]| {
        input(name, elem_type, &sizes.iter().map(|size| Size::Is(*size)).collect::<Vec<_>>())
    };
    let inputs = vec![byte("a", UINT8, &[2, 2]), byte("b", INT8, &[2, 1]), byte("az", UINT8, &[2])];
    let nodes = vec![node("MatMulInteger", &["a", "b", "az"], &["y"], Vec::new())];
    let product = model(graph(nodes, inputs, Vec::new(), &["y"]), 10);
    let a = Array::from_vec([2, 2], vec![255u8, 0, 3, 4]).expect("four");
    let b = Array::from_vec([2, 1], vec![-128i8, 2]).expect("two");
    let zero = Array::from_vec([2], vec![1u8, 3]).expect("two");
    assert_eq!(run(&product, &[&a, &b, &zero])[0].to_f64(), [-128.0 * 254.0 - 2.0, 2.0]);

    let inputs = vec![
        byte("x", UINT8, &[1, 1, 3]),
        floats("xs", &[]),
        byte("xz", UINT8, &[]),
        byte("w", INT8, &[2, 1, 2]),
        floats("ws", &[2]),
        byte("wz", INT8, &[2]),
        floats("ys", &[]),
        byte("yz", INT8, &[]),
        input("bias", 6, &[Size::Is(2)]),
    ];
    let names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"];
    let conv = model(graph(vec![node("QLinearConv", &names, &["y"], Vec::new())], inputs, Vec::new(), &["y"]), 10);
    let (x, w) = (Array::from_vec([1, 1, 3], vec![11u8, 12, 14]), Array::from_vec([2, 1, 2], vec![1i8, 2, 3, 5]));
    let (wz, bias) = (Array::from_vec([2], vec![0i8, 1]), Array::from_vec([2], vec![0i32, 100]));
    let given = [
        x.expect("three"),
        array(&[], &[0.5]),
        Array::scalar(10u8),
        w.expect("four"),
        array(&[2], &[1.0, 2.0]),
        wz.expect("two"),
        array(&[], &[1.0]),
        Array::scalar(-3i8),
        bias.expect("two"),
    ];
    // Sums 5, 10 and 10 + 100, 20 + 100; by 0.5 and 1; less 3.
    assert_eq!(run(&conv, &given.iter().collect::<Vec<_>>())[0].to_f64(), [-1.0, 2.0, 107.0, 117.0]);
}

/// The element type's number, the value of new elements, and what they are.
#[test]
fn codes_are_put_around_codes() {
    for (elem_type, one, five) in [(17, 0x38, 0x4a), (19, 0x3c, 0x45), (INT4, 1, 5), (21, 1, 5)] {
        let word = |name: &str, code: i32| TensorProto {
            name: name.to_owned(),
            data_type: elem_type,
            int32_data: vec![code],
            ..TensorProto::default()
        };
        let nodes = vec![
            node("Pad", &["x", "pads"], &["zeros"], Vec::new()),
            node("Pad", &["zeros", "pads", "five"], &["fives"], Vec::new()),
            node("Pad", &["fives", "pads"], &["edges"], vec![text("mode", "edge")]),
            node("Cast", &["edges"], &["y"], vec![int("to", i64::from(FLOAT))]),
        ];
        let x = input("x", elem_type, &[Size::Is(1)]);
        let given = vec![integers("pads", &[1, 1]), word("five", five)];
        let model = model(graph(nodes, vec![x], given, &["y"]), 25);
        let x = if elem_type == INT4 { Array::from_vec([1], vec![1i8]) } else { Array::from_vec([1], vec![one as u8]) };
        let y = run(&model, &[&x.expect("one")]);
        assert_eq!(y[0].to_f64(), [5.0, 5.0, 0.0, 1.0, 0.0, 5.0, 5.0], "{elem_type}");
    }
    // Powers of two have no zero.
    let pad = node("Pad", &["x", "pads"], &["y"], Vec::new());
    let x = input("x", 24, &[Size::Is(1)]);
    let refused = failure(&model(graph(vec![pad], vec![x], vec![integers("pads", &[1, 1])], &["y"]), 25)).to_string();
    assert!(refused.contains("padding by zero of float8e8m0, which has none"), "{refused}");
}

#[test]
fn codes_fill_shapes() {
    for (elem_type, code) in [(17, 0x4a), (20, 0x49), (INT4, 5), (23, 7)] {
        let value = TensorProto { data_type: elem_type, dims: vec![1], int32_data: vec![code], ..TensorProto::default() };
        let filled = AttributeProto { name: "value".to_owned(), r#type: 4, t: Some(value), ..AttributeProto::default() };
        let nodes = vec![
            node("ConstantOfShape", &["shape"], &["codes"], vec![filled]),
            node("Cast", &["codes"], &["y"], vec![int("to", i64::from(FLOAT))]),
        ];
        let model = model(graph(nodes, Vec::new(), vec![integers("shape", &[2, 1])], &["y"]), 25);
        let y = &run(&model, &[])[0];
        let expected = if elem_type == 23 { 6.0 } else { 5.0 };
        assert_eq!((y.shape(), y.to_f64()), ([2, 1].as_slice(), vec![expected; 2]), "{elem_type}");
    }
}

#[test]
fn codes_are_no_numbers_or_infinite() {
    let of = |op: &str, elem_type: i32, codes: &[u8]| {
        let size = i64::try_from(codes.len()).expect("few");
        let x = input("x", elem_type, &[Size::Is(size)]);
        let model = model(graph(vec![node(op, &["x"], &["y"], Vec::new())], vec![x], Vec::new(), &["y"]), 20);
        run(&model, &[&Array::from_vec([codes.len()], codes.to_vec()).expect("as many")])[0].to_f64()
    };
    assert_eq!(of("IsNaN", 17, &[0x7f, 0xff, 0x7e, 0x00]), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(of("IsNaN", 18, &[0x80, 0x7f, 0x00]), [1.0, 0.0, 0.0]);
    assert_eq!(of("IsNaN", 19, &[0x7d, 0x7c, 0xfc]), [1.0, 0.0, 0.0]);
    assert_eq!(of("IsInf", 19, &[0x7d, 0x7c, 0xfc]), [0.0, 1.0, 1.0]);
    assert_eq!(of("IsInf", 17, &[0x7f, 0x7e]), [0.0, 0.0]);
}
